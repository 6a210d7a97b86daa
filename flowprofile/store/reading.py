"""Reading cells back, and never a byte that was not acknowledged.

What is fetched of an object is checked against the receipts: whole inner chunks, by the position, length and
checksum their seals state, so that a swapped, stale or shortened shard is found without reading more of it than was
asked for. Cells no receipt covers read as missing whatever the object holds. A writer may have superseded a seal
since it was looked up; then the ledger is read again before anything is called damaged.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.errors import IntegrityError
from flowprofile.store.bounds import largest, packed
from flowprofile.store.encoding import Inner, Seal, decode_inner, intact
from flowprofile.store.ledger import Ledger, Rows
from flowprofile.store.objects import ROOT, Extent, damaged, extents, inners_at
from flowprofile.store.record import Variable

_ATTEMPTS = 5
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Box:
    """Positions asked for, per stored axis."""

    interventions: Positions
    labels: Positions
    seeds: Positions
    times: Positions
    """Ignored by a variable without time."""
    rows: Positions | None = None
    """Positions along the first axis behind time, increasing; None for all."""


def read(ledger: Ledger, name: str, variable: Variable, box: Box) -> npt.NDArray[Any]:
    """The cells of a variable at the product of some positions; the fill value where a cell is missing.

    Returns
    -------
    numpy.ndarray
        ``(intervention, label, seed, [time,] ...)`` in the order of the positions.
    """
    times = box.times if variable.timed else np.zeros(1, np.int64)
    wanted = _Cells(box.seeds, times, box.rows)
    lengths = (len(box.interventions), len(box.labels), *wanted.shape(variable))
    out = np.full(lengths, variable.form.fill, variable.form.dtype)
    if out.size:
        for i, intervention in enumerate(box.interventions.tolist()):
            for j, label in enumerate(box.labels.tolist()):
                _read_label(ledger, name, variable, (intervention, label), wanted, out[i, j])
    return out if variable.timed else out[:, :, :, 0]


@dataclass(frozen=True, slots=True)
class _Cells:
    """What is wanted of one label and intervention, or, counted from its start, of one object."""

    seeds: Positions
    times: Positions
    rows: Positions | None

    def shape(self, variable: Variable) -> tuple[int, ...]:
        tail = variable.tail if self.rows is None else (len(self.rows), *variable.tail[1:])
        return len(self.seeds), len(self.times), *tail


def _read_label(
    ledger: Ledger,
    name: str,
    variable: Variable,
    at: tuple[int, int],
    wanted: _Cells,
    out: npt.NDArray[Any],
) -> None:
    seeds, times = wanted.seeds, wanted.times
    for extent in _objects(name, variable, at, seeds, times):
        if not len(ledger.overlapping(*at, extent.seeds, extent.times)):
            continue
        lines = np.flatnonzero((seeds >= extent.seeds[0]) & (seeds < extent.seeds[1]))
        columns = np.flatnonzero((times >= extent.times[0]) & (times < extent.times[1]))
        inside = _Cells(seeds[lines] - extent.seeds[0], times[columns] - extent.times[0], wanted.rows)
        out[np.ix_(lines, columns)] = _part(ledger, variable, extent, inside)


def _objects(
    name: str, variable: Variable, at: tuple[int, int], seeds: Positions, times: Positions
) -> list[Extent]:
    tile = variable.form.chunk[2]
    block = variable.form.chunk[3] if variable.timed else 1
    tiles, blocks = np.unique(seeds // tile).tolist(), np.unique(times // block).tolist()
    return [
        extent
        for s in tiles
        for t in blocks
        for extent in extents(name, variable, *at, (s * tile, s * tile + 1), (t * block, t * block + 1))
    ]


def _part(ledger: Ledger, variable: Variable, extent: Extent, wanted: _Cells) -> npt.NDArray[Any]:
    """``(seed, time, ...)`` cells of one object; tries again where a writer may have been faster."""
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(ledger, variable, extent, wanted)
        except IntegrityError:
            before = _state(ledger, extent)
            ledger.reload()
            if attempt and _state(ledger, extent) == before:
                raise
            time.sleep(0.01 * attempt)
    return _attempt(ledger, variable, extent, wanted)


def _state(ledger: Ledger, extent: Extent) -> object:
    """What the ledger says about an object, to see whether it is changing."""
    try:
        rows = ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
        receipts = ledger.receipts(extent.intervention, extent.label, rows)
        return [receipt.objects.get(extent.key) for receipt in receipts], ledger.intended(extent.key)
    except IntegrityError as error:
        return str(error)


def _attempt(ledger: Ledger, variable: Variable, extent: Extent, wanted: _Cells) -> npt.NDArray[Any]:
    rows = ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
    receipts = ledger.receipts(extent.intervention, extent.label, rows)
    cells = np.full(wanted.shape(variable), variable.form.fill, variable.form.dtype)
    covered = _covered(rows, extent, wanted.seeds, wanted.times)
    if not covered.any() or not receipts:
        return cells
    seals = ledger.seals(extent.key, receipts)
    present = replace(wanted, times=wanted.times[covered.any(0)])
    for (first, position), values in _fetch_any(ledger, variable, extent, seals, present).items():
        _place(variable, cells, values, (first, position), wanted)
    if not covered.all():
        cells[~covered] = variable.form.fill
    return cells


def _covered(rows: Rows, extent: Extent, seeds: Positions, times: Positions) -> npt.NDArray[np.bool_]:
    seed, moment = seeds + extent.seeds[0], times + extent.times[0]
    result = np.zeros((len(seeds), len(times)), bool)
    for s0, s1, t0, t1 in rows.tolist():
        result |= ((seed >= s0) & (seed < s1))[:, None] & ((moment >= t0) & (moment < t1))[None, :]
    return result


def _fetch_any(
    ledger: Ledger, variable: Variable, extent: Extent, seals: Sequence[Seal], wanted: _Cells
) -> dict[tuple[int, int], npt.NDArray[Any]]:
    for seal in seals:
        fetched = _fetch(ledger, variable, extent, seal, wanted)
        if fetched is not None:
            return fetched
    for seal in ledger.intended(extent.key):
        fetched = _fetch(ledger, variable, extent, seal, wanted)
        if fetched is not None:
            return fetched
    key = f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"
    fits = (ledger.place.size(key) or 0) <= largest(variable.form)
    raise damaged(ledger, extent.key, ledger.place.read(key) if fits else None)


def _fetch(
    ledger: Ledger, variable: Variable, extent: Extent, seal: Seal, wanted: _Cells
) -> dict[tuple[int, int], npt.NDArray[Any]] | None:
    """The inner chunks that hold some cells, by (first time, position); None where the bytes are not the sealed."""
    key = f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"
    entries: dict[int, Inner] = {}
    for position in _positions(variable, extent, wanted):
        entry = seal.inner[position] if position < len(seal.inner) else None
        if entry is None or entry[1] > packed(variable.form):
            return None
        entries[position] = entry
    if ledger.place.size(key) != seal.size:
        return None
    found = {}
    for run in _contiguous(entries):
        data = ledger.place.read(key, run[0][1][0], run[-1][1][0] + run[-1][1][1])
        for position, entry in run:
            part = memoryview(data or b"")[entry[0] - run[0][1][0] :][: entry[1]]
            if not intact(part, entry):
                return None
            try:
                found[_first_time(variable, position), position] = decode_inner(variable.form, part)
            except (RuntimeError, ValueError):  # sealed, and still not what its codec makes of such a chunk
                return None
    return found


def _positions(variable: Variable, extent: Extent, wanted: _Cells) -> Iterator[int]:
    """Which inner chunks of an object hold any wanted cell."""
    form = variable.form
    steps = np.unique(wanted.times // form.inner_times).tolist() if variable.timed else [0]
    parts = None
    if wanted.rows is not None and form.inner is not None:
        parts = np.unique(wanted.rows // form.inner[4]).tolist()
    for step in steps:
        first = extent.times[0] + step * (form.inner_times if variable.timed else 1)
        inside = inners_at(variable, extent, (first, first + 1))
        yield from inside if parts is None else (inside[part] for part in parts)


def _first_time(variable: Variable, position: int) -> int:
    form = variable.form
    if form.inner is None:
        return 0
    return position // (form.inners // (form.chunk[3] // form.inner[3])) * form.inner[3]


def _contiguous(wanted: dict[int, Inner]) -> list[list[tuple[int, Inner]]]:
    """Inner chunks in runs that lie next to each other, each one read."""
    ordered = sorted(wanted.items(), key=lambda item: item[1][0])
    bounds, end, number = [], -1, 0
    for _, entry in ordered:
        number += entry[0] != end
        end = entry[0] + entry[1]
        bounds.append(number)
    pairs = zip(bounds, ordered, strict=True)
    return [[item for _, item in part] for _, part in groupby(pairs, key=lambda pair: pair[0])]


def _place(
    variable: Variable,
    cells: npt.NDArray[Any],
    values: npt.NDArray[Any],
    at: tuple[int, int],
    wanted: _Cells,
) -> None:
    """Copy one inner chunk's cells to where they were asked for."""
    first, position = at
    body = values[0, 0] if variable.timed else values[0, 0][:, None]  # (seed, time, tail...)
    columns = np.flatnonzero((wanted.times >= first) & (wanted.times < first + body.shape[1]))
    moments = wanted.times[columns] - first
    if not variable.tail or (wanted.rows is None and body.shape[2:] == variable.tail):
        cells[:, columns] = body[np.ix_(wanted.seeds, moments)]
        return
    length = body.shape[2]
    start = position % (variable.form.chunk[4] // length) * length if variable.timed else 0
    if wanted.rows is None:
        held = body[:, :, : variable.tail[0] - start]
        cells[:, columns, start : start + length] = held[np.ix_(wanted.seeds, moments)]
        return
    here = slice(*np.searchsorted(wanted.rows, (start, start + length)).tolist())
    cells[:, columns, here] = body[np.ix_(wanted.seeds, moments, wanted.rows[here] - start)]
