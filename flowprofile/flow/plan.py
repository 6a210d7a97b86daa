"""The work that is left, counted before any of it is done.

A plan never opens a model and never touches a store's bytes: it reads which cells exist, works out per case what
must be computed, and puts cases with the same needs into batches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from flowprofile.axes import TIME
from flowprofile.cases import Case, Sweep
from flowprofile.flow.demand import Demand, Mask
from flowprofile.flow.graph import Graph
from flowprofile.flow.households import Presence, Survey
from flowprofile.flow.stage import Stage
from flowprofile.flow.tiles import Order, Tile, fitting, households


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
class Batch:
    """Cases with the same needs, computed together."""

    cases: tuple[Case, ...]
    demand: Demand
    padding: int
    """Lanes added to reach the canonical batch."""

    @property
    def forwards(self) -> int:
        """Network evaluations of real cases."""
        return self.demand.forwards * len(self.cases)

    @property
    def padded(self) -> int:
        """Evaluations of padding lanes in the steps; replays fill their lanes with other steps."""
        return (self.demand.forwards - self.demand.replays) * self.padding


@dataclass(frozen=True)
class Task:
    """Batches that read each other's results, in an order in which they can: clean cases first."""

    number: int
    """Place of its household among all of the sweep's: the same for whoever plans, and whenever."""
    batches: tuple[Batch, ...]

    @property
    def forwards(self) -> int:
        """Network evaluations of real cases."""
        return sum(batch.forwards for batch in self.batches)


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
    def batches(self) -> tuple[Batch, ...]:
        """The batches of all tasks."""
        return tuple(batch for task in self.tasks for batch in task.batches)

    @property
    def forwards(self) -> int:
        """Network evaluations of real cases (one case, one step)."""
        return sum(task.forwards for task in self.tasks)

    @property
    def padded(self) -> int:
        """Evaluations of padding lanes beside them."""
        return sum(batch.padded for batch in self.batches)

    @property
    def bytes(self) -> int:
        """New bytes on disk, before compression."""
        return sum(share.bytes for share in self.shares.values())


def plan(
    graph: Graph,
    sweep: Sweep,
    holdings: Holdings,
    *,
    batch: int,
    only: Callable[[int], bool] | None = None,
) -> Plan:
    """What must be computed so that the store holds all of `graph` for `sweep`; of some tasks `only`, by number."""
    tile = holdings.tile or fitting(sweep, batch)
    order = holdings.order.grown(sweep)
    if only is None and all(_complete(graph, stage, sweep, holdings) for stage in graph.stored()):
        return Plan(graph, sweep, order, tile, batch, (), _shares(graph, sweep, (), {}))
    survey = Survey(graph, _presence(graph, holdings))
    tasks = []
    groups = households(sweep, order, tile, linked=graph.linked, crossed=graph.crossed)
    for number, household in enumerate(groups):
        if only is not None and not only(number):
            continue
        atoms = household.atoms()
        if not atoms:
            continue
        needs = survey.demands([case for atom in atoms for case in atom])
        found = _batches(atoms, needs, batch)
        if found:
            tasks.append(Task(number, tuple(found)))
    return Plan(graph, sweep, order, tile, batch, tuple(tasks), _shares(graph, sweep, tasks, survey.cells))


def scoped(stage: Stage, sweep: Sweep) -> Sweep | None:
    """The part of a sweep that a stage is made of."""
    return sweep.only(name for name in sweep.interventions if stage.applies(Case(0, 0, name)))


def _complete(graph: Graph, stage: Stage, sweep: Sweep, holdings: Holdings) -> bool:
    part = scoped(stage, sweep)
    return part is None or all(
        holdings.complete(graph.path(stage.name), box, stage.times) for box in part.boxes()
    )


def _presence(graph: Graph, holdings: Holdings) -> Presence:
    def present(stage: Stage, cases: Sequence[Case]) -> Mask:
        grid = graph.chain(stage.name).grid
        made = np.array([stage.applies(case) for case in cases])
        flags = np.ones((len(cases), len(grid)), dtype=np.bool_)
        flags[made] = holdings.present(
            graph.path(stage.name), [case for case in cases if stage.applies(case)], grid
        )
        return flags

    return present


def _batches(atoms: Sequence[Sequence[Case]], needs: Mapping[Case, Demand], batch: int) -> list[Batch]:
    """Cases with one demand side by side; cases of one atom and demand are never put into two batches."""
    found: list[tuple[Demand, list[Case]]] = []
    for atom in atoms:
        parts: dict[int, list[Case]] = {}
        for case in atom:
            if needs[case].passes:
                parts.setdefault(id(needs[case]), []).append(case)
        for cases in parts.values():
            need = needs[cases[0]]
            room = (
                held for known, held in found
                if known is need and len(held) + len(cases) <= batch and held[0].clean == cases[0].clean
            )  # fmt: skip
            holding = next(room, None)
            if holding is None:
                found.append((need, list(cases)))
            else:
                holding.extend(cases)
    batches = [Batch(tuple(cases), need, batch - len(cases)) for need, cases in found]
    return sorted(batches, key=lambda one: not one.cases[0].clean)


def _shares(graph: Graph, sweep: Sweep, tasks: Sequence[Task], cells: Mapping[str, int]) -> dict[str, Share]:
    batches = [batch for task in tasks for batch in task.batches]
    shares = {}
    for name, stage in graph.stages.items():
        if not stage.stored and stage.chain is None and not stage.asks:
            continue
        part = scoped(stage, sweep)
        missing = cells.get(name, 0)
        shares[name] = Share(
            name,
            missing,
            len(part) * len(stage.times) if stage.stored and part is not None else 0,
            sum(one.demand.forwards_of.get(name, 0) * len(one.cases) for one in batches),
            missing * cell_bytes(stage) if stage.stored else 0,
        )
    return shares


def cell_bytes(stage: Stage) -> int:
    """Bytes of one case at one state, over all variables of the stage."""
    promise = stage.promise(stage.times[:1])
    return sum(
        variable.dtype.itemsize * prod(size for dim, size in variable.sizes.items() if dim != TIME)
        for variable in promise.data_vars.values()
    )


def scratch_bytes(task: Task, graph: Graph) -> int:
    """Bytes that wait in scratch while a task is computed."""
    return sum(
        len(batch.cases) * int(mask.sum()) * cell_bytes(graph.stages[name])
        for batch in task.batches
        for one in batch.demand.passes
        for name, mask in one.spill.items()
    )
