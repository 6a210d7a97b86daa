"""Carrying a plan out: in this process, or by workers that open the same order wherever they are.

A coordinator declares (grows the store's axes, holding the planner's lock), plans, and has the tasks carried out. A
worker opens the definition and the store itself and works a task out again from what is missing then, so a task
may be given to one worker after the other, or to two at once, and nothing is lost or written differently.
"""

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowprofile import opening
from flowprofile.assembly import Assembled, assemble, regrown
from flowprofile.definitions import Text, pipeline
from flowprofile.errors import (
    BudgetError,
    ClusterError,
    DefinitionError,
    FlowProfileError,
    NonFiniteError,
    StoreError,
)
from flowprofile.flow.budget import states_in_flight
from flowprofile.flow.events import Listen, Noticed, Planned, Quarantined, TaskDone, silence
from flowprofile.flow.execute import Chains, execute
from flowprofile.flow.executors.drive import CHANCES, drive
from flowprofile.flow.executors.orders import Executor, Failed
from flowprofile.flow.fingerprint import key
from flowprofile.flow.memory import SHRINKS, out_of_memory, unaffordable
from flowprofile.flow.plan import Plan, Task
from flowprofile.flow.plan import plan as planned
from flowprofile.flow.tiles import fitting
from flowprofile.held import Held, holdings, met, run_declaration, stage_declarations
from flowprofile.steering import directions, resolve
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import TEMPORARY, LocalPlace
from flowprofile.store.store import Store
from flowprofile.store.urls import Where, place

NAMED = 3
"""Failures that are told in full."""
ASIDE = (NonFiniteError, BudgetError)
"""Refusals that are about the cases of one task, and say nothing of the others."""


@dataclass(frozen=True)
class Order:
    """A definition and a store, as any process of the same environment can open them."""

    definition: Mapping[str, Any]
    """The resolved definition."""
    folder: str | None
    """Where its relative paths begin."""
    allow_code: bool
    into: str
    storage_options: Mapping[str, str]
    layout: StoreLayout
    run: str
    """Folder of the run in the store: model and numerics class."""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        table = {
            "definition": dict(self.definition),
            "into": self.into,
            "run": self.run,
            "layout": repr(self.layout),
        }
        object.__setattr__(self, "key", key(table))

    def open(self) -> "Worker":
        """Assemble the definition and open the store.

        Raises
        ------
        ClusterError
            If this process would not give the same bits as the coordinator's run.
        """
        text = Text("the coordinator's definition", "")
        if self.folder is not None:
            text = Text(str(Path(self.folder) / "definition.toml"), "# as the coordinator resolved it")
        store = Store.open(self.into, layout=self.layout, storage_options=self.storage_options)
        found = assemble(pipeline(dict(self.definition), text), text, allow_code=self.allow_code)
        ready = met(found, store)
        if ready.run != self.run:
            raise ClusterError(
                f"This worker would compute the run {ready.run!r}, it was asked for {self.run!r}.",
                consequence="Its model or its numerics class is another one, and its bits would not fit the others.",
                remedy="give workers and coordinator the same weights, packages and kind of processor",
                evidence=", ".join(f"{name} {value}" for name, value in ready.numerics.table().items()),
            )
        held = Held(store, ready.run, silence)
        ready = regrown(ready, held.pixel_sets())
        if directions(ready):
            resolve(ready, lambda: opening.open(store.place, run=ready.run))
        return Worker(ready, store)


class Worker:
    """Does numbered tasks of one order in this process; its model is loaded once, with the first step."""

    def __init__(self, ready: Assembled, store: Store) -> None:
        self.ready, self.store = ready, store
        self.chains = Chains(ready.graph)
        self.held = Held(store, ready.run, silence)
        self.block = states_in_flight(ready.graph, ready.numerics.batch)

    def __call__(self, numbers: tuple[int, ...], listen: Listen, *, again: bool) -> None:
        """Carry out whatever is missing of these tasks."""
        if again:
            self.held.forget()
        wanted = frozenset(numbers)
        for task in self.planned(wanted.__contains__).tasks:
            self.do(task, listen)

    def planned(self, only: Callable[[int], bool] | None = None) -> Plan:
        """What is missing, of all tasks or of some."""
        ready = self.ready
        return planned(ready.graph, ready.sweep, self.held, batch=ready.numerics.batch, only=only)

    def do(self, task: Task, listen: Listen) -> None:
        """Carry one task out; where memory runs out, what is left of it with fewer states in flight.

        Raises
        ------
        BudgetError
            If not even one state has room.
        """
        left: Task | None = task
        while left is not None:
            told = self._tried(left, listen)
            if told is None:
                return
            if self.block == 1:
                first = task.batches[0].cases[0]
                raise unaffordable(sum(len(batch.cases) for batch in task.batches), first, told)
            self.block = max(1, self.block // SHRINKS)
            listen(
                Noticed(
                    f"memory ran out; going on with {self.block} states in flight, which changes no result"
                )
            )
            self.held.forget()
            left = next(iter(self.planned(lambda number: number == task.number).tasks), None)

    def _tried(self, task: Task, listen: Listen) -> str | None:
        """None if the task was carried out; if there was no memory for it, what was said, and all of it let go."""
        self.held.listen = listen
        folder = folder_of(self.store.url)
        try:
            execute(
                task,
                self.chains,
                self.held,
                block=self.block,
                listen=listen,
                scratch_folder=folder / TEMPORARY if folder is not None else None,
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            told = f"{type(error).__name__}: {error}"
        else:
            return None
        gc.collect()
        return told


def order_of(ready: Assembled, store: Store, *, allow_code: bool) -> Order:
    """What workers need to know.

    Raises
    ------
    DefinitionError
        For a live model, which exists in this process only.
    """
    definition = ready.definition()
    if not isinstance(ready.pipeline.model, str):
        raise DefinitionError(
            f"The live model {ready.card.name!r} exists in this process only.",
            consequence="Workers open the model themselves, by name or from a checkpoint.",
            remedy="save it as a checkpoint (safetensors and its card) and give the path, or run without workers",
        )
    folder = ready.context.folder
    if Path(definition["model"]).exists():
        definition["model"] = str(Path(definition["model"]).absolute())
    return Order(
        definition=definition,
        folder=None if folder is None else str(folder.absolute()),
        allow_code=allow_code,
        into=store.url,
        storage_options=getattr(store.place, "options", {}),
        layout=store.layout,
        run=ready.run,
    )


def declare(ready: Assembled, store: Store, listen: Listen) -> None:
    """Grow the store's axes for a pipeline; the caller becomes the planner."""
    store.lock()
    store.refresh()
    held = holdings(store, ready.run, listen)
    tile = held.tile if held is not None else None
    declaration = run_declaration(ready, store, tile or fitting(ready.sweep, ready.numerics.batch))
    store.prepare(declaration, ready.sweep, stage_declarations(ready.graph, ready.sweep), listen=listen)


def carry_out(
    ready: Assembled,
    store: Store,
    listen: Listen,
    *,
    executor: Executor | None = None,
    only: Callable[[int], bool] | None = None,
    allow_code: bool = False,
    check: Callable[[Plan, Held], None] = lambda found, held: None,
) -> None:
    """Work through whatever is missing in a store that is declared.

    Parameters
    ----------
    executor
        Who does it; None does it here.
    only
        Which tasks, by number; None for all.
    check
        Looks at the plan before any of it is done.

    Raises
    ------
    ClusterError
        Naming the tasks that could not be carried out; all others are in the store.
    NonFiniteError, BudgetError
        The same, where this is what is wrong with each of them.
    """
    worker = Worker(ready, store)
    found = worker.planned(only)
    check(found, worker.held)
    listen(Planned(found.forwards, len(found.tasks)))
    if executor is None:
        failed = _here(worker, found.tasks, listen)
    elif found.tasks:
        numbers = [task.number for task in found.tasks]
        failed = drive(executor, order_of(ready, store, allow_code=allow_code), numbers, listen)
    else:
        return
    _told(failed, {task.number: task.batches[0].cases for task in found.tasks}, len(found.tasks))


def _here(worker: Worker, tasks: Sequence[Task], listen: Listen) -> list[Failed]:
    """Carry tasks out in this process; those whose own cases are at fault are set aside, as workers' are."""
    lost: list[Failed] = []
    for index, task in enumerate(tasks):
        try:
            worker.do(task, listen)
        except ASIDE as error:
            lost.append(Failed((task.number,), error, str(error)))
            listen(Quarantined(task.number, str(error)))
            if len(lost) == index + 1 == CHANCES < len(tasks):  # it is not the cases
                listen(Noticed(f"the first {CHANCES} tasks were all set aside, so the others were not begun"))
                break
        else:
            listen(TaskDone(index + 1 - len(lost), len(tasks)))
    return lost


def _told(failed: Sequence[Failed], cases: Mapping[int, Sequence[object]], tasks: int) -> None:
    """Name what could not be carried out; a refusal that all of it shares is raised as it is."""
    if not failed:
        return
    errors = {str(each.error): each.error for each in failed}
    if len(failed) == tasks and len(errors) == 1 and failed[0].error is not None:
        raise failed[0].error
    named = "; ".join(
        f"task {each.numbers[0]} ({cases[each.numbers[0]][0]} ...): {each.told}" for each in failed[:NAMED]
    )
    kinds = {type(each.error) for each in failed}
    first = failed[0].error
    if first is not None and len(kinds) == 1 and isinstance(first, ASIDE):
        raise type(first)(
            first.fact,
            consequence=f"{len(failed)} of {tasks} tasks were set aside; {first.consequence}",
            remedy=first.remedy,
            evidence=named,
        )
    error: FlowProfileError = ClusterError(
        f"{len(failed)} of {tasks} tasks could not be carried out and were set aside.",
        consequence="Everything else is in the store; the cells of these tasks are missing.",
        remedy="mend what is named below and give the same command again; it computes only what is missing",
        evidence=named + (f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""),
    )
    raise error


def sweep_up(store: Store) -> None:
    """Remove what killed processes left in scratch; the caller is the planner, and nobody works yet."""
    folder = folder_of(store.url)
    for leftover in (folder / TEMPORARY).glob("flowprofile-*") if folder is not None else ():
        shutil.rmtree(leftover, ignore_errors=True)


def declared(ready: Assembled, store: Store) -> None:
    """Refuse a store whose axes do not hold all of a pipeline yet.

    Raises
    ------
    StoreError
        Naming what is not declared.
    """
    run = store.runs().get(ready.run)
    lacking = "its run" if run is None else ""
    if run is not None:
        for what, have, want in (
            ("seeds", run.seeds, ready.sweep.seeds),
            ("labels", run.labels, ready.sweep.labels),
            ("interventions", run.interventions, ready.sweep.interventions),
        ):
            lacking = lacking or (what if set(want) - set(have) else "")
        for stage in ready.graph.stored():
            there = run.stages.get(ready.graph.path(stage.name))
            if there is None or set(stage.times) - set(there.time or stage.times):
                lacking = lacking or f"the stage {stage.name!r}"
    if lacking:
        raise StoreError(
            f"{store.url!r} is not declared for this pipeline: {lacking} is missing.",
            consequence="Parts work without a planner, so none of them may grow the store.",
            remedy="flowprofile declare PIPELINE --into STORE, once, before the parts",
        )


def folder_of(into: Where) -> Path | None:
    """The folder a store is in; None for a place that is none."""
    where = place(into)
    return where.root if isinstance(where, LocalPlace) else None
