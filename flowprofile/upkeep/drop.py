"""Making room: cells that can be computed again are taken out of a store.

A region that loses some of its cells is retired and its other cells are written again, so the store then holds
exactly what is kept. A kill in between leaves those cells missing, never wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import xarray as xr

from flowprofile.cases import Case
from flowprofile.errors import StoreError
from flowprofile.store.ledger import Ledger, read_receipt
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.regions import Region
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells, Flags
from flowprofile.upkeep.pins import pinned


@dataclass(frozen=True)
class Loss:
    """What dropping does to one region."""

    region: Region
    kept: Flags
    """(seed, time) of the region that stay."""
    bytes: int
    """Bytes that go, about: by the share of cells."""


def losses(store: Store, cells: Cells) -> list[Loss]:
    """What would go; nothing is touched.

    Raises
    ------
    StoreError
        If a stage is meant that is pinned, or none.
    """
    pins, found = pinned(store), []
    for run, group in cells.groups(store):
        record, stage = store.runs()[run], store.stages(run)[group]
        held = [pattern for pattern in pins if fnmatchcase(stage.group, pattern)]
        if held:
            raise StoreError(
                f"{stage.group!r} is pinned (by {held[0]!r}).",
                consequence="Nothing was dropped.",
                remedy=f"flowprofile unpin {store.url} {held[0]}, or name other stages",
            )
        interventions, labels, seeds, times = cells.axes(record, stage)
        for region in Ledger(store.place, run, group).regions():
            if not (interventions[region.intervention] and labels[region.label]):
                continue
            gone = seeds[slice(*region.seeds), None] & times[None, slice(*region.times)]
            if gone.any():
                found.append(Loss(region, ~gone, _bytes(store, region, gone)))
    return found


def drop(
    store: Store, cells: Cells, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[Loss]:
    """Take cells out; the caller becomes the planner. Returns what went."""
    store.lock()
    found = losses(store, cells)
    for done, loss in enumerate(found):
        progress(done, len(found))
        _shrink(store, loss)
    return found


def _shrink(store: Store, loss: Loss) -> None:
    region = loss.region
    record, stage = store.runs()[region.run], store.stages(region.run)[region.group]
    kept = _regions(store, region, loss.kept)
    blocks = [(one, _block(store, record, stage, one)) for one in kept]
    store.retire(region)
    for one, block in blocks:
        store.write(one, block)


def _regions(store: Store, region: Region, kept: Flags) -> list[Region]:
    """Regions that cover what stays."""
    wanted = np.zeros((1, 1, region.seeds[1], region.times[1]), bool)
    wanted[0, 0, slice(*region.seeds), slice(*region.times)] = kept
    return [
        Region(region.run, region.group, region.intervention, region.label, one.seeds, one.times)
        for one in store.cut(region.run, region.group, wanted)
    ]


def _block(store: Store, record: RunRecord, stage: StageRecord, region: Region) -> xr.Dataset:
    cases = region_cases(record, region)
    times = None if stage.time is None else stage.time[slice(*region.times)]
    return store.read(region.run, region.group, cases, times)


def region_cases(record: RunRecord, region: Region) -> Sequence[Case]:
    """A region's cases, in order."""
    name, label = record.interventions[region.intervention], record.labels[region.label]
    return [Case(seed, label, name) for seed in record.seeds[slice(*region.seeds)]]


def _bytes(store: Store, region: Region, gone: Flags) -> int:
    """A shard loses the chunks of the cells that go; what is one chunk keeps its size until all of it goes."""
    receipt = read_receipt(store.place, region)
    variables = store.stages(region.run)[region.group].variables
    total = 0.0
    for key, seal in receipt.objects.items() if receipt is not None else ():
        sharded = variables[key.rpartition("/")[0]].form.inner is not None
        total += seal.size * float(gone.mean() if sharded else gone.all())
    return int(total)
