"""The work that is left, counted before any of it is done.

A plan never opens a model and never touches a store's bytes: it reads which cells exist, works out per case what
must be computed, and puts cases with the same needs into batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from flowprofile.axes import TIME
from flowprofile.cases import Case, Sweep
from flowprofile.flow.demand import Demand, Mask, demand, positions
from flowprofile.flow.graph import Graph
from flowprofile.flow.stage import Stage
from flowprofile.flow.tiles import Order, Tile, fitting, tiled


class Holdings(Protocol):
    """What a store holds of one run; a run that does not exist yet holds nothing."""

    @property
    def order(self) -> Order:
        """The run's axes."""

    @property
    def tile(self) -> Tile | None:
        """The run's tile; None before its first computation."""

    def complete(self, path: str, sweep: Sweep, times: tuple[int, ...]) -> bool:
        """Whether every cell of a stage exists; quick, since a finished sweep is asked about most often."""

    def present(self, path: str, cases: Sequence[Case], times: tuple[int, ...]) -> Mask:
        """Flags (case, time) of the cells of a stage that exist."""


class Nothing:
    """The holdings of a store that is not there."""

    order = Order()
    tile = None

    def complete(self, path: str, sweep: Sweep, times: tuple[int, ...]) -> bool:
        """No cell exists."""
        return False

    def present(self, path: str, cases: Sequence[Case], times: tuple[int, ...]) -> Mask:
        """No cell exists."""
        return np.zeros((len(cases), len(times)), dtype=np.bool_)


@dataclass(frozen=True)
class Task:
    """One batch of cases with the same needs."""

    cases: tuple[Case, ...]
    demand: Demand
    padding: int
    """Lanes added to reach the canonical batch."""

    @property
    def forwards(self) -> int:
        """Network evaluations of real cases."""
        return self.demand.forwards * len(self.cases)


@dataclass(frozen=True)
class Share:
    """One stage's part of a plan."""

    name: str
    cells: int
    """Cases times states to compute and store."""
    wanted: int
    """Cases times states asked for."""
    forwards: int
    bytes: int
    """Size of the new cells before compression."""

    @property
    def state(self) -> str:
        """'cached', 'partial' or 'missing'."""
        if self.cells == 0:
            return "cached"
        return "missing" if self.cells == self.wanted else "partial"


@dataclass(frozen=True)
class Plan:
    """Everything that is left to do."""

    graph: Graph
    sweep: Sweep
    order: Order
    tile: Tile
    batch: int
    tasks: tuple[Task, ...]
    shares: Mapping[str, Share]

    @property
    def forwards(self) -> int:
        """Network evaluations of real cases (one case, one step)."""
        return sum(task.forwards for task in self.tasks)

    @property
    def padded(self) -> int:
        """Evaluations of padding lanes beside them."""
        return sum(task.demand.forwards * task.padding for task in self.tasks)

    @property
    def bytes(self) -> int:
        """New bytes on disk, before compression."""
        return sum(share.bytes for share in self.shares.values())


def plan(graph: Graph, sweep: Sweep, holdings: Holdings, *, batch: int) -> Plan:
    """What must be computed so that the store holds all of `graph` for `sweep`."""
    tile = holdings.tile or fitting(sweep, batch)
    order = holdings.order.grown(sweep)
    survey = _Survey(graph, holdings)
    finished = all(holdings.complete(graph.path(one.name), sweep, one.times) for one in graph.stored())
    tasks = [
        Task(group, need, batch - len(group))
        for cases in (() if finished else tiled(sweep, order, tile))
        for group, need in survey.grouped(cases)
    ]
    return Plan(graph, sweep, order, tile, batch, tuple(tasks), survey.shares(sweep, tasks))


class _Survey:
    """Looks at tiles one after the other; equal needs are worked out once."""

    def __init__(self, graph: Graph, holdings: Holdings) -> None:
        self.graph = graph
        self.holdings = holdings
        self.known: dict[bytes, Demand] = {}
        self.cells = dict.fromkeys((stage.name for stage in graph.stored()), 0)

    def grouped(self, cases: tuple[Case, ...]) -> list[tuple[tuple[Case, ...], Demand]]:
        masks = {stage.name: self._present(stage, cases) for stage in self.graph.stored()}
        for stage in self.graph.stored():
            self.cells[stage.name] += int((positions(self.graph, stage.name) & ~masks[stage.name]).sum())
        groups: dict[bytes, list[int]] = {}
        for row in range(len(cases)):
            groups.setdefault(b"".join(mask[row].tobytes() for mask in masks.values()), []).append(row)
        found = []
        for signature, rows in groups.items():
            if signature not in self.known:
                self.known[signature] = demand(
                    self.graph, {name: mask[rows[0]] for name, mask in masks.items()}
                )
            need = self.known[signature]
            if need.passes:
                found.append((tuple(cases[row] for row in rows), need))
        return found

    def _present(self, stage: Stage, cases: Sequence[Case]) -> Mask:
        grid = self.graph.chain(stage.name).grid
        return self.holdings.present(self.graph.path(stage.name), cases, grid)

    def shares(self, sweep: Sweep, tasks: Sequence[Task]) -> dict[str, Share]:
        shares = {}
        for name, stage in self.graph.stages.items():
            if not stage.stored and stage.chain is None:
                continue
            cells = self.cells.get(name, 0)
            wanted = len(sweep) * len(stage.times) if stage.stored else 0
            forwards = sum(task.demand.forwards_of.get(name, 0) * len(task.cases) for task in tasks)
            shares[name] = Share(
                name, cells, wanted, forwards, cells * cell_bytes(stage) if stage.stored else 0
            )
        return shares


def cell_bytes(stage: Stage) -> int:
    """Bytes of one case at one state, over all variables of the stage."""
    promise = stage.promise(stage.times[:1])
    return sum(
        variable.dtype.itemsize * prod(size for dim, size in variable.sizes.items() if dim != TIME)
        for variable in promise.data_vars.values()
    )


def scratch_bytes(need: Demand, graph: Graph) -> int:
    """Bytes of one case that wait between passes."""
    return sum(
        int(mask.sum()) * cell_bytes(graph.stages[name])
        for one in need.passes
        for name, mask in one.spill.items()
    )
