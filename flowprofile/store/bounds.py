"""What a store may ask of its reader: a record, a receipt or a compressed chunk is a stranger's until it fits.

A seal shows that bytes are those that were written, not who wrote them. So what is read is bounded before anything is
made of it: a document by its bytes, axes by their lengths, a chunk by what it holds unpacked. Writers keep the same
bounds, so that no store of ours is ever refused.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, Final, TypeVar, get_args

import numpy as np

from flowprofile.axes import CASE_AXES, TIME
from flowprofile.store.layout import Codec, Form
from flowprofile.store.promise import DTYPES
from flowprofile.store.record import Coordinate, Record, RunRecord, StageRecord, Variable, record_from

MOST_DOCUMENT: Final = 64 << 20
"""Bytes of a layout record or a receipt."""
MOST_CASES: Final = 1 << 22
"""Seeds, labels and interventions of all runs together, each counted by itself; and states of one stage."""
MOST_CHUNK: Final = 256 << 20
"""Bytes of what is unpacked at once: an inner chunk, or an object without inner chunks."""
MOST_OBJECT: Final = 4 << 30
"""Bytes of a whole object, unpacked; who writes into one has it in memory."""
COORDINATES: Final = (*DTYPES, "uint16", "uint32", "uint64", "str")
"""Types of coordinates."""

Read = TypeVar("Read")


def believed(value: Mapping[str, Any]) -> Record:
    """The record a JSON value stands for.

    Raises
    ------
    ValueError
        If it contradicts itself, or asks for more than the bounds allow.
    """

    def read() -> Record:
        _sized(value)
        return bounded(record_from(value))

    return _parsed(read)


def bounded(record: Record) -> Record:
    """The record itself.

    Raises
    ------
    ValueError
        If it is outside the bounds.
    """
    cases = sum(sum(run.shape) for run in record.runs.values())
    _must(
        cases <= MOST_CASES, f"{cases:,} seeds, labels and interventions, where {MOST_CASES:,} are the most"
    )
    for run in record.runs.values():
        _run(run)
    return record


def _parsed(make: Callable[[], Read]) -> Read:
    """Whatever is wrong with what a stranger wrote, as a ValueError that says it."""
    try:
        return make()
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}"[:300]) from error


def _sized(value: Mapping[str, Any]) -> None:
    """Refuse more seeds, which are written as stretches, than may be written out."""
    written = [each for run in value["runs"].values() for each in run["seeds"]]
    stretches = [each for each in written if not _whole(each)]
    count = sum(stop - start for start, stop in stretches)
    sound = all(_whole(start) and _whole(stop) and start < stop for start, stop in stretches)
    _must(sound, "a stretch of seeds that is none")
    _must(count <= MOST_CASES, f"{count:,} seeds, where {MOST_CASES:,} are the most")


def _run(run: RunRecord) -> None:
    _must(all(_whole(n) for n in (*run.tile, *run.labels)), "an axis that is not of whole numbers")
    _must(min(run.tile) >= 1, f"the tile {run.tile!r}")
    for coords, axis in (
        (run.label_coords, run.labels),
        (run.intervention_coords, run.interventions),
        (run.seed_coords, run.seeds),
    ):
        for name, values in coords.items():
            _must(len(values) == len(axis), f"{len(values)} values of {name!r} along {len(axis)} places")
    for group, stage in run.stages.items():
        _stage(group, stage)


def _stage(group: str, stage: StageRecord) -> None:
    times = stage.time or ()
    _must(all(map(_whole, times)) and len(set(times)) == len(times), f"the times of {group!r}")
    fits = _whole(stage.capacity) and stage.times <= stage.capacity <= MOST_CASES
    _must(fits, f"the capacity {stage.capacity!r}")
    for name, coordinate in stage.coords.items():
        _coordinate(name, coordinate)
    for name, variable in stage.variables.items():
        _variable(f"{group}/{name}", variable)


def _coordinate(name: str, coordinate: Coordinate) -> None:
    _must(coordinate.dtype in COORDINATES, f"the type {coordinate.dtype!r} of {name!r}")
    _must(len(coordinate.values) == prod(coordinate.shape), f"the shape {coordinate.shape!r} of {name!r}")


def _variable(name: str, variable: Variable) -> None:
    form, lead = variable.form, 3 + variable.timed
    parts = (form.chunk,) if form.inner is None else (form.chunk, form.inner)
    sizes = [n for part in (*parts, variable.tail) for n in part]
    _must(form.dtype in DTYPES and form.codec in get_args(Codec), f"{name}: {form.dtype!r}, {form.codec!r}")
    _must(all(_whole(n) and n >= 1 for n in sizes), f"{name}: sizes {sizes!r}")
    ranks = {len(variable.dims), *map(len, parts), lead + len(variable.tail)}
    _must(variable.dims[:3] == CASE_AXES and len(ranks) == 1, f"{name}: the axes {variable.dims!r}")
    _must(not variable.timed or variable.dims[3] == TIME, f"{name}: the axes {variable.dims!r}")
    _must(all(a <= b for a, b in zip(variable.tail, form.chunk[lead:], strict=True)), f"{name}: its tail")
    whole = form.inner is None or all(a % b == 0 for a, b in zip(form.chunk, form.inner, strict=True))
    _must(whole, f"{name}: {form.chunk!r} in parts of {form.inner!r}")
    for size, most in ((unpacked(form), MOST_CHUNK), (form.inners * unpacked(form), MOST_OBJECT)):
        _must(size <= most, f"{name}: chunks of {size:,} bytes, where {most:,} are the most")


def unpacked(form: Form) -> int:
    """Bytes of what is unpacked at once."""
    return prod(form.chunk if form.inner is None else form.inner) * np.dtype(form.dtype).itemsize


def packed(form: Form) -> int:
    """The most bytes that an inner chunk may have as it is stored, its checksum among them."""
    size = unpacked(form)
    return size + 4 if form.codec == "none" else size + size // 64 + 1024


def largest(form: Form) -> int:
    """The most bytes that an object may have as it is stored, the index of a shard among them."""
    return form.inners * (packed(form) + 16) + 4


def _whole(value: object) -> bool:
    return type(value) is int and -(2**63) <= value < 2**63


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
