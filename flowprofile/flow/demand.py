"""What must be computed, worked out backwards from what is missing.

For one case, each stage either *reads* a state's result (it is in the store), *computes* it, or is not asked
for it at all. Going from the last stage to the first, what a stage computes becomes a demand on what it needs;
a chain then adds the steps that lead from a known state to each demanded one. A finished store demands nothing,
another window of a measure demands states but no step, and a missing state in the middle demands only the steps
since the last stored state above it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowprofile.flow.graph import Graph

Mask = NDArray[np.bool_]
"""One flag per state of a chain's grid, in order of generation."""


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
    """Per stage: results that a later pass reads although they will not be in the store."""

    @property
    def states(self) -> Mask:
        """States of the chain that this walk touches."""
        touched: Mask = np.logical_or.reduce((*self.compute.values(), *self.read.values()))
        return touched


@dataclass(frozen=True)
class Demand:
    """All that one case needs, in the order in which it can be done."""

    passes: tuple[Pass, ...]
    forwards_of: Mapping[str, int]
    """Network evaluations, by chain."""
    finals: frozenset[str]
    """Chains whose last state must be kept for a later pass."""
    missing: Mapping[str, Mask]
    """Per stored stage: states asked for that are not in the store; these are written."""

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


def demand(graph: Graph, present: Mapping[str, Mask]) -> Demand:
    """The work for a case of which `present` says, per stored stage, which states are in the store."""
    return _Backwards(graph, present).solve()


def dilated(mask: Mask, halo: int) -> Mask:
    """The mask with the ``halo`` states before each of its states.

    >>> dilated(np.array([False, False, True]), 1).tolist()
    [False, True, True]
    """
    wider = mask.copy()
    for step in range(1, halo + 1):
        wider[:-step] |= mask[step:]
    return wider


def steps(states: Mask, outputs: Mask, have: Mask) -> tuple[Mask, Mask]:
    """Which states of a chain are reached by a step, and which are read.

    A demanded output (something the network says during a step) needs the step itself; a demanded state needs
    a step only if it is not at hand; every step needs the state before it.
    """
    run, needed = np.zeros_like(states), states.copy()
    for position in range(len(states) - 1, 0, -1):
        run[position] = outputs[position] or (needed[position] and not have[position])
        if run[position]:
            needed[position - 1] = True
    run[0] = needed[0] and not have[0]
    return run, needed & ~run


class _Backwards:
    """The walk from the last stage to the first; lives for one call of `demand`."""

    def __init__(self, graph: Graph, present: Mapping[str, Mask]) -> None:
        self.graph = graph
        self.present = present
        self.top = max(graph.levels.values())
        cells = [(name, level) for name in graph.stages for level in range(self.top + 1)]
        self.wanted = {(name, level): grid_mask(graph, name) for name, level in cells}
        self.compute = {(name, level): grid_mask(graph, name) for name, level in cells}
        self.read = {(name, level): grid_mask(graph, name) for name, level in cells}
        self.outputs = {name: grid_mask(graph, name) for name in graph.stages}
        self.finals: set[str] = set()

    def solve(self) -> Demand:
        for name in reversed(tuple(self.graph.stages)):
            stage, own = self.graph.stages[name], self.graph.levels[name]
            if stage.stored:
                self.wanted[name, own] |= positions(self.graph, name) & ~self.present[name]
            for level in range(self.top, own - 1, -1):
                self._visit(name, level)
        passes = tuple(self._passes())
        forwards: dict[str, int] = {}
        for one in passes:
            steps = int(one.compute[one.chain][1:].sum())
            forwards[one.chain] = (
                forwards.get(one.chain, 0) + steps * self.graph.chain(one.chain).forwards_per_step
            )
        missing = {
            stage.name: positions(self.graph, stage.name) & ~self.present[stage.name]
            for stage in self.graph.stored()
        }
        return Demand(passes, forwards, frozenset(self.finals), missing)

    def _visit(self, name: str, level: int) -> None:
        stage, own = self.graph.stages[name], self.graph.levels[name]
        asked = self.wanted[name, level]
        if level > own and (stage.chain is not None or stage.outputs):
            # A later walk never steps the chain again: what it reads is stored by then, or was spilled.
            self.read[name, level] = asked
            self.wanted[name, own] |= asked & ~self._stored(name)
            return
        have = self._stored(name) if level > own else self._present(name)
        if stage.chain is not None:
            self.compute[name, level], self.read[name, level] = steps(asked, self.outputs[name], have)
        else:
            self.compute[name, level], self.read[name, level] = asked & ~have, asked & have
        self._ask_needs(name, level)

    def _ask_needs(self, name: str, level: int) -> None:
        stage, todo = self.graph.stages[name], self.compute[name, level]
        if stage.outputs:
            self.outputs[self.graph.root(name)] |= todo
        for need in stage.needs:
            if need.view == "block":
                self.wanted[need.stage, level] |= dilated(todo, need.halo)
            elif todo.any():
                self.finals.add(need.stage)
                self.wanted[need.stage, self.graph.levels[need.stage]][-1] = True

    def _present(self, name: str) -> Mask:
        return self.present[name] if self.graph.stages[name].stored else grid_mask(self.graph, name)

    def _stored(self, name: str) -> Mask:
        """What will be in the store once this run's earlier passes are done."""
        written = self.graph.stages[name].stored
        return self.present[name] | positions(self.graph, name) if written else grid_mask(self.graph, name)

    def _passes(self) -> Iterator[Pass]:
        chains = [name for name, stage in self.graph.stages.items() if stage.chain is not None]
        for level in range(self.top + 1):
            for chain in chains:
                members = [name for name in self.graph.stages if self.graph.root(name) == chain]
                compute = {name: self.compute[name, level] for name in members}
                read = {name: self.read[name, level] for name in members}
                if any(mask.any() for mask in (*compute.values(), *read.values())):
                    yield Pass(chain, level, compute, read, self._spill(members, level))

    def _spill(self, members: list[str], level: int) -> dict[str, Mask]:
        spill = {}
        for name in members:
            later = [self.read[name, above] for above in range(level + 1, self.top + 1)]
            mask = np.logical_or.reduce([*later, grid_mask(self.graph, name)]) & ~self._stored(name)
            if self.graph.levels[name] == level and mask.any():
                spill[name] = mask
        return spill
