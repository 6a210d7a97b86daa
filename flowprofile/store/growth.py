"""How a record grows: a pure function from what is there and what is asked for.

New seeds, labels, interventions and times are appended at the end of their axis, in the order in which they
arrive; nothing ever moves, so every position, receipt and chunk that exists stays true.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from flowprofile.axes import CASE_AXES, TIME
from flowprofile.cases import Sweep
from flowprofile.errors import StoreError
from flowprofile.store.beside import beside_interventions, beside_seeds
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout, form
from flowprofile.store.record import (
    Coordinate,
    Ranges,
    Record,
    Request,
    RunRecord,
    StageRecord,
    Variable,
    canonical,
    plain,
)


def grown(
    record: Record,
    run: RunDeclaration,
    sweep: Sweep,
    stages: Sequence[StageDeclaration],
    *,
    layout: StoreLayout,
) -> Record:
    """The record after a request; the same record where it asks for nothing new."""
    old = record.runs.get(run.folder)
    if old is not None:
        _same_run(old, run)
    axes = {
        name: _appended(old.axis(name) if old else (), wanted)
        for name, wanted in zip(CASE_AXES, (sweep.interventions, sweep.labels, sweep.seeds), strict=True)
    }
    interventions, labels, seeds = (axes[name] for name in CASE_AXES)
    new = RunRecord(
        run.name, run.key, old.tile if old else run.tile, plain(dict(run.attrs)), interventions, labels, seeds,
        _label_coords(old, run, labels), tuple(run.label_coords), dict(old.stages) if old else {},
        beside_interventions(old, run, interventions), beside_seeds(old, run, seeds),
    )  # fmt: skip
    for stage in stages:
        new = replace(new, stages={**new.stages, stage.folder: _stage(new, stage, sweep, layout=layout)})
    _told_apart(new)
    return replace(record, runs={**record.runs, run.folder: new})


def _told_apart(run: RunRecord) -> None:
    """Refuse a coordinate that is called like a stage, or like what one holds: a reader could show only one."""
    held = {name for stage in run.stages.values() for name in (*stage.variables, *stage.coords)}
    held |= {stage.group.partition("/")[0] for stage in run.stages.values()} | {"status", "value", "null"}
    parts = {part for stage in run.stages.values() for part in stage.group.split("/")}
    if axes := parts.intersection(CASE_AXES):
        raise StoreError(
            f"A stage or a layer of {run.name!r} is called {', '.join(map(repr, sorted(axes)))}.",
            consequence="That is an axis of every profile, and a node could hold only one of them.",
            remedy="give it another name",
        )
    for name in (*run.label_coords, *run.intervention_coords, *run.seed_coords):
        if name in held:
            raise StoreError(
                f"The coordinate {name!r} of {run.name!r} has the name of a stage, or of what one holds.",
                consequence="A node of the profile could hold only one of them.",
                remedy="give the attribute another name",
            )


def _same_run(old: RunRecord, run: RunDeclaration) -> None:
    if old.key != run.key:
        raise StoreError(
            f"The run {run.folder!r} is stored with the key {old.key!r}, asked for is {run.key!r}.",
            consequence="Two numerics classes or recipes would be mixed in one run.",
            remedy="give the run another name",
        )
    if set(old.label_coords) != set(run.label_coords):
        raise StoreError(
            f"The run {run.folder!r} has the label coordinates {sorted(old.label_coords)!r}, "
            f"asked for are {sorted(run.label_coords)!r}.",
            remedy="use the same model's label space, or another run name",
        )


def _appended(old: tuple[Any, ...], wanted: Sequence[Any]) -> tuple[Any, ...]:
    known = set(old)
    return (*old, *(value for value in wanted if value not in known))


def _label_coords(
    old: RunRecord | None, run: RunDeclaration, labels: tuple[int, ...]
) -> dict[str, tuple[Any, ...]]:
    stored = dict(old.label_coords) if old else {}
    result = {}
    for name, by_label in run.label_coords.items():
        known = stored.get(name, ())
        missing = [label for label in labels[len(known) :] if label not in by_label]
        if missing:
            raise StoreError(
                f"The label coordinate {name!r} has no value for the labels {missing!r}.",
                remedy="give a value for every label of the sweep",
            )
        result[name] = (*known, *(plain(by_label[label]) for label in labels[len(known) :]))
    return result


def _stage(run: RunRecord, stage: StageDeclaration, sweep: Sweep, *, layout: StoreLayout) -> StageRecord:
    old = run.stages.get(stage.folder)
    wanted = tuple(int(t) for t in stage.promise[TIME].values) if TIME in stage.promise.coords else None
    time = None if wanted is None else _appended((old.time or ()) if old else (), wanted)
    if time is not None and len(time) > stage.capacity:
        raise StoreError(
            f"The stage {stage.folder!r} would have {len(time)} times, its capacity is {stage.capacity!r}.",
            remedy="declare the length of the full time grid as its capacity",
        )
    newest = max((other.order for other in run.stages.values() if other.group == stage.group), default=-1)
    requests = _requests(run, stage, sweep, time=time, wanted=wanted)
    if old is None:
        return StageRecord(
            stage.group, stage.key, newest + 1, stage.capacity, plain(dict(stage.attrs)),
            plain(dict(stage.promise.attrs)), time, _coords(stage.promise, None, time, wanted),
            _variables(run, stage, layout=layout), requests,
        )  # fmt: skip
    _same_stage(run, old, stage, layout=layout)
    return replace(
        old,
        order=old.order if old.order == newest else newest + 1,
        time=time,
        coords=_coords(stage.promise, old, time, wanted),
        requests=(
            *old.requests,
            *(new for new in requests if not any(_within(new, known) for known in old.requests)),
        ),
    )


def _same_stage(run: RunRecord, old: StageRecord, stage: StageDeclaration, *, layout: StoreLayout) -> None:
    new = _variables(run, stage, layout=layout)
    promised = {name: (v.dims, v.tail, v.form.dtype) for name, v in new.items()}
    stored = {name: (v.dims, v.tail, v.form.dtype) for name, v in old.variables.items()}
    for what, a, b in (
        ("key", old.key, stage.key),
        ("capacity", old.capacity, stage.capacity),
        ("variables", stored, promised),
    ):
        if a != b:
            raise StoreError(
                f"The stage {stage.folder!r} is stored with {what} {a!r}, asked for is {b!r}.",
                consequence="One key would stand for two different things.",
                remedy="raise the stage's version, which changes its key",
            )


def _variables(run: RunRecord, stage: StageDeclaration, *, layout: StoreLayout) -> dict[str, Variable]:
    result = {}
    for key, promised in stage.promise.data_vars.items():
        dims = tuple(map(str, promised.dims))
        timed = TIME in dims
        tail = tuple(promised.shape[1:] if timed else promised.shape)
        cut = form(
            layout,
            dtype=str(promised.dtype),
            tail=tail,
            capacity=stage.capacity if timed else None,
            tile=run.tile[1],
        )
        result[str(key)] = Variable((*CASE_AXES, *dims), tail, cut, plain(dict(promised.attrs)))
    return result


def _coords(
    promise: xr.Dataset, old: StageRecord | None, time: tuple[int, ...] | None, wanted: tuple[int, ...] | None
) -> dict[str, Coordinate]:
    result = {}
    for key, coordinate in promise.coords.items():
        name = str(key)
        if name == TIME:
            continue
        stored = old.coords.get(name) if old else None
        values = coordinate.values
        if TIME in coordinate.dims and coordinate.dims != (TIME,):
            raise StoreError(
                f"The coordinate {name!r} has the dims {coordinate.dims!r}.",
                consequence="Only coordinates along time alone can grow with it.",
                remedy="make it a variable",
            )
        if coordinate.dims == (TIME,) and time is not None and wanted is not None:
            values = _along_time(name, values.tolist(), stored, old, time=time, wanted=wanted)
        new = Coordinate(
            tuple(map(str, coordinate.dims)),
            "str" if np.asarray(values).dtype.kind in "OUT" else str(coordinate.dtype),
            tuple(np.shape(values)),
            tuple(plain(np.asarray(values).reshape(-1).tolist())),
            plain(dict(coordinate.attrs)),
        )
        if stored is not None and TIME not in new.dims and canonical(stored.values) != canonical(new.values):
            raise _changed(name, stored.values, new.values)
        result[name] = new
    if old is not None and set(result) != set(old.coords):
        raise _changed("coordinates", tuple(sorted(old.coords)), tuple(sorted(result)))
    return result


def _along_time(
    name: str,
    values: list[Any],
    stored: Coordinate | None,
    old: StageRecord | None,
    *,
    time: tuple[int, ...],
    wanted: tuple[int, ...],
) -> list[Any]:
    known = dict(zip(old.time or (), stored.values, strict=True)) if old and stored else {}
    asked = dict(zip(wanted, plain(values), strict=True))
    for t in known.keys() & asked.keys():
        if canonical(known[t]) != canonical(asked[t]):
            raise _changed(f"{name} at t = {t}", known[t], asked[t])
    return [known[t] if t in known else asked[t] for t in time]


def _changed(name: str, stored: object, wanted: object) -> StoreError:
    return StoreError(
        f"The coordinate {name!r} is stored as {str(stored)[:80]}, asked for is {str(wanted)[:80]}.",
        consequence="One key would stand for two different things.",
        remedy="what decides a coordinate belongs in the stage's key",
    )


def _requests(
    run: RunRecord,
    stage: StageDeclaration,
    sweep: Sweep,
    *,
    time: tuple[int, ...] | None,
    wanted: tuple[int, ...] | None,
) -> tuple[Request, ...]:
    """What a stage is asked for, as boxes of positions."""
    asked = stage.cases or sweep
    for axis, values in zip(CASE_AXES, (asked.interventions, asked.labels, asked.seeds), strict=True):
        strange = [value for value in values if value not in set(run.axis(axis))]
        if strange:
            raise StoreError(
                f"The stage {stage.folder!r} is asked for the {axis} {strange[0]!r}, which the run does not have.",
                remedy="ask the run for it first",
            )
    return tuple(_request(run, box, time, wanted) for box in asked.boxes())


def _request(
    run: RunRecord, sweep: Sweep, time: tuple[int, ...] | None, wanted: tuple[int, ...] | None
) -> Request:
    return Request(
        tuple(sorted(_positions(run.interventions, sweep.interventions))),
        tuple(sorted(_positions(run.labels, sweep.labels))),
        ranges(_positions(run.seeds, sweep.seeds)),
        ((0, 1),) if time is None or wanted is None else ranges(_positions(time, wanted)),
    )


def _positions(axis: Sequence[Any], wanted: Sequence[Any]) -> list[int]:
    where: Mapping[Any, int] = {value: position for position, value in enumerate(axis)}
    return [where[value] for value in wanted]


def ranges(positions: Sequence[int]) -> Ranges:
    """Positions as half-open runs.

    >>> ranges([4, 0, 1, 2])
    ((0, 3), (4, 5))
    """
    result: list[tuple[int, int]] = []
    for position in sorted(positions):
        if result and result[-1][1] == position:
            result[-1] = (result[-1][0], position + 1)
        else:
            result.append((position, position + 1))
    return tuple(result)


def _within(new: Request, old: Request) -> bool:
    def inside(small: Ranges, large: Ranges) -> bool:
        return all(any(a <= start and stop <= b for a, b in large) for start, stop in small)

    return (
        set(new.interventions) <= set(old.interventions)
        and set(new.labels) <= set(old.labels)
        and inside(new.seeds, old.seeds)
        and inside(new.times, old.times)
    )
