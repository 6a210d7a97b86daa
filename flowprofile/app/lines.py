"""What of a profile is a curve: a number of each case at every state, perhaps one a layer or one a label.

A variable is a curve if it runs along time and is no picture. Along what is left besides cases and time it is cut
into lines; pixels are the exception, since hundreds of lines say less than their mean and their range.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.app.asked import Where
from flowprofile.axes import (
    CHANNEL,
    GUIDANCE,
    HEAD,
    INTERVENTION,
    LABEL,
    LAYER,
    OTHER,
    PIXEL,
    READ,
    SEED,
    STORED_AXES,
    TIME,
    TOKEN,
    X,
    Y,
)
from flowprofile.captions import caption
from flowprofile.store.lazy import STATUS, unchunked

PRESENT: Final = 2
PICTURED: Final = (CHANNEL, Y, X, TOKEN, HEAD)
"""Dimensions of what is looked at, not plotted."""
SAID: Final = {OTHER: "to label", READ: "label"}
"""What an axis is called in a caption."""
NULL: Final = "null"
VALUE: Final = "value"
Values = NDArray[np.float64]

DEFINED: Final[Mapping[tuple[str, str], str]] = {
    ("influence", "radius"): "root mean square distance, from its pixel, of a row's off-diagonal weight",
    (
        "influence",
        "radius_50",
    ): "least radius around its pixel that holds 50 % of a row's off-diagonal weight",
    (
        "influence",
        "radius_90",
    ): "least radius around its pixel that holds 90 % of a row's off-diagonal weight",
}
"""What a variable is, by the kind of its node, where several share one long name in the store."""

LOOKED_UP: Final = "reference."
"""Nodes that an intervention looked up for itself begin like this; they are its own business."""


@dataclass(frozen=True)
class Curve:
    """One variable of a node that is a number of each case at every state, along a few more dimensions."""

    node: str
    variable: str
    data: xr.Dataset
    """The node, lazily indexed."""

    alone: bool = False
    """Whether the node has no other."""
    order: tuple[str, ...] = ()
    """The model's attributes, as labels are said."""

    @property
    def name(self) -> str:
        """As a person says it: the node's, and the variable's where a node has several."""
        short = self.node.removeprefix("measures/")
        return short if self.alone else f"{short}: {self.variable}"

    @property
    def array(self) -> xr.DataArray:
        """The values."""
        return self.data[self.variable]

    @property
    def long_name(self) -> str:
        """What it is, in the field's words."""
        attrs = self.array.attrs
        known = DEFINED.get((str(self.data.attrs.get("kind", "")), self.variable))
        return known or str(attrs.get("long_name", self.data.attrs.get("long_name", "")))

    @property
    def null(self) -> str | None:
        """The variable that holds what needs no network."""
        name = NULL if self.variable == VALUE else f"{self.variable}_{NULL}"
        return name if name in self.data else None

    @property
    def number(self) -> bool:
        """Whether values can be averaged: the mean of two channels' numbers is the number of neither."""
        return self.array.dtype.kind == "f"

    @property
    def axes(self) -> tuple[str, ...]:
        """Dimensions along which there are lines."""
        return tuple(str(d) for d in self.array.dims if d not in (*STORED_AXES, PIXEL))

    def lines(self, label: int) -> list["Line"]:
        """Every line of a label's cases; what a label has with itself is none."""
        values = [self.array[axis].values.tolist() for axis in self.axes]
        keys = (dict(zip(self.axes, chosen, strict=True)) for chosen in product(*values))
        return [Line(self, key) for key in keys if key.get(OTHER) != label]

    def cells(self, selection: Mapping[str, Any]) -> xr.Dataset:
        """``value`` and ``null`` of some cells, read at once, in float64; below 0 a number of a channel is none."""
        names = {VALUE: self.variable} | ({} if self.null is None else {NULL: self.null})
        found = {role: self.data[name].sel(selection).load() for role, name in names.items()}
        told = {role: part if self.number else part.where(part >= 0) for role, part in found.items()}
        return xr.Dataset(
            {role: part.astype(np.float64).variable for role, part in told.items()}, self._along()
        )

    def _along(self) -> dict[str, xr.Variable]:
        return {axis: self.data[axis].variable for axis in self.axes}

    def status(self, **selection: Any) -> xr.DataArray:
        """What became of some cells, without pixels."""
        told = self.data[STATUS].sel(selection)
        return told.min(PIXEL) if PIXEL in told.dims else told

    def kept(self, where: Where) -> list[int]:
        """The states that are stored of a case, descending."""
        told = self.status(**where.key())
        return [int(t) for t in told[TIME].values[told.values == PRESENT]]


@dataclass(frozen=True)
class Line:
    """One curve of each case: a whole variable, or what it has at one layer, or beside one other label."""

    curve: Curve
    key: dict[str, Any]
    """Where it stands along the curve's axes."""

    @property
    def caption(self) -> str:
        """Its place in words."""
        told = []
        several = {axis: value for axis, value in self.key.items() if self.curve.array.sizes[axis] > 1}
        for axis, value in several.items():
            words = self._label(value) if axis in (OTHER, READ) else str(value)
            told.append(words if axis in (LAYER, GUIDANCE) else f"{SAID.get(axis, axis)} {words}")
        return ", ".join(told)

    def _label(self, label: int) -> str:
        if label not in self.curve.data[LABEL].values:
            return f"{label}"
        words = " ".join(caption(self.curve.data, label, order=self.curve.order).split())
        return words.removeprefix("label ") if words.startswith("label ") else f"{label} ({words})"

    def python(self, variable: str, selection: Mapping[str, Any]) -> str:
        """The xarray expression of some cells, in float64; a text as value is taken as Python."""
        said = ", ".join(f"{axis}={value!r}" for axis, value in ({**selection, **self.key}).items())
        return f'tree["{self.curve.node}"]["{variable}"].sel({said}).astype(float)'


def curves(tree: xr.DataTree) -> Iterator[Curve]:
    """Every curve of a run: measures first, then what else is a number of each state."""
    nodes = {
        node.path.removeprefix(tree.path).strip("/"): node
        for node in tree.subtree
        if STATUS in node.data_vars and not str(node.name).startswith(LOOKED_UP)
    }
    order = tuple(tree.attrs.get("model", {}).get("attributes", ()))
    for path in sorted(nodes, key=lambda name: (not name.startswith("measures/"), name)):
        data = unchunked(nodes[path].to_dataset())
        names = [str(name) for name in data.data_vars if name != STATUS and not _is_null(str(name), data)]
        for name in names:
            dims = data[name].dims
            if TIME in dims and not set(dims) & set(PICTURED):
                yield Curve(path, name, data, len(names) == 1, order)


def cells_of_seed(curve: Curve, states: int) -> int:
    """Values of one seed that are read at so many states: all lines, all pixels."""
    return states * prod(curve.array.sizes[d] for d in curve.array.dims if d not in STORED_AXES)


def over_pixels(values: xr.DataArray) -> xr.DataArray:
    """The mean over pixels, of a curve that has them."""
    return values.mean(PIXEL) if PIXEL in values.dims else values


def seeds_kept(curve: Curve, where: Where, times: Sequence[int]) -> NDArray[np.int64]:
    """Seeds of a case's label and intervention that have all of some states, ascending.

    The last state is asked for first: of a sweep that was declared, but barely begun, nothing else is looked at.
    """
    selection = {INTERVENTION: where.intervention, LABEL: where.label}
    last = curve.status(**selection, **{TIME: times[-1]})
    begun = last[SEED].values[last.values == PRESENT]
    whole = (curve.status(**selection, **{SEED: begun, TIME: list(times)}) == PRESENT).all(TIME)
    return np.asarray(begun[whole.values], np.int64)


def _is_null(name: str, data: xr.Dataset) -> bool:
    of = VALUE if name == NULL else name.removesuffix(f"_{NULL}")
    return name.endswith(NULL) and of != name and of in data
