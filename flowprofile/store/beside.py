"""Coordinates beside an axis: what was done, and which image a seed stands for, to be selected by.

A value, once recorded, never changes, and a coordinate keeps the kind of its first values: the chunk that holds them
only grows, and a reader of an older root document still reads its own part.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from flowprofile.cases import CLEAN
from flowprofile.errors import StoreError
from flowprofile.store.declarations import RunDeclaration
from flowprofile.store.record import RunRecord, plain

BLANK: Final[dict[type, Any]] = {str: "", int: -1, float: -1.0}
"""What stands where a coordinate says nothing of an intervention."""


def beside_interventions(
    old: RunRecord | None, run: RunDeclaration, interventions: tuple[str, ...]
) -> dict[str, tuple[Any, ...]]:
    """Every coordinate's values along a grown axis.

    A run in which nothing was done to the model yet has none.

    Raises
    ------
    StoreError
        If a value is missing, has another kind than those before it, or differs from the one that is stored.
    """
    stored = dict(old.intervention_coords) if old else {}
    known = old.interventions if old else ()
    result: dict[str, tuple[Any, ...]] = {}
    if set(interventions) <= {CLEAN}:
        return result
    for name in dict.fromkeys((*stored, *run.intervention_coords)):
        before = dict(zip(known, stored[name], strict=True)) if name in stored else {}
        asked = plain(dict(run.intervention_coords.get(name, {})))
        values = _merged(name, before, asked, interventions, known)
        kind = _kind(name, before.values() or (v for each, v in values.items() if each != CLEAN))
        result[name] = tuple(_as(name, kind, values.get(each, BLANK[kind])) for each in interventions)
    return result


def beside_seeds(
    old: RunRecord | None, run: RunDeclaration, seeds: tuple[int, ...]
) -> dict[str, tuple[Any, ...]]:
    """Every coordinate's values along a grown axis of seeds.

    Raises
    ------
    StoreError
        If a seed has no value, or another one than is stored.
    """
    result: dict[str, tuple[Any, ...]] = {}
    known = old.seeds if old else ()
    for name in dict.fromkeys((*(old.seed_coords if old else ()), *run.seed_coords)):
        before = dict(zip(known, old.seed_coords.get(name, ()), strict=False)) if old else {}
        asked = plain({str(seed): value for seed, value in run.seed_coords.get(name, {}).items()})
        values = {**{int(seed): value for seed, value in asked.items()}, **before}
        other = next((s for s in before if str(s) in asked and asked[str(s)] != before[s]), None)
        absent = next((seed for seed in seeds if seed not in values), None)
        if other is not None or absent is not None:
            said = (
                "no value"
                if other is None
                else f"{before[other]!r} in the store and {asked[str(other)]!r} here"
            )
            raise StoreError(
                f"The coordinate {name!r} of seed {absent if other is None else other} has {said}.",
                consequence="One seed would stand for two different images.",
                remedy="use another store for these images",
            )
        result[name] = tuple(values[seed] for seed in seeds)
    return result


def _merged(
    name: str,
    before: Mapping[str, Any],
    asked: Mapping[str, Any],
    interventions: tuple[str, ...],
    known: tuple[str, ...],
) -> dict[str, Any]:
    """The values there are; an intervention of before the coordinate was known may have none."""
    for intervention in before.keys() & asked.keys():
        if before[intervention] != asked[intervention]:
            raise StoreError(
                f"The coordinate {name!r} of the intervention {intervention!r} is stored as "
                f"{before[intervention]!r}, asked for is {asked[intervention]!r}.",
                consequence="One name would stand for two different things.",
                remedy="what decides a coordinate belongs in the intervention's name",
            )
    values = {**asked, **before}
    missing = [each for each in interventions if each not in (*values, *known, CLEAN)]
    if missing:
        raise StoreError(
            f"The coordinate {name!r} has no value for the interventions {missing!r}.",
            remedy="give a value for every intervention of the sweep",
        )
    return {each: values[each] for each in interventions if each in values}


def _kind(name: str, values: Iterable[Any]) -> type:
    """What a coordinate's values are: text, whole numbers, or numbers."""
    kinds = {type(value) for value in values}
    if kinds <= {int, float} and kinds:
        return float if float in kinds else int
    if kinds != {str}:
        raise StoreError(
            f"The coordinate {name!r} of the interventions holds {sorted(kind.__name__ for kind in kinds)!r}.",
            consequence="One array could not hold its values.",
            remedy="give only text, or only numbers",
        )
    return str


def _as(name: str, kind: type, value: Any) -> Any:
    """A value as its coordinate's kind; a whole number may stand among numbers, nothing else is converted."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise StoreError(
            f"The coordinate {name!r} of the interventions holds values like {BLANK[kind]!r}, "
            f"asked for is {value!r}.",
            consequence="Its stored values would be read as another type.",
            remedy="keep to one type; numbers that may be fractions are floats from the first one on",
        )
    return value
