"""From what a browser sends to a definition, or a refusal.

A page in a browser may ask for anything that is a value: seeds, labels, layers, masks as pixels. It may not name a
file of this machine nor code, because what it sends could have been written by somebody else.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from flowprofile.app.counting import bounded
from flowprofile.definitions import Pipeline, Text, pipeline
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import reading, zoo
from flowprofile.running import stored_runs
from flowprofile.store.urls import Where

MAX_BYTES: Final = 1 << 16
"""A request larger than this is refused unread."""
MAX_DEPTH: Final = 16
"""How deep the tables of a request may lie in each other."""
FORM: Final = Text("the form", "")
"""Where a definition from the browser stands, in a refusal."""


def definition(body: bytes, *, models: Collection[str]) -> Pipeline:
    """The definition in a request, `{"definition": {...}}`; of `models` alone, without files or code, and of few cases.

    Raises
    ------
    DefinitionError
        For anything else, and for what is no definition.
    """
    table = _read(body)
    model = table.get("model")
    if model not in models:
        raise DefinitionError(
            f"The model {model!r} is not one that can be run from the page.",
            consequence="A page may not open files of this machine, nor run code.",
            remedy=f"{nearest(model, models)}; for another model use `flowprofile run` on the command line",
        )
    _values_only(table)
    bounded(table)
    return pipeline(table, FORM)


def models_of(store: Where) -> tuple[str, ...]:
    """The models that may be run into a store: those it was filled by, and the ones that are shipped."""
    told = [
        str(table["model"]) for attrs in stored_runs(store).values() for table in attrs.get("definitions", [])
    ]
    return tuple(dict.fromkeys([*(one for one in told if not one.startswith("live:")), *zoo.NAMES]))


def _read(body: bytes) -> dict[str, Any]:
    if len(body) > MAX_BYTES:
        raise DefinitionError(
            f"The request has {len(body):,} bytes; a definition from a page has at most {MAX_BYTES:,}.",
            remedy='write many seeds as a range, "0:1000", or use a file and `flowprofile run`',
        )
    try:
        value = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(
            "The request is no JSON.", evidence=f"{type(error).__name__}: {error}"
        ) from None
    table = value.get("definition") if isinstance(value, dict) and set(value) == {"definition"} else None
    if not isinstance(table, dict):
        raise DefinitionError(
            "The request holds no definition.",
            consequence="It is not known what to compute; where it is stored was fixed when the server started.",
            remedy='send {"definition": {"model": ..., "cases": ..., "stages": ...}} and nothing else',
        )
    if _depth(table) > MAX_DEPTH:
        raise DefinitionError(
            f"The tables of the definition lie more than {MAX_DEPTH} deep in each other.",
            remedy="write it as `flowprofile pipelines show inside` does; four levels are enough for anything",
        )
    return table


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number that JSON has")


def _depth(value: Any) -> int:
    """How deep tables and lists lie in each other; goes down with a list of its own, since Python's stack is short."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            part
            for one in level
            if isinstance(one, dict | list)
            for part in (one.values() if isinstance(one, dict) else one)
        ]
    return depth


def _values_only(table: Mapping[str, Any]) -> None:
    for place, told in _elsewhere(table):
        raise DefinitionError(
            f"{told!r} ({place}) is a file or code.",
            consequence="A page may not open files of this machine, nor run code: a stranger could have written it.",
            remedy="draw the mask or give it as pixels = [...]; or write the definition into a file and use"
            " `flowprofile run` on the command line",
        )


def _elsewhere(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything in a definition that would be looked up outside of it, with its place."""
    if table.get("source") is not None:
        yield "source", table["source"]
    sampler = table.get("sampler")
    noise = sampler.get("noise") if isinstance(sampler, Mapping) else None
    if noise is not None and noise not in ("philox", "torch"):
        yield "sampler.noise", noise
    for name in ("stages", "interventions"):
        titled = table.get(name)
        for title, inner in titled.items() if isinstance(titled, Mapping) else ():
            yield from _named(inner, f"{name}.{title}")


def _named(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list):
        for number, part in enumerate(value):
            yield from _named(part, f"{place}[{number}]")
    if not isinstance(value, Mapping):
        return
    for key, part in value.items():
        inside = f"{place}.{key}"
        if _outside(str(key), part):
            yield inside, part
        else:
            yield from _named(part, inside)


def _outside(key: str, value: Any) -> bool:
    """Whether a key's value names a file or code."""
    if key in ("png", "file"):
        return True
    if not isinstance(value, str):
        return False
    match key:
        case "vector":
            return True
        case "reader":
            return value not in reading.MODELS
        case "use":
            return ":" in value
        case "mask" | "look":
            return value.lower().endswith(".png")
        case _:
            return False
