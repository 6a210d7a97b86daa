"""Curves that a profile holds already: a measure between labels, to the clean run, or of each case by itself.

A source gives, for some seeds, how different the two sides of each pair are over time, and the same of the null.
Larger always means more different: SSIM is turned into 1 - SSIM, distances stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Protocol, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.axes import INTERVENTION, LABEL, LAYER, OTHER, SEED, TIME
from flowprofile.cases import CLEAN
from flowprofile.comparing.sides import Group, Held, Question
from flowprofile.store.lazy import STATUS

Values = NDArray[np.float64]
Flags = NDArray[np.int8]

SIMILARITIES: Final = ("ssim",)
"""Measures that are 1 for equal images."""
VALUE: Final = "value"
NULL: Final = "null"


class Source(Protocol):
    """Where the curves of a comparison come from."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """What decides every value, besides seeds, labels and times."""
        ...

    @property
    def said(self) -> str:
        """Where the curves come from, for people."""
        ...

    @property
    def quantity(self) -> str:
        """What a value is, such as ``1 - ssim``."""
        ...

    @property
    def times(self) -> tuple[int, ...]:
        """States, descending."""
        ...

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds that every side knows."""
        ...

    @property
    def has_null(self) -> bool:
        """Whether there is a null to subtract."""
        ...

    @property
    def weight(self) -> int:
        """Bytes that one seed takes while it is read."""
        ...

    def status(self, seeds: Sequence[int]) -> Flags:
        """[seed, time]: 2 where everything is stored, 1 where something is missing, 0 where it was never asked for."""
        ...

    def values(self, seeds: Sequence[int]) -> tuple[Values, Values | None]:
        """How different the sides are and the same of the null, [seed, pair, time] each."""
        ...

    def coords(self) -> dict[str, xr.Variable]:
        """Coordinates along time."""
        ...

    def at(self, times: Sequence[int]) -> "Source":
        """The same at some of its states."""
        ...


@dataclass(frozen=True)
class Stored:
    """A measure that is stored between labels, or between a changed run and the clean one."""

    question: Question
    node: str
    kind: str
    times: tuple[int, ...]
    layer: str | None = None

    @property
    def recipe(self) -> Mapping[str, Any]:
        return {"stored": told(self._group.held, self._data), "layer": self.layer}

    @property
    def said(self) -> str:
        return self.node

    @property
    def quantity(self) -> str:
        return quantity(self.kind)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self._group.held.values(SEED))

    @property
    def has_null(self) -> bool:
        return NULL in self._data

    @property
    def weight(self) -> int:
        # A float32 value and its null are read, three float64 curves a pair are made of them.
        read = len(self._rows) * self._data.sizes.get(OTHER, 1) * 8
        return len(self.times) * (read + 24 * len(self.question.pairs))

    def status(self, seeds: Sequence[int]) -> Flags:
        return worst(status_of(self._data, self._group, self._rows, seeds, self.times))

    def values(self, seeds: Sequence[int]) -> tuple[Values, Values | None]:
        null = self._curves(NULL, seeds) if self.has_null else None
        return self._curves(VALUE, seeds), null

    def coords(self) -> dict[str, xr.Variable]:
        return along_time(self._data, self.times)

    def at(self, times: Sequence[int]) -> Self:
        return replace(self, times=tuple(times))

    def _curves(self, name: str, seeds: Sequence[int]) -> Values:
        array = cells(self._data[name], self._group, self._rows, seeds, self.times)
        if self.question.mode == "labels":
            others = self._data[OTHER].values.tolist()
            rows = [self._rows.index(one) for one, _ in self.question.labels]
            columns = [others.index(other) for _, other in self.question.labels]
            found = np.moveaxis(array[rows, :, :, columns], 0, 1)
        else:
            found = array.astype(np.float64).mean(axis=0)[:, None]
        return difference(np.asarray(found, dtype=np.float64), self.kind)

    @property
    def _group(self) -> Group:
        """Whose rows are read: the changed side, which is compared with the clean one."""
        groups = self.question.groups
        return next((group for group in groups if group.intervention != CLEAN), groups[0])

    @cached_property
    def _rows(self) -> tuple[int, ...]:
        if self.question.mode == "labels":
            return tuple(dict.fromkeys(one for one, _ in self.question.labels))
        return self._group.labels

    @cached_property
    def _data(self) -> xr.Dataset:
        return one_layer(self._group.held.nodes[self.node], self.layer)


@dataclass(frozen=True)
class Curves:
    """A curve that every case has by itself (step SSIM, say): the second side's minus the first side's."""

    question: Question
    node: str
    kind: str
    times: tuple[int, ...]
    layer: str | None = None

    @property
    def recipe(self) -> Mapping[str, Any]:
        sides = [told(group.held, self._data(group)) for group in self.question.groups]
        return {"curves": sides, "layer": self.layer}

    @property
    def said(self) -> str:
        return f"{self.node} of both"

    @property
    def quantity(self) -> str:
        return f"second minus first of {quantity(self.kind)}"

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return common([group.held.values(SEED) for group in self.question.groups])

    @property
    def has_null(self) -> bool:
        return all(NULL in self._data(group) for group in self.question.groups)

    @property
    def weight(self) -> int:
        members = sum(len(group.labels) for group in self.question.groups)
        return len(self.times) * (8 * members + 48 * len(self.question.pairs))

    def status(self, seeds: Sequence[int]) -> Flags:
        each = [
            status_of(self._data(group), group, group.labels, seeds, self.times)
            for group in self.question.groups
        ]
        return worst(np.concatenate(each))

    def values(self, seeds: Sequence[int]) -> tuple[Values, Values | None]:
        return self._curves(VALUE, seeds), self._curves(NULL, seeds) if self.has_null else None

    def coords(self) -> dict[str, xr.Variable]:
        return along_time(self._data(self.question.groups[0]), self.times)

    def at(self, times: Sequence[int]) -> Self:
        return replace(self, times=tuple(times))

    def _curves(self, name: str, seeds: Sequence[int]) -> Values:
        each = [
            cells(self._data(group)[name], group, group.labels, seeds, self.times)
            for group in self.question.groups
        ]
        members = difference(np.concatenate(each).astype(np.float64), self.kind)
        found = np.stack([members[other] - members[one] for one, other in self.question.pairs], axis=1)
        return averaged(found, self.question)

    def _data(self, group: Group) -> xr.Dataset:
        return one_layer(group.held.nodes[self.node], self.layer)


def averaged(curves: Values, question: Question) -> Values:
    """[seed, pair, time] with the pairs of two sides averaged into one: the seed is the unit, not the sample."""
    return curves if question.averaged == 1 else curves.mean(axis=1, keepdims=True)


def difference(values: Values, kind: str) -> Values:
    """Larger for more different."""
    return 1.0 - values if kind in SIMILARITIES else values


def quantity(kind: str) -> str:
    """What `difference` of a measure is called."""
    return f"1 - {kind}" if kind in SIMILARITIES else kind


def common(axes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Values on every axis, in the order of the first."""
    first, *others = axes
    kept = set(first).intersection(*others)
    return tuple(value for value in first if value in kept)


def told(held: Held, data: xr.Dataset) -> dict[str, Any]:
    """What a stored stage is: its run (model and numerics), its key, and its null's."""
    return {"run": held.run, "key": data.attrs["key"], NULL: data.attrs.get(NULL, "")}


def one_layer(data: xr.Dataset, layer: str | None) -> xr.Dataset:
    """A measure of several layers at one of them."""
    return data if layer is None or LAYER not in data.dims else data.sel({LAYER: layer})


def cells(
    array: xr.DataArray, group: Group, labels: Sequence[int], seeds: Sequence[int], times: Sequence[int]
) -> NDArray[Any]:
    """Cells [label, seed, time, ...] of a stored array, in the order asked for."""
    found = array.isel(_places(array, group, labels, seeds, times))
    return np.asarray(found.transpose(LABEL, SEED, TIME, ...).values)


def status_of(
    data: xr.Dataset, group: Group, labels: Sequence[int], seeds: Sequence[int], times: Sequence[int]
) -> Flags:
    """[label, seed, time] of a node's status."""
    return cells(data[STATUS], group, labels, seeds, times).astype(np.int8)


def worst(status: Flags) -> Flags:
    """[..., seed, time] as [seed, time]: 2 where all is there, 1 where something is missing, else 0."""
    there, missing = (status == 2).all(axis=0), (status == 1).any(axis=0)
    return np.where(there, 2, np.where(missing, 1, 0)).astype(np.int8)


def along_time(data: xr.Dataset, times: Sequence[int]) -> dict[str, xr.Variable]:
    """What is known of each state besides its number."""
    chosen = data.coords.to_dataset().sel({TIME: list(times)})
    return {str(k): v.variable for k, v in chosen.coords.items() if v.dims == (TIME,) and k != TIME}


def _places(
    array: xr.DataArray, group: Group, labels: Sequence[int], seeds: Sequence[int], times: Sequence[int]
) -> dict[str, Any]:
    wanted: dict[str, Sequence[Any]] = {LABEL: labels, SEED: seeds, TIME: times}
    places: dict[str, Any] = {axis: positions(array, axis, values) for axis, values in wanted.items()}
    return {INTERVENTION: positions(array, INTERVENTION, [group.intervention])[0], **places}


def positions(array: xr.DataArray, axis: str, values: Sequence[Any]) -> list[int]:
    """Where some values stand along an axis."""
    where = {value: at for at, value in enumerate(array.coords[axis].values.tolist())}
    return [where[value] for value in values]
