"""Where in the picture a network looks for each word: heat maps over the image, a row per word, a column per state.

A tile is lightness from the picture and colour from the map. Attention to a word is often nearly the same everywhere, so a
map is drawn from its own least to its own largest value, and both stand below it: colour says where, the numbers how much.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CHANNEL, HEAD, LABEL, PROMPT, SEED, TIME, TOKEN, X, Y
from flowprofile.captions import caption, words_of
from flowprofile.cases import CLEAN
from flowprofile.errors import DefinitionError
from flowprofile.figures import (
    FAINT,
    MISSING,
    NOT_STORED,
    PAD,
    WIDTH,
    at_scale,
    picture,
    pixels,
    sheet,
    style,
    time_axis,
)
from flowprofile.picking import chosen_of, done_of, first_state, node_of, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST: Final = 8
"""Most words in one picture."""
STATES: Final = 7
"""Most states in one picture, unless they are named."""
COLOURS: Final = "magma"
LARGEST: Final = 1.1
"""Inches: side of the largest tile."""
LEFT: Final = 1.3
"""Inches for the words."""
UNDER: Final = 0.17
"""Inches below a tile, for its least and largest value."""


def worded(node: xr.Dataset) -> bool:
    """Whether a node holds attention to the tokens of a text, mean of heads and layers."""
    return "layers" in node.attrs and "attention" in node and TOKEN in node.dims and HEAD not in node.dims


def words(
    tree: xr.DataTree,
    node: str = "word_maps",
    *,
    tokens: Sequence[str] | None = None,
    note: str = "",
    seed: int | None = None,
    label: int | None = None,
    times: Sequence[int] | None = None,
    intervention: str = CLEAN,
) -> "Figure":
    """Attention to each word of one sample's prompt, over its image, from noise to image.

    Parameters
    ----------
    tree, node
        An opened profile, and its `word_maps`.
    tokens
        What the numbers on the axis `token` stand for, as `flowprofile.tokens(folder, prompt)` gives them; without them
        tokens are shown by their numbers. A word of several tokens has the sum of their shares.
    note
        Said below the words, for instance why there are no tokens.
    seed, label, times, intervention
        Which sample and states; by default the first seed of the first label, clean, and at most seven states.

    Behind the maps is the image decoded from that very state, else the finished image, else the state itself.
    """
    data = node_of(tree, node)
    (label,) = chosen_of(data, LABEL, None if label is None else [label], most=1)
    (seed,) = chosen_of(data, SEED, None if seed is None else [seed], most=1)
    held = done_of(data["attention"], intervention).sel({LABEL: label, SEED: seed})
    shown = chosen_of(
        held,
        TIME,
        spread(held[TIME].values.tolist(), STATES) if times is None else sorted(times, reverse=True),
    )
    maps = held.sel({TIME: shown}).load()
    rows = _rows(maps, tokens)
    behind, what = _behind(tree, label, seed, intervention, shown)
    above, head, step = 0.44, 0.52, 0.08
    side = min((WIDTH - LEFT) / len(shown), LARGEST)
    drawn = rows[:MOST]
    high = head + above + side + step + len(drawn) * (side + UNDER) + (0.24 if rows[MOST:] or note else 0)
    with style():
        figure, page = sheet(max(LEFT + side * len(shown), 5.2), high)
        done = "" if intervention == CLEAN else f", {intervention}"
        page.text(0.03, 0.13, f"{_said(data, label)}, seed {seed}{done}", va="center", weight="bold")
        told = "colour: share of attention, from a tile's least to its largest value (below it)"
        if not np.isfinite(maps.values).all():
            told += f"; {NOT_STORED}"
        page.text(0.03, 0.36, told, va="center", color=FAINT, size=7)
        time_axis(page, shown, LEFT, side, first=first_state(data), top=head)
        top = head + above
        page.text(LEFT - 0.1, top + side / 2, what, ha="right", va="center", color=FAINT, size=7)
        for column, t in enumerate(shown):
            picture(page, LEFT + column * side, top, side, behind[t])
        for line, (word, values) in enumerate(drawn):
            top = head + above + side + step + line * (side + UNDER)
            page.text(LEFT - 0.1, top + side / 2, _cut(word), ha="right", va="center", weight="bold", size=8)
            for column, t in enumerate(shown):
                _tile(page, LEFT + column * side, top, side, behind[t], values.sel({TIME: t}).values)
        more = [word for word, _ in rows[MOST:]]
        left_out = f"and {len(more)} more that are not drawn: {', '.join(more)}" if more else ""
        foot = _cut("; ".join(part for part in (note, left_out) if part), 150)
        page.text(0.03, high - 0.1, foot, va="center", color=FAINT, size=7)
    return figure


def _rows(maps: xr.DataArray, tokens: Sequence[str] | None) -> list[tuple[str, xr.DataArray]]:
    """Every word with its maps, dims (time, y, x)."""
    if tokens is None:
        named = [(f"token {number}", [place]) for place, number in enumerate(maps[TOKEN].values.tolist())]
    elif len(tokens) == maps.sizes[TOKEN]:
        named = words_of(tokens)
    else:
        raise DefinitionError(
            f"{len(tokens)} tokens were named, and the maps have {maps.sizes[TOKEN]}.",
            consequence="A word would stand beside another word's map.",
            remedy="name them by the tokenizer of the model that was profiled: flowprofile.tokens(folder, prompt)",
        )
    summed = [(word, maps.isel({TOKEN: places}).sum(TOKEN, skipna=False)) for word, places in named]
    return [(word, values.transpose(TIME, Y, X)) for word, values in summed]


def _behind(
    tree: xr.DataTree, label: int, seed: int, intervention: str, times: Sequence[int]
) -> tuple[dict[int, np.ndarray], str]:
    """The picture behind the maps of each state, [y x channel] in 0..1, and what it is."""
    for node, variable, told in (("decoded", "decoded", "decoded"), ("trajectory", "x_t", "state")):
        if node not in tree.children or variable not in tree.children[node].data_vars:
            continue
        whole = tree.children[node].to_dataset()
        held = done_of(whole[variable], intervention)
        if label not in held[LABEL] or seed not in held[SEED]:
            continue
        states = held.sel({LABEL: label, SEED: seed})
        if states.sizes[CHANNEL] not in (1, 3):
            states, told = states.isel({CHANNEL: slice(3)}), f"{told}: three channels\nof the latents"
        stored = states[TIME].values.tolist()
        if not set(times) & set(stored) and 0 not in stored:
            continue
        exact = all(t in stored for t in times)
        chosen = {t: t if exact or (t in stored and 0 not in stored) else 0 for t in times}
        found = {
            t: pixels(at_scale(states.sel({TIME: [at]}), whole)).values[0]
            if at in stored
            else np.full((1, 1, 1), np.nan)
            for t, at in chosen.items()
        }
        return found, told if exact or 0 not in stored else f"finished image,\n{told}"
    return {t: np.full((1, 1, 1), np.nan) for t in times}, "no image stored"


def _tile(page: "Axes", left: float, top: float, side: float, behind: np.ndarray, values: np.ndarray) -> None:
    box = (left + PAD / 2, top + PAD / 2, side - PAD, side - PAD)
    panel = page.inset_axes(box, transform=page.transData)
    panel.set(xticks=[], yticks=[], facecolor=MISSING)
    panel.spines[:].set_visible(False)
    if not np.isfinite(values).all():
        return
    low, high = float(values.min()), float(values.max())
    whole: Any = {"extent": (0, 1, 1, 0), "aspect": "auto"}
    panel.imshow(values, cmap=COLOURS, vmin=low, vmax=high if high > low else low + 1, **whole)
    if np.isfinite(behind).all():
        # A veil of the picture's own greys: dark and light stay to be seen through every colour.
        panel.imshow(behind.mean(-1), cmap="gray", vmin=0, vmax=1, alpha=0.35, **whole)
    page.text(
        left + side / 2, top + side + UNDER / 2 - 0.02, f"{low:#.2g} – {high:#.2g}", ha="center", va="center",
        color=FAINT, size=6,
    )  # fmt: skip


def _said(data: xr.Dataset, label: int) -> str:
    if PROMPT in data.coords:
        return f"“{_cut(str(data.coords[PROMPT].sel({LABEL: label}).values), 70)}”"
    return caption(data, label)


def _cut(text: str, most: int = 16) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
