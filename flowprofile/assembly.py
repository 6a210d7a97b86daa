"""From a definition to a graph: names are resolved, labels read, every value checked, and no model is loaded.

Whatever is wrong with a pipeline is found here, in the milliseconds before anything is computed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from flowprofile.bringing import Brought, brought
from flowprofile.cases import CLEAN, Sweep
from flowprofile.compat import BY_NAME, Compat, noise_of
from flowprofile.conditioning.interventions import Patch, Switch
from flowprofile.conditioning.labels import LabelSpace
from flowprofile.datasets.pictures import decoder
from flowprofile.definitions import MAX_SEEDS, Pipeline, Sampler, Text, cases_fit
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.flow.fingerprint import key
from flowprofile.flow.graph import Graph, build, ordered
from flowprofile.flow.stage import Stage
from flowprofile.guiding import embedding, guidance_fits, guidance_recipe, guided, prompted
from flowprofile.intervening import Done, Model, interventions
from flowprofile.kinds import Context, Kind, Request, checked, lookup
from flowprofile.models import folders, zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.devices import named
from flowprofile.models.numerics import Numerics, numerics
from flowprofile.models.sites import sites
from flowprofile.sourcing import INVERTED, Latents, Real, real
from flowprofile.stages import KINDS
from flowprofile.stages.given import inversion
from flowprofile.stages.masks import given_mask
from flowprofile.stages.promises import INVERSION, NULL, STATES
from flowprofile.stages.references import references
from flowprofile.stages.sampler import null_states, states
from flowprofile.stages.splitting import stages_of
from flowprofile.stepping import stepping
from flowprofile.time.sources import Noise, Remembered

RESERVED: Final = ("measures", "noise")
"""Names with a meaning of their own in a profile."""
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_\-]*")


@dataclass(frozen=True)
class Assembled:
    """A pipeline ready to be planned."""

    pipeline: Pipeline
    graph: Graph
    sweep: Sweep
    card: ModelCard
    identity: str
    """Digest of the model's weights and configuration."""
    numerics: Numerics
    context: Context = field(compare=False, repr=False)
    tables: Mapping[str, Mapping[str, Any]] = field(compare=False, repr=False)
    """The stage tables with their defaults filled in."""
    weight_bytes: int = 0
    """Size of the model's weights."""
    called: str | None = field(default=None, compare=False)
    """The model's name in the store, where its run was begun under another one (`held.met`)."""

    @property
    def run(self) -> str:
        """Name of the run's folder: the model, and a digest of its content and of the numerics class."""
        digest = key({"model": self.identity, "numerics": self.numerics.table()})
        return f"{self.called or _safe(self.card.name)}@{digest[:8]}"

    def definition(self) -> dict[str, Any]:
        """The definition with all defaults, as provenance; a live model appears by its name."""
        table = self.pipeline.model_dump(mode="json", exclude={"model"}, exclude_none=True, fallback=_listed)
        table["model"] = (
            self.pipeline.model if isinstance(self.pipeline.model, str) else f"live:{self.card.name}"
        )
        labels = self.card.labels.written(self.sweep.labels)
        own = {} if self.sweep.told is not None else {"labels": labels}
        table["cases"] = {"seeds": list(self.sweep.seeds), **own}
        table["stages"] = {name: dict(stage) for name, stage in self.tables.items()}
        return table


def assemble(pipeline: Pipeline, text: Text | None = None, *, allow_code: bool = False) -> Assembled:
    """Check a pipeline and wire its stages."""
    text = text or Text("the pipeline", "")
    pipeline = _settled(pipeline, BY_NAME[pipeline.compat])
    cases_fit(pipeline, text)
    with _placed(text, "model"):
        found = brought(
            pipeline.model,
            place=text.place(["model"]),
            allow_code=allow_code,
            told=partial(prompted, sampler=pipeline.sampler, text=text),
        )
    card = found.card
    kinds = {
        name: lookup(
            str(table.get("use", name)),
            KINDS,
            place=text.place(["stages", name, "use"]),
            allow_code=allow_code,
        )
        for name, table in pipeline.stages.items()
    }
    with _placed(text, "numerics", "device"):
        device = named(pipeline.numerics.device)
    given = real(
        pipeline, card, text, folder=_folder(text) or Path(), latents=_latents(pipeline, card, device)
    )
    told = given.labels if given is not None else None
    labels = told if told is not None else _labels(pipeline.cases.labels, card.labels, text)
    seeds = given.seeds if given is not None else pipeline.cases.seeds
    assert seeds is not None
    context = _context(pipeline, found, labels, text, seeds=seeds, given=given, device=device)
    done = _interventions(pipeline, context, text)
    requests = {
        name: _request(name, pipeline.stages[name], kind, context, text) for name, kind in kinds.items()
    }
    return Assembled(
        pipeline=pipeline,
        graph=build(_stages(requests, kinds, context, text), _base(context, found.identity)),
        sweep=_sweep(seeds, labels, done, told=None if given is None else given.told),
        card=card,
        identity=found.identity,
        numerics=numerics(
            pipeline.numerics.batch,
            device=context.device,
            decoder=decoder() if given is not None else "",
        ),
        context=context,
        tables={name: _table(kinds[name], request) for name, request in requests.items()},
        weight_bytes=found.size,
    )


def regrown(ready: Assembled, held: Mapping[str, Sequence[Sequence[int]]]) -> Assembled:
    """The pipeline with its gradient volumes cut into those a store holds and the rest.

    ``held`` are the pixel sets of the stored volumes, by the digest of their recipe.
    """
    splits = ready.context.splits
    if not any(split.of in held for split in splits.values()):
        return ready
    stages = []
    for name, stage in ready.graph.stages.items():
        split = splits.get(name)
        stages += [stage] if split is None else stages_of(split, held.get(split.of, ()))
    return replace(ready, graph=build(stages, ready.graph.base))


def _context(
    pipeline: Pipeline,
    found: Brought,
    labels: tuple[int, ...],
    text: Text,
    *,
    seeds: tuple[int, ...],
    given: Real | None,
    device: str,
) -> Context:
    sampler, card = pipeline.sampler, found.card
    guidance_fits(sampler, card, text)
    with _placed(text, "sampler"):
        steps = stepping(sampler, card, found.model)
    return Context(
        card=card,
        schedule=steps.levels,
        grid=steps.grid,
        sampler=sampler,
        rule=steps.rule,
        recipe=steps.recipe,
        whole=steps.whole,
        batch=pipeline.numerics.batch,
        device=device,
        open=guided(steps.opening(embedding(found.open, sampler)), sampler),
        identity=found.identity,
        reference=_decoder_of(pipeline),
        labels=labels,
        real=given,
        noise=_noise(pipeline, card, steps.grid, text, seeds=seeds),
        compat=BY_NAME[pipeline.compat],
        sites=sites(card, found.model),
        folder=_folder(text),
    )


def _decoder_of(pipeline: Pipeline) -> str | None:
    """The folder of a latent model's pipeline; None for a model of images."""
    model = pipeline.model
    return model if isinstance(model, str) and zoo.has_decoder(model) else None


def _latents(pipeline: Pipeline, card: ModelCard, device: str) -> Latents | None:
    """What makes latents of given pictures; None for a model of images, or without pictures."""
    path = _decoder_of(pipeline)
    if path is None or pipeline.source is None:
        return None

    def opened() -> Any:
        from flowprofile.models import autoencoder

        return autoencoder.encoder(path, device)

    shape = folders.image_shape(path, card.shape)
    return Latents(shape, (-1.0, 1.0), folders.decoder_digest(path), opened)


def _folder(text: Text) -> Path | None:
    """Where a definition's relative paths begin; None for the working folder."""
    return Path(text.name).parent if text.source else None


def _settled(pipeline: Pipeline, compat: Compat) -> Pipeline:
    """The pipeline with the defaults of the code that it reproduces, so that it says itself what it means."""
    sampler, stages = pipeline.sampler, pipeline.stages
    if compat.noise is not None and "noise" not in sampler.model_fields_set:
        sampler = Sampler.model_validate({**sampler.model_dump(exclude_none=True), "noise": compat.noise})
    if compat.stages:
        stages = {
            name: {**compat.stages.get(str(table.get("use", name)), {}), **table}
            for name, table in stages.items()
        }
    return pipeline.model_copy(update={"sampler": sampler, "stages": stages})


def _noise(
    pipeline: Pipeline, card: ModelCard, grid: tuple[int, ...], text: Text, *, seeds: tuple[int, ...]
) -> Noise:
    """Where the noise comes from; a file of first states is looked at here, and loaded when it is needed."""
    asked = pipeline.sampler.noise
    source = asked if isinstance(asked, str) else (_folder(text) or Path()) / asked.file
    with _placed(text, "sampler", "noise"):
        found = noise_of(source, grid=grid, shape=card.shape, seeds=seeds)
    return Noise(found.scheme, Remembered(found.batch))


def _interventions(pipeline: Pipeline, context: Context, text: Text) -> tuple[Done, ...]:
    """What the definition does to the model, told to the context by name."""
    model = Model(
        card=context.card,
        layers={name: site.channels for name, site in context.sites.items()},
        listed=frozenset(name for name, site in context.sites.items() if site.listed),
        labels=context.labels,
        grid=context.grid,
        mask=partial(given_mask, context),
        folder=context.folder,
    )
    done = interventions(pipeline.interventions, model, text)
    patched = [one.title or one.name for one, _ in done if any(isinstance(part, Patch) for part in one.parts)]
    if patched and context.sampler.guidance_scale != 1:
        raise DefinitionError(
            f"{patched[0]!r} patches activations under guidance ({text.place(['interventions'])}).",
            consequence="A guided step asks twice, and a donor's activations are those of its conditional call only.",
            remedy="use guidance_scale = 1 with patches; ablations, steering and switches act on both calls",
        )
    context.interventions.update({one.name: one for one, _ in done})
    return done


def _sweep(
    seeds: tuple[int, ...],
    labels: tuple[int, ...],
    done: Sequence[Done],
    *,
    told: Mapping[int, int] | None,
) -> Sweep:
    restricted = tuple((one.name, only) for one, only in done if only is not None and only != labels)
    return Sweep(seeds, labels, (CLEAN, *(one.name for one, _ in done)), restricted, told)


def _base(context: Context, identity: str) -> dict[str, Any]:
    """What every chain depends on; part of each key."""
    return {
        "model": identity,
        **context.recipe,
        **guidance_recipe(context),
        "noise": context.noise.scheme,
        "precision": "float32",
        **({"edits": "in place"} if context.compat.in_place and _edited(context) else {}),
    }


def _edited(context: Context) -> bool:
    """Whether some layer's output is changed; a switch of the label changes none."""
    parts = [part for one in context.interventions.values() for part in one.parts]
    return any(not isinstance(part, Switch) for part in parts)


def _listed(value: Any) -> Any:
    """A boolean array from Python, as a definition can hold it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written into a definition")


def _table(kind: Kind, request: Request) -> dict[str, Any]:
    """A stage's table with its defaults filled in, as provenance."""
    params = request.params.model_dump(mode="json", exclude_none=True, fallback=_listed)
    return {"use": kind.name, "needs": list(request.needs), **params}


@contextmanager
def _placed(text: Text, *keys: str) -> Iterator[None]:
    """Say in a refusal where in the definition the refused value stands."""
    try:
        yield
    except (DefinitionError, ModelError) as error:
        place = text.place(keys)
        if place not in error.fact:
            error.fact = f"{error.fact.rstrip('.')} ({place})."
        raise


def _labels(value: Any, space: LabelSpace, text: Text) -> tuple[int, ...]:
    if value == "all" and space.prompts:
        raise DefinitionError(
            f"All labels of a model that is told prompts are asked for ({text.place(['cases', 'labels'])}).",
            consequence="Every text is one.",
            remedy='write the prompts: labels = ["a cat on a chair"]',
        )
    if value == "all" and space.count > MAX_SEEDS:
        raise DefinitionError(
            f"All {space.count:,} labels are asked for ({text.place(['cases', 'labels'])}).",
            consequence=f"A definition has at most {MAX_SEEDS:,}.",
            remedy='write those that are meant: labels = ["0110", "0111"]',
        )
    if value == "all":
        return tuple(range(space.count))
    with _placed(text, "cases", "labels"):
        return tuple(space.parse(label) for label in (value if isinstance(value, list) else [value]))


def _stages(
    requests: Mapping[str, Request], kinds: Mapping[str, Kind], context: Context, text: Text
) -> list[Stage]:
    if not requests:
        raise DefinitionError(
            f"The pipeline has no stages ({text.place(['stages'])}).",
            consequence="There is nothing to compute.",
            remedy="add at least one table, for instance [stages.trajectory]",
        )
    # A table may read one part of what another makes: `activations/mid_attn.fn` of `activations`.
    needs = {
        STATES: (),
        **{name: tuple(need.partition("/")[0] for need in one.needs) for name, one in requests.items()},
    }
    with _placed(text, "stages"):
        order = ordered(needs)
    if context.real is not None and context.real.how == INVERTED:
        context.built[INVERSION] = inversion(context)
    context.built[STATES] = states(context)
    # The trajectory goes first: which states it keeps is the default of what others measure.
    for name in sorted(requests, key=lambda name: (name != STATES, order.index(name))):
        with _placed(text, "stages", name):
            made = kinds[name].build(requests[name])
            for stage in made:
                _some_times(stage)
        context.built.update({stage.name: stage for stage in made})
    context.built.update({stage.name: stage for stage in references(context, text)})
    if any(need.stage == NULL for stage in context.built.values() for need in stage.needs):
        context.built[NULL] = null_states(context)
    return list(context.built.values())


def _some_times(stage: Stage) -> None:
    if not stage.times:
        raise DefinitionError(
            f"Stage {stage.name!r} has no state it could be computed at.",
            consequence="Its time axis would be empty.",
            remedy="keep more states of what it reads; PSNR has none at t = 0, and steps need a state before",
        )


def _request(name: str, table: Mapping[str, Any], kind: Kind, context: Context, text: Text) -> Request:
    place = text.place(["stages", name])
    if name in RESERVED or name.endswith(".null") or not NAME.fullmatch(name):
        raise DefinitionError(
            f"A stage cannot be called {name!r} ({place}).",
            consequence="Its name becomes a folder of the profile, where some names have a meaning of their own.",
            remedy="use letters, digits, _ and -, beginning with a letter, and none of "
            + ", ".join(RESERVED),
        )
    if (kind.name == STATES) != (name == STATES):
        raise DefinitionError(
            f"The stage {name!r} is of kind {kind.name!r} ({place}).",
            consequence="A pipeline has one sampler, and other stages find its states by the name 'trajectory'.",
            remedy="[stages.trajectory] is of kind 'trajectory', and no other table is",
        )
    needs = table.get("needs", list(kind.needs))
    fits = (
        isinstance(needs, list) and len(needs) == len(kind.needs) and all(isinstance(n, str) for n in needs)
    )
    if not fits or (not kind.elsewhere and needs != list(kind.needs)):
        raise DefinitionError(
            f"A stage of kind {kind.name!r} cannot read {needs!r} ({text.place(['stages', name, 'needs'])}).",
            consequence="It would be computed from something else than the definition says.",
            remedy=f"leave `needs` out, or write needs = {list(kind.needs)!r}"
            + (" with the names of other stages" if kind.elsewhere else ""),
        )
    params = checked(kind, name, {k: v for k, v in table.items() if k not in ("use", "needs")}, text)
    return Request(name, tuple(needs), params, context, place)


def _safe(name: str) -> str:
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-.") else "-" for letter in name
    )
