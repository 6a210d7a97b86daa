"""What must be computed, worked out backwards from what is missing.

For one case, each stage either *reads* a state's result (it is in the store), *computes* it, or is not asked
for it at all. Going from the last stage to the first, what a stage computes becomes a demand on what it needs;
a chain then adds the steps that lead from a known state to each demanded one. A finished store demands nothing,
another window of a measure demands states but no step, and a missing state in the middle demands only the steps
since the last stored state above it. What the network shows in a step whose end is known already is *replayed*:
one evaluation from the state before, and no step.

A case with an intervention borrows its clean twin's results as far as the two are one computation. What it reads of
other cases comes out as *wants*, which become demands on those.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flowprofile.flow.graph import Graph
from flowprofile.flow.kin import Kin
from flowprofile.flow.stage import ENDS, Need

Mask = NDArray[np.bool_]
"""One flag per state of a chain's grid, in order of generation."""
TWIN = -1
"""Number under which the twin appears among the sources of a case."""


@dataclass(frozen=True)
class Pass:
    """One walk along a chain, during which every stage of a level is computed."""

    chain: str
    level: int
    compute: Mapping[str, Mask]
    """Per stage: results to compute. For the chain itself: states to reach by a step (or by noise)."""
    read: Mapping[str, Mask]
    """Per stage: results to read, from scratch if they are there, else from the store."""
    spill: Mapping[str, Mask]
    """Per stage: results that a later pass or another case reads although they will not be in the store."""
    replay: Mask
    """Steps of the chain that are repeated from the state before, only to see what the network shows."""
    borrow: Mapping[str, Mask]
    """Per stage: which of the results to read are the twin's."""

    @property
    def states(self) -> Mask:
        """States of the chain that this walk touches."""
        touched: Mask = np.logical_or.reduce((*self.compute.values(), *self.read.values()))
        return touched


@dataclass(frozen=True)
class Known:
    """What is known about a case before its demand is worked out."""

    present: Mapping[str, Mask]
    """Per stored stage: which states are in the store; all of them for a stage that is not made of this case."""
    kin: Kin | None = None
    wanted: Mapping[str, Mask] = field(default_factory=dict)
    """Per stage: results that other cases read and that will not be in the store."""
    across: Mapping[str, Mask] = field(default_factory=dict)
    """Per stage that compares labels: states at which some label of the seed lacks it."""


@dataclass(frozen=True)
class Demand:
    """All that one case needs, in the order in which it can be done."""

    passes: tuple[Pass, ...]
    forwards_of: Mapping[str, int]
    """Network evaluations, by chain and by stage that asks on its own."""
    replays: int
    """How many of them are replayed steps, or asked on their own: these are batched over time."""
    finals: frozenset[str]
    """Chains whose last state must be kept for a later pass."""
    missing: Mapping[str, Mask]
    """Per stored stage: states asked for that are not in the store; these are written."""
    wants: Mapping[tuple[int, str], Mask]
    """What it reads of other cases: by number of the source (or `TWIN`) and stage."""

    @property
    def forwards(self) -> int:
        """Network evaluations."""
        return sum(self.forwards_of.values())


def grid_mask(graph: Graph, name: str) -> Mask:
    """A mask over the grid of a stage's chain, all false."""
    return np.zeros(len(graph.chain(name).grid), dtype=np.bool_)


def positions(graph: Graph, name: str) -> Mask:
    """The states of its chain's grid that a stage is asked for."""
    return np.asarray(np.isin(graph.chain(name).grid, graph.stages[name].times), dtype=np.bool_)


def dilated(mask: Mask, halo: int) -> Mask:
    """The mask with the ``halo`` states before each of its states.

    >>> dilated(np.array([False, False, True]), 1).tolist()
    [False, True, True]
    """
    wider = mask.copy()
    for step in range(1, halo + 1):
        wider[:-step] |= mask[step:]
    return wider


def reach(need: Need, todo: Mask, kept: Mask) -> Mask:
    """The states of what it needs that results at `todo` read; ``kept`` are those the needed stage is asked for."""
    if not need.kept:
        return dilated(todo, need.halo)
    wider, places = todo.copy(), np.flatnonzero(kept)
    for place in np.flatnonzero(todo):
        before = places[places < place]
        wider[before[len(before) - need.halo :]] = True
    return wider


def steps(
    states: Mask, outputs: Mask, have: Mask, *, whole: bool = False, apart: bool = False
) -> tuple[Mask, Mask, Mask]:
    """Which states of a chain are reached by a step, which are read, and which steps are replayed.

    A demanded state needs a step only if it is not at hand; a demanded output needs its step to be taken or, where
    the state before is at hand and its own end is not needed, replayed. Every step needs the state before it; of a
    `whole` chain it needs all of them, and of one whose states are `apart` none.
    """
    if apart:
        needed = states.copy()
        needed[:-1] |= outputs[1:]
        return needed & ~have, needed & have, outputs.copy()
    run, replay, needed = np.zeros_like(states), np.zeros_like(states), states.copy()
    for position in range(len(states) - 1, 0, -1):
        run[position] = needed[position] and not have[position]
        replay[position] = outputs[position] and not run[position]
        if run[position] or replay[position]:
            needed[position - 1] = True
    run[0] = needed[0] and not have[0]
    # A replay that starts where a step ends is that walk's next step: one evaluation either way, in step with it.
    for position in range(1, len(states)):
        if replay[position] and run[position - 1]:
            run[position], replay[position] = True, False
    if whole and run[1:].any():
        run[: np.flatnonzero(run)[-1] + 1] = True
        replay &= ~run
    return run, needed & ~run, replay


def demand(graph: Graph, case: Known) -> Demand:
    """The work for a case."""
    return _Backwards(graph, case).solve()


class _Backwards:
    """The walk from the last stage to the first; lives for one call of `demand`."""

    def __init__(self, graph: Graph, case: Known) -> None:
        self.graph, self.case, self.kin = graph, case, case.kin
        self.top = max(graph.levels.values())
        cells = [(name, level) for name in graph.stages for level in range(self.top + 1)]
        self.wanted = {cell: grid_mask(graph, cell[0]) for cell in cells}
        self.compute = {cell: grid_mask(graph, cell[0]) for cell in cells}
        self.read = {cell: grid_mask(graph, cell[0]) for cell in cells}
        self.replay = {cell: grid_mask(graph, cell[0]) for cell in cells}
        self.borrow = {cell: grid_mask(graph, cell[0]) for cell in cells}
        self.outputs = {name: grid_mask(graph, name) for name in graph.stages}
        self.lasting = {name: case.wanted.get(name, grid_mask(graph, name)).copy() for name in graph.stages}
        self.finals: set[str] = set()
        self.wants: dict[tuple[int, str], Mask] = {}

    def solve(self) -> Demand:
        for name in reversed(tuple(self.graph.stages)):
            stage, own = self.graph.stages[name], self.graph.levels[name]
            if stage.stored:
                self.wanted[name, own] |= positions(self.graph, name) & ~self.case.present[name]
            self.wanted[name, own] |= self.lasting[name]
            for level in range(self.top, own - 1, -1):
                self._visit(name, level)
        passes = tuple(self._passes())
        missing = {
            stage.name: positions(self.graph, stage.name) & ~self.case.present[stage.name]
            for stage in self.graph.stored()
        }
        forwards, apart = self._forwards(passes)
        return Demand(passes, forwards, apart, frozenset(self.finals), missing, self.wants)

    def _forwards(self, passes: tuple[Pass, ...]) -> tuple[dict[str, int], int]:
        """Network evaluations by stage, and how many of them are not steps of a walk."""
        forwards: dict[str, int] = {}
        apart = 0
        for one in passes:
            chain = self.graph.chain(one.chain)
            stepped = int(one.compute[one.chain][1:].sum()) * chain.forwards_to_reach
            replayed = int(one.replay.sum()) * chain.forwards_per_step
            asked = {
                name: int(mask.sum()) * self.graph.stages[name].asks for name, mask in one.compute.items()
            }
            apart += replayed + sum(asked.values())
            for name, count in ((one.chain, stepped + replayed), *asked.items()):
                if count:
                    forwards[name] = forwards.get(name, 0) + count
        return forwards, apart

    def _visit(self, name: str, level: int) -> None:
        stage, own = self.graph.stages[name], self.graph.levels[name]
        asked = self.wanted[name, level]
        if level > own and (stage.chain is not None or stage.outputs or stage.asks):
            # A later walk never asks the network again: what it reads is stored by then, or was spilled.
            self.read[name, level] = asked
            self.wanted[name, own] |= asked & ~self._stored(name)
            return
        borrowed = (
            self._inherited(name) & ~self._present(name) if level == own else grid_mask(self.graph, name)
        )
        have = self._stored(name) if level > own else self._present(name) | borrowed
        cell = name, level
        if stage.chain is not None:
            chain = stage.chain
            found = steps(asked, self.outputs[name], have, whole=chain.whole, apart=chain.apart)
            self.compute[cell], self.read[cell], self.replay[cell] = found
        else:
            self.compute[cell], self.read[cell] = asked & ~have, asked & have
        self.borrow[cell] = self.read[cell] & borrowed
        self._want(TWIN, name, self.borrow[cell])
        self._ask_needs(name, level)

    def _ask_needs(self, name: str, level: int) -> None:
        stage, todo = self.graph.stages[name], self.compute[name, level]
        if stage.outputs:
            self.outputs[self.graph.root(name)] |= todo
        if stage.chain is not None or stage.asks:
            self._ask_sources(todo | self.replay[name, level], self.graph.chain(name).grid)
        for need in stage.needs:
            kept = positions(self.graph, need.stage)
            if need.view == "twin":
                self._want(TWIN, need.stage, reach(need, todo, kept))
            elif need.view == "labels":
                # Every label's results are looked up from outside its walk, so they must outlast it.
                both = todo | self.case.across.get(name, todo)
                lasting = reach(need, both, kept) & ~self._stored(need.stage)
                self.lasting[need.stage] |= lasting
                self.wanted[need.stage, self.graph.levels[need.stage]] |= lasting
            elif need.view in ENDS:
                if todo.any() if need.view == "final" else todo[0]:
                    self.finals.add(need.stage)
                    self.wanted[need.stage, self.graph.levels[need.stage]][-1] = True
            elif not (stage.outputs and need.stage == self.graph.root(name)):
                self.wanted[need.stage, level] |= reach(need, todo, kept)

    def _ask_sources(self, todo: Mask, grid: tuple[int, ...]) -> None:
        times = frozenset(grid[place] for place in np.flatnonzero(todo))
        for number, source in enumerate(self.kin.sources if self.kin is not None and times else ()):
            self._want(number, source.stage, np.isin(grid, source.wanted(times)))

    def _want(self, number: int, name: str, mask: Mask) -> None:
        if mask.any():
            known = self.wants.setdefault((number, name), grid_mask(self.graph, name))
            known |= mask

    def _inherited(self, name: str) -> Mask:
        """The results that are the twin's."""
        mask = grid_mask(self.graph, name)
        if self.kin is not None and self.graph.inheritable(name):
            mask[: self.kin.shared] = True
        return mask

    def _present(self, name: str) -> Mask:
        return self.case.present[name] if self.graph.stages[name].stored else grid_mask(self.graph, name)

    def _stored(self, name: str) -> Mask:
        """What will be in the store once this run's earlier passes are done."""
        written = self.graph.stages[name].stored
        return self._present(name) | positions(self.graph, name) if written else grid_mask(self.graph, name)

    def _passes(self) -> Iterator[Pass]:
        chains = [name for name, stage in self.graph.stages.items() if stage.chain is not None]
        for level in range(self.top + 1):
            for chain in chains:
                members = [name for name in self.graph.stages if self.graph.root(name) == chain]
                compute = {name: self.compute[name, level] for name in members}
                read = {name: self.read[name, level] for name in members}
                if any(mask.any() for mask in (*compute.values(), *read.values())):
                    borrow = {name: self.borrow[name, level] for name in members}
                    spill = self._spill(members, level)
                    yield Pass(chain, level, compute, read, spill, self.replay[chain, level], borrow)

    def _spill(self, members: list[str], level: int) -> dict[str, Mask]:
        spill = {}
        for name in members:
            later = [self.read[name, above] for above in range(level + 1, self.top + 1)]
            mask = np.logical_or.reduce([*later, self.lasting[name]]) & ~self._stored(name)
            if self.graph.levels[name] == level and mask.any():
                spill[name] = mask
        return spill
