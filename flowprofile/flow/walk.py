"""One pass of one batch along one chain, in memory that does not grow with the number of steps.

The batch walks along the chain in blocks of states. A block that exists is read, one that does not is computed;
every stage takes what it needs from the block as it passes, and a region is written as soon as its last state has
passed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from time import perf_counter

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, TIME
from flowprofile.cases import Case
from flowprofile.errors import FlowProfileError
from flowprofile.flow.blocks import finite, joined, labelled, lost, narrowed, times_of
from flowprofile.flow.demand import Mask, Pass, positions, reach
from flowprofile.flow.events import Advanced, Asked, Committed, Computed, Listen, Noticed
from flowprofile.flow.memory import out_of_memory
from flowprofile.flow.plan import Batch
from flowprofile.flow.shelf import Cut, Shelf
from flowprofile.flow.stage import ENDS, Given, Need, Outputs, Stage, Walker
from flowprofile.flow.tiles import runs
from flowprofile.store.phases import Phase


@dataclass
class _Region:
    """A region on its way: the pieces that have passed."""

    cut: Cut
    rows: list[int]
    pieces: list[xr.Dataset] = field(default_factory=list)
    seen: int = 0


class Walk:
    """Lives for one pass."""

    def __init__(
        self, batch: Batch, one: Pass, walker: Callable[[str], Walker], shelf: Shelf, listen: Listen
    ) -> None:
        self.batch, self.one, self.walker, self.shelf, self.listen = batch, one, walker, shelf, listen
        self.graph = shelf.graph
        self.chain = self.graph.chain(one.chain)
        self.grid = self.chain.grid
        self.members = [name for name in self.graph.stages if name in one.compute]
        self.kin = {case: self.chain.kin(case) for case in batch.cases if not case.clean}
        self.halo = self._halos()
        self.window: dict[str, xr.Dataset] = {}
        self.outputs: dict[str, xr.DataArray] = {}
        self.last: xr.Dataset | None = None
        self.regions = {name: self._regions(name) for name in self.members}

    def go(self, block: int) -> None:
        """Walk the whole chain."""
        places = np.flatnonzero(self.one.states)
        block = len(places) if self.chain.whole else block
        for start in range(0, len(places), block):
            self._pass(places[start : start + block])
        if self.one.chain in self.batch.demand.finals and self.one.level == self.graph.levels[self.one.chain]:
            assert self.last is not None
            self.shelf.finals[self.one.chain] = self.last.isel({TIME: -1}, drop=True)

    def _pass(self, places: np.ndarray) -> None:
        span = np.zeros(len(self.grid), dtype=np.bool_)
        span[places] = True
        for name in self.members:
            fresh = self._states(span) if name == self.one.chain else self._results(name, span)
            if fresh is not None:
                before = self.window.get(name)
                self.window[name] = fresh if before is None else joined([before, fresh])
                self._spill(name, fresh)
                self._commit(name, fresh)
            if name == self.one.chain:
                self._replay(span)
        for name in self.members:
            self._keep_tail(name)

    def _states(self, span: Mask) -> xr.Dataset | None:
        """The chain's own block: stretches that are read, and stretches that are stepped."""
        name, pieces = self.one.chain, []
        run, read = self.one.compute[name], self.one.read[name]
        shown: list[Outputs] = []
        touched = [int(place) for place in np.flatnonzero(span & (run | read))]
        for is_run, group in groupby(touched, key=lambda place: bool(run[place])):
            for first, stop in runs(list(group)):
                if is_run:
                    piece, outputs = self._advance(first, stop)
                    shown.append(outputs)
                else:
                    piece = self._read(name, range(first, stop))
                pieces.append(piece)
                self.last = piece.isel({TIME: [-1]})
        self.outputs = _merged(shown)
        return joined(pieces) if pieces else None

    def _advance(self, first: int, stop: int) -> tuple[xr.Dataset, Outputs]:
        times = self.grid[first:stop]
        start = self.last if first and not self.chain.apart else None
        known = self.chain.apart or (start is not None and int(start[TIME][0]) == self.grid[first - 1])
        assert first == 0 or known
        self.listen(Phase("sampling", f"t = {times[0]} .. {times[-1]}"))
        given = self._given(self.graph.stages[self.one.chain], times)
        walker, asked = self.walker(self.one.chain), self._asked(times)
        began = perf_counter()
        block, outputs = walker.advance(self.batch.cases, start, times, given, asked)
        seconds = perf_counter() - began
        steps = len(times) - (first == 0)
        each = steps * self.chain.forwards_to_reach
        lanes, padding = len(self.batch.cases), self.batch.padding
        self.listen(Advanced(self.one.chain, steps, seconds, each * lanes, each * padding, times[-1]))
        return self._as_promised(self.graph.stages[self.one.chain], block, times), outputs

    def _replay(self, span: Mask) -> None:
        """Repeat single steps from states that are known, all of them at once."""
        places = np.flatnonzero(span & self.one.replay)
        if not len(places):
            return
        times = tuple(self.grid[place] for place in places)
        before = self.window[self.one.chain].sel({TIME: [self.grid[place - 1] for place in places]})
        given = self._given(self.graph.stages[self.one.chain], times)
        walker = self.walker(self.one.chain)
        self.listen(Phase("sampling", f"replaying t = {times[0]} .. {times[-1]}"))
        began = perf_counter()
        outputs = walker.replay(self.batch.cases, before, times, given, self._asked(times))
        lanes = len(self.batch.cases) * len(times) * self.chain.forwards_per_step
        self.listen(Asked(self.one.chain, lanes, perf_counter() - began, times[-1]))
        self.outputs = _merged([self.outputs, outputs])

    def _asked(self, times: Sequence[int]) -> dict[str, frozenset[int]]:
        """Which outputs are wanted of the steps into which of `times`."""
        asked: dict[str, frozenset[int]] = {}
        for name in self.members:
            wanted = self.one.compute[name]
            here = frozenset(t for t, flag in zip(self.grid, wanted, strict=True) if flag) & set(times)
            for output in self.graph.stages[name].outputs if here else ():
                asked[output] = asked.get(output, frozenset()) | here
        return asked

    def _given(self, stage: Stage, times: Sequence[int]) -> Given:
        """What steps into `times` read besides the batch's own states."""
        names = [need.stage for need in stage.needs if need.view in ENDS]
        sources = {}
        for case, kin in self.kin.items():
            for number, source in enumerate(kin.sources if kin is not None else ()):
                wanted = source.wanted(frozenset(times))
                if wanted:
                    found = self.shelf.read(source.stage, (source.case,), wanted)
                    sources[case, number] = found.isel({CASE: 0}, drop=True)
        return Given(self.shelf.finals.get(names[0]) if names else None, sources, tuple(times))

    def _results(self, name: str, span: Mask) -> xr.Dataset | None:
        """A pointwise stage's block."""
        stage = self.graph.stages[name]
        todo = np.flatnonzero(span & self.one.compute[name])
        seen = np.flatnonzero(span & self.one.read[name])
        pieces = [self._compute(stage, stretch) for stretch in self._stretches(stage, todo)]
        if len(seen):
            pieces.append(self._read(name, seen.tolist()))
        if len(pieces) == 1:
            return pieces[0]
        return joined(pieces).sortby(TIME, ascending=False) if pieces else None

    def _stretches(self, stage: Stage, todo: np.ndarray) -> list[np.ndarray]:
        """States computed at once: all of them, unless one result's history is another's own."""
        if not len(todo) or stage.asks or not any(need.halo for need in stage.needs):
            return [todo] if len(todo) else []
        if any(need.kept for need in stage.needs):
            kept = np.flatnonzero(positions(self.graph, stage.needs[0].stage))
            numbers = np.searchsorted(kept, todo)
            return [todo[first:stop] for first, stop in _blocks_of(numbers)]
        return [np.arange(*run) for run in runs(todo.tolist())]

    def _compute(self, stage: Stage, stretch: np.ndarray) -> xr.Dataset:
        assert stage.compute is not None
        inputs = [self._input(stage, need, stretch) for need in stage.needs]
        times = tuple(self.grid[place] for place in stretch)
        more: dict[str, object] = {"given": self._given(stage, times)} if stage.asks else {}
        if any(need.view == "labels" for need in stage.needs):
            more["cases"] = self.batch.cases
        began = perf_counter()
        try:
            result = stage.compute(*inputs, **more)
        except FlowProfileError:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise
            raise _failed(stage, self.batch.cases, times, error) from error
        seconds, cells = perf_counter() - began, len(times) * len(self.batch.cases)
        if stage.asks:
            self.listen(Asked(stage.name, stage.asks * cells, seconds, times[-1]))
        else:
            self.listen(Computed(stage.name, cells, seconds))
        block = result.sel({TIME: list(times)}) if result.sizes.get(TIME) != len(times) else result
        made = self._as_promised(stage, block, times)
        finite(stage, made, self.batch.cases)
        for text in lost(stage, made, self.batch.cases):
            self.listen(Noticed(text))
        return made

    def _as_promised(self, stage: Stage, block: xr.Dataset, times: tuple[int, ...]) -> xr.Dataset:
        """The block with the coordinates of its promise, so that computed and stored blocks look alike."""
        plain = block.drop_vars([name for name in block.coords if name != TIME])
        return plain.assign_coords({**labelled(self.batch.cases), **stage.promise(times).coords})

    def _input(self, stage: Stage, need: Need, stretch: np.ndarray) -> xr.Dataset:
        if need.view == "final":
            return self.shelf.finals[need.stage]
        if stage.outputs and need.stage == self.one.chain:
            times = [self.grid[place] for place in stretch]
            shown = xr.Dataset({name: self.outputs[name] for name in sorted(stage.outputs)})
            return narrowed(shown, range(shown.sizes[CASE]), times)
        todo = np.zeros(len(self.grid), dtype=np.bool_)
        todo[stretch] = True
        reached = reach(need, todo, positions(self.graph, need.stage))
        times = [self.grid[place] for place in np.flatnonzero(reached)]
        if need.view == "block":
            held = self.window[need.stage]
            return narrowed(held, range(held.sizes[CASE]), times)
        if need.view == "twin":
            twins = tuple(case.twin for case in self.batch.cases)
            return self.shelf.read(need.stage, twins, times)
        return self.shelf.read(need.stage, self.shelf.siblings(self.batch.cases), times)

    def _read(self, name: str, places: Sequence[int]) -> xr.Dataset:
        """Results that exist: this case's own, or its twin's where the two are one computation."""
        pieces = []
        for borrowed, group in groupby(places, key=lambda place: bool(self.one.borrow[name][place])):
            times = [self.grid[place] for place in group]
            cases = self.batch.cases
            owners = tuple(case.twin for case in cases) if borrowed else cases
            piece = self.shelf.read(name, owners, times)
            pieces.append(piece.assign_coords(labelled(cases)) if borrowed else piece)
        return joined(pieces)

    def _halos(self) -> Mapping[str, int]:
        halos = dict.fromkeys(self.members, 0)
        for member in self.members:
            for need in self.graph.stages[member].needs:
                if need.view == "block" and need.stage in halos:
                    halos[need.stage] = max(halos[need.stage], need.halo)
        if self.one.replay.any():
            halos[self.one.chain] = max(halos[self.one.chain], 1)
        return halos

    def _keep_tail(self, name: str) -> None:
        """Forget all but the history that the next block needs."""
        block = self.window.get(name)
        if block is None or self.halo[name] == 0:
            self.window.pop(name, None)
        else:
            self.window[name] = block.isel({TIME: slice(-self.halo[name], None)})

    def _spill(self, name: str, fresh: xr.Dataset) -> None:
        mask = self.one.spill.get(name)
        if mask is not None:
            times = [self.grid[place] for place in np.flatnonzero(mask)]
            self.shelf.scratch.put(name, self.batch.cases, times, fresh)

    def _regions(self, name: str) -> list[_Region]:
        missing = self.batch.demand.missing.get(name)
        if missing is None or self.graph.levels[name] != self.one.level:
            return []
        times = [self.grid[place] for place in np.flatnonzero(missing)]
        rows = {case: row for row, case in enumerate(self.batch.cases)}
        return [
            _Region(cut, [rows[case] for case in cut.cases])
            for cut in self.shelf.cuts(name, self.batch.cases, times)
        ]

    def _commit(self, name: str, fresh: xr.Dataset) -> None:
        here = set(times_of(fresh))
        for region in list(self.regions[name]):
            times = [t for t in region.cut.times if t in here]
            if not times:
                continue
            region.pieces.append(narrowed(fresh, region.rows, times))
            region.seen += len(times)
            if region.seen == len(region.cut.times):
                self.regions[name].remove(region)
                self._write(name, region)

    def _write(self, name: str, region: _Region) -> None:
        path = self.graph.path(name)
        block = joined(region.pieces)
        block = narrowed(block, range(block.sizes[CASE]), region.cut.times)
        size = self.shelf.store.write(path, region.cut, block)
        cells = len(region.cut.cases) * len(region.cut.times)
        self.listen(Committed(path, region.cut.name, cells, size))


def _merged(shown: Sequence[Outputs]) -> dict[str, xr.DataArray]:
    """Outputs of several stretches, each in order of generation."""
    pieces: dict[str, list[xr.DataArray]] = {}
    for outputs in shown:
        for name, values in outputs.items():
            pieces.setdefault(name, []).append(values)
    return {
        name: values[0] if len(values) == 1 else xr.concat(values, dim=TIME).sortby(TIME, ascending=False)
        for name, values in pieces.items()
    }


def _blocks_of(numbers: np.ndarray) -> Iterator[tuple[int, int]]:
    """Stretches of consecutive numbers, as positions in the array."""
    edges = np.flatnonzero(np.diff(numbers) != 1) + 1
    yield from zip([0, *edges.tolist()], [*edges.tolist(), len(numbers)], strict=True)


def _failed(stage: Stage, cases: Sequence[Case], times: Sequence[int], error: Exception) -> FlowProfileError:
    return FlowProfileError(
        f"Stage {stage.name!r} ({stage.kind}) failed for {len(cases)} cases at t = {times[0]} .. {times[-1]}.",
        consequence="Nothing of this block is stored; regions committed before it are safe.",
        remedy="mend its code and give the same command again",
        evidence=f"{type(error).__name__}: {error}; the first case is {cases[0]}",
    )
