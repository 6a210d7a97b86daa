"""Interventions of a definition, for one model: tables in, frozen values out, every name and number checked.

    [interventions.own]                       # the title; the identity is computed from the content
    kind    = "ablate"
    layer   = "*.2.fn"                        # one intervention for each of them
    channel = { from = "max_channel", time = 200, mask = "face" }

A table may mean many interventions: one for each layer, for each step of a switch, for each of n random channels.
From Python a part or an `Intervention` may stand in a table's place; it is checked and made canonical alike.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from flowprofile.cases import Sweep
from flowprofile.conditioning import fitting
from flowprofile.conditioning.fitting import Frame, fitted
from flowprofile.conditioning.interventions import (
    WHOLE,
    Ablation,
    Difference,
    Flip,
    Intervention,
    OwnChannel,
    Part,
    Patch,
    Span,
    Steer,
    Switch,
)
from flowprofile.definitions import Table, Text
from flowprofile.definitions.interventions import (
    Ablate,
    Donor,
    FlipTo,
    FromDifference,
    FromGradient,
    FromMax,
    FromRandom,
    PatchFrom,
    Scaled,
    SteerBy,
    SwitchTo,
    Together,
    findable,
    shaped,
    taken,
)
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models.card import ModelCard
from flowprofile.objects.masks import Mask

Done = tuple[Intervention, tuple[int, ...] | None]
"""An intervention, and the labels it is applied to (None: all)."""
MAX_VECTOR_BYTES: Final = 1 << 24
"""A vector's file larger than this is refused unread."""


@dataclass(frozen=True)
class Model:
    """What an intervention is checked against."""

    card: ModelCard
    layers: Mapping[str, int]
    """Channels of every layer that can be named, in the order of the forward pass."""
    listed: frozenset[str]
    """Those that a pattern means."""
    labels: tuple[int, ...]
    """The labels of the sweep."""
    grid: tuple[int, ...]
    mask: Callable[[Any, str], Mask]
    """From a mask's value and its place to the mask."""
    folder: Path | None = None

    @property
    def frame(self) -> Frame:
        """What a value has to fit into."""
        return Frame(self.card.name, self.layers, self.card.labels, self.grid)

    def label(self, value: Any) -> int:
        """A label as its number."""
        return self.card.labels.parse(value)


def interventions(tables: Mapping[str, Any], model: Model, text: Text) -> tuple[Done, ...]:
    """Every intervention that a definition's tables mean; one that is named twice is refused."""
    done: dict[str, Done] = {}
    for title, table in tables.items():
        at = At(model, text, ("interventions", title))
        for found in _of_table(title, table, at):
            one, _ = found
            findable(one.title, at.place)
            if one.name in done:
                raise DefinitionError(
                    f"{one.name!r} is asked for twice, by {done[one.name][0].title!r} and by {title!r} ({at.place}).",
                    consequence="Equal content is one intervention, and its samples would count twice.",
                    remedy="remove one of them",
                )
            done[one.name] = found
    for one, _ in done.values():
        if one.title in done and done[one.title][0].title != one.title:
            raise taken(one.title, text.place(["interventions", one.title]))
    return tuple(done.values())


@dataclass(frozen=True)
class At:
    """A model, and where in a definition something is said of it."""

    model: Model
    text: Text
    keys: tuple[str, ...]

    @property
    def place(self) -> str:
        """File, line and key."""
        return self.text.place(self.keys)

    @contextmanager
    def key(self, *keys: str) -> Iterator["At"]:
        """Say in a refusal that it is about this key."""
        deeper = replace(self, keys=(*self.keys, *keys))
        try:
            yield deeper
        except DefinitionError as error:
            if f"key {'.'.join(self.keys)}" not in error.fact:
                error.fact = f"{error.fact.rstrip('.')} ({deeper.place})."
            raise


def _of_table(title: str, table: Any, at: At) -> Iterator[Done]:
    with at.key():
        if isinstance(table, Part):
            table = Intervention((table,), title)
        if isinstance(table, Intervention):
            _acts(table)
            given = fitted(replace(table, title=table.title or title), at.model.frame)
            yield given, _restricted(given, at, None)
            return
        parsed = shaped(title, table, at.text)
        asked = _asked(parsed, at)
        for parts in _variants(parsed, at):
            one = Intervention(tuple(parts), title)
            yield one, _restricted(one, at, asked)


def _acts(intervention: Intervention) -> None:
    if not intervention.parts:
        raise DefinitionError(
            "An intervention without parts.",
            consequence="It would be the clean run under another name.",
            remedy="leave it out: 'none' is always there",
        )


def _variants(table: Table, at: At) -> Iterator[list[Part]]:
    """The parts of every intervention that a table means."""
    match table:
        case Together():
            parts: list[Part] = []
            for number, inner in enumerate(table.parts):
                with at.key("parts", str(number)) as deeper:
                    parts += _only(list(_variants(inner, deeper)))
            yield parts
        case Ablate():
            yield from _across([_ablations(table, layer, at) for layer in _layers(table, at)], table.together)
        case SwitchTo():
            for step in table.at if isinstance(table.at, list) else [table.at]:
                yield [_switch(table, step, at)]
        case PatchFrom():
            yield [_patch(table, at)]
        case SteerBy():
            yield from _across([[_steer(table, layer, at)] for layer in _layers(table, at)], table.together)


def _across(parts: Sequence[Sequence[Part]], together: bool) -> Iterator[list[Part]]:
    """Interventions of parts [layer][variant]: each by itself, or a variant of all the layers together."""
    if together:
        yield from ([*variant] for variant in zip(*parts, strict=True))
    else:
        yield from ([part] for layer in parts for part in layer)


def _only(variants: list[list[Part]]) -> list[Part]:
    """The parts that a table inside `kind = "all"` means: all of its layers, and one variant of them."""
    layers = [part for variant in variants for part in variant]
    switches = [part for part in layers if isinstance(part, Switch)]
    names = [part.layer for part in layers if isinstance(part, Ablation | Steer)]
    if len(switches) > 1 or len(set(names)) < len(names):
        raise DefinitionError(
            f"A part of an intervention means {len(variants)} of them.",
            consequence="It is not known which one belongs to the others.",
            remedy="give one step, and channels by number, or make an intervention of each",
        )
    return layers


def _ablations(table: Ablate, layer: str, at: At) -> list[Ablation]:
    scale = table.value.scale if isinstance(table.value, Scaled) else None
    mode: Literal["zero", "mean", "scale"] = "scale" if isinstance(table.value, Scaled) else table.value
    with at.key("mask") as place:
        mask = None if table.mask is None else at.model.mask(table.mask, place.place)
    span, (name, digest) = _span(table.time, at), _named(mask)
    with at.key("value"):
        one = Ablation(
            layer, (0,), mode, 1.0 if scale is None else scale, span, mask=name, mask_digest=digest
        )
    with at.key("channel") as place:
        return [replace(one, channels=channels) for channels in _channels(table.channel, layer, place)]


def _named(mask: Mask | None) -> tuple[str | None, str]:
    """A mask's name and the digest of its content."""
    return (None, "") if mask is None else (mask.name, mask.digest)


def _channels(
    value: int | list[int] | FromMax | FromGradient | FromRandom, layer: str, at: At
) -> Iterator[tuple[int, ...] | OwnChannel]:
    if isinstance(value, FromRandom):
        yield from ((channel,) for channel in _random(value, layer, at.model.layers[layer]))
        return
    found: tuple[int, ...] | OwnChannel
    if isinstance(value, FromMax | FromGradient):
        mask = None if value.mask is None else at.model.mask(value.mask, at.place)
        name, digest = _named(mask)
        of = "gradient" if isinstance(value, FromGradient) else "activation"
        found = OwnChannel(value.time, name, value.statistic, digest, of)
    else:
        found = tuple(value) if isinstance(value, list) else (value,)
    fitting.channels_fit(layer, found, at.model.frame)
    yield found


def _random(value: FromRandom, layer: str, bound: int) -> list[int]:
    """n of a layer's channels without replacement, a function of (seed, layer) alone: n more extend the list."""
    if value.n > bound:
        raise DefinitionError(
            f"{value.n} random channels are asked for of {layer!r}, which has {bound}.",
            consequence="Some channel would be its own control twice.",
            remedy=f"use n of at most {bound}",
        )
    name = int.from_bytes(hashlib.blake2b(layer.encode(), digest_size=8).digest(), "little")
    order = np.random.Generator(np.random.Philox(key=[value.seed, name])).permutation(bound)
    return [int(channel) for channel in order[: value.n]]


def _switch(table: SwitchTo, step: int, at: At) -> Switch:
    with at.key("to"):
        to = _target(table.to, at)
        fitting.target_fits(to, at.model.frame)
    with at.key("at"):
        return Switch(fitting.step(step, at.model.frame, "A switch at"), to)


def _target(to: Any, at: At) -> int | Flip:
    if not isinstance(to, FlipTo):
        return at.model.label(to)
    attributes = at.model.card.labels.attributes
    bits = 0
    for name in [to.flip] if isinstance(to.flip, str) else to.flip:
        if name not in attributes:
            raise DefinitionError(
                f"{at.model.card.name!r} has no attribute {name!r} that could be flipped.",
                consequence="The label would stay what it is.",
                remedy=nearest(name, attributes) if attributes else "give the new label itself",
            )
        bits |= 1 << (len(attributes) - 1 - attributes.index(name))
    return Flip(bits)


def _patch(table: PatchFrom, at: At) -> Patch:
    layers = tuple(_layers(table, at))
    span = _span(table.time, at)
    with at.key("from"):
        donor: Donor = table.from_
        return Patch(layers, None if donor.label is None else at.model.label(donor.label), donor.seed, span)


def _steer(table: SteerBy, layer: str, at: At) -> Steer:
    span = _span(table.time, at)
    with at.key("scale"):
        part = Steer(layer, (1.0,), table.scale, span)
    with at.key("vector"):
        part = replace(part, vector=_vector(table.vector, at))
        fitting.vector_fits(layer, part.vector, at.model.frame)
    return part


def _vector(value: str | list[float] | FromDifference, at: At) -> tuple[float, ...] | Difference:
    if isinstance(value, FromDifference):
        plus, minus = (tuple(at.model.label(label) for label in side) for side in (value.plus, value.minus))
        return Difference(plus, minus, value.time, value.seeds)
    return _from_file(value, at.model) if isinstance(value, str) else tuple(value)


def _from_file(name: str, model: Model) -> tuple[float, ...]:
    path = (model.folder or Path()) / name
    try:
        if path.stat().st_size > MAX_VECTOR_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes; a vector has at most {MAX_VECTOR_BYTES}")
        values = np.load(path, allow_pickle=False)
        if values.ndim != 1 or values.dtype.kind not in "fiu":
            raise ValueError(f"an array of {values.dtype} with shape {values.shape}")
    except (OSError, ValueError) as error:
        raise DefinitionError(
            f"The vector {name!r} cannot be read.",
            consequence="There is no direction to steer in.",
            remedy="give the path of a .npy file with one number per channel, from the definition's folder",
            evidence=str(error),
        ) from None
    return tuple(values.tolist())


def _layers(table: Ablate | PatchFrom | SteerBy, at: At) -> list[str]:
    """The layers that names and globs mean, in the order of the forward pass."""
    key, value = ("layers", table.layers) if isinstance(table, PatchFrom) else ("layer", table.layer)
    found: set[str] = set()
    with at.key(key):
        for pattern in [value] if isinstance(value, str) else value:
            known = [name for name in at.model.layers if name in at.model.listed]
            meant = [] if pattern in at.model.layers else [n for n in known if fnmatchcase(n, pattern)]
            if not meant:
                fitting.bound(pattern, at.model.frame)
            found.update(meant or [pattern])
        if not found:
            raise DefinitionError(
                "An empty list of layers.",
                consequence="Nothing would be done.",
                remedy="name at least one",
            )
    return [name for name in at.model.layers if name in found]


def _span(time: tuple[int, int] | None, at: At) -> Span:
    with at.key("time"):
        return WHOLE if time is None else fitting.span(Span(*time), at.model.frame)


def _asked(table: Table, at: At) -> tuple[int, ...] | None:
    """The labels a table restricts itself to; None where it says nothing."""
    if isinstance(table, Together):
        said = [asked for asked in (_asked(part, at) for part in table.parts) if asked is not None]
        return (
            tuple(label for label in at.model.labels if all(label in asked for asked in said))
            if said
            else None
        )
    if not isinstance(table, SwitchTo) or table.labels is None:
        return None
    with at.key("labels"):
        asked = {at.model.label(label) for label in table.labels}
        outside = sorted(asked - set(at.model.labels))
        if outside:
            raise DefinitionError(
                f"The labels {outside} are not in the sweep.",
                consequence="There is no run of theirs to switch from.",
                remedy=f"use some of {list(at.model.labels)}, or add them to [cases]",
            )
    return tuple(label for label in at.model.labels if label in asked)


def _restricted(one: Intervention, at: At, asked: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The labels that an intervention changes something for, with one of its parts at least; None for all of them."""
    labels = at.model.labels if asked is None else asked
    kept = tuple(label for label in labels if _acts_on(one, label))
    if not kept or (asked is not None and kept != asked):
        raise _changes_nothing(one, next((label for label in labels if label not in kept), None))
    return None if kept == at.model.labels else kept


def _acts_on(one: Intervention, label: int) -> bool:
    """Whether some part acts. A part that is idle by itself stays: beside another, a patch from the own run is none."""
    return len(one.idle_for(label)) < len(one.parts)


def _changes_nothing(one: Intervention, label: int | None) -> DefinitionError:
    kinds = {type(part) for part in one.parts}
    facts = {
        frozenset({Switch}): ("A switch to the same label changes", "name another label"),
        frozenset({Patch}): ("A patch from the own run changes", "name a donor with another label or seed"),
    }
    fact, remedy = facts.get(frozenset(kinds), ("Its parts change", "name another label and another donor"))
    return DefinitionError(
        f"{fact} nothing: {one.name!r} for label {label}.",
        consequence="It would be the clean run under another name.",
        remedy=f"{remedy}, or other labels to begin with",
    )


def notes(sweep: Sweep, done: Mapping[str, Intervention]) -> dict[str, str]:
    """What a person should know of interventions before they are run, by ``interventions.TITLE``.

    Cells are not requested where nothing would act; and a factor of 1 is sampled, though it changes nothing.

    Parameters
    ----------
    sweep
        The sweep in which the interventions are restricted.
    done
        Intervention by name.
    """
    by_title: dict[str, list[tuple[str, Intervention]]] = {}
    for name, one in done.items():
        by_title.setdefault(f"interventions.{one.title or name}", []).append((name, one))
    found = {}
    for title, members in by_title.items():
        idle = {
            label
            for name, one in members
            for label in set(sweep.labels) - set(sweep.labels_of(name))
            if not _acts_on(one, label)
        }
        if idle:
            found[title] = (
                f"{title} is not run for {_labels_said(idle)}: it leads there or takes from there, and would be the"
                " clean run under another name. Its cells are 'not requested'."
            )
        elif any(all(_multiplies_by_one(part) for part in one.parts) for _, one in members):
            found[title] = (
                f"{title} multiplies by 1: its runs are the clean ones, sampled again under its name."
            )
    return found


def _multiplies_by_one(part: Part) -> bool:
    return isinstance(part, Ablation) and part.mode == "scale" and part.factor == 1.0


def _labels_said(labels: set[int]) -> str:
    return f"label{'s' * (len(labels) > 1)} {', '.join(map(str, sorted(labels)))}"
