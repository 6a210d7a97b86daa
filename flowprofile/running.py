"""Compute whatever a store does not hold yet: the two verbs `plan` and `run`, from files and from Python alike.

A run is a plan that is carried out. Everything that can be refused is refused while planning, before a store is
touched or a model is loaded; what is left cannot be wrong, only interrupted, and an interrupted run is the same
command again.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import xarray as xr

from flowprofile import clusters, opening, rates
from flowprofile.assembly import Assembled, assemble
from flowprofile.definitions import Cases, Text, pipeline
from flowprofile.errors import BusyError, DefinitionError, StoreError
from flowprofile.flow.budget import check
from flowprofile.flow.events import Advanced, Asked, Committed, Event, Listen, silence
from flowprofile.flow.executors.orders import Executor
from flowprofile.flow.plan import Plan
from flowprofile.held import holdings
from flowprofile.models.devices import here, required
from flowprofile.projecting import Projection, Source, assembled, part_of, plan, project, rate_key
from flowprofile.recalling import reassembled, recorded, stored_runs
from flowprofile.sourcing import NOISED
from flowprofile.stages import KINDS
from flowprofile.steering import clean_part, resolve
from flowprofile.store.layout import StoreLayout
from flowprofile.store.layout import layout as named_layout
from flowprofile.store.store import Store
from flowprofile.store.urls import Where, place
from flowprofile.working import carry_out, declare, declared, folder_of, sweep_up

__all__ = [
    "Outcome",
    "Projection",
    "Source",
    "assembled",
    "calibrate",
    "ensure",
    "plan",
    "prepare",
    "profile",
    "project",
    "rate_key",
    "reassembled",
    "recorded",
    "run",
    "stored_runs",
]


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


def calibrate(ready: Assembled) -> None:
    """Measure this machine's rates for a pipeline, on a few steps of one batch that are kept nowhere.

    What is planned for a device that is not here is not measured.
    """
    if not here(ready.numerics.device):
        return
    tables = {
        name: {key: value for key, value in table.items() if key != "keep" or table["use"] not in KINDS}
        for name, table in ready.tables.items()
    }
    # Two labels where there are several, since what compares them needs a second one.
    labels = ready.card.labels.written(ready.sweep.labels[:2])
    count = max(1, ready.numerics.batch // len(labels))
    seeds = ready.sweep.seeds[:count] if ready.context.real is not None else tuple(range(count))
    few = {
        "sampler": ready.pipeline.sampler.model_copy(update={"steps": min(8, ready.card.steps)}),
        "cases": Cases(seeds=seeds, labels=None if ready.sweep.told is not None else labels),
        "stages": tables,
    }
    small = assemble(ready.pipeline.model_copy(update=few), allow_code=True)
    run(small, into=f"memory://calibration-{os.getpid()}-{rate_key(small)}")


def run(
    source: Source,
    *,
    into: Where,
    listen: Listen = silence,
    layout: StoreLayout | str | None = None,
    memory: int | None = None,
    disk: int | None = None,
    allow_code: bool = False,
    accept_weights: bool = False,
    cluster: str | Executor | None = None,
    part: tuple[int, int] | None = None,
    wait: float = 0.0,
    storage_options: Mapping[str, str] | None = None,
) -> Outcome:
    """Compute and store whatever `into` does not hold yet of a pipeline.

    Parameters
    ----------
    source
        A pipeline's name or file, or a `Pipeline`.
    into
        Store: a path or a url.
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
    cluster
        Who computes: ``"processes:4"``, ``"local:4"`` (Dask on this machine), a scheduler's address, a name from
        ``clusters.toml``; by default this process.
    part
        ``(i, n)``: the i-th of n parts of a store that was declared. Parts need no planner and know nothing of each
        other, so they can run anywhere, at any time, and again.
    wait
        Seconds to wait for another planner of this store to end.
    storage_options
        How to connect to a bucket; credentials come from the environment.

    Raises
    ------
    BudgetError
        The plan needs more than it may take; nothing was computed.
    BusyError
        Another planner holds the store.
    ClusterError
        Workers cannot be had, or some tasks could not be carried out; they are named, the others are stored.
    NonFiniteError
        A NaN or infinity appeared; it is named and not stored.
    """
    ready = assembled(source, allow_code=allow_code)
    into = place(into, storage_options)
    how = _How(
        into=into,
        listen=listen,
        layout=named_layout(layout) if isinstance(layout, str) else layout,
        memory=memory,
        disk=disk,
        allow_code=allow_code,
        accept=accept_weights,
        executor=clusters.executor(cluster) if isinstance(cluster, str) else cluster,
        part=part,
        wait=wait,
    )
    first = clean_part(ready)
    if first is None:
        return _compute(ready, how)
    clean = assemble(first, allow_code=allow_code)
    early = _compute(clean, how)
    if part is not None and project(clean, into).plan.tasks:
        raise BusyError(
            "The directions of this sweep are means over all parts, and other parts are not done yet.",
            consequence="This part's share of the clean runs is stored; what is steered cannot begin.",
            remedy="give the same command again when the other parts have ended",
        )
    resolve(ready, lambda: opening.open(into, run=early.run))
    return early.followed_by(_compute(ready, how))


@dataclass(frozen=True)
class _How:
    """Everything about a run but what is computed; see `run`."""

    into: Where
    listen: Listen
    layout: StoreLayout | None
    memory: int | None
    disk: int | None
    allow_code: bool
    accept: bool
    executor: Executor | None
    part: tuple[int, int] | None
    wait: float


def _compute(ready: Assembled, how: _How) -> Outcome:
    """One plan, carried out."""
    began = perf_counter()
    projection = project(ready, how.into, layout=how.layout, part=how.part)
    ready = projection.assembled
    _same_weights(ready, how.into, accept=how.accept)
    _unmixed(projection.plan, projection.warnings)
    if not projection.plan.tasks and (how.part is not None or _shown(ready, how.into)):
        return Outcome(ready.run, 0, 0, 0, 0, perf_counter() - began, projection.warnings)
    local = how.executor if how.executor is not None and how.executor.here else None
    check(
        projection.cost,
        memory=how.memory,
        disk=how.disk,
        folder=folder_of(how.into),
        processes=1 if local is None else local.workers,
        beside=0 if local is None else local.beside,
    )
    if projection.plan.forwards and (how.executor is None or local is not None):
        required(ready.numerics.device)
    count = _Count(how.listen)
    with Store.open(how.into, layout=how.layout) as store:
        if how.part is None:
            store.lock(wait=how.wait)
            declare(ready, store, count)
            sweep_up(store)
        else:
            declared(ready, store)
        carry_out(
            ready,
            store,
            count,
            executor=how.executor,
            only=part_of(how.part),
            allow_code=how.allow_code,
            check=lambda found, held: _unmixed(found, held.changed_sources(ready.graph)),
        )
    rates.remember(rate_key(ready), rates.told(ready.graph.stages, count.watch.rates()))
    seconds = perf_counter() - began
    return Outcome(
        ready.run, count.forwards, count.padding, count.regions, count.bytes, seconds, projection.warnings
    )


def _shown(ready: Assembled, into: Where) -> bool:
    """Whether the store shows what is asked for under its plain names; another mask of pixels it holds is told to it."""
    held = holdings(into, ready.run, silence) if ready.context.splits else None
    return held is None or held.shows(ready)


def prepare(
    source: Source,
    *,
    into: Where,
    layout: StoreLayout | str | None = None,
    allow_code: bool = False,
    accept_weights: bool = False,
    wait: float = 0.0,
    listen: Listen = silence,
) -> Projection:
    """Declare a store for a pipeline and compute nothing, so that parts of it can be run by anybody.

    Returns what is left to compute. Parameters are those of `run`.
    """
    ready = assembled(source, allow_code=allow_code)
    chosen = named_layout(layout) if isinstance(layout, str) else layout
    first = clean_part(ready)
    for one in (ready,) if first is None else (assemble(first, allow_code=allow_code), ready):
        projection = project(one, into, layout=chosen)
        _same_weights(projection.assembled, into, accept=accept_weights)
        with Store.open(into, layout=chosen) as store:
            store.lock(wait=wait)
            declare(projection.assembled, store, listen)
    return project(ready, into, layout=chosen)


def _same_weights(ready: Assembled, into: Where, *, accept: bool) -> None:
    """Refuse a model whose content changed since the store was filled from the same place."""
    reference = ready.pipeline.model
    if accept or not isinstance(reference, str):
        return
    for name, attrs in stored_runs(into).items():
        model = attrs.get("model", {})
        from_here = {model.get("reference"), *(one["model"] for one in attrs.get("definitions", []))}
        if reference in from_here and model.get("identity") != ready.identity:
            raise StoreError(
                f"The weights of {reference!r} have changed since {place(into).url!r} was filled.",
                consequence="Profiles of two different models would be taken for one sweep.",
                remedy="restore the old weights, use another store, or say --accept-weights for a run beside the old",
                evidence=f"stored {model.get('identity')} in {name!r}, now {ready.identity}",
            )


def ensure(
    store: Where,
    *,
    seeds: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    listen: Listen = silence,
    allow_code: bool = False,
    cluster: str | Executor | None = None,
    wait: float = 0.0,
) -> xr.DataTree:
    """Have a selection computed, as far as it is missing, and open the store.

    Everything the store was ever asked for is computed for these seeds and labels, be they new to it or not.

    Parameters
    ----------
    seeds, labels
        Which; by default those of each definition.

    Raises
    ------
    StoreError
        If the store holds no definition, or was filled by a live model.
    """
    for definition in recorded(store):
        cases = definition.cases.model_copy(
            update={
                **({} if seeds is None else {"seeds": tuple(seeds)}),
                **({} if labels is None else {"labels": list(labels)}),
            }
        )
        wanted = definition.model_copy(update={"cases": cases})
        ready = reassembled(wanted, store, allow_code=allow_code)
        run(ready, into=store, listen=listen, allow_code=allow_code, cluster=cluster, wait=wait)
    return opening.open(store)


def _unmixed(found: Plan, changed: Mapping[str, str]) -> None:
    """A stage whose source changed under an unchanged version may be read, but not added to."""
    for name, warning in changed.items():
        if name in found.shares and found.shares[name].cells:
            raise DefinitionError(
                f"{warning} Some of the cells asked for are still missing.",
                consequence="Results of the old and the new code would stand in one array.",
                remedy="raise its version (the old results stay beside the new), or restore the old code",
            )


def profile(
    model: Any,
    *,
    seeds: str | int | Sequence[int] | None = None,
    labels: Any = None,
    into: Where,
    times: Any = "::1",
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    sampler: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    listen: Listen = silence,
    allow_code: bool = False,
) -> xr.DataTree:
    """Profile a model from Python and open the result: this model's run, whatever else the store holds.

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
        Further ``[stages.NAME]`` tables; by default step SSIM with its null, of noised images the predicted image.
    sampler, source
        As in a definition. With a source, pictures are looked at instead of samples: seeds may be left out for all of
        them, and labels where its table of attributes gives each its own.

    >>> tree = profile("gaussian8", seeds="0:2", labels=[0], into="memory://doc", sampler={"steps": 4})
    >>> tree["trajectory"]["x_t"].sizes["time"]
    5
    """
    noised = source is not None and source.get("how", NOISED) == NOISED
    usual: dict[str, dict[str, Any]] = (
        {"predicted_x0": {"keep": times}} if noised else {"step_ssim": {"use": "ssim"}}
    )
    tables = usual if stages is None else {name: dict(t) for name, t in stages.items()}
    cases = {"seeds": seeds, "labels": labels}
    wanted = {
        "model": model,
        "cases": {name: value for name, value in cases.items() if value is not None},
        "sampler": dict(sampler or {}),
        "stages": {"trajectory": {"keep": times}, **tables},
        **({} if source is None else {"source": dict(source)}),
    }
    outcome = run(
        pipeline(wanted, Text("the call of flowprofile.profile", "")),
        into=into,
        listen=listen,
        allow_code=allow_code,
    )
    return opening.open(into, run=outcome.run)
