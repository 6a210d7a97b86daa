"""Quantiles of more activations than anybody keeps, from parts that may be merged anywhere.

A sketch keeps some hundred values, each standing for 2^level others. When there are too many at a level, they are
sorted and every other one goes up a level, the even or the odd ones by the toss of a coin: KLL, Karnin, Lang &
Liberty 2016. The coins are words named by the positions that are merged, and merging follows the fixed tree over
positions (the samples' seeds). So every cut of the work gives the same sketch, to the last bit.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from math import log, sqrt
from typing import Final, cast

import numpy as np
from numpy.typing import ArrayLike

from flowprofile.errors import DefinitionError
from flowprofile.measures.base import Forest, Node, Tally
from flowprofile.stats.curves import Values
from flowprofile.stats.keyed import words
from flowprofile.stats.samples import refuse_not_finite

K: Final = 200
"""Values kept at the highest level unless told otherwise; about three times as many are kept in all."""

_LEAST_ROOM: Final = 8
"""Values kept at any level, at least: halving fewer costs more error than it saves memory."""


@dataclass(frozen=True)
class Sketch:
    """Some of n values, each standing for 2^level of them."""

    k: int
    """Values kept at the highest level."""
    key: int
    """What names the coins."""
    first: int
    """Lowest position whose values it holds."""
    n: int
    """How many values it stands for."""
    least: float
    """The smallest of them, exactly."""
    greatest: float
    """The greatest of them, exactly."""
    levels: tuple[Values, ...]
    """Kept values of each level, ascending; one at level h stands for 2^h values."""
    error2: int
    """Sum of 4^level over all halvings: what bounds the error of ranks, see `rank_error`."""

    def __add__(self, other: "Sketch") -> "Sketch":
        """The values of both. Not associative: only a fixed tree gives the same bits every time."""
        _refuse_unlike(self, other)
        n, first = self.n + other.n, min(self.first, other.first)
        levels = [
            _merged(self.levels, other.levels, h) for h in range(max(len(self.levels), len(other.levels)))
        ]
        kept, error2 = _compressed(levels, self.k, _coins(self.key, first, n))
        least, greatest = min(self.least, other.least), max(self.greatest, other.greatest)
        return Sketch(self.k, self.key, first, n, least, greatest, kept, self.error2 + other.error2 + error2)

    @property
    def kept(self) -> int:
        """How many values it holds; at most `room(k, levels)`."""
        return sum(map(len, self.levels))

    def rank(self, values: ArrayLike) -> Values:
        """Share of the sketched values that are at or below each of these values, about."""
        items, weights = self._weighted()
        below = np.concatenate([[0.0], np.cumsum(weights)])
        at = np.searchsorted(items, np.asarray(values, dtype=np.float64), side="right")
        return np.asarray(below[at] / self.n, dtype=np.float64)

    def quantile(self, shares: ArrayLike) -> Values:
        """The smallest kept value with at least each of these shares at or below it; 0 and 1 give the exact ends."""
        wanted = np.asarray(shares, dtype=np.float64)
        _refuse_no_share(wanted)
        items, weights = self._weighted()
        at = np.searchsorted(np.cumsum(weights), wanted * self.n, side="left")
        found = items[np.minimum(at, len(items) - 1)]
        return np.where(wanted == 0, self.least, np.where(wanted == 1, self.greatest, found))

    def rank_error(self, *, probability: float = 0.01) -> float:
        """What the rank of any one value errs by at most, as a share, except with this probability.

        A halving at level h moves a rank by -2^h, 0 or 2^h, fairly and independently of all others, whatever the
        values are: Hoeffding's inequality over the halvings that were made.
        """
        return sqrt(2 * log(2 / probability) * self.error2) / self.n

    def _weighted(self) -> tuple[Values, Values]:
        items = np.concatenate(self.levels)
        weights = np.repeat(2.0 ** np.arange(len(self.levels)), [len(level) for level in self.levels])
        order = np.argsort(items, kind="stable")
        return items[order], weights[order]


@dataclass(frozen=True)
class Sketches:
    """Sketches of some of the samples, merged as far as the fixed tree over positions allows."""

    # A forest merges whatever has a plus; its nodes here are sketches in the place of tallies.
    forest: Forest = field(default_factory=Forest)
    """The sketch of each largest complete node of the tree."""

    def __add__(self, other: "Sketches") -> "Sketches":
        """The samples of both; a sample in both is refused, since it would count twice."""
        return Sketches(self.forest + other.forest)

    def total(self) -> Sketch:
        """The sketch of all samples, merged from the lowest position up."""
        if not self.forest.nodes:
            raise DefinitionError(
                "Nothing was sketched.",
                consequence="No values have no quantiles.",
                remedy="sketch at least one sample",
            )
        return cast(Sketch, self.forest.total())


def sketch(values: Iterable[ArrayLike], positions: Iterable[int], *, k: int = K, key: int = 0) -> Sketches:
    """Sketch the values of several samples, given one after the other, each with its position (its seed).

    A sample's values may have any shape; they are taken in one sorting. With k = 200 a rank errs by less than
    .015 with probability .99 (`rank_error` says what a particular sketch promises), and some 600 values are kept,
    whatever their number.
    """
    if k < _LEAST_ROOM:
        raise DefinitionError(
            f"k is {k!r}.",
            consequence=f"Ranks would err by more than {1 / _LEAST_ROOM}.",
            remedy=f"use at least {_LEAST_ROOM}; {K} is the default",
        )
    made = Sketches()
    for sample, position in zip_longest(values, positions):
        _refuse_unmatched(sample, position)
        leaf = _leaf(np.asarray(sample, dtype=np.float64), position, k, key)
        made = made + Sketches(_planted((0, position), leaf))
    return made


def room(k: int, levels: int) -> int:
    """The most values a sketch of that many levels keeps: less than 3 k + 9 levels.

    >>> room(200, 30) < 3 * 200 + 9 * 30
    True
    """
    return sum(_capacity(k, depth) for depth in range(levels))


def _capacity(k: int, depth: int) -> int:
    """Values kept at a level that lies so far below the highest: k (2/3)^depth, rounded up in integers."""
    shrunk: int = -(-k * 2**depth // 3**depth)
    return max(_LEAST_ROOM, shrunk)


def _leaf(values: Values, position: int, k: int, key: int) -> Sketch:
    if not values.size:
        raise DefinitionError(
            f"The sample at position {position} has no values.",
            consequence="It has no quantiles.",
            remedy="leave it out, or compute it first",
        )
    refuse_not_finite(values.reshape(-1), ("value",), f"The values of position {position}")
    items = np.sort(values, axis=None, kind="stable")
    levels, error2 = _compressed([items], k, _coins(key, position, items.size))
    return Sketch(k, key, position, items.size, float(items[0]), float(items[-1]), levels, error2)


def _planted(node: Node, leaf: Sketch) -> Forest:
    return Forest({node: cast(Tally, leaf)})


def _merged(ours: tuple[Values, ...], theirs: tuple[Values, ...], h: int) -> Values:
    both = [levels[h] for levels in (ours, theirs) if h < len(levels)]
    return np.sort(np.concatenate(both), kind="stable")


def _compressed(levels: list[Values], k: int, coins: Iterator[int]) -> tuple[tuple[Values, ...], int]:
    """The levels halved, lowest first, until they fit; and the sum of 4^level over the halvings."""
    error2 = 0
    while sum(map(len, levels)) > room(k, len(levels)):
        highest = len(levels) - 1
        h = next(h for h, items in enumerate(levels) if len(items) > _capacity(k, highest - h))
        if h == highest:
            levels.append(np.empty(0))
        # Of an odd number the greatest stays where it is, which errs by nothing.
        pairs = len(levels[h]) // 2 * 2
        raised, stays = levels[h][next(coins) : pairs : 2], levels[h][pairs:]
        levels[h], levels[h + 1] = stays, np.sort(np.concatenate([levels[h + 1], raised]), kind="stable")
        error2 += 4**h
    return tuple(levels), error2


def _coins(key: int, first: int, n: int) -> Iterator[int]:
    """Coins of one merge: (lowest position, number of values) name it, as no other node of the tree has both."""
    tossed = 0
    while True:
        if tossed % 64 == 0:
            word = int(words(key, "sketch", (first, n), tossed // 64 + 1)[-1])
        yield word >> (tossed % 64) & 1
        tossed += 1


def _refuse_unmatched(sample: object, position: object) -> None:
    if sample is None or position is None:
        raise DefinitionError(
            "There are more positions than samples."
            if sample is None
            else "There are more samples than positions.",
            consequence="Which values belong to which position cannot be told.",
            remedy="pass one position (its seed) for each sample",
        )


def _refuse_unlike(ours: Sketch, theirs: Sketch) -> None:
    if (ours.k, ours.key) != (theirs.k, theirs.key):
        raise DefinitionError(
            "Two sketches of different kinds cannot be merged.",
            consequence="The merged one would have the error of neither.",
            remedy="use one k and one key for all parts",
            evidence=f"k, key: {(ours.k, ours.key)!r} and {(theirs.k, theirs.key)!r}",
        )


def _refuse_no_share(shares: Values) -> None:
    if not ((shares >= 0) & (shares <= 1)).all():
        raise DefinitionError(
            f"{shares[~((shares >= 0) & (shares <= 1))].flat[0]!r} is no share.",
            consequence="No value has it at or below.",
            remedy="ask for shares from 0 to 1, such as .5 for the median",
        )
