"""What stands beside a picture: labels, runs, quantities and formulas, in words."""

import re
import textwrap
from collections.abc import Sequence

import xarray as xr

from flowprofile.axes import IMAGE, INTERVENTION, LABEL, PROMPT, SEED
from flowprofile.cases import CLEAN


def caption(labelled: xr.DataArray | xr.Dataset, label: int, *, order: Sequence[str] = ()) -> str:
    """What a label means: its prompt, or the names of its attributes that are on, in the model's order where it is known.

    >>> coords = {"label": [0, 6], "male": ("label", [False, True]), "smile": ("label", [False, True])}
    >>> array = xr.DataArray([0, 0], dims="label", coords=coords)
    >>> caption(array, 6), caption(array, 0), caption(array.drop_vars(["male", "smile"]), 6)
    ('male + smile', 'no attribute', 'label 6')
    """
    if PROMPT in labelled.coords:
        return textwrap.fill(
            textwrap.shorten(str(labelled.coords[PROMPT].sel({LABEL: label}).values), 60), 12
        )
    marks = [name for name, mark in labelled.coords.items() if mark.dims == (LABEL,) and mark.dtype == bool]
    if not marks:
        return f"label {label}"
    on = [str(name) for name in marks if labelled.coords[name].sel({LABEL: label})]
    on.sort(key=lambda name: order.index(name) if name in order else len(order))
    return " + ".join(on) or "no attribute"


def sample_told(states: xr.DataArray, seed: int) -> str:
    """A sample's name: its seed, or the image that was given and, of several draws, which."""
    if IMAGE not in states.coords:
        return f"seed {seed}"
    one = states.sel({SEED: seed})
    name = str(one[IMAGE].item())
    drawn = f"\ndraw {int(one['draw'])}" if int(states["draw"].max()) else ""
    return (name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}") + drawn


def runs_told(array: xr.DataArray | xr.Dataset, intervention: str) -> str:
    """Which runs of several are shown; nothing where there are no others."""
    if array.sizes.get(INTERVENTION, 1) == 1:
        return ""
    return "clean runs only" if intervention == CLEAN else intervention


def axis_name(name: str, values: xr.DataArray) -> str:
    """What stands beside an axis: a quantity's name, without what tells its versions apart, and its unit."""
    unit = values.attrs.get("units", "1")
    plain = name.partition("[")[0]
    return plain if unit == "1" else f"{plain} ({unit})"


def formula(text: str) -> str:
    """Subscripts set as such.

    >>> formula("SSIM(x_t, x_{t+1})")
    'SSIM($x_{t}$, $x_{t+1}$)'
    """
    return re.sub(r"\b([A-Za-z])_(?:\{([^}$]*)\}|(\w+))", lambda m: f"${m[1]}_{{{m[2] or m[3]}}}$", text)


def words_of(tokens: Sequence[str]) -> list[tuple[str, list[int]]]:
    """The words that a text's tokens make, each with their places; what begins, ends and fills the text is none.

    A tokenizer of CLIP's kind marks the last token of a word.

    >>> words_of(["<|startoftext|>", "a</w>", "ca", "ts</w>", "<|endoftext|>", "<|endoftext|>"])
    [('a', [1]), ('cats', [2, 3])]
    """
    found: list[tuple[str, list[int]]] = []
    word, places = "", list[int]()
    for place, token in enumerate(tokens):
        if token.startswith("<|") and token.endswith("|>"):
            continue
        word, places = word + token.removesuffix("</w>"), [*places, place]
        if token.endswith("</w>"):
            found.append((word, places))
            word, places = "", []
    return [*found, (word, places)] if places else found
