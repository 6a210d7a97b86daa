"""Reading cells back, and never a byte that was not acknowledged.

What is fetched of an object is checked against the receipts: whole inner chunks, by the position, length and
checksum their seals state, so that a swapped, stale or shortened shard is found without reading more of it than was
asked for. Cells no receipt covers read as missing whatever the object holds. A writer may have superseded a seal
since it was looked up; then the ledger is read again before anything is called damaged.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.errors import IntegrityError
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


def read(ledger: Ledger, name: str, variable: Variable, box: Box) -> npt.NDArray[Any]:
    """The cells of a variable at the product of some positions; the fill value where a cell is missing.

    Returns
    -------
    numpy.ndarray
        ``(intervention, label, seed, [time,] ...)`` in the order of the positions.
    """
    times = box.times if variable.timed else np.zeros(1, np.int64)
    lengths = (len(box.interventions), len(box.labels), len(box.seeds), len(times))
    out = np.full((*lengths, *variable.tail), variable.form.fill, variable.form.dtype)
    if out.size:
        for i, intervention in enumerate(box.interventions.tolist()):
            for j, label in enumerate(box.labels.tolist()):
                _read_label(ledger, name, variable, (intervention, label), box.seeds, times, out[i, j])
    return out if variable.timed else out[:, :, :, 0]


def _read_label(
    ledger: Ledger,
    name: str,
    variable: Variable,
    at: tuple[int, int],
    seeds: Positions,
    times: Positions,
    out: npt.NDArray[Any],
) -> None:
    for extent in _objects(name, variable, at, seeds, times):
        if not len(ledger.overlapping(*at, extent.seeds, extent.times)):
            continue
        rows = np.flatnonzero((seeds >= extent.seeds[0]) & (seeds < extent.seeds[1]))
        columns = np.flatnonzero((times >= extent.times[0]) & (times < extent.times[1]))
        out[np.ix_(rows, columns)] = _part(
            ledger, variable, extent, seeds[rows] - extent.seeds[0], times[columns] - extent.times[0]
        )


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


def _part(
    ledger: Ledger, variable: Variable, extent: Extent, seeds: Positions, times: Positions
) -> npt.NDArray[Any]:
    """``(seed, time, ...)`` cells of one object; tries again where a writer may have been faster."""
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(ledger, variable, extent, seeds, times)
        except IntegrityError:
            before = _state(ledger, extent)
            ledger.reload()
            if attempt and _state(ledger, extent) == before:
                raise
            time.sleep(0.01 * attempt)
    return _attempt(ledger, variable, extent, seeds, times)


def _state(ledger: Ledger, extent: Extent) -> object:
    """What the ledger says about an object, to see whether it is changing."""
    try:
        rows = ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
        receipts = ledger.receipts(extent.intervention, extent.label, rows)
        return [receipt.objects.get(extent.key) for receipt in receipts], ledger.intended(extent.key)
    except IntegrityError as error:
        return str(error)


def _attempt(
    ledger: Ledger, variable: Variable, extent: Extent, seeds: Positions, times: Positions
) -> npt.NDArray[Any]:
    rows = ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
    receipts = ledger.receipts(extent.intervention, extent.label, rows)
    cells = np.full((len(seeds), len(times), *variable.tail), variable.form.fill, variable.form.dtype)
    covered = _covered(rows, extent, seeds, times)
    if not covered.any() or not receipts:
        return cells
    seals = ledger.seals(extent.key, receipts)
    fetched = _fetch_any(ledger, variable, extent, seals, times[covered.any(0)])
    for (first, position), values in fetched.items():
        _place(variable, cells, values, (first, position), seeds, times)
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
    ledger: Ledger, variable: Variable, extent: Extent, seals: Sequence[Seal], times: Positions
) -> dict[tuple[int, int], npt.NDArray[Any]]:
    for seal in seals:
        fetched = _fetch(ledger, variable, extent, seal, times)
        if fetched is not None:
            return fetched
    for seal in ledger.intended(extent.key):
        fetched = _fetch(ledger, variable, extent, seal, times)
        if fetched is not None:
            return fetched
    raise damaged(ledger, extent.key, ledger.place.read(f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"))


def _fetch(
    ledger: Ledger, variable: Variable, extent: Extent, seal: Seal, times: Positions
) -> dict[tuple[int, int], npt.NDArray[Any]] | None:
    """The inner chunks that hold some times, by (first time, position); None where the bytes are not the sealed."""
    key = f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"
    steps = np.unique(times // variable.form.inner_times).tolist() if variable.timed else [0]
    wanted: dict[int, Inner] = {}
    for step in steps:
        first = extent.times[0] + step * (variable.form.inner_times if variable.timed else 1)
        for position in inners_at(variable, extent, (first, first + 1)):
            entry = seal.inner[position] if position < len(seal.inner) else None
            if entry is None:
                return None
            wanted[position] = entry
    if ledger.place.size(key) != seal.size:
        return None
    found = {}
    for run in _contiguous(wanted):
        data = ledger.place.read(key, run[0][1][0], run[-1][1][0] + run[-1][1][1])
        for position, entry in run:
            part = memoryview(data or b"")[entry[0] - run[0][1][0] :][: entry[1]]
            if not intact(part, entry):
                return None
            found[_first_time(variable, position), position] = decode_inner(variable.form, part)
    return found


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
    seeds: Positions,
    times: Positions,
) -> None:
    """Copy one inner chunk's cells to where they were asked for."""
    first, position = at
    body = values[0, 0]  # (seed, time, tail...) or (seed, tail...)
    if not variable.timed:
        cells[:, 0] = body[seeds]
        return
    columns = np.flatnonzero((times >= first) & (times < first + body.shape[1]))
    if body.shape[2:] == variable.tail:
        cells[:, columns] = body[np.ix_(seeds, times[columns] - first)]
        return
    length = body.shape[2]
    parts = variable.tail[0] // length
    start = position % parts * length
    cells[:, columns, start : start + length] = body[np.ix_(seeds, times[columns] - first)]
