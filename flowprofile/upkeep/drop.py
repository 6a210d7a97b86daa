"""Making room: cells that can be computed again are taken out of a store.

First they are no longer asked for, so that `status` does not call them missing. Then a region that loses some of its
cells gets receipts for the others, is retired, and what it shared with them is written again without it. What remains
to be written again is noted before: a kill costs no cell that stays, and the same command goes on from there.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr

from flowprofile.cases import Case
from flowprofile.errors import DefinitionError
from flowprofile.store.growth import ranges
from flowprofile.store.ledger import (
    Ledger,
    folder,
    read_receipt,
    receipt_key,
    sealed_json,
    unsealed_json,
)
from flowprofile.store.objects import Extent, extents_of
from flowprofile.store.phases import Listen, Phase, silent
from flowprofile.store.record import Request, RunRecord, StageRecord
from flowprofile.store.regions import Region, region_of
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells, Flags
from flowprofile.upkeep.freeing import freed
from flowprofile.upkeep.pins import pinned

TRIMS = "ledger/trims"
"""Notes of what is to be written again after a region has been retired."""


@dataclass(frozen=True)
class Loss:
    """What dropping does to one region."""

    region: Region
    kept: Flags
    """(seed, time) of the region that stay."""
    bytes: int
    """Bytes that go, to the byte unless chunks are pressed; 0 where every chunk also holds cells that stay."""


def losses(store: Store, cells: Cells) -> list[Loss]:
    """What would go; nothing is touched.

    Raises
    ------
    DefinitionError
        If a stage is meant that is pinned, or none.
    """
    pins, found = pinned(store), []
    for run, group in cells.groups(store):
        record, stage = store.runs()[run], store.stages(run)[group]
        held = [pattern for pattern in pins if fnmatchcase(stage.group, pattern)]
        if held:
            raise DefinitionError(
                f"{stage.group!r} is pinned (by {held[0]!r}).",
                consequence="Nothing was dropped.",
                remedy=f"flowprofile unpin {store.url} {held[0]}, or name other stages",
            )
        receipts = [read_receipt(store.place, one) for one in Ledger(store.place, run, group).regions()]
        there = [one for one in receipts if one is not None]
        kept = dict(_kept(cells.axes(record, stage), [one.region for one in there]))
        sizes = freed(stage, there, kept)
        found += [Loss(region, flags, sizes[region]) for region, flags in kept.items()]
    return found


def _kept(
    axes: tuple[Flags, Flags, Flags, Flags], regions: Sequence[Region]
) -> Iterator[tuple[Region, Flags]]:
    """Regions that lose cells, with those that stay."""
    interventions, labels, seeds, times = axes
    for region in regions:
        if interventions[region.intervention] and labels[region.label]:
            gone = seeds[slice(*region.seeds), None] & times[None, slice(*region.times)]
            if gone.any():
                yield region, ~gone


def drop(
    store: Store,
    cells: Cells,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    listen: Listen = silent,
) -> list[Loss]:
    """Take cells out; the caller becomes the planner. Returns what went.

    They are not asked for any more; a definition that is run again asks for them again. A region of which no byte is
    freed stays as it is: its values would be lost for nothing.
    """
    store.lock()
    store.refresh()
    # What a region frees does not depend on how many others are gone already: cut off, the same regions go.
    found = [loss for loss in losses(store, cells) if loss.bytes]
    finish(store, listen=listen)
    _forget(store, cells, {(loss.region.run, loss.region.group) for loss in found}, listen)
    last = _last(store, found)
    for done, loss in enumerate(found):
        progress(done, len(found))
        _shrink(store, loss, last[loss.region], listen)
    return found


def _last(store: Store, found: Sequence[Loss]) -> dict[Region, list[Extent]]:
    """By region, the objects that no region after it loses cells of: they are written again once, behind it."""
    owners: dict[tuple[str, str, str], tuple[Region, Extent]] = {}
    for region in (loss.region for loss in found):
        for name, variable in store.stages(region.run)[region.group].variables.items():
            for extent in extents_of(region, name, variable):
                owners[region.run, region.group, extent.key] = region, extent
    result: dict[Region, list[Extent]] = {loss.region: [] for loss in found}
    for region, extent in owners.values():
        result[region].append(extent)
    return result


def finish(store: Store, *, listen: Listen = silent) -> None:
    """Do what a drop that was killed had still to do; the caller is the planner."""
    for key in list(store.place.list(TRIMS)):
        body = unsealed_json(store.place.read(key) or b"")
        run, _, group = key.removeprefix(f"{TRIMS}/").rpartition("/")[0].partition("/")
        group = group.replace("~", "/")
        if body is not None and run in store.runs() and group in store.stages(run):
            regions = [region_of(run, group, name) for name in (body["region"], *body["kept"])]
            whole, *kept = [one for one in regions if one is not None]
            if read_receipt(store.place, whole) is None:
                _trim(store, [one for one in kept if read_receipt(store.place, one) is not None], listen)
        listen(Phase("writing", key))
        store.place.delete(key)


def _forget(store: Store, cells: Cells, where: Collection[tuple[str, str]], listen: Listen) -> None:
    """Take the cells of some stages out of what the store was asked for."""
    record = store.record
    for run, group in where:
        old, stage = record.runs[run], record.runs[run].stages[group]
        gone = cells.axes(old, stage)
        left = tuple(part for one in stage.requests for part in _without(one, gone))
        stages = {**old.stages, group: replace(stage, requests=left)}
        record = replace(record, runs={**record.runs, run: replace(old, stages=stages)})
    store.settle(record, listen=listen)  # even if nothing changes: a kill may have left one copy of two


def _without(request: Request, gone: tuple[Flags, Flags, Flags, Flags]) -> Iterator[Request]:
    """What is left of a box of cells without another one, as boxes: axis by axis, first what lies beside it."""
    axes = [
        list(request.interventions),
        list(request.labels),
        [at for start, stop in request.seeds for at in range(start, stop)],
        [at for start, stop in request.times for at in range(start, stop)],
    ]
    inside = [[at for at in axis if flags[at]] for axis, flags in zip(axes, gone, strict=True)]
    if not all(inside):
        yield request
        return
    for number, flags in enumerate(gone):
        beside = [at for at in axes[number] if not flags[at]]
        if beside:
            yield _box([*inside[:number], beside, *axes[number + 1 :]])


def _box(axes: Sequence[Sequence[int]]) -> Request:
    interventions, labels, seeds, times = axes
    return Request(tuple(interventions), tuple(labels), ranges(seeds), ranges(times))


def _shrink(store: Store, loss: Loss, objects: Sequence[Extent], listen: Listen) -> None:
    """Take a region's cells out, then write those objects again that still hold them beside others."""
    region = loss.region
    note = f"{folder(TRIMS, region.run, region.group)}/{region.name}.json"
    for one in _regions(store, loss):
        store.write(one, _block(store, one), listen=listen)
    sharing = _sharing(store, region, objects)
    if sharing:
        listen(Phase("writing", note))
        body = {"region": region.name, "kept": [one.name for one in sharing]}
        store.place.write(note, sealed_json(body), durable=store.layout.durable)
        store.place.fsync([note] if store.layout.durable else [])
    listen(Phase("receipt", receipt_key(region)))
    store.retire(region)
    _trim(store, sharing, listen)
    if sharing:
        listen(Phase("writing", note))
        store.place.delete(note)


def _sharing(store: Store, region: Region, objects: Sequence[Extent]) -> list[Region]:
    """Regions that stay and together have cells in each of these objects, as far as any region has."""
    ledger = Ledger(store.place, region.run, region.group)
    found: dict[Region, None] = {}
    for one in objects:
        rows = ledger.overlapping(one.intervention, one.label, one.seeds, one.times).tolist()
        others = [replace(region, seeds=(row[0], row[1]), times=(row[2], row[3])) for row in rows]
        others = [other for other in others if other != region]
        if others and not any(other in found for other in others):
            found[others[0]] = None
    return list(found)


def _trim(store: Store, kept: Sequence[Region], listen: Listen) -> None:
    for one in kept:
        store.write(one, _block(store, one), listen=listen, trim=True)


def _regions(store: Store, loss: Loss) -> list[Region]:
    """Regions that cover what stays."""
    region = loss.region
    wanted = np.zeros((1, 1, region.seeds[1], region.times[1]), bool)
    wanted[0, 0, slice(*region.seeds), slice(*region.times)] = loss.kept
    return [
        replace(one, intervention=region.intervention, label=region.label)
        for one in store.cut(region.run, region.group, wanted)
    ]


def _block(store: Store, region: Region) -> xr.Dataset:
    record, stage = store.runs()[region.run], store.stages(region.run)[region.group]
    return store.read(region.run, region.group, region_cases(record, region), _times(stage, region))


def _times(stage: StageRecord, region: Region) -> tuple[int, ...] | None:
    return None if stage.time is None else stage.time[slice(*region.times)]


def region_cases(record: RunRecord, region: Region) -> Sequence[Case]:
    """A region's cases, in order."""
    name, label = record.interventions[region.intervention], record.labels[region.label]
    return [Case(seed, label, name) for seed in record.seeds[slice(*region.seeds)]]
