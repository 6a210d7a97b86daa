"""Whether the finished image shows a label: how probable each one is to a reader that looks at x_0 and nothing else.

The outcome of a run in the model's own terms, beside its distances in pixels. Asked of runs whose label was switched
on the way, it says when the outcome is settled: `asked` is the label a run began with, and `probability` holds the
one it was switched to as well. Who reads is part of the recipe; where the reader lies is not.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, READ, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError, ModelError, nearest
from flowprofile.flow.blocks import cases_of
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Context, Kind, Request, imported, not_allowed
from flowprofile.models import reading, weights
from flowprofile.stages.promises import STATES, Promise, coords
from flowprofile.store.promise import promise as promised

Reads = Callable[[np.ndarray], np.ndarray]
"""From finished images [case channel y x], in the model's pixel values, to the probability of each label, [case label]."""
DIGITS: Final = 16
"""Of a SHA-256 in hex, as it stands in the key and in the names of results of several readers."""
SUFFIX: Final = ".safetensors"
TOLERANCE: Final = 1e-3
"""By how much the probabilities that a function gives may miss a sum of one; it may compute in single precision."""


class FidelityParams(Table):
    """Parameters of the probability that an image shows a label."""

    reader: str | None = Field(
        None,
        min_length=1,
        description='who reads: "digits" or "faces32", the path of a reader\'s safetensors file, or "module:function"'
        " (images [case channel y x] in 0..1 to probabilities [case label]; needs --allow-code); by default the one"
        " that comes with the model, and the exact posterior for a mixture",
    )


@dataclass(frozen=True)
class Judge:
    """Who reads the images."""

    identity: Mapping[str, Any]
    """What decides its answers; part of the key."""
    told: Mapping[str, Any]
    """What a person should know about it."""
    open: Callable[[], Reads]
    """Loads it, once per process."""


def _fidelity(request: Request, *, code: bool) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, FidelityParams)
    count = context.card.labels.count
    if count < 2:
        raise DefinitionError(
            f"The model {context.card.name!r} has one label ({request.place}).",
            consequence="Every image shows it with probability 1, whatever it looks like.",
            remedy="leave this stage out, or use a model with several labels",
        )
    judge = _judge(params.reader, context, f"{request.place}.reader", code=code)
    attrs = {"long_name": "probability that the image shows a label", "units": "1", **judge.told}
    return [
        Stage(
            name=request.name,
            kind="fidelity",
            group=f"measures/{request.name}",
            version=1,
            params=judge.identity,
            needs=(Need(STATES),),
            times=context.grid[-1:],
            promise=_promise(context, attrs),
            compute=partial(_read, open=judge.open),
            attrs=attrs,
        )
    ]


def _read(block: xr.Dataset, *, open: Callable[[], Reads]) -> xr.Dataset:
    images = block["x_t"].transpose(CASE, TIME, CHANNEL, Y, X).values
    found = open()(images.reshape(-1, *images.shape[2:]))
    # Below the smallest normal number a process that flushes such numbers and one that does not would differ.
    stored = np.where(found < np.finfo(np.float32).tiny, 0.0, found).astype(np.float32)
    asked = stored[np.arange(len(stored)), [case.label for case in cases_of(block)]]
    values = {
        "probability": ((CASE, TIME, READ), stored[:, None]),
        "predicted": ((CASE, TIME), found.argmax(1)[:, None]),
        "asked": ((CASE, TIME), asked[:, None]),
    }
    return xr.Dataset(values, coords={TIME: block[TIME]})


def _promise(context: Context, attrs: Mapping[str, Any]) -> Promise:
    names = {
        "probability": attrs,
        "predicted": {"long_name": "the most probable label", "units": "number"},
        "asked": {**attrs, "long_name": "probability of the label that the run began with"},
    }

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        return promised(
            {
                "probability": ((TIME, READ), "float32"),
                "predicted": ((TIME,), "int64"),
                "asked": ((TIME,), "float32"),
            },
            coords(times, context) | {READ: np.arange(context.card.labels.count)},
            variable_attrs=names,
        )

    return promise


def _judge(given: str | None, context: Context, place: str, *, code: bool) -> Judge:
    if given is None and context.card.architecture == "mixture":
        return _exact(context)
    if given is not None and ":" in given and not given.endswith(SUFFIX):
        if not code:
            raise not_allowed(given, place)
        return _own(given, context, place)
    return _trained(given, context, place)


def _exact(context: Context) -> Judge:
    """The posterior of a mixture, all labels equally likely; the model is in the key already."""

    @cache
    def opened() -> Reads:
        from flowprofile.models.reader import posterior

        return partial(posterior, _settled(context.open))

    return Judge({"reader": "posterior"}, {"reader": "the model's exact posterior"}, opened)


def _trained(given: str | None, context: Context, place: str) -> Judge:
    """A network in a file."""
    path = _file(given, context, place)
    try:
        card = reading.card(path)
    except ModelError as error:
        error.fact = f"{error.fact.rstrip('.')} ({place})."
        raise
    _fits(card, context, place)

    @cache
    def opened() -> Reads:
        from flowprofile.models.reader import load_file

        reader = _settled(partial(load_file, path))
        return lambda images: reader.probabilities(_pictures(images, context))

    told = {"reader": card.name, "reader_held_out": card.held_out, "reader_held_out_n": card.held_out_n}
    # The same tensors can answer four questions or sixteen: the card decides as well.
    return Judge({"reader": weights.digest(path)[:DIGITS], "heads": list(card.heads)}, told, opened)


def _file(given: str | None, context: Context, place: str) -> Path:
    name = context.card.name if given is None else given
    if name in reading.MODELS:
        return reading.path_of(name)
    if given is not None and given.endswith(SUFFIX):
        return (context.folder or Path()) / given
    known = ", ".join(map(repr, reading.MODELS))
    fact = f"No reader comes with the model {name!r}" if given is None else f"There is no reader {given!r}"
    raise DefinitionError(
        f"{fact} ({place}).",
        consequence="Nobody could say which label its images show.",
        remedy=f'name one that knows such images ({known}), the path of a "{SUFFIX}" file that'
        ' flowprofile.models.reader.save wrote, or "module:function" with --allow-code',
        evidence="" if given is None else nearest(given, reading.MODELS),
    )


def _fits(card: reading.ReaderCard, context: Context, place: str) -> None:
    model, shape = context.card, (card.channels, card.size, card.size)
    if shape != model.shape:
        raise DefinitionError(
            f"The reader {card.name!r} looks at images of {_size(shape)}, and those of {model.name!r} are"
            f" {_size(model.shape)} ({place}).",
            consequence="It has learned from pictures of one size only, and cannot look at others.",
            remedy=f"give a reader of {_size(model.shape)} (channels x height x width)",
        )
    if card.labels != model.labels.count:
        raise DefinitionError(
            f"The reader {card.name!r} tells {card.labels} labels apart, and {model.name!r} has"
            f" {model.labels.count} ({place}).",
            consequence="What it calls label 1 would not be the model's label 1.",
            remedy="give a reader that was trained on the labels of this model",
            evidence=f"heads {card.heads!r}",
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _own(given: str, context: Context, place: str) -> Judge:
    """A function of one's own, tried on gray images before anything is sampled."""
    function = imported(given, place)
    if not isinstance(function, FunctionType):
        raise DefinitionError(
            f"The reader {given!r} is a {type(function).__name__}, not a function ({place}).",
            consequence="It could not be told from another one by its source.",
            remedy="write a function from images [case channel y x] to probabilities [case label]",
        )

    @cache
    def opened() -> Reads:
        from flowprofile.models.reader import in_batches

        asked = partial(_asked, _settled(lambda: function), given, context.card.labels.count, place)
        return lambda images: in_batches(_pictures(images, context), asked)

    low, high = context.card.pixel_range
    opened()(np.full((1, *context.card.shape), (low + high) / 2, np.float32))
    return Judge({"reader": given, "source": _source(function, given, place)}, {"reader": given}, opened)


def _asked(function: Callable[..., Any], name: str, count: int, place: str, images: np.ndarray) -> np.ndarray:
    """The function's answers, or a refusal that says what they are instead of probabilities."""
    try:
        given = np.asarray(function(images), dtype=np.float64)
    except Exception as error:
        raise _odd(name, place, f"{type(error).__name__}: {error}") from error
    if given.shape != (len(images), count):
        raise _odd(name, place, f"shape {given.shape!r} for {len(images)} images and {count} labels")
    if not (given >= 0).all() or not np.allclose(given.sum(1), 1.0, rtol=0, atol=TOLERANCE):
        raise _odd(
            name, place, f"least {given.min():g}, sums from {given.sum(1).min():g} to {given.sum(1).max():g}"
        )
    return given


def _odd(name: str, place: str, evidence: str) -> DefinitionError:
    return DefinitionError(
        f"The reader {name!r} gives no probabilities ({place}).",
        consequence="What would be stored could not be read as how probable each label is.",
        remedy="return an array [case label] of numbers from 0 to 1 whose rows sum to 1, for float32 images"
        " [case channel y x] from 0 to 1; a softmax makes one of logits",
        evidence=evidence,
    )


def _source(function: FunctionType, name: str, place: str) -> str:
    """Digest of the source of the module that has the function; weights it loads on its own are not looked at."""
    try:
        text = inspect.getsource(sys.modules[function.__module__])
    except (OSError, TypeError, KeyError) as error:
        raise DefinitionError(
            f"The source of the reader {name!r} cannot be found ({place}).",
            consequence="A changed reader could not be told from the one whose answers are stored.",
            remedy="define it in a file that can be imported",
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _settled(load: Callable[[], Any]) -> Any:
    """What is loaded, in a process that computes as every other one does."""
    from flowprofile.models.numerics import settle

    settle()
    return load()


def _pictures(images: np.ndarray, context: Context) -> np.ndarray:
    """Samples as readers see them: from 0, black, to 1, white, and nothing beyond."""
    low, high = context.card.pixel_range
    return np.asarray(np.clip((images - low) / (high - low), 0.0, 1.0), dtype=np.float32)


KINDS = (
    Kind(
        "fidelity",
        1,
        FidelityParams,
        partial(_fidelity, code=False),
        summary="how probable each label is to a reader of the finished image",
        trusted=partial(_fidelity, code=True),
    ),
)
