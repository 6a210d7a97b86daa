"""Which curves answer a question: a stored measure by name or by kind, else the stored states, else a refusal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import GUIDANCE, LAYER, OTHER, TIME
from flowprofile.cases import CLEAN
from flowprofile.choices import Labels, choose
from flowprofile.comparing.sides import Question
from flowprofile.comparing.states import MEASURES, STATES, States, data_range_of, refuse_unlike
from flowprofile.comparing.stored import VALUE, Curves, Stored, common
from flowprofile.errors import DefinitionError, StoreError, nearest

GROUP: Final = "measures/"
WINDOW: Final = 7
_OWN: Final = ("steps", "final")
"""What a curve that a case has by itself is between."""
_KIND_OF_DISTANCE: Final = "distance."


@dataclass(frozen=True)
class Asked:
    """How the difference of two samples is to be measured."""

    measure: str
    """A stored measure's name, or a kind: ssim, mse, l1."""
    window: int | None = None
    data_range: float | None = None
    layer: str | None = None
    time: Any = None
    """As `tree.profile.sel` takes it; None for all."""


def source_of(question: Question, asked: Asked) -> Stored | Curves | States:
    """The curves that answer a question.

    Raises
    ------
    DefinitionError
        If no measure has this name or kind, or it does not fit the question.
    StoreError
        If it is not stored and the states it could be computed from are not either, with the command that computes it.
    """
    name = f"{GROUP}{asked.measure.removeprefix(GROUP)}"
    if name in question.groups[0].held.nodes:
        return _named(question, name, asked)
    fitting = _fitting(question, asked)
    if len(fitting) > 1:
        raise DefinitionError(
            f"{len(fitting)} stored measures are {asked.measure!r} between {_between(question)}.",
            consequence="Which of them is meant would be a guess.",
            remedy="name one: " + ", ".join(repr(found.removeprefix(GROUP)) for found in fitting),
        )
    if fitting:
        return _stored(question, fitting[0], asked)
    if asked.measure not in MEASURES:
        raise _unknown(question, asked)
    return _of_states(question, asked)


def answerable(question: Question, asked: Asked) -> Question:
    """The question about those labels only that every side was ever sampled for.

    Switching to a label leaves that label's own samples as they are, so they are not sampled again.
    """
    if question.mode == "labels":
        return question
    labels = [label for label in question.groups[0].labels if _ever(question.only([label]), asked)]
    return question.only(labels) if labels else question


def _ever(question: Question, asked: Asked) -> bool:
    source = source_of(question, asked)
    return bool((source.at(source.times[-1:]).status(source.seeds) > 0).any())


def _named(question: Question, name: str, asked: Asked) -> Stored | Curves:
    data = question.groups[0].held.nodes[name]
    between = _params(data).get("between")
    if between is None:
        between = str(data.attrs.get("between", "steps"))
    if between in _OWN:
        return _curves(question, name, asked)
    if between != _between(question):
        raise DefinitionError(
            f"{name!r} is measured between {between!r}, and asked for is one between {_between(question)!r}.",
            consequence="It says nothing about this comparison.",
            remedy="name a kind, such as 'ssim', or one of: "
            + (", ".join(_fitting(question, Asked("")) or _own(question)) or "none is stored"),
        )
    if not _covers(question, data):
        raise StoreError(
            f"{name!r} compares the labels {data[OTHER].values.tolist()}, not all of those asked for.",
            consequence="Some pair has no value.",
            remedy="run the pipeline with these labels: it then compares them, too",
        )
    return _stored(question, name, asked)


def _stored(question: Question, name: str, asked: Asked) -> Stored:
    data = question.groups[0].held.nodes[name]
    return Stored(question, name, _kind(data), _times([data], asked.time), _layer(data, name, asked.layer))


def _curves(question: Question, name: str, asked: Asked) -> Curves:
    nodes = []
    for group in question.groups:
        if name not in group.held.nodes:
            raise StoreError(
                f"{group.held.place.url!r} has no {name!r}.",
                consequence="Its curve cannot be compared.",
                remedy=nearest(name, [path for path in group.held.nodes if path.startswith(GROUP)]),
            )
        nodes.append(group.held.nodes[name])
    first, *others = nodes
    for other in others:
        if _params(first) != _params(other) or _kind(first) != _kind(other):
            raise DefinitionError(
                f"{name!r} of both is not one measure.",
                consequence="Their difference would be one of measures, not of samples.",
                remedy="compute both with the same parameters",
                evidence=f"{_kind(first)} {_params(first)} and {_kind(other)} {_params(other)}",
            )
    if _kind(first) == "psnr":
        raise DefinitionError(
            f"{name!r} is a PSNR.",
            consequence="It is infinite for equal images, and its mean over seeds is not that of the error.",
            remedy="compare the MSE",
        )
    return Curves(question, name, _kind(first), _times(nodes, asked.time), _layer(first, name, asked.layer))


def _of_states(question: Question, asked: Asked) -> States:
    absent = [group.held.place.url for group in question.groups if STATES not in group.held.nodes]
    if absent:
        raise _uncomputed(question, asked, absent[0])
    _refuse_layer(asked.measure, asked.layer)
    refuse_unlike(question)
    nodes = [group.held.nodes[STATES] for group in question.groups]
    return States(
        question,
        asked.measure,
        WINDOW if asked.window is None else asked.window,
        data_range_of(question, asked.data_range),
        _times(nodes, asked.time),
    )


def _fitting(question: Question, asked: Asked) -> list[str]:
    """Stored measures of the kind, between what is compared, each once; without a kind all of them."""
    found: dict[str, str] = {}
    for name, data in _measures(question):
        kind = _kind(data) == asked.measure or not asked.measure
        if kind and data.attrs["between"] == _between(question) and _covers(question, data):
            options = {"window": asked.window, "data_range": asked.data_range}
            if all(value in (None, _params(data).get(key)) for key, value in options.items()):
                found.setdefault(str(data.attrs["key"]), name)
    return list(found.values())


def _measures(question: Question) -> list[tuple[str, xr.Dataset]]:
    """Measures of the first side, with what each is between among its attributes; plain names first."""
    nodes = sorted(question.groups[0].held.nodes.items(), key=lambda item: "[" in item[0])
    return [
        (name, data.assign_attrs(between=_params(data).get("between", data.attrs.get("between"))))
        for name, data in nodes
        if name.startswith(GROUP) and VALUE in data.data_vars
    ]


def _own(question: Question) -> list[str]:
    return [name for name, data in _measures(question) if data.attrs["between"] in _OWN]


def _between(question: Question) -> str:
    """What a stored measure must be between to answer."""
    if question.mode == "labels":
        return "labels"
    clean = [group.intervention == CLEAN for group in question.groups]
    return "clean" if question.mode == "interventions" and any(clean) else question.mode


def _covers(question: Question, data: xr.Dataset) -> bool:
    return OTHER not in data.coords or set(question.groups[0].labels) <= set(data[OTHER].values.tolist())


def _params(data: xr.Dataset) -> dict[str, Any]:
    return {k: v for k, v in (data.attrs.get("params") or {}).items() if k != "labels"}


def _kind(data: xr.Dataset) -> str:
    kind = str(data.attrs.get("kind", ""))
    return "distance" if kind.startswith(_KIND_OF_DISTANCE) else kind


def _times(nodes: Sequence[xr.Dataset], asked: Any) -> tuple[int, ...]:
    """The states that all sides hold, as far as they are asked for, descending."""
    shared = sorted(common([data[TIME].values.tolist() for data in nodes]), reverse=True)
    if asked is not None and shared:
        axis = xr.Dataset(coords={TIME: np.array(shared, np.int64)})
        shared = [shared[at] for at in choose(TIME, asked, _no_labels).positions(axis)[0]]
    if not shared:
        raise StoreError(
            "There is no state that is asked for and that both sides hold.",
            consequence="There is nothing to compare.",
            remedy="ask for states that are stored",
            evidence="; ".join(_range(data[TIME].values.tolist()) for data in nodes),
        )
    return tuple(sorted(shared, reverse=True))


def _no_labels() -> Labels:
    """States have none; `choose` asks for them along the label axis only."""
    return Labels(np.zeros(0, np.int64), {})


def _range(times: Sequence[int]) -> str:
    return f"{len(times)} states, {max(times)} to {min(times)}" if times else "no state"


def _layer(data: xr.Dataset, name: str, layer: str | None) -> str | None:
    """The layer of a measure that has several; one alone need not be named."""
    if GUIDANCE in data.dims:
        raise DefinitionError(
            f"{name!r} holds {' and '.join(data[GUIDANCE].values.tolist())}, halves of guided steps.",
            consequence="A comparison is of one curve per seed.",
            remedy="compare a measure without `guidance`, which is of the label's half; the curves themselves are"
            f" tree.profile.sel(measures={name.removeprefix(GROUP)!r}, guidance=...)",
        )
    if LAYER not in data.dims:
        _refuse_layer(name, layer)
        return None
    known = [str(each) for each in data[LAYER].values.tolist()]
    if layer is None and len(known) == 1:
        return known[0]
    if layer not in known:
        raise DefinitionError(
            f"{name!r} holds {len(known)} layers, asked for is {layer!r}.",
            consequence="A comparison is of one curve per seed.",
            remedy=f"name one with layer=: {nearest(layer, known)}",
        )
    return layer


def _refuse_layer(name: str, layer: str | None) -> None:
    """Refuse a layer of what is of the image and of no layer."""
    if layer is not None:
        raise DefinitionError(
            f"{name!r} has no layers, and asked for is its layer {layer!r}.",
            consequence="The answer would be of the whole image, and be taken for that layer's.",
            remedy="leave the layer out, or name a measure that has layers, such as one of use = 'layer_distance'",
        )


def _unknown(question: Question, asked: Asked) -> DefinitionError:
    stored = [name.removeprefix(GROUP) for name, _ in _measures(question)]
    return DefinitionError(
        f"There is no measure {asked.measure!r}.",
        consequence="How different two samples are would be undefined.",
        remedy=nearest(asked.measure, [*MEASURES, *stored]),
        evidence=f"kinds {', '.join(MEASURES)}; stored {', '.join(stored) or 'none'}",
    )


def _uncomputed(question: Question, asked: Asked, url: str) -> StoreError:
    name = f"{'label' if question.mode == 'labels' else 'clean'}_{asked.measure}"
    if question.mode == "stores" or _between(question) == "interventions":
        settings = ["stages.trajectory.keep=::1"]
    else:
        settings = [f"stages.{name}.use={asked.measure}", f"stages.{name}.between={_between(question)}"]
        if asked.window is not None:
            settings.append(f"stages.{name}.window={asked.window}")
    flags = " ".join(f"--set {setting}" for setting in settings)
    return StoreError(
        f"{url!r} holds neither the {asked.measure} between {question} nor the states it is computed from.",
        consequence="There is nothing to compare.",
        remedy=f"compute it: flowprofile run PIPELINE --into {url} {flags}",
        evidence="PIPELINE is the definition that filled the store (flowprofile show)",
    )
