"""A record of some of a store's cells: what the store would look like had nothing else been asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.axes import TIME
from flowprofile.errors import DefinitionError
from flowprofile.store.growth import ranges
from flowprofile.store.record import Coordinate, Record, Request, RunRecord, StageRecord
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells

Flags = npt.NDArray[np.bool_]


def narrowed(store: Store, cells: Cells) -> Record:
    """The record of a store, of the chosen cells alone; the null of a chosen measure belongs to it.

    Raises
    ------
    DefinitionError
        If nothing is chosen.
    """
    chosen = dict.fromkeys(cells.groups(store))
    for name, group in list(chosen):
        null = store.stages(name)[group].attrs.get("null")
        chosen.update({(name, other): None for other in store.stages(name) if other == null})
    runs: dict[str, RunRecord] = {}
    for name, run in store.runs().items():
        stages = {group: stage for group, stage in run.stages.items() if (name, group) in chosen}
        if stages:
            small = _run(run, stages, cells)
            if small.stages and 0 not in small.shape:
                runs[name] = small
    if not runs:
        raise DefinitionError(
            f"Nothing that was asked of {store.url} is among the chosen cells.",
            consequence="The new store would be empty; nothing was written.",
            remedy=f"flowprofile show {store.url} lists its stages, labels, seeds and states",
        )
    return Record(runs)


def _run(run: RunRecord, stages: Mapping[str, StageRecord], cells: Cells) -> RunRecord:
    axes = cells.axes(run, next(iter(stages.values())))[:3]
    kept = {group: _stage(stage, axes, cells.axes(run, stage)[3]) for group, stage in stages.items()}
    return replace(
        run,
        interventions=_among(run.interventions, axes[0]),
        labels=_among(run.labels, axes[1]),
        seeds=_among(run.seeds, axes[2]),
        label_coords={name: _among(values, axes[1]) for name, values in run.label_coords.items()},
        intervention_coords={
            name: _among(values, axes[0]) for name, values in run.intervention_coords.items()
        },
        seed_coords={name: _among(values, axes[2]) for name, values in run.seed_coords.items()},
        attrs={**run.attrs, "definitions": _definitions(run, axes)},
        stages={group: stage for group, stage in kept.items() if stage.requests},
    )


def _stage(stage: StageRecord, axes: Sequence[Flags], times: Flags) -> StageRecord:
    asked = (
        Request(
            tuple(_moved(one.interventions, axes[0])),
            tuple(_moved(one.labels, axes[1])),
            ranges(_moved(_positions(one.seeds), axes[2])),
            ranges(_moved(_positions(one.times), times)),
        )
        for one in stage.requests
    )
    return replace(
        stage,
        time=None if stage.time is None else _among(stage.time, times),
        coords={name: _coordinate(one, times) for name, one in stage.coords.items()},
        requests=tuple(dict.fromkeys(one for one in asked if _any(one))),
    )


def _coordinate(coordinate: Coordinate, times: Flags) -> Coordinate:
    if coordinate.dims != (TIME,):
        return coordinate
    values = _among(coordinate.values, times)
    return replace(coordinate, shape=(len(values),), values=values)


def _definitions(run: RunRecord, axes: Sequence[Flags]) -> list[dict[str, Any]]:
    """The definitions, of the chosen seeds and labels where they list them."""
    chosen = {"labels": set(_among(run.labels, axes[1])), "seeds": set(_among(run.seeds, axes[2]))}
    found = []
    for one in run.attrs.get("definitions", []):
        cases = dict(one.get("cases", {}))
        for name, values in chosen.items():
            if isinstance(cases.get(name), list):
                cases[name] = [value for value in cases[name] if value in values]
        if all(cases.get(name) != [] for name in chosen):
            found.append({**one, "cases": cases})
    return found


def _among(values: Sequence[Any], flags: Flags) -> tuple[Any, ...]:
    return tuple(compress(values, flags.tolist()))


def _moved(positions: Sequence[int], flags: Flags) -> list[int]:
    """Positions on the axis that is left, of those that are left."""
    where = np.cumsum(flags) - 1
    return [int(where[at]) for at in positions if flags[at]]


def _positions(spans: Sequence[tuple[int, int]]) -> list[int]:
    return [at for start, stop in spans for at in range(start, stop)]


def _any(request: Request) -> bool:
    return all((request.interventions, request.labels, request.seeds, request.times))
