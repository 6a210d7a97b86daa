"""Arrays on their way to the browser: whole (channel, y, x) blocks of half floats, coloured there.

A block is a header of JSON behind its length, and values. So a channel is moved without a word to the server, and one
answer may bring the states on both sides of the one that is shown. Half floats keep eleven bits, which is more than
a screen shows; all are divided by a power of two that the header names, so that the largest uses their range.
"""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.app.asked import Query, Where, case_of, whole
from flowprofile.axes import CASE_AXES, PIXEL, TIME, X, Y
from flowprofile.errors import StoreError, nearest
from flowprofile.store.lazy import STATUS

MOST: Final = 4 << 20
"""Bytes of one state's block; of a larger one single channels are sent."""
PLANES: Final = 4
"""Colours of a picture, or channels of a latent one."""
LARGEST: Final = 16 << 20
"""Bytes of one answer of several states; the page asks for no more at once."""
SPREAD: Final = 128
"""Most states that are read to find a range of values."""
SMALLEST: Final = -120
"""Exponent of the smallest factor: with a half float it stays a normal single one."""
HALF: Final = 65504.0
"""Largest half float."""


@dataclass(frozen=True)
class Picture:
    """A variable that is a picture at every state, perhaps one of many: channels, pixels or tokens."""

    node: str
    variable: str
    array: xr.DataArray

    @property
    def leading(self) -> tuple[str, ...]:
        """Dimensions before y and x that choose one picture of a state's block."""
        return tuple(str(d) for d in self.array.dims if d not in (*CASE_AXES, TIME, Y, X))

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of a state's block."""
        return tuple(self.array.sizes[d] for d in (*self.leading, Y, X))

    @property
    def bytes(self) -> int:
        """Of one state's block, in half floats."""
        return 2 * prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether a block travels whole; the few planes of a picture always do."""
        return self.bytes <= MOST or prod(self.shape[:-2]) <= PLANES


def picture_of(tree: xr.DataTree, node: str, variable: str) -> Picture:
    """A variable of a run that has y and x."""
    found = tree
    for part in node.split("/"):
        if part not in found.children:
            known = [child.path.strip("/") for child in tree.subtree if child.data_vars]
            raise StoreError(f"This run has no object {node!r}.", remedy=nearest(node, known))
        found = found.children[part]
    names = [str(n) for n, v in found.data_vars.items() if Y in v.dims and X in v.dims]
    if variable not in names:
        raise StoreError(f"{node!r} has no picture {variable!r}.", remedy=nearest(variable, names))
    return Picture(node, variable, found.to_dataset()[variable])


def status_of(tree: xr.DataTree, node: str, where: Where) -> dict[int, int]:
    """What became of each state of a case: 0 not requested, 1 missing, 2 present."""
    data: xr.DataTree = tree[node]  # type: ignore[assignment]  # a node, since the name is one's path
    told = data.to_dataset()[STATUS].sel(where.key())
    if PIXEL in told.dims:
        told = told.min(PIXEL)
    return dict(zip(told[TIME].values.tolist(), told.values.tolist(), strict=True))


def block(tree: xr.DataTree, asked: Query) -> bytes:
    """The block of one case at some states.

    Parameters
    ----------
    tree
        One run.
    asked
        ``node``, ``variable``, the case, ``times`` (one or more kept states) and, of blocks above 4 MB, ``channel``.
    """
    picture = picture_of(tree, asked.get("node"), asked.get("variable"))
    where, times = case_of(tree, asked), [whole(t, TIME) for t in asked.all("times")]
    known = picture.array[TIME].values.tolist()
    strange = [t for t in times if t not in known]
    if strange or not times:
        raise StoreError(
            f"{picture.node!r} keeps no state {strange[0]}." if strange else "No state is asked for.",
            remedy=f"it keeps {len(known)}, {known[0]} to {known[-1]}; name them as times=500&times=450",
        )
    twice = next((t for t in times if times.count(t) > 1), None)
    if twice is not None:
        raise StoreError(f"The state {twice} is asked for twice.", remedy="name each state once")
    array = picture.array.sel({**where.key(), TIME: times})
    channel = asked.number("channel")
    if channel is not None:
        array = _single(array, picture, channel)
    size = 2 * array.size
    # One state of a picture travels whole however large it is: it cannot be had in parts.
    if (len(times) > 1 and size > LARGEST) or (channel is None and not picture.whole):
        raise StoreError(
            f"The block of {picture.node!r} is {size >> 20} MiB.",
            consequence=f"Blocks above {MOST >> 20} MiB a state travel channel by channel.",
            remedy="name a channel, or fewer states",
        )
    states = status_of(tree, picture.node, where)
    head = {
        "node": picture.node,
        "variable": picture.variable,
        "times": times,
        "shape": [array.sizes[d] for d in array.dims if d != TIME],
        "channel": channel,
        "missing": {str(t): states.get(t, 0) for t in times if states.get(t, 0) != 2},
    }
    return packed(np.asarray(array.transpose(TIME, ...).values), head)


def _single(array: xr.DataArray, picture: Picture, channel: int) -> xr.DataArray:
    """One picture of a block, by its number along all leading dimensions together."""
    sizes = [picture.array.sizes[d] for d in picture.leading]
    if not 0 <= channel < prod(sizes):
        raise StoreError(
            f"{picture.node!r} has no channel {channel}.", remedy=f"it has {prod(sizes)}, counted from 0"
        )
    places = np.unravel_index(channel, sizes) if sizes else ()
    return array.isel({d: [int(at)] for d, at in zip(picture.leading, places, strict=True)})


def packed(values: NDArray[Any], head: Mapping[str, Any]) -> bytes:
    """Values [time ...] as half floats behind their header; every state has a scale of its own."""
    numbers = np.asarray(values, np.float32)
    scales = [_scale(state) for state in numbers]
    factors = np.array(scales, np.float32).reshape(-1, *([1] * (numbers.ndim - 1)))
    return headed({**head, "scales": scales}) + (numbers / factors).astype("<f2").tobytes()


def _scale(state: NDArray[np.float32]) -> float:
    """The power of two that brings the largest value near the largest half float: small ones keep their digits then."""
    largest = float(np.nanmax(np.abs(state), initial=0.0)) if np.isfinite(state).any() else 0.0
    return 2.0 ** max(SMALLEST, math.ceil(math.log2(largest / HALF))) if largest > 0 else 1.0


def headed(head: Mapping[str, Any]) -> bytes:
    """A header behind its length, filled up so that what follows is aligned to eight bytes."""
    told = json.dumps(head, separators=(",", ":")).encode()
    told += b" " * (-(len(told) + 4) % 8)
    return struct.pack("<I", len(told)) + told


def limits(tree: xr.DataTree, asked: Query) -> dict[str, Any]:
    """Least and largest value of every channel over the kept states of a case (evenly 128 of more).

    States are read one after the other, so that memory is one block's.
    """
    picture = picture_of(tree, asked.get("node"), asked.get("variable"))
    where = case_of(tree, asked)
    present = [t for t, told in status_of(tree, picture.node, where).items() if told == 2]
    chosen = [
        present[i] for i in np.unique(np.linspace(0, len(present) - 1, min(SPREAD, len(present))).astype(int))
    ]
    return {"states": len(chosen), **_extent(picture, where, chosen)}


def _extent(picture: Picture, where: Where, times: Sequence[int]) -> dict[str, Any]:
    """By number along the leading dimensions, so that every channel has a scale of its own."""
    count = prod(picture.shape[:-2])
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    for t in times:
        values = _without_own(picture.array.sel({**where.key(), TIME: t})).values.reshape(count, -1)
        low, high = np.fmin(low, np.nanmin(values, 1)), np.fmax(high, np.nanmax(values, 1))
    return {"low": low.tolist(), "high": high.tolist()}


def _without_own(array: xr.DataArray) -> xr.DataArray:
    """Rows of a Jacobian without each pixel's own entry, which would outshine all others on any scale."""
    if PIXEL not in array.dims or "pixel_y" not in array.coords:
        return array
    return array.where((array[Y] != array["pixel_y"]) | (array[X] != array["pixel_x"]))
