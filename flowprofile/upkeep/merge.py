"""Joining stores of one recipe: what was computed on two machines becomes one profile.

Runs are named by model and numerics class, stages by recipe, so what belongs together has one name and what does not
stands side by side. Axes are joined in order; whatever the target lacks is read verified, tile by tile, and written as
a run would write it. A cell that two stores hold must be the same bits in both.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import CASE
from flowprofile.cases import Case
from flowprofile.errors import IntegrityError
from flowprofile.store.ledger import Ledger, covered
from flowprofile.store.phases import Listen, silent
from flowprofile.store.record import Record, RunRecord, StageRecord
from flowprofile.store.regions import Region, cut
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.joining import joined_record
from flowprofile.upkeep.narrowing import narrowed

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Merged:
    """What was written."""

    regions: int
    cells: int
    there: int
    """Cells that were there already, from before or from an earlier source, and the same."""


@dataclass
class _Holder:
    """A store that holds some cells of a stage, by positions on the target's axes; -1 where it has none."""

    store: Store
    interventions: list[int]
    labels: list[int]
    seeds: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    ledger: Ledger

    def flags(self, intervention: int, label: int, seeds: slice) -> Flags:
        """Which cells (seed, time) of a stretch of the target's seeds are there."""
        at = self.interventions[intervention], self.labels[label]
        mine = self.seeds[seeds]
        found = np.zeros((len(mine), len(self.times)), bool)
        rows, columns = np.flatnonzero(mine >= 0), np.flatnonzero(self.times >= 0)
        if min(at) >= 0 and len(rows) and len(columns):
            first, stop = int(mine[rows].min()), int(mine[rows].max()) + 1
            there = covered(self.ledger.rows(*at), (first, stop), int(self.times.max()) + 1)
            found[np.ix_(rows, columns)] = there[np.ix_(mine[rows] - first, self.times[columns])]
        return found


@dataclass
class _Tile:
    """Cells of one tile as they are put together."""

    run: RunRecord
    stage: StageRecord
    region: Region
    """All of the tile: its run, stage, label, and the range of its seeds."""
    values: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    filled: Flags = field(default_factory=lambda: np.zeros((0, 0), bool))

    def __post_init__(self) -> None:
        seeds = self.region.seeds[1] - self.region.seeds[0]
        self.filled = np.zeros((seeds, self.stage.times), bool)
        for name, variable in self.stage.variables.items():
            shape = self.run.array_shape(self.stage, variable)[3:]
            self.values[name] = np.full((seeds, *shape), variable.form.fill, variable.form.dtype)

    def cases(self, region: Region) -> list[Case]:
        """The cases of a part of it."""
        name, label = self.run.interventions[region.intervention], self.run.labels[region.label]
        return [Case(seed, label, name) for seed in self.run.seeds[slice(*region.seeds)]]

    def times(self, region: Region) -> tuple[int, ...] | None:
        """The states of a part of it."""
        return None if self.stage.time is None else self.stage.time[slice(*region.times)]

    def parts(self, wanted: Flags) -> Iterator[Region]:
        """Regions that cover wanted cells of it."""
        first = self.region.seeds[0]
        for one in cut(self.region.run, self.region.group, wanted[None, None], seeds=self.run.tile[1],
                       times=self.stage.block):  # fmt: skip
            seeds = (one.seeds[0] + first, one.seeds[1] + first)
            yield replace(self.region, seeds=seeds, times=one.times)

    def at(self, region: Region, *, timed: bool) -> tuple[slice, ...]:
        """Where a part is in the values."""
        first = self.region.seeds[0]
        seeds = slice(region.seeds[0] - first, region.seeds[1] - first)
        return (seeds, slice(*region.times)) if timed else (seeds,)

    def take(self, holder: Store, region: Region) -> None:
        """Read a part from a store; what is known of it already must be the same."""
        block = holder.read(region.run, region.group, self.cases(region), self.times(region))
        known = self.filled[self.at(region, timed=True)]
        for name, variable in self.stage.variables.items():
            mine = self.values[name][self.at(region, timed=variable.timed)]
            new = block[name].values
            here = known if variable.timed else known.any(1)
            differ = here & ~_same_bits(mine, new, here.ndim)
            if differ.any():
                raise self._refusal(holder, region, name, tuple(np.argwhere(differ)[0].tolist()))
            mine[~here] = new[~here]
        self.filled[self.at(region, timed=True)] = True

    def _refusal(self, holder: Store, region: Region, name: str, at: tuple[int, ...]) -> IntegrityError:
        case, times = self.cases(region)[at[0]], self.times(region)
        moment = f", t = {times[at[1]]}" if times is not None and len(at) > 1 else ""
        return IntegrityError(
            f"{self.stage.group!r} of {case}{moment} is in two stores with other values.",
            consequence="One cell cannot have two results; this tile was not written, what was before it stays.",
            remedy="find which of them is wrong (flowprofile verify), and leave that one out",
            evidence=f"variable {name!r} of {region.run}/{region.group} in {holder.url}",
        )

    def block(self, region: Region) -> xr.Dataset:
        """A part as a stage would give it."""
        dims = {name: (CASE, *variable.dims[3:]) for name, variable in self.stage.variables.items()}
        data = {
            name: (dims[name], self.values[name][self.at(region, timed=variable.timed)])
            for name, variable in self.stage.variables.items()
        }
        times = self.times(region)
        return xr.Dataset(data, coords={} if times is None else {"time": list(times)})


def merge(
    sources: Sequence[Store],
    into: Store,
    *,
    cells: Cells | None = None,
    progress: Callable[[int], None] = lambda regions: None,
    listen: Listen = silent,
) -> Merged:
    """Copy what the sources hold, or the chosen cells of it; the caller becomes the target's planner.

    Repeating it writes nothing.

    Data and receipts are then those that one run would have made of the same cases in the same order: definitions that
    differ only in their seeds, or only in their labels, become one, and a new run is cut for all of its cases. What the
    sources were asked for stays as many requests (ledger/layouts).

    Raises
    ------
    StoreError
        If the stores are of different recipes, naming what differs; nothing is written.
    DefinitionError
        If no cell is chosen; nothing is written.
    IntegrityError
        If a cell is in two stores with different values, naming stage, case and time; tiles before it are merged.
    """
    asked = {each.url: each.record if cells is None else narrowed(each, cells) for each in sources}
    into.lock()
    into.refresh()
    into.settle(joined_record(asked, into), listen=listen)
    regions = new = there = 0
    for name, run in into.runs().items():
        for group, stage in sorted(run.stages.items(), key=lambda item: item[1].order):
            found = [_holder(each, asked[each.url], run, name, group) for each in sources]
            others = [each for each in found if each is not None]
            target = _holder(into, into.record, run, name, group)
            if target is None or not others:
                continue
            for tile, flags in _tiles(run, stage, name, group, [target, *others]):
                have, wanted = flags[0], np.logical_or.reduce(flags[1:])
                for holder, held in zip((target, *others), (have & wanted, *flags[1:]), strict=True):
                    for region in tile.parts(held):
                        tile.take(holder.store, region)
                for region in tile.parts(wanted & ~have):
                    into.write(region, tile.block(region), listen=listen)
                    regions += 1
                    progress(regions)
                copied = int((wanted & ~have).sum())
                new, there = new + copied, there + sum(int(each.sum()) for each in flags[1:]) - copied
    return Merged(regions, new, there)


def _tiles(
    run: RunRecord, stage: StageRecord, name: str, group: str, holders: Sequence[_Holder]
) -> Iterator[tuple[_Tile, list[Flags]]]:
    """Tiles any source has cells in, with who holds which."""
    width = run.tile[1]
    for intervention, label in np.ndindex(run.shape[:2]):
        for start in range(0, len(run.seeds), width):
            seeds = slice(start, min(start + width, len(run.seeds)))
            flags = [each.flags(intervention, label, seeds) for each in holders]
            if any(each.any() for each in flags[1:]):
                region = Region(name, group, intervention, label, (seeds.start, seeds.stop), (0, stage.times))
                yield _Tile(run, stage, region), flags


def _holder(store: Store, asked: Record, target: RunRecord, name: str, group: str) -> _Holder | None:
    """A store's cells of a stage, of those that are asked for."""
    run, chosen = store.runs().get(name), asked.runs.get(name)
    if run is None or chosen is None or group not in chosen.stages:
        return None
    stage, part = run.stages[group], chosen.stages[group]
    times = (
        [_where(stage.time, t, part.time) for t in target.stages[group].time or ()]
        if stage.time is not None
        else [0]
    )
    return _Holder(
        store,
        [_where(run.interventions, value, chosen.interventions) for value in target.interventions],
        [_where(run.labels, value, chosen.labels) for value in target.labels],
        _positions(run.seeds, target.seeds, chosen.seeds),
        np.array(times, np.int64),
        Ledger(store.place, name, group),
    )


def _where(axis: Sequence[object], value: object, chosen: Sequence[object] | None) -> int:
    """Position of a chosen value; -1 for another one."""
    return axis.index(value) if value in axis and value in (chosen or ()) else -1


def _positions(axis: Sequence[int], wanted: Sequence[int], chosen: Sequence[int]) -> npt.NDArray[np.int64]:
    known = {value: at for at, value in enumerate(axis)}
    allowed = set(chosen)
    return np.array([known.get(value, -1) if value in allowed else -1 for value in wanted], np.int64)


def _same_bits(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], leading: int) -> Flags:
    """Which cells, along the first axes, are the same bits: -0 is not 0, and a NaN is itself."""
    bytes_of = [np.ascontiguousarray(x)[..., None].view(np.uint8) for x in (a, b)]
    same = bytes_of[0] == bytes_of[1]
    result: Flags = same.all(axis=tuple(range(leading, same.ndim)))
    return result
