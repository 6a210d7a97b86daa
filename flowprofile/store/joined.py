"""Stages that hold different places of one axis, shown as one node.

The rows of a gradient volume that a mask selects are a stage, and another mask asks only for the rows nobody stored
yet: a second stage of the same group, with another key. Both say ``{"join": {"axis": "pixel", "of": digest}}`` in
their attrs. A node shows them side by side along that axis, in the order of its coordinate (which is by y, then x).
Whether a cell is there is known per place, so ``status`` has the axis too; it does even for a single stage, so that
a second mask changes no dims.

A run may say in its attrs which places were asked for last, ``{"masks": {group: {digest: places}}}``. The group's plain
name then shows those, and ``group[pixel=all]`` everything: what a name means must not depend on whom one shares a store
with.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from flowprofile.axes import STORED_AXES, TIME
from flowprofile.store.lazy import (
    STATUS,
    STATUS_ATTRS,
    Missing,
    StatusArray,
    StoredArray,
    as_array,
    variable_of,
    view_of,
)
from flowprofile.store.ledger import Ledger
from flowprofile.store.reading import Positions
from flowprofile.store.record import RunRecord, StageRecord, canonical
from flowprofile.store.rendering import coordinate_of

MASKS = "masks"
"""The attr of a run that says which places of its joined groups were asked for last."""


def join_axis(stage: StageRecord) -> str | None:
    """The axis along which a stage is one of several; None for a stage of its own."""
    join = stage.attrs.get("join")
    axis = join.get("axis") if isinstance(join, Mapping) else None
    if axis is None or "of" not in stage.attrs["join"] or stage.coords.get(axis) is None:
        return None
    inside = all(axis in v.dims and axis not in STORED_AXES for v in stage.variables.values())
    return str(axis) if inside and stage.coords[axis].dims == (axis,) else None


def sets(run: RunRecord, folders: Iterable[str]) -> list[tuple[str, ...]]:
    """Folders of one group's stages as the sets that are shown as one, each in order of declaration.

    A stage that shares a place with an earlier one stays by itself: which of two equal places to show would be a
    guess.
    """
    found: list[tuple[str, ...]] = []
    open_sets: dict[str, tuple[int, set[Any]]] = {}
    for folder in sorted(folders, key=lambda each: run.stages[each].order):
        stage = run.stages[folder]
        axis = join_axis(stage)
        kind = None if axis is None else _kind(stage, axis)
        places = set() if axis is None else set(stage.coords[axis].values)
        if kind in open_sets and not open_sets[kind][1] & places:
            at, known = open_sets[kind]
            found[at] = (*found[at], folder)
            known |= places
            continue
        if kind is not None and kind not in open_sets:
            open_sets[kind] = (len(found), places)
        found.append((folder,))
    return found


def _kind(stage: StageRecord, axis: str) -> str:
    """What the members of a set have in common: what they say they are of, and every shape but the axis' own."""
    variables = {
        name: (
            v.dims,
            v.form.dtype,
            [n for dim, n in zip(v.dims[-len(v.tail) :], v.tail, strict=True) if dim != axis],
        )
        for name, v in stage.variables.items()
    }
    coords = {
        name: (c.dims, None if axis in c.dims or c.dims == (TIME,) else c.values)
        for name, c in stage.coords.items()
    }
    return canonical([stage.attrs["join"], variables, coords, stage.time is None])


def params_of(stage: StageRecord) -> dict[str, Any]:
    """A stage's parameters as people say them: a mask by its name, and no list of the places along the joined axis."""
    params, axis = stage.attrs.get("params") or {}, join_axis(stage)
    places = None if axis is None else list(stage.coords[axis].values)
    said = {name: value for name, value in params.items() if places is None or value != places}
    return {**said, "mask": stage.attrs["mask_name"]} if stage.attrs.get("mask_name") else said


def narrowed(data: xr.Dataset, asked: Mapping[str, Sequence[int]]) -> xr.Dataset:
    """A node with the places that were asked for last, by the digest of what it is of; all of it where nobody says."""
    join = data.attrs.get("join") or {}
    wanted = asked.get(join.get("of", ""))
    if wanted is None:
        return data
    axis = join["axis"]
    places = np.flatnonzero(np.isin(data[axis].values, wanted))
    return data if len(places) in (0, data.sizes[axis]) else data.isel({axis: places})


def common(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What some mappings agree on."""
    return {
        key: value for key, value in values[0].items() if all(key in v and v[key] == value for v in values)
    }


@dataclass(frozen=True)
class _Places:
    """Who holds what is shown along the axis."""

    axis: str
    shown: Positions
    """Positions in all members' places, one member behind the other, in the order in which they are shown."""
    owner: Positions
    local: Positions
    """The position with its owner."""


class JoinedArray(BackendArray):
    """One array of several stages, side by side along one axis behind time."""

    def __init__(
        self, parts: Sequence["StoredArray | _StatusPerPlace"], places: _Places, *, axis: int
    ) -> None:
        self.parts, self.places, self.axis = tuple(parts), places, axis
        shape = parts[0].shape
        self.shape: tuple[int, ...] = (*shape[:axis], len(places.owner), *shape[axis + 1 :])
        self.dtype = parts[0].dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.get)

    def get(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        """The cells at a key of numbers, slices and positions per axis, each on its own."""
        wanted = tuple(as_array(k, n) for k, n in zip(key, self.shape, strict=True))
        shown = wanted[self.axis]
        out = np.empty([len(k) for k in wanted], self.dtype)
        for number in np.unique(self.places.owner[shown]).tolist():
            mine = np.flatnonzero(self.places.owner[shown] == number)
            local = self.places.local[shown[mine]]
            out[(slice(None),) * self.axis + (mine,)] = self.parts[number].get(
                (*wanted[: self.axis], local, *wanted[self.axis + 1 :])
            )
        scalars = tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key)
        return np.asarray(out[scalars])


class _StatusPerPlace:
    """A stage's status, said of each of its places."""

    def __init__(self, status: StatusArray, length: int) -> None:
        self.status, self.shape, self.dtype = status, (*status.shape, length), status.dtype

    def get(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        cells = self.status.get(key[:-1])[..., None]
        return np.broadcast_to(cells, (*cells.shape[:-1], len(key[-1])))


def joined(
    ledgers: Sequence[Ledger],
    stages: Sequence[StageRecord],
    order: Sequence[Positions],
    *,
    base: str,
    missing: Missing,
    beside: Mapping[str, Any],
) -> xr.Dataset:
    """The node of a set, without the indexes of the case axes.

    Parameters
    ----------
    ledgers, stages
        The members'.
    order
        Stored positions of interventions, labels and seeds in the order in which they are shown.
    base
        Names what is read, for the task graph.
    beside
        Coordinates along the case axes.

    Returns
    -------
    xarray.Dataset
        Variables ``(intervention, label, seed, time, ..., axis, ...)`` at all times any member has, and ``status``
        ``(intervention, label, seed, time, axis)``.
    """
    first, axis = stages[0], str(join_axis(stages[0]))
    places = _places(stages, axis)
    times = None if first.time is None else sorted({t for s in stages for t in s.time or ()}, reverse=True)
    views = [view_of(stage, order, times) for stage in stages]
    data = {}
    for name, variable in first.variables.items():
        parts = [
            StoredArray(ledger, name, stage.variables[name], view, missing=missing)
            for ledger, stage, view in zip(ledgers, stages, views, strict=True)
        ]
        array = JoinedArray(parts, places, axis=variable.dims.index(axis))
        chunks = [stage.variables[name].form.chunk for stage in stages]
        aligned = _aligned(chunks, array.axis, len(places.owner))
        data[name] = variable_of(
            array, variable.dims, variable.attrs, name=f"{base} {name} {times}", aligned=aligned
        )
    statuses = [
        _StatusPerPlace(StatusArray(ledger, stage.requests, view), stage.coords[axis].shape[0])
        for ledger, stage, view in zip(ledgers, stages, views, strict=True)
    ]
    array = JoinedArray(statuses, places, axis=len(STORED_AXES))
    data[STATUS] = _status(array, axis, first, name=f"{base} {STATUS} {times}")
    return xr.Dataset(data, coords={**_coords(stages, places, times), **beside}, attrs=_attrs(stages))


def _places(stages: Sequence[StageRecord], axis: str) -> _Places:
    lengths = [stage.coords[axis].shape[0] for stage in stages]
    owner = np.repeat(np.arange(len(stages)), lengths)
    local = np.concatenate([np.arange(length) for length in lengths])
    shown = np.argsort(np.concatenate([stage.coords[axis].array for stage in stages]), kind="stable")
    return _Places(axis, shown, owner[shown], local[shown])


def _aligned(chunks: Sequence[tuple[int, ...]], axis: int, length: int) -> tuple[int, ...]:
    """Blocks of whole objects of the member with the shortest ones, over the whole axis."""
    shortest: tuple[int, ...] = min(chunks, key=lambda chunk: chunk[3])
    return (*shortest[:axis], length, *shortest[axis + 1 :])


def _status(array: JoinedArray, axis: str, stage: StageRecord, *, name: str) -> xr.Variable:
    dims = (*STORED_AXES, axis)
    aligned = (1, 1, 1024, stage.capacity, len(array.places.owner))
    found = variable_of(array, dims, STATUS_ATTRS, name=name, aligned=aligned)
    return found.isel({TIME: 0}) if stage.time is None else found


def _coords(
    stages: Sequence[StageRecord], places: _Places, times: Sequence[int] | None
) -> dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]]:
    result: dict[str, tuple[tuple[str, ...], npt.NDArray[Any], dict[str, Any]]] = {}
    for name in [*([TIME] if times is not None else []), *stages[0].coords]:
        each = [coordinate_of(name, stage) for stage in stages]
        dims, values = each[0].dims, each[0].array
        if dims == (TIME,):
            pairs = zip(stages, each, strict=True)
            known = {t: v for s, c in pairs for t, v in zip(s.time or (), c.array, strict=True)}
            values = np.array([known[t] for t in times or ()], values.dtype)
        elif places.axis in dims:
            along = dims.index(places.axis)
            values = np.concatenate([c.array for c in each], along).take(places.shown, along)
        result[name] = (dims, values, dict(each[0].attrs))
    return result


def _attrs(stages: Sequence[StageRecord]) -> dict[str, Any]:
    """What the members agree on, and their keys."""
    agreed = common([{**stage.promise_attrs, **stage.attrs} for stage in stages])
    params = common([params_of(stage) for stage in stages])
    return {**agreed, "params": params, "keys": [stage.key for stage in stages]}
