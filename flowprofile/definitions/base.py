"""What the tables of a definition have in common, and the values that occur in more than one of them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Strict

MAX_SEEDS: Final = 1_000_000
"""How many seeds one definition may ask for."""


class Table(BaseModel):
    """A table of a definition: unknown keys are refused, values never change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


def seeds_of(value: object) -> tuple[int, ...]:
    """The seeds that a half-open range "a:b", one number or a list of numbers mean."""
    if isinstance(value, str):
        return _seed_range(value)
    seeds = (value,) if isinstance(value, int) else value
    if not isinstance(seeds, Sequence):
        raise ValueError(f'seeds are "a:b", a number or a list of numbers, not {value!r}')
    if not seeds:
        raise ValueError("an empty list of seeds asks for no sample; give at least one")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"{seed!r} is not a seed; seeds are whole numbers of at least 0")
        if seed < 0:
            raise ValueError(f"seed {seed} is negative; seeds are whole numbers of at least 0")
    doubled = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
    if doubled:
        raise ValueError(f"seeds are named twice: {doubled}; a sample would count twice in every mean")
    return tuple(seeds)


def _seed_range(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"\s*(\d{1,18})\s*:\s*(\d{1,18})\s*", text)
    if match is None:
        raise ValueError(f'{text!r} is not a half-open range of seeds such as "0:4"')
    first, stop = int(match[1]), int(match[2])
    if not first < stop <= first + MAX_SEEDS:
        raise ValueError(f"{text!r} has {max(0, stop - first)} seeds; 1 to {MAX_SEEDS} are possible")
    return tuple(range(first, stop))


def _no_truth(value: object) -> object:
    """Refuse true and false, which pydantic would take for 1 and 0."""
    if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(part, bool) for part in value)):
        raise ValueError(f"{value!r} holds a truth value, which is not a label")
    return value


Whole = Annotated[int, Strict()]
"""A whole number; true and 17.0 are none."""
Seeds = Annotated[tuple[int, ...], BeforeValidator(seeds_of)]
"""A half-open range "0:4", one number, or a list."""
Label = Annotated[int | str | list[str], BeforeValidator(_no_truth)]
"""One label: a number, quoted bits "0110", or names of attributes."""
Labels = Annotated[int | str | list[int | str | list[str]], BeforeValidator(_no_truth)]
"""Labels, or "all"."""


def _form(value: object) -> str:
    """Which of several forms a value has: a table by its `from`, everything else by what it is."""
    if isinstance(value, BaseModel):
        return str(getattr(value, "from_", "table"))
    if isinstance(value, Mapping):
        return str(value.get("from", value.get("from_", "table")))
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list | tuple) else "number"


def one_of(kind: str, forms: str) -> Discriminator:
    """Chooses by `_form` among branches tagged so; a value of no such form is told what a `kind` may be."""
    return Discriminator(_form, custom_error_type=kind, custom_error_message=f"a {kind} is {forms}")
