"""One batch of cases, from noise to the last measure, in memory that does not grow with the number of steps.

The batch walks along each chain in blocks of states. A block that exists is read, one that does not is computed;
every stage takes what it needs from the block as it passes, and a region is written as soon as its last state
has passed. Nothing here knows what a state is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import Case
from flowprofile.errors import FlowProfileError, NonFiniteError
from flowprofile.flow.demand import Mask, Pass
from flowprofile.flow.events import Advanced, Committed, Computed, Listen
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Task
from flowprofile.flow.scratch import Scratch
from flowprofile.flow.stage import Advance, Need, Stage
from flowprofile.flow.tiles import runs
from flowprofile.store.phases import Phase


@dataclass(frozen=True)
class Cut:
    """A region to be written: which of the batch's cases, at which states, in the order of the store."""

    name: str
    cases: tuple[Case, ...]
    times: tuple[int, ...]


class Holder(Protocol):
    """The store as a batch sees it."""

    def read(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
        """Stored results, dims (case, time, ...), checked against what was acknowledged."""

    def cuts(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> list[Cut]:
        """The regions that hold these cells."""

    def write(self, path: str, cut: Cut, block: xr.Dataset) -> int:
        """Commit a region; returns its size in bytes."""


@dataclass
class Chains:
    """The chains opened so far in this process; a model is loaded once."""

    graph: Graph
    opened: dict[str, Advance] = field(default_factory=dict)

    def advance(self, name: str) -> Advance:
        """The chain's step function, opened on first use."""
        if name not in self.opened:
            self.opened[name] = self.graph.chain(name).open()
        return self.opened[name]


def execute(
    task: Task,
    chains: Chains,
    store: Holder,
    *,
    block: int,
    listen: Listen,
    scratch_folder: Path | None = None,
) -> None:
    """Compute and commit everything the task demands, `block` states at a time."""
    finals: dict[str, xr.Dataset] = {}
    with Scratch(scratch_folder) as scratch:
        for one in task.demand.passes:
            walk = _Walk(task, one, chains, store, scratch, finals, listen)
            walk.go(block)


@dataclass
class _Region:
    """A region on its way: the pieces that have passed."""

    cut: Cut
    rows: list[int]
    pieces: list[xr.Dataset] = field(default_factory=list)
    seen: int = 0


class _Walk:
    """One pass of one batch along one chain."""

    def __init__(
        self,
        task: Task,
        one: Pass,
        chains: Chains,
        store: Holder,
        scratch: Scratch,
        finals: dict[str, xr.Dataset],
        listen: Listen,
    ) -> None:
        self.task, self.one, self.chains, self.graph = task, one, chains, chains.graph
        self.store, self.scratch, self.finals, self.listen = store, scratch, finals, listen
        chain = self.graph.chain(one.chain)
        self.grid = chain.grid
        self.forwards_per_step = chain.forwards_per_step
        self.members = [name for name in self.graph.stages if name in one.compute]
        self.halo = self._halos()
        self.window: dict[str, xr.Dataset] = {}
        self.computed: xr.Dataset | None = None
        self.last: xr.Dataset | None = None
        self.regions = {name: self._regions(name) for name in self.members}

    def go(self, block: int) -> None:
        """Walk the whole chain."""
        places = np.flatnonzero(self.one.states)
        for start in range(0, len(places), block):
            self._pass(places[start : start + block])
        if self.one.chain in self.task.demand.finals and self.one.level == self.graph.levels[self.one.chain]:
            assert self.last is not None
            self.finals[self.one.chain] = self.last.isel({TIME: -1}, drop=True)

    def _pass(self, places: np.ndarray) -> None:
        span = np.zeros(len(self.grid), dtype=np.bool_)
        span[places] = True
        for name in self.members:
            fresh = self._states(span) if name == self.one.chain else self._results(name, span)
            if fresh is None:
                self._keep_tail(name, None)
                continue
            before = self.window.get(name)
            self.window[name] = fresh if before is None else _joined([before, fresh])
            self._spill(name, fresh)
            self._commit(name, fresh)
        for name in self.members:
            self._keep_tail(name, self.window.get(name))

    def _states(self, span: Mask) -> xr.Dataset | None:
        """The chain's own block: stretches that are read, and stretches that are stepped."""
        name, pieces, stepped = self.one.chain, [], []
        run, read = self.one.compute[name], self.one.read[name]
        touched = [int(place) for place in np.flatnonzero(span & (run | read))]
        for is_run, group in groupby(touched, key=lambda place: bool(run[place])):
            for first, stop in runs(list(group)):
                if is_run:
                    piece = self._advance(first, stop)
                    stepped.append(piece)
                    piece = piece[list(self.graph.stages[name].promise(()).data_vars)]
                else:
                    piece = self._read(name, range(first, stop))
                pieces.append(piece)
                self.last = piece.isel({TIME: [-1]})
        self.computed = _joined(stepped) if stepped else None
        return _joined(pieces) if pieces else None

    def _advance(self, first: int, stop: int) -> xr.Dataset:
        times = self.grid[first:stop]
        start = self.last if first else None
        assert first == 0 or (start is not None and int(start[TIME][0]) == self.grid[first - 1])
        self.listen(Phase("sampling", f"t = {times[0]} .. {times[-1]}"))
        final = self._final(self.graph.stages[self.one.chain])
        advance = self.chains.advance(self.one.chain)
        began = perf_counter()
        block = advance(self.task.cases, start, times, final)
        steps = len(times) - (first == 0)
        asked = steps * self.forwards_per_step
        lanes, padding = len(self.task.cases), self.task.padding
        seconds = perf_counter() - began
        self.listen(Advanced(self.one.chain, steps, seconds, asked * lanes, asked * padding, times[-1]))
        return self._as_promised(self.graph.stages[self.one.chain], block, times)

    def _final(self, stage: Stage) -> xr.Dataset | None:
        names = [need.stage for need in stage.needs if need.view == "final"]
        return self.finals[names[0]] if names else None

    def _results(self, name: str, span: Mask) -> xr.Dataset | None:
        """A pointwise stage's block."""
        stage = self.graph.stages[name]
        todo = np.flatnonzero(span & self.one.compute[name])
        seen = np.flatnonzero(span & self.one.read[name])
        whole = not any(need.halo for need in stage.needs)
        stretches = [todo] if whole and len(todo) else [np.arange(*run) for run in runs(todo.tolist())]
        pieces = [self._compute(stage, stretch) for stretch in stretches]
        if len(seen):
            pieces.append(self._read(name, seen.tolist()))
        return _joined(pieces).sortby(TIME, ascending=False) if pieces else None

    def _compute(self, stage: Stage, stretch: np.ndarray) -> xr.Dataset:
        assert stage.compute is not None
        inputs = [self._input(stage, need, stretch) for need in stage.needs]
        times = [self.grid[place] for place in stretch]
        began = perf_counter()
        try:
            result = stage.compute(*inputs)
        except FlowProfileError:
            raise
        except Exception as error:
            raise _failed(stage, self.task.cases, times, error) from error
        self.listen(Computed(stage.name, len(times) * len(self.task.cases), perf_counter() - began))
        block = result.sel({TIME: times}) if result.sizes.get(TIME) != len(times) else result
        _finite(stage.name, block, self.task.cases)
        return self._as_promised(stage, block, tuple(times))

    def _as_promised(self, stage: Stage, block: xr.Dataset, times: tuple[int, ...]) -> xr.Dataset:
        """The block with the coordinates of its promise, so that computed and stored blocks look alike."""
        plain = block.drop_vars([name for name in block.coords if name != TIME])
        return plain.assign_coords({**labelled(self.task.cases), **stage.promise(times).coords})

    def _input(self, stage: Stage, need: Need, stretch: np.ndarray) -> xr.Dataset:
        if need.view == "final":
            return self.finals[need.stage]
        first = int(stretch[0]) - need.halo
        places = stretch if need.halo == 0 else np.arange(first, int(stretch[-1]) + 1)
        block = self.computed if stage.outputs and need.stage == self.one.chain else self.window[need.stage]
        assert block is not None
        return block.sel({TIME: [self.grid[place] for place in places]})

    def _read(self, name: str, places: Sequence[int]) -> xr.Dataset:
        times = [self.grid[place] for place in places]
        pieces = []
        for waiting, group in groupby(times, key=lambda t: self.scratch.holds(name, t)):
            if waiting:
                pieces.append(self.scratch.read(name, list(group)))
            else:
                pieces.append(self.store.read(self.graph.path(name), self.task.cases, list(group)))
        return _joined([self._as_promised(self.graph.stages[name], piece, _times(piece)) for piece in pieces])

    def _halos(self) -> Mapping[str, int]:
        halos = dict.fromkeys(self.members, 0)
        for member in self.members:
            for need in self.graph.stages[member].needs:
                if need.view == "block":
                    halos[need.stage] = max(halos[need.stage], need.halo)
        return halos

    def _keep_tail(self, name: str, block: xr.Dataset | None) -> None:
        """Forget all but the history that the next block needs."""
        if block is None or self.halo[name] == 0:
            self.window.pop(name, None)
        else:
            self.window[name] = block.isel({TIME: slice(-self.halo[name], None)})

    def _spill(self, name: str, fresh: xr.Dataset) -> None:
        mask = self.one.spill.get(name)
        if mask is not None:
            times = [self.grid[place] for place in np.flatnonzero(mask)]
            self.scratch.put(name, times, fresh)

    def _regions(self, name: str) -> list[_Region]:
        missing = self.task.demand.missing.get(name)
        if missing is None or self.graph.levels[name] != self.one.level:
            return []
        times = [self.grid[place] for place in np.flatnonzero(missing)]
        rows = {case: row for row, case in enumerate(self.task.cases)}
        cuts = self.store.cuts(self.graph.path(name), self.task.cases, times) if times else []
        return [_Region(cut, [rows[case] for case in cut.cases]) for cut in cuts]

    def _commit(self, name: str, fresh: xr.Dataset) -> None:
        here = {int(t) for t in fresh[TIME].values}
        for region in list(self.regions[name]):
            times = [t for t in region.cut.times if t in here]
            if not times:
                continue
            region.pieces.append(fresh.isel({CASE: region.rows}).sel({TIME: times}))
            region.seen += len(times)
            if region.seen == len(region.cut.times):
                self.regions[name].remove(region)
                self._write(name, region)

    def _write(self, name: str, region: _Region) -> None:
        path = self.graph.path(name)
        block = _joined(region.pieces).sel({TIME: list(region.cut.times)})
        size = self.store.write(path, region.cut, block)
        cells = len(region.cut.cases) * len(region.cut.times)
        self.listen(Committed(path, region.cut.name, cells, size))


def labelled(cases: Sequence[Case]) -> dict[str, tuple[str, list[object]]]:
    """The coordinates of a batch: which case each row is."""
    return {
        INTERVENTION: (CASE, [case.intervention for case in cases]),
        LABEL: (CASE, [case.label for case in cases]),
        SEED: (CASE, [case.seed for case in cases]),
    }


def _times(block: xr.Dataset) -> tuple[int, ...]:
    return tuple(int(t) for t in block[TIME].values)


def _joined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    if len(pieces) == 1:
        return pieces[0]
    return xr.concat(
        pieces, dim=TIME, data_vars="minimal", coords="minimal", compat="override", join="override"
    )


def _failed(stage: Stage, cases: Sequence[Case], times: Sequence[int], error: Exception) -> FlowProfileError:
    return FlowProfileError(
        f"Stage {stage.name!r} ({stage.kind}) failed for {len(cases)} cases at t = {times[0]} .. {times[-1]}.",
        consequence="Nothing of this block is stored; regions committed before it are safe.",
        remedy="mend its code and give the same command again",
        evidence=f"{type(error).__name__}: {error}; the first case is {cases[0]}",
    )


def _finite(name: str, block: xr.Dataset, cases: Sequence[Case]) -> None:
    for variable, values in block.data_vars.items():
        if not np.issubdtype(values.dtype, np.floating):
            continue
        bad = ~np.isfinite(values.values)
        if bad.any():
            index = dict(zip(values.dims, (int(place[0]) for place in np.nonzero(bad)), strict=True))
            t = int(block[TIME].values[index[TIME]])
            raise NonFiniteError(
                f"Stage {name!r} gives a non-finite {variable!r} for {cases[index[CASE]]} at t = {t}.",
                consequence="It is not stored; a NaN that looks like 'not computed' would be a lie.",
                remedy="look at the states around that step, or measure fewer states",
                evidence=f"{int(bad.sum())} of {bad.size} values in this block are not finite",
            )
