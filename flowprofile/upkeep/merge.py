"""Joining stores of one recipe: what was computed on two machines becomes one profile.

Runs are named by model and numerics class, stages by recipe, so what belongs together has one name and what does not
stands side by side. Axes are joined in order, every region is read verified and written as a run would write it, and a
cell that two stores hold must be the same number in both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.errors import StoreError
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.ledger import Ledger
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.regions import Region
from flowprofile.store.store import Store, promised
from flowprofile.upkeep.drop import region_cases


@dataclass(frozen=True)
class Merged:
    """What was written."""

    regions: int
    cells: int
    there: int
    """Cells that were in the target before, and the same."""


def merge(
    sources: Sequence[Store], into: Store, *, progress: Callable[[int], None] = lambda regions: None
) -> Merged:
    """Copy everything the sources hold; the caller becomes the target's planner. Repeating it writes nothing.

    Raises
    ------
    StoreError
        If a cell is in two stores with different values; everything before it is merged.
    """
    into.lock()
    into.refresh()
    for source in sources:
        for run in source.runs().values():
            _declare(into, run)
    regions = cells = there = 0
    for source in sources:
        for name, run in source.runs().items():
            for group, stage in run.stages.items():
                for region in Ledger(source.place, name, group).regions():
                    new, old = _copy(source, into, run, stage, region)
                    regions += new > 0
                    cells, there = cells + new, there + old
                    progress(regions)
    return Merged(regions, cells, there)


def _declare(into: Store, run: RunRecord) -> None:
    """Grow the target by a run's axes and stages."""
    held = into.runs().get(f"{run.name}@{run.key[:8]}")
    definitions = list(held.attrs.get("definitions", [])) if held is not None else []
    new = [each for each in run.attrs.get("definitions", []) if each not in definitions]
    declaration = RunDeclaration(
        name=run.name,
        key=run.key,
        tile=run.tile,
        attrs={**run.attrs, "definitions": [*definitions, *new]},
        label_coords={
            name: dict(zip(run.labels, values, strict=True)) for name, values in run.label_coords.items()
        },
        intervention_coords={
            name: dict(zip(run.interventions, values, strict=True))
            for name, values in run.intervention_coords.items()
        },
    )
    sweep = Sweep(run.seeds, run.labels, run.interventions)
    into.prepare(declaration, sweep, [_stage(run, stage) for stage in _in_order(run)])


def _in_order(run: RunRecord) -> list[StageRecord]:
    return sorted(run.stages.values(), key=lambda stage: stage.order)


def _stage(run: RunRecord, stage: StageRecord) -> StageDeclaration:
    promise = promised(run, stage)
    promise.attrs.update(stage.promise_attrs)
    for name, variable in stage.variables.items():
        promise[name].attrs.update(variable.attrs)
    return StageDeclaration(stage.group, stage.key, promise, stage.capacity, stage.attrs)


def _copy(source: Store, into: Store, run: RunRecord, stage: StageRecord, region: Region) -> tuple[int, int]:
    """Copy what the target lacks of a region; cells written, and cells that were there."""
    cases = region_cases(run, region)
    times = None if stage.time is None else stage.time[slice(*region.times)]
    where = into.positions(region.run, region.group)
    at = (where["intervention"][cases[0].intervention], where["label"][cases[0].label])
    seeds = [where["seed"][case.seed] for case in cases]
    states = [0] if times is None else [where["time"][t] for t in times]
    record = into.runs()[region.run]
    ledger = Ledger(into.place, region.run, region.group)
    flags = np.zeros((len(record.seeds), into.stages(region.run)[region.group].times), bool)
    for s0, s1, t0, t1 in ledger.rows(*at).tolist():
        flags[s0:s1, t0:t1] = True
    wanted = np.zeros_like(flags)
    wanted[np.ix_(seeds, states)] = True
    lacking = wanted & ~flags
    block = source.read(region.run, region.group, cases, times)
    _same(
        into,
        region,
        stage,
        block,
        [case for case, s in zip(cases, seeds, strict=True) if flags[s, states].all()],
    )
    for one in into.cut(region.run, region.group, lacking[None, None]):
        target = Region(region.run, region.group, *at, one.seeds, one.times)
        rows = [seeds.index(s) for s in range(*one.seeds)]
        part = block.isel(case=rows)
        if times is not None:
            part = part.isel(time=[states.index(t) for t in range(*one.times)])
        into.write(target, part)
    return int(lacking.sum()), int((wanted & flags).sum())


def _same(
    into: Store, region: Region, stage: StageRecord, block: xr.Dataset, cases: Sequence[object]
) -> None:
    """Refuse a second value for a cell that is there."""
    from flowprofile.cases import Case

    known = [case for case in cases if isinstance(case, Case)]
    if not known:
        return
    times = None if stage.time is None else stage.time[slice(*region.times)]
    there = into.read(region.run, region.group, known, times)
    seeds = block["seed"].values.tolist()
    mine = block.isel(case=[seeds.index(case.seed) for case in known])
    for name in stage.variables:
        if not np.array_equal(there[name].values, mine[name].values, equal_nan=True):
            raise StoreError(
                f"{region} is in {into.url} with other values.",
                consequence="One cell cannot hold two results; what was merged before stays.",
                remedy="find which of the two was changed (flowprofile verify), or leave one out",
                evidence=f"variable {name!r}, {known[0]}",
            )
