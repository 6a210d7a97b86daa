"""Compute whatever a store does not hold yet: the two verbs `plan` and `run`, from files and from Python alike.

A run is a plan that is carried out. Everything that can be refused is refused while planning, before a store is
touched or a model is loaded; what is left cannot be wrong, only interrupted, and an interrupted run is the same
command again.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import xarray as xr

from flowprofile import opening, rates
from flowprofile.assembly import Assembled, assemble, regrown
from flowprofile.definitions import Cases, Pipeline, Text, pipeline, read
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.flow.budget import Cost, check, cost, states_in_flight
from flowprofile.flow.events import Advanced, Asked, Committed, Event, Listen, Planned, TaskDone, silence
from flowprofile.flow.execute import Chains, execute
from flowprofile.flow.fingerprint import key
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Nothing, Plan, cell_bytes
from flowprofile.flow.plan import plan as planned
from flowprofile.flow.tiles import fitting
from flowprofile.held import Held, holdings, run_declaration, stage_declarations
from flowprofile.stages import KINDS
from flowprofile.steering import clean_part, resolve
from flowprofile.store.layout import StoreLayout, size
from flowprofile.store.layout import layout as named_layout
from flowprofile.store.places import TEMPORARY, LocalPlace
from flowprofile.store.store import Store
from flowprofile.store.urls import place


@dataclass(frozen=True)
class Projection:
    """A plan with what it will cost."""

    assembled: Assembled
    plan: Plan
    cost: Cost
    seconds: Mapping[str, float]
    """Projected seconds per stage, for stages whose rate on this machine is known."""
    warnings: Mapping[str, str]
    """What a person should know before running it, by stage."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    run: str
    """Folder of the run in the store."""
    forwards: int
    """Network evaluations of real cases."""
    padding: int
    """Evaluations of padding lanes beside them."""
    regions: int
    """Regions committed."""
    bytes: int
    """Bytes written to the store."""
    seconds: float
    warnings: Mapping[str, str] = field(default_factory=dict)
    """What a person should know about it, by stage."""

    def followed_by(self, other: "Outcome") -> "Outcome":
        """Both runs as one."""
        return Outcome(
            other.run,
            self.forwards + other.forwards,
            self.padding + other.padding,
            self.regions + other.regions,
            self.bytes + other.bytes,
            self.seconds + other.seconds,
            {**self.warnings, **other.warnings},
        )


@dataclass
class _Count:
    """Adds up a run's events on their way to the listener."""

    listen: Listen
    forwards: int = 0
    padding: int = 0
    regions: int = 0
    bytes: int = 0
    watch: rates.Watch = field(default_factory=rates.Watch)

    def __call__(self, event: Event) -> None:
        match event:
            case Advanced(forwards=forwards, padding=padding):
                self.forwards += forwards
                self.padding += padding
            case Asked(forwards=forwards):
                self.forwards += forwards
            case Committed(bytes=size):
                self.regions += 1
                self.bytes += size
            case _:
                pass
        self.watch(event)
        self.listen(event)


Source = str | os.PathLike[str] | Pipeline | Assembled


def assembled(source: Source, *, overrides: Sequence[str] = (), allow_code: bool = False) -> Assembled:
    """A pipeline by name, by path or as a value, checked and wired."""
    if isinstance(source, Assembled):
        return source
    if isinstance(source, Pipeline):
        return assemble(source, Text("the pipeline", ""), allow_code=allow_code)
    found, text = read(os.fspath(source), overrides=overrides)
    return assemble(found, text, allow_code=allow_code)


def plan(
    source: Source, *, into: str | os.PathLike[str] | None = None, allow_code: bool = False
) -> Projection:
    """What `run` would compute, counted; neither store nor model is opened for writing.

    Parameters
    ----------
    source
        A pipeline's name or file, or a `Pipeline`.
    into
        The store it would go into; without one, everything counts as missing.
    """
    return project(assembled(source, allow_code=allow_code), into)


def project(
    ready: Assembled, into: str | os.PathLike[str] | None, *, layout: StoreLayout | None = None
) -> Projection:
    """`plan` for an assembled pipeline."""
    held = holdings(into, ready.run, silence) if into is not None else None
    ready = regrown(ready, held.pixel_sets()) if held is not None else ready
    found = planned(ready.graph, ready.sweep, held or Nothing(), batch=ready.numerics.batch)
    chosen = layout or named_layout("local")
    price = cost(
        found,
        block=states_in_flight(ready.graph, ready.numerics.batch),
        weights=ready.weight_bytes,
        regions=_region_bytes(ready.graph, chosen),
    )
    warnings = held.changed_sources(ready.graph) if held is not None else {}
    known = rates.remembered(rate_key(ready))
    seconds = {
        name: value for name in ready.graph.stages if (value := _seconds(name, found, known)) is not None
    }
    return Projection(ready, found, price, seconds, warnings)


def calibrate(ready: Assembled) -> None:
    """Measure this machine's rates for a pipeline, on a few steps of one batch that are kept nowhere."""
    tables = {
        name: {key: value for key, value in table.items() if key != "keep" or table["use"] not in KINDS}
        for name, table in ready.tables.items()
    }
    few = {
        "sampler": ready.pipeline.sampler.model_copy(update={"steps": min(8, ready.card.steps)}),
        "cases": Cases(seeds=tuple(range(ready.numerics.batch)), labels=list(ready.sweep.labels[:1])),
        "stages": tables,
    }
    small = assemble(ready.pipeline.model_copy(update=few), allow_code=True)
    run(small, into=f"memory://calibration-{os.getpid()}-{rate_key(small)}")


def rate_key(ready: Assembled) -> str:
    """Identity under which this machine's rates for a pipeline's model are remembered."""
    return key({"model": ready.identity, "numerics": ready.numerics.table()})[:16]


def _seconds(name: str, found: Plan, known: rates.Rates) -> float | None:
    """Projected seconds of a stage; None if its kind was never timed here."""
    stage = found.graph.stages[name]
    units = 0
    for batch in found.batches:
        walks = [one for one in batch.demand.passes if name in one.compute]
        steps = sum(int(one.compute[name].sum()) for one in walks)
        if stage.chain is None:
            units += steps * len(batch.cases) * (stage.asks or 1)
        else:
            replayed = sum(int(one.replay.sum()) for one in walks if one.chain == name)
            units += (
                steps * found.batch + replayed * len(batch.cases)
            ) * stage.chain.forwards_per_step or steps
    if units == 0:
        return 0.0
    return known[stage.kind] * units if stage.kind in known else None


def _region_bytes(graph: Graph, layout: StoreLayout) -> list[int]:
    """Bytes of one case in the regions that wait side by side, one of every stored stage."""
    shard = size(layout.shard)
    return [
        min(max(shard, cell), cell * len(one.times)) for one in graph.stored() for cell in [cell_bytes(one)]
    ]


def run(
    source: Source,
    *,
    into: str | os.PathLike[str],
    listen: Listen = silence,
    layout: StoreLayout | str | None = None,
    memory: int | None = None,
    disk: int | None = None,
    allow_code: bool = False,
    accept_weights: bool = False,
) -> Outcome:
    """Compute and store whatever `into` does not hold yet of a pipeline.

    Parameters
    ----------
    source
        A pipeline's name or file, or a `Pipeline`.
    into
        Store: a path, ``file://`` or ``memory://NAME``.
    listen
        Called with every event; see `flowprofile.flow.events`.
    layout
        How a new store is laid out: a name from ``stores/`` or a value.
    memory, disk
        Budgets in bytes; by default what the machine has free.
    allow_code
        Whether ``use = "module:name"`` may import code.
    accept_weights
        Whether weights that changed under the same path may begin a run of their own in this store.

    Raises
    ------
    BudgetError
        The plan needs more than it may take; nothing was computed.
    BusyError
        Another planner holds the store.
    NonFiniteError
        A NaN or infinity appeared; it is named and not stored.
    """
    ready = assembled(source, allow_code=allow_code)
    chosen = named_layout(layout) if isinstance(layout, str) else layout
    compute = partial(
        _compute, into=into, listen=listen, layout=chosen, memory=memory, disk=disk, accept=accept_weights
    )
    first = clean_part(ready)
    if first is None:
        return compute(ready)
    early = compute(assemble(first, allow_code=allow_code))
    resolve(ready, lambda: opening.open(into, run=ready.run))
    return early.followed_by(compute(ready))


def _compute(
    ready: Assembled,
    *,
    into: str | os.PathLike[str],
    listen: Listen,
    layout: StoreLayout | None,
    memory: int | None,
    disk: int | None,
    accept: bool,
) -> Outcome:
    """One plan, carried out."""
    began = perf_counter()
    projection = project(ready, into, layout=layout)
    ready = projection.assembled
    _same_weights(ready, into, accept=accept)
    _unmixed(projection.plan, projection.warnings)
    if not projection.plan.tasks:
        return Outcome(ready.run, 0, 0, 0, 0, perf_counter() - began, projection.warnings)
    check(projection.cost, memory=memory, disk=disk, folder=_folder(into))
    count = _Count(listen)
    with Store.open(into, layout=layout) as store:
        _carry_out(ready, store, count)
    kinds = {name: stage.kind for name, stage in ready.graph.stages.items()}
    rates.remember(rate_key(ready), {kinds[name]: rate for name, rate in count.watch.rates().items()})
    seconds = perf_counter() - began
    return Outcome(
        ready.run, count.forwards, count.padding, count.regions, count.bytes, seconds, projection.warnings
    )


def _carry_out(ready: Assembled, store: Store, listen: Listen) -> None:
    """Grow the store's axes, then work through the tasks; the caller holds the store."""
    store.lock()
    store.refresh()
    held = holdings(store, ready.run, listen)
    tile = held.tile if held is not None else None
    declaration = run_declaration(ready, store, tile or fitting(ready.sweep, ready.numerics.batch))
    store.prepare(declaration, ready.sweep, stage_declarations(ready.graph, ready.sweep), listen=listen)
    held = Held(store, ready.run, listen)
    found = planned(ready.graph, ready.sweep, held, batch=ready.numerics.batch)
    _unmixed(found, held.changed_sources(ready.graph))
    listen(Planned(found.forwards, len(found.tasks)))
    chains, block = Chains(ready.graph), states_in_flight(ready.graph, ready.numerics.batch)
    folder = _folder(store.url)
    scratch = folder / TEMPORARY if folder is not None else None
    for leftover in scratch.glob("flowprofile-*") if scratch is not None else ():
        # Only the planner has scratch, and this process is the planner: a killed one left it behind.
        shutil.rmtree(leftover, ignore_errors=True)
    for index, task in enumerate(found.tasks):
        execute(task, chains, held, block=block, listen=listen, scratch_folder=scratch)
        listen(TaskDone(index + 1, len(found.tasks)))


def _folder(into: str | os.PathLike[str]) -> Path | None:
    where = place(into)
    return where.root if isinstance(where, LocalPlace) else None


def _same_weights(ready: Assembled, into: str | os.PathLike[str], *, accept: bool) -> None:
    """Refuse a model whose content changed since the store was filled from the same place."""
    reference = ready.pipeline.model
    if accept or not isinstance(reference, str):
        return
    for name, attrs in stored_runs(into).items():
        model = attrs.get("model", {})
        if model.get("reference") == reference and model.get("identity") != ready.identity:
            raise StoreError(
                f"The weights of {reference!r} have changed since {os.fspath(into)!r} was filled.",
                consequence="Profiles of two different models would be taken for one sweep.",
                remedy="restore the old weights, use another store, or say --accept-weights for a run beside the old",
                evidence=f"stored {model.get('identity')} in {name!r}, now {ready.identity}",
            )


def stored_runs(into: str | os.PathLike[str]) -> dict[str, Mapping[str, Any]]:
    """The runs of a store with their provenance; empty where there is no store yet."""
    return {name: run.attrs for name, run in Store.open(into).runs().items()}


def recorded(store: str | os.PathLike[str]) -> list[Pipeline]:
    """Every definition a store was ever asked for, in order; a live model's cannot be run from a store."""
    found = [table for attrs in stored_runs(store).values() for table in attrs.get("definitions", [])]
    if not found:
        raise StoreError(
            f"{os.fspath(store)!r} holds no definition.",
            consequence="It is not known what to compute.",
            remedy="name the store of an earlier run, or run a pipeline into it",
        )
    live = [str(table["model"]) for table in found if str(table["model"]).startswith("live:")]
    if live:
        raise StoreError(
            f"{os.fspath(store)!r} was filled by the live model {live[0].removeprefix('live:')!r}.",
            consequence="A store keeps no code, so the network cannot be rebuilt from it.",
            remedy="run the same Python that filled it; it computes only what is missing",
        )
    return [pipeline(table, Text(f"provenance of {os.fspath(store)}", "")) for table in found]


def _unmixed(found: Plan, changed: Mapping[str, str]) -> None:
    """A stage whose source changed under an unchanged version may be read, but not added to."""
    for name, warning in changed.items():
        if found.shares[name].cells:
            raise DefinitionError(
                f"{warning} Some of the cells asked for are still missing.",
                consequence="Results of the old and the new code would stand in one array.",
                remedy="raise its version (the old results stay beside the new), or restore the old code",
            )


def profile(
    model: Any,
    *,
    seeds: str | int | Sequence[int],
    labels: Any,
    into: str | os.PathLike[str],
    times: Any = "::1",
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    sampler: Mapping[str, Any] | None = None,
    listen: Listen = silence,
    allow_code: bool = False,
) -> xr.DataTree:
    """Profile a model from Python and open the result.

    Parameters
    ----------
    model
        A shipped model's name, a checkpoint's path, or a live `flowprofile.denoiser`.
    seeds, labels
        As in a definition: ``"0:4"`` or a list; numbers, bit strings, attribute names or ``"all"``.
    into
        The store.
    times
        States of the trajectory to keep.
    stages
        Further ``[stages.NAME]`` tables; by default step SSIM with its null.
    sampler
        As in a definition.

    >>> tree = profile("gaussian8", seeds="0:2", labels=[0], into="memory://doc", sampler={"steps": 4})
    >>> tree["trajectory"]["x_t"].sizes["time"]
    5
    """
    tables = (
        {"step_ssim": {"use": "ssim"}} if stages is None else {name: dict(t) for name, t in stages.items()}
    )
    wanted = {
        "model": model,
        "cases": {"seeds": seeds, "labels": labels},
        "sampler": dict(sampler or {}),
        "stages": {"trajectory": {"keep": times}, **tables},
    }
    run(
        pipeline(wanted, Text("the call of flowprofile.profile", "")),
        into=into,
        listen=listen,
        allow_code=allow_code,
    )
    return opening.open(into)
