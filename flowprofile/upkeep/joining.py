"""What a store must look like to hold several stores of one recipe; a pure function of their records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flowprofile.axes import CASE_AXES
from flowprofile.cases import Sweep
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.flow.tiles import fitting
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.growth import grown, ranges
from flowprofile.store.layout import Form, form
from flowprofile.store.record import Record, Request, RunRecord, StageRecord, Variable, canonical
from flowprofile.store.store import Store, promised

UNITED = ("seeds", "labels")
"""What a definition's cases are the product of: two definitions that differ in one of them are one of both."""
TOLD = ("kind", "version", "params", "sampler", "needs", "noise", "source")
"""What a recipe is told by, most telling first."""


def joined_record(sources: Mapping[str, Record], into: Store) -> Record:
    """The target's record, grown by everything the sources, by address, were asked for.

    Raises
    ------
    StoreError
        If the recipes differ, naming the field.
    """
    record = into.record
    every = [*([(into.url, record)] if record.runs else []), *sources.items()]
    for at, (url, one) in enumerate(every):
        for other_url, other in every[:at]:
            _same_recipe(one, other, url, other_url)
    for source in sources.values():
        for name, run in source.runs.items():
            every_run = [each.runs[name] for each in sources.values() if name in each.runs]
            record = _with(record, into, run, every_run)
    return record


def _with(record: Record, into: Store, run: RunRecord, every: Sequence[RunRecord]) -> Record:
    folder = f"{run.name}@{run.key[:8]}"
    held = record.runs.get(folder)
    declared = RunDeclaration(
        name=run.name,
        key=run.key,
        tile=run.tile if len(every) == 1 else _tile(every),
        attrs={**run.attrs, "definitions": _definitions([*([held] if held else []), run])},
        label_coords=_by(run.labels, run.label_coords),
        intervention_coords=_by(run.interventions, run.intervention_coords),
        seed_coords=_by(run.seeds, run.seed_coords),
    )
    sweep = Sweep(run.seeds, run.labels, run.interventions)
    stages = sorted(run.stages.values(), key=lambda stage: stage.order)
    new = grown(record, declared, sweep, [_stage(run, stage) for stage in stages], layout=into.layout)
    target = new.runs[folder]
    asked = {
        name: replace(stage, requests=_requests(record, folder, name, run, target))
        if name in run.stages
        else stage
        for name, stage in target.stages.items()
    }
    return replace(new, runs={**new.runs, folder: replace(target, stages=asked)})


def _by(axis: Sequence[Any], coords: Mapping[str, Sequence[Any]]) -> dict[str, dict[Any, Any]]:
    return {name: dict(zip(axis, values, strict=True)) for name, values in coords.items()}


def _stage(run: RunRecord, stage: StageRecord) -> StageDeclaration:
    promise = promised(run, stage)
    promise.attrs.update(stage.promise_attrs)
    for name, variable in stage.variables.items():
        promise[name].attrs.update(variable.attrs)
    return StageDeclaration(stage.group, stage.key, promise, stage.capacity, stage.attrs)


def _tile(every: Sequence[RunRecord]) -> tuple[int, int]:
    """The tile one run of all their cases would have."""
    batch = every[0].attrs.get("numerics", {}).get("batch")
    if batch is None:
        return every[0].tile
    axes = [dict.fromkeys(value for run in every for value in run.axis(name)) for name in CASE_AXES]
    tile = fitting(Sweep(tuple(axes[2]), tuple(axes[1]), tuple(axes[0])), batch)
    return tile.labels, tile.seeds


def _requests(
    record: Record, folder: str, group: str, run: RunRecord, target: RunRecord
) -> tuple[Request, ...]:
    """What a stage was asked for before, and what the source's was, by positions on the target's axes."""
    old = record.runs[folder].stages.get(group) if folder in record.runs else None
    stage, there = run.stages[group], target.stages[group]
    moved = [
        Request(
            tuple(sorted(target.interventions.index(run.interventions[i]) for i in one.interventions)),
            tuple(sorted(target.labels.index(run.labels[i]) for i in one.labels)),
            _moved(one.seeds, run.seeds, target.seeds),
            one.times if stage.time is None else _moved(one.times, stage.time, there.time or ()),
        )
        for one in stage.requests
    ]
    return tuple(dict.fromkeys([*(old.requests if old is not None else ()), *moved]))


def _moved(
    spans: Sequence[tuple[int, int]], axis: Sequence[int], target: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    where = {value: at for at, value in enumerate(target)}
    return ranges([where[value] for start, stop in spans for value in axis[start:stop]])


def _definitions(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """All definitions in order, those that are one sweep cut in parts put together again."""
    found: list[dict[str, Any]] = []
    for one in (each for run in runs for each in run.attrs.get("definitions", [])):
        for at, known in enumerate(found):
            whole = _united(known, one)
            if whole is not None:
                found[at] = whole
                break
        else:
            found.append(dict(one))
    return found


def _united(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any] | None:
    """Two definitions as one; None where they differ in more than one axis of their cases."""
    first, second = dict(a.get("cases", {})), dict(b.get("cases", {}))
    if canonical({**a, "cases": 0}) != canonical({**b, "cases": 0}) or first.keys() != second.keys():
        return None
    differ = [name for name in first if canonical(first[name]) != canonical(second[name])]
    if not differ:
        return dict(a)
    if (
        len(differ) > 1
        or differ[0] not in UNITED
        or not all(isinstance(c[differ[0]], list) for c in (first, second))
    ):
        return None
    both = list(first[differ[0]]) + [value for value in second[differ[0]] if value not in first[differ[0]]]
    return {**a, "cases": {**first, differ[0]: both}}


def _same_recipe(one: Record, other: Record, url: str, other_url: str) -> None:
    """Refuse two stores that share a stage's name but no recipe of it, or a recipe of different code."""
    for name in one.runs.keys() & other.runs.keys():
        mine, theirs = one.runs[name].stages, other.runs[name].stages
        for group in {stage.group for stage in mine.values()} & {stage.group for stage in theirs.values()}:
            a = {path: stage for path, stage in mine.items() if stage.group == group}
            b = {path: stage for path, stage in theirs.items() if stage.group == group}
            for path in a.keys() & b.keys():
                if a[path].attrs.get("source") != b[path].attrs.get("source"):
                    raise _refusal(group, "source", a[path], b[path], url, other_url)
            if not a.keys() & b.keys():
                first, second = next(iter(a.values())), next(iter(b.values()))
                raise _refusal(group, *_difference(first, second), url, other_url)
    if one.runs and other.runs and not one.runs.keys() & other.runs.keys():
        models = [
            {run.attrs.get("model", {}).get("identity") for run in each.runs.values()}
            for each in (one, other)
        ]
        if not models[0] & models[1]:
            raise StoreError(
                f"{url} and {other_url} are of different models.",
                consequence="They are no parts of one sweep; nothing was written.",
                remedy="merge each with its own",
                evidence=f"{', '.join(one.runs)}; {', '.join(other.runs)}",
            )


def _difference(a: StageRecord, b: StageRecord) -> tuple[str, StageRecord, StageRecord]:
    """The field that says why two recipes are two."""
    for name in TOLD:
        if canonical(a.attrs.get(name)) != canonical(b.attrs.get(name)):
            return name, a, b
    return "key", a, b


def _refusal(group: str, field: str, a: StageRecord, b: StageRecord, url: str, other_url: str) -> StoreError:
    mine, theirs = (dict(_flat(field, each.attrs.get(field, each.key))) for each in (a, b))
    named = [name for name in (mine | theirs) if mine.get(name) != theirs.get(name)] or [field]
    said = ", ".join(
        f"{name} is {mine.get(name)!r} in {url}, {theirs.get(name)!r} in {other_url}" for name in named
    )
    return StoreError(
        f"The stores have different recipes of {group!r}: {said}.",
        consequence="Their values are of different things; nothing was written.",
        remedy="merge only stores that were filled by one definition (other seeds and labels are no difference)",
    )


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, value


def laid_out(into: Store) -> None:
    """Refuse to lay out a target anew: an array keeps the form in which its first cells were written.

    Raises
    ------
    DefinitionError
        If the target holds an array in another form than its layout would give it.
    """
    for name, run in into.runs().items():
        for folder, stage in run.stages.items():
            for variable in stage.variables.values():
                if variable.form != _form(into, run, stage, variable):
                    raise DefinitionError(
                        f"{into.url} holds {stage.group!r} of {name} in another layout.",
                        consequence="An array keeps the form it was begun in, so --layout would do nothing to it; "
                        "nothing was written.",
                        remedy="name a new place, or leave --layout out",
                        evidence=f"{folder} has chunks of {variable.form.chunk}, {variable.form.codec!r}",
                    )


def _form(into: Store, run: RunRecord, stage: StageRecord, variable: Variable) -> Form:
    capacity = stage.capacity if variable.timed else None
    dtype, tail = variable.form.dtype, variable.tail
    return form(into.layout, dtype=dtype, tail=tail, capacity=capacity, tile=run.tile[1])
