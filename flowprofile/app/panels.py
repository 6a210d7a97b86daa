"""What one panel shows: a variable of one case, where its blocks are, and how the same is said in Python.

A panel says everything that does not change while time or channel move, so that moving them asks the server for
blocks at most.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import xarray as xr

from flowprofile.app.asked import Where
from flowprofile.app.blocks import Picture, status_of
from flowprofile.app.lines import LOOKED_UP
from flowprofile.axes import CHANNEL, GUIDANCE, LABEL, LAYER, PIXEL, PROMPT, TIME, TOKEN, X, Y

IMAGES: Final = ("x_t", "x0_hat", "decoded")
"""Variables whose channels are colours."""
OWN: Final = "the picture's tokens"
"""What tokens are that attention has of its own picture; behind them a text's may stand."""
ENERGIES: Final = ("gradient_energy",)
"""Kinds of nodes whose values are squares; their roots are shown."""


def pictures(tree: xr.DataTree) -> dict[str, list[Picture]]:
    """Every variable of a run that is a picture, by kind of node, in the order of the forward pass."""
    found: dict[str, list[tuple[int, Picture]]] = {}
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        for name, values in data.data_vars.items():
            if TIME in values.dims and Y in values.dims and X in values.dims:
                place = int(node.attrs.get("layer_index", 0))
                picture = Picture(node.path.removeprefix(tree.path).strip("/"), str(name), values)
                found.setdefault(str(node.attrs.get("kind", "")), []).append((place, picture))
    return {
        kind: [p for _, p in sorted(each, key=lambda one: (one[0], one[1].node))]
        for kind, each in found.items()
    }


def panel(run: str, tree: xr.DataTree, picture: Picture, where: Where) -> dict[str, Any]:
    """A picture of one case, for the browser."""
    attrs = picture.array.attrs
    status = status_of(tree, picture.node, where)
    times = picture.array[TIME].values.tolist()
    asked = {"run": run, "node": picture.node, "variable": picture.variable, **_case(where)}
    return {
        "node": picture.node,
        "variable": picture.variable,
        "title": str(attrs.get(LAYER, picture.node)),
        "told": _told(tree, picture),
        "grid": picture.shape[-2:] != tuple(dict(tree.attrs.get("model", {})).get("shape", ()))[-2:],
        "unit": str(attrs.get("units", "1")),
        "image": picture.variable in IMAGES and picture.array.sizes.get(CHANNEL, 0) in (1, 3),
        "mask": str(attrs.get("mask_name", "")),
        "root": str(tree[picture.node].attrs.get("kind")) in ENERGIES,
        "range": list(map(float, attrs["pixel_range"])) if "pixel_range" in attrs else None,
        "leading": _leading(picture),
        "shape": list(picture.shape),
        "times": times,
        "missing": {str(t): told for t, told in status.items() if told != 2},
        "whole": picture.whole,
        "block": urlencode(asked),
        "python": python(picture, where),
    }


def _told(tree: xr.DataTree, picture: Picture) -> str:
    """What a panel is of; a sum of layers says of which, and of attention on which side of the residual add."""
    text, layers = (
        str(picture.array.attrs.get("long_name", picture.variable)).replace("x_t+1", "x_(t+1)"),
        picture.array.attrs.get("layers"),
    )
    if not layers:
        return text
    rest = f" and {len(layers) - 1} more" if len(layers) > 1 else ""
    side = _side(tree, picture.node)
    return f"{text}: {layers[0]}{rest}{f'; {side}' if side else ''}"


def _side(tree: xr.DataTree, node: str) -> str:
    """What is summed of attention: the store keeps it in the definition of the stage alone."""
    for definition in reversed(tree.attrs.get("definitions", [])):
        stage = definition.get("stages", {}).get(node.partition("[")[0], {})
        if "residual" in stage:
            return "the sum behind each of them" if stage["residual"] else "what each of them adds"
    return ""


def _case(where: Where) -> Mapping[str, Any]:
    return {str(axis): value for axis, value in where.key().items()}


def _leading(picture: Picture) -> list[dict[str, Any]]:
    """The dimensions that choose one picture of a block, each with its values' names.

    Tokens below the product of a ``grid`` are places of the picture, y * width + x.
    """
    found = []
    for name in picture.leading:
        values = picture.array.coords[name].values.tolist() if name in picture.array.coords else None
        places = None
        if name == PIXEL and "pixel_y" in picture.array.coords:
            places = [picture.array.coords[c].values.tolist() for c in ("pixel_y", "pixel_x")]
        size = picture.array.sizes[name]
        own = {"grid": list(picture.shape[-2:])} if name == TOKEN and _of(picture).startswith(OWN) else {}
        told = {"name": name, "size": size, "values": values or list(range(size)), "places": places}
        found.append({**told, **own})
    return found


def _of(picture: Picture) -> str:
    """What the tokens of attention are; maps by word are always of a text's."""
    return str(picture.array.attrs.get("of", ""))


def words(tree: xr.DataTree, shown: Sequence[Picture], where: Where) -> dict[str, Any] | None:
    """How the tokens of a prompt are named, where such are shown: a store holds the prompt, and not its words."""
    model, coords = dict(tree.attrs.get("model", {})), tree.to_dataset(inherit=False).coords
    if PROMPT not in coords or not any(TOKEN in p.leading and _of(p) != OWN for p in shown):
        return None
    prompt = str(coords[PROMPT].sel({LABEL: where.label}).values)
    return {"prompt": prompt, "python": f"fp.tokens({str(model.get('reference', 'FOLDER'))!r}, {prompt!r})"}


def python(picture: Picture, where: Where) -> str:
    """The expression of xarray that gives what a panel shows; ``{time}`` and ``{channel}`` are filled in.

    Of several leading dimensions (heads and tokens) the place is filled in by ``isel`` in the browser.
    """
    case = ", ".join(f"{axis}={value!r}" for axis, value in where.key().items())
    return f"tree[{picture.node!r}][{picture.variable!r}].sel({case}, time={{time}})"


def marks(tree: xr.DataTree, kind: str, where: Where) -> list[dict[str, Any]]:
    """The strongest channels that are stored of a case: one entry a stage, with its mask and statistic."""
    found = []
    for name, node in tree.children.items():
        own = name.startswith(LOOKED_UP)
        if own or node.attrs.get("kind") != kind or CHANNEL not in node.data_vars:
            continue
        array = node.to_dataset()[CHANNEL].sel(where.key())
        if GUIDANCE in array.dims:
            array = array.isel({GUIDANCE: -1})
        layers = array[LAYER].values.tolist() if LAYER in array.dims else []
        values = np.asarray(array.transpose(LAYER, TIME).values)
        found.append({
            "node": name,
            "mask": str(node.attrs.get("mask_name", "") or "everywhere"),
            "statistic": str(node.attrs.get("statistic", "sum")),
            "times": array[TIME].values.tolist(),
            "layers": {layer: values[i].tolist() for i, layer in enumerate(layers)},
        })  # fmt: skip
    return found
