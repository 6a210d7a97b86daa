"""Stored arrays as xarray sees them: lazy, sorted, verified, and honest about what is missing.

A selection is turned into positions on the stored axes, and those into the few inner chunks that hold them; nothing
else is read. Small arrays stay lazily indexed (no task graph at all), large ones become dask arrays whose blocks are
whole shards, so that a mean over a sweep larger than memory streams.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from flowprofile.axes import STORED_AXES
from flowprofile.errors import StoreError
from flowprofile.store.encoding import digest
from flowprofile.store.ledger import Ledger
from flowprofile.store.reading import Box, Positions, read
from flowprofile.store.record import Request, StageRecord, Variable

Missing = Literal["nan", "raise"]
LARGE = 64 * 2**20
"""Arrays above this many bytes open dask-backed."""
BLOCKS = 10_000
"""At most about this many dask blocks per array."""
_BLOCK = 16 * 2**20
_REMEMBERED = 4096
STATUS = "status"
STATUS_ATTRS = {
    "long_name": "what became of a cell",
    "flag_values": [0, 1, 2],
    "flag_meanings": "not_requested missing present",
}


@dataclass(frozen=True)
class View:
    """Which stored positions a reader sees, in which order; -1 is a place nothing is stored for."""

    interventions: Positions
    labels: Positions
    seeds: Positions
    times: Positions

    @property
    def axes(self) -> tuple[Positions, ...]:
        return self.interventions, self.labels, self.seeds, self.times


class StoredArray(BackendArray):
    """One stored variable under a view."""

    def __init__(
        self, ledger: Ledger, name: str, variable: Variable, view: View, *, missing: Missing = "nan"
    ) -> None:
        self.ledger, self.name, self.variable, self.view, self.missing = ledger, name, variable, view, missing
        self.leading = 4 if variable.timed else 3
        self.shape = (*(len(axis) for axis in view.axes[: self.leading]), *variable.tail)
        self.dtype = np.dtype(variable.form.dtype)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.get)

    def get(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        """The cells at a key of numbers, slices and positions per axis, each on its own."""
        wanted = [axis[as_array(k, len(axis))] for axis, k in zip(self.view.axes, key, strict=False)]
        wanted = wanted[: self.leading] + ([np.zeros(1, np.int64)] if self.leading == 3 else [])
        if self.missing == "raise":
            _refuse_missing(self.ledger, wanted)
        tail = list(map(_tail_key, key[self.leading :]))
        rows = None
        if tail:
            rows, tail[0] = _rows(tail[0], self.variable.tail[0])
        out = _read(self.ledger, self.name, self.variable, wanted, rows)
        for axis, part in enumerate(tail, self.leading):
            out = out[(slice(None),) * axis + (part,)]
        scalars = tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key)
        return np.asarray(out[scalars])


class StatusArray(BackendArray):
    """0 not requested, 1 missing, 2 present; computed from the names of receipts."""

    def __init__(self, ledger: Ledger, requests: tuple[Request, ...], view: View) -> None:
        self.ledger, self.requests, self.view = ledger, requests, view
        self.shape = tuple(len(axis) for axis in view.axes)
        self.dtype = np.dtype("int8")

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self.get)

    def get(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        """The cells at a key of numbers, slices and positions per axis, each on its own."""
        wanted = [axis[as_array(k, len(axis))] for axis, k in zip(self.view.axes, key, strict=True)]
        out = (requested(self.requests, wanted) | stored(self.ledger, wanted)).astype(np.int8)
        out += stored(self.ledger, wanted)
        scalars = tuple(0 if np.ndim(k) == 0 and not isinstance(k, slice) else slice(None) for k in key)
        return np.asarray(out[scalars])


def as_array(key: Any, length: int) -> Positions:
    """A key along one axis as positions."""
    if isinstance(key, slice):
        return np.arange(*key.indices(length))
    return np.atleast_1d(np.asarray(key, np.int64))


def _tail_key(key: Any) -> Any:
    return slice(int(key), int(key) + 1) if np.ndim(key) == 0 and not isinstance(key, slice) else key


def _rows(key: Any, length: int) -> tuple[Positions | None, Any]:
    """What to read along the first axis behind time (None: all), and the key to what was asked for in that."""
    asked = as_array(key, length)
    rows = np.unique(asked)
    back = slice(None) if np.array_equal(rows, asked) else np.searchsorted(rows, asked)
    return (None if len(rows) == length else rows), back


def _read(
    ledger: Ledger, name: str, variable: Variable, wanted: Sequence[Positions], rows: Positions | None
) -> npt.NDArray[Any]:
    """As `reading.read`, with holes where a position is -1."""
    if all((axis >= 0).all() for axis in wanted):
        return read(ledger, name, variable, _box(wanted, rows))
    known = [np.flatnonzero(axis >= 0) for axis in wanted]
    leading = 4 if variable.timed else 3
    stored_only = [axis[k] for axis, k in zip(wanted, known, strict=True)]
    part = read(ledger, name, variable, _box(stored_only, rows))
    shape = (*(len(axis) for axis in wanted[:leading]), *part.shape[leading:])
    out = np.full(shape, variable.form.fill, variable.form.dtype)
    out[np.ix_(*known[:leading])] = part
    return out


def _box(wanted: Sequence[Positions], rows: Positions | None) -> Box:
    interventions, labels, seeds, times = wanted
    return Box(interventions, labels, seeds, times, rows)


def requested(requests: Sequence[Request], wanted: Sequence[Positions]) -> npt.NDArray[np.bool_]:
    """Which cells were ever asked for."""
    out = np.zeros([len(axis) for axis in wanted], bool)
    for request in requests:
        masks = (
            np.isin(wanted[0], request.interventions),
            np.isin(wanted[1], request.labels),
            _within(wanted[2], request.seeds),
            _within(wanted[3], request.times),
        )
        if all(mask.any() for mask in masks):
            out[np.ix_(*masks)] = True
    return out


def _within(positions: Positions, ranges: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    out = np.zeros(len(positions), bool)
    for start, stop in ranges:
        out |= (positions >= start) & (positions < stop)
    return out


def stored(ledger: Ledger, wanted: Sequence[Positions]) -> npt.NDArray[np.bool_]:
    """Which cells have a receipt."""
    interventions, labels, seeds, times = wanted
    out = np.zeros([len(axis) for axis in wanted], bool)
    if not out.size:
        return out
    box = (int(seeds.min()), int(seeds.max()) + 1), (int(times.min()), int(times.max()) + 1)
    for i, intervention in enumerate(interventions.tolist()):
        for j, label in enumerate(labels.tolist()):
            for s0, s1, t0, t1 in ledger.overlapping(intervention, label, *box).tolist():
                rows = np.flatnonzero((seeds >= s0) & (seeds < s1))
                columns = np.flatnonzero((times >= t0) & (times < t1))
                out[i, j, rows[:, None], columns] = True
    return out


def _refuse_missing(ledger: Ledger, wanted: Sequence[Positions]) -> None:
    absent = ~stored(ledger, wanted)
    if absent.any():
        i, label, s, t = (int(n) for n in np.argwhere(absent)[0])
        raise StoreError(
            f"{int(absent.sum())} of {absent.size} wanted cells of {ledger.run}/{ledger.group} are missing.",
            consequence='They would read as NaN; missing="raise" was asked for.',
            remedy='run the pipeline again to compute them, or open with missing="nan"',
            evidence=f"first at stored positions intervention {wanted[0][i]}, label {wanted[1][label]}, "
            f"seed {wanted[2][s]}, time {wanted[3][t]}",
        )


_LAZY: OrderedDict[str, xr.Variable] = OrderedDict()


def variable_of(
    array: BackendArray,
    dims: Sequence[str],
    attrs: Mapping[str, Any],
    *,
    name: str,
    aligned: Sequence[int],
) -> xr.Variable:
    """An xarray variable over a stored array: lazily indexed, or dask-backed where it is large.

    Parameters
    ----------
    name
        Unique name of what is read, for the task graph.
    aligned
        The shape of one object.
    """
    lazy = xr.Variable(tuple(dims), indexing.LazilyIndexedArray(array), dict(attrs))
    if lazy.nbytes <= LARGE:
        return lazy
    task = f"flowprofile-{digest(name.encode())}"
    _LAZY[task] = lazy
    if len(_LAZY) > _REMEMBERED:
        _LAZY.popitem(last=False)
    return chunked(lazy, aligned, name=task)


def chunked(lazy: xr.Variable, aligned: Sequence[int], *, name: str) -> xr.Variable:
    """A variable as dask blocks of whole objects, few enough to schedule and large enough to be worth it."""
    chunks = [min(a, n) for a, n in zip(aligned, lazy.shape, strict=True)]
    order = [axis for axis in (2, 3, 1, 0) if axis < lazy.ndim and lazy.dims[axis] in STORED_AXES]
    while _blocks(chunks, lazy.shape) > BLOCKS or np.prod(chunks) * lazy.dtype.itemsize < _BLOCK:
        axis = next((axis for axis in order if chunks[axis] < lazy.shape[axis]), None)
        if axis is None:
            break
        chunks[axis] = min(2 * chunks[axis], lazy.shape[axis])
    return lazy.chunk(dict(zip(lazy.dims, chunks, strict=True)), name=name, inline_array=True)


def _blocks(chunks: Sequence[int], shape: Sequence[int]) -> int:
    return int(np.prod([-(-n // c) for c, n in zip(chunks, shape, strict=True)]))


def unchunked(data: xr.Dataset) -> xr.Dataset:
    """The dataset with every array that is still as it was opened lazily indexed again.

    Selecting first and chunking afterwards reads what is wanted; selecting from blocks reads whole blocks.
    """
    plain = {
        key: _LAZY[value.data.name].copy(deep=False)
        for key, value in data.variables.items()
        # Not hasattr(value.data, ...): asking an array that is not in blocks for its data reads all of it.
        if value.chunks is not None
        and value.data.name in _LAZY
        and _LAZY[value.data.name].shape == value.shape
    }
    return data.assign(plain) if plain else data


def view_of(stage: StageRecord, case_order: Sequence[Positions], times: Sequence[int] | None) -> View:
    """The view that shows a stage at some states; every stored one, descending, when None."""
    where = {t: at for at, t in enumerate(stage.time or ())}
    shown = sorted(where, reverse=True) if times is None else times
    positions = [where.get(t, -1) for t in shown] if stage.time is not None else [0]
    interventions, labels, seeds = case_order
    return View(interventions, labels, seeds, np.array(positions, np.int64))
