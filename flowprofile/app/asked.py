"""What an address asks for: the query of a view, read once, strictly, into a frozen value.

A view's address and that of its JSON are the same text, so that a link is the whole view. What an address cannot
say is refused by name; above all it cannot name a store, which is fixed when the server starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, SEED
from flowprofile.cases import CLEAN
from flowprofile.errors import StoreError, nearest

ONE: Final = (
    *(
        "run",
        "intervention",
        "label",
        "seed",
        "time",
        "channel",
        "node",
        "variable",
        "mask",
        "colour",
        "offset",
    ),
    *("beside", "limit", "sort", "order", "measure", "show", "excess", "object", "pixel", "reduce", "view"),
    "delta",
)
"""Parameters that are given once."""
SEVERAL: Final = ("layer", "side", "times", "seeds", "column", "only")
"""Parameters that may be repeated."""
LONGEST: Final = 8192
"""Characters of a query."""


@dataclass(frozen=True)
class Query:
    """The parameters of an address, as texts."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """The value of a parameter that is given once."""
        return next((value for key, value in self.pairs if key == name), default)

    def all(self, name: str) -> tuple[str, ...]:
        """The values of one that may be repeated."""
        return tuple(value for key, value in self.pairs if key == name)

    def number(self, name: str) -> int | None:
        """A whole number, or None where it is not given."""
        value = self.get(name)
        return whole(value, name) if value else None


def query(pairs: Iterable[tuple[str, str]]) -> Query:
    """The parameters of an address, refused where one is unknown or given twice."""
    found = tuple(pairs)
    seen: set[str] = set()
    for name, value in found:
        if name not in ONE and name not in SEVERAL:
            raise StoreError(
                f"An address has no parameter {name!r}.",
                consequence="What it would change is not known, and a link must mean the same tomorrow.",
                remedy=nearest(name, (*ONE, *SEVERAL)),
            )
        if name in seen and name in ONE:
            raise StoreError(f"The parameter {name!r} is given twice.", remedy="give it once")
        if "\x00" in value:
            raise StoreError(f"The parameter {name!r} holds a NUL.", remedy="give plain text")
        seen.add(name)
    return Query(found)


def whole(text: str, name: str) -> int:
    """A whole number of an address."""
    if not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20:
        raise StoreError(f"The {name} is {text[:40]!r}.", remedy="give a whole number")
    return int(text)


@dataclass(frozen=True)
class Where:
    """One case of a run."""

    intervention: str
    label: int
    seed: int

    def key(self) -> dict[str, object]:
        """As a selection."""
        return {INTERVENTION: self.intervention, LABEL: self.label, SEED: self.seed}


def case_of(tree: xr.DataTree, asked: Query) -> Where:
    """The case an address means; what it leaves out is the clean run of the first label and seed."""
    names = tree.coords[INTERVENTION].values.tolist()
    default = CLEAN if CLEAN in names else names[0]
    return Where(
        _one_of(asked.get("intervention", default), names, INTERVENTION),
        _number_of(tree, asked.number("label"), LABEL),
        _number_of(tree, asked.number("seed"), SEED),
    )


def _one_of(name: str, names: list[str], axis: str) -> str:
    if name not in names:
        raise StoreError(f"This run has no {axis} {name!r}.", remedy=nearest(name, names))
    return name


def _number_of(tree: xr.DataTree, value: int | None, axis: str) -> int:
    known = tree.coords[axis].values
    if value is None:
        return int(known[0])
    if not (known == value).any():
        told = f"it has {len(known)}, {known.min()} to {known.max()}"
        raise StoreError(f"This run has no {axis} {value}.", remedy=told)
    return value
