"""Standard errors of anything that is a function of means, from sums that may be added up anywhere.

An ordinary bootstrap draws n of n seeds and so must see all of them. Here every seed enters replicate b with its own
Poisson(1) weight (Hanley & MacGibbon 2006; Chamandy et al. 2012), a pure function of (key, seed, b). Replicates of
parts of a sweep are then sums that merge along the fixed tree over positions, and give the same bits whoever computed
which part, in whatever order.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError
from flowprofile.measures.base import Forest
from flowprofile.stats.curves import Values, probability_of
from flowprofile.stats.keyed import Words, words
from flowprofile.stats.samples import refuse_few, refuse_not_finite

LEAST_RESAMPLED: Final = 10
"""Fewer seeds give a percentile interval that is far too narrow, and replicates in which no seed is left."""

REPLICATES: Final = 2000
"""Replicates unless told otherwise: a standard error is then known to within 3 % (two of its own)."""

_EXP_MINUS_1: Final = 6786177901268885274
"""floor(2^64 / e)."""


@dataclass(frozen=True)
class Resampled:
    """Some seeds' part in every replicate; parts of disjoint seeds add up."""

    key: int
    """What names the weights."""
    replicates: int
    """How many replicates, not counting replicate 0: the sample itself, in which every weight is 1."""
    shape: tuple[int, ...]
    """The shape of a seed's values."""
    forest: Forest
    """Per seed [replicate, 1 + value]: the weight and the weighted values."""

    def __add__(self, other: "Resampled") -> "Resampled":
        """The seeds of both; a seed in both is refused, and so are parts that were weighted differently."""
        ours, theirs = [(part.key, part.replicates, part.shape) for part in (self, other)]
        if ours != theirs:
            raise DefinitionError(
                "Two parts of different bootstraps cannot be added.",
                consequence="A replicate of one is no replicate of the other.",
                remedy="use one key, one number of replicates and one shape of values for all parts",
                evidence=f"key, replicates, shape: {ours!r} and {theirs!r}",
            )
        return Resampled(self.key, self.replicates, self.shape, self.forest + other.forest)

    @property
    def means(self) -> Values:
        """[1 + replicate, value ...] means over seeds, first that of the sample itself.

        A replicate in which every weight is 0 has none and is left out (chance e^-n).
        """
        total = self.forest.total()
        refuse_few(total.n, "The parts", LEAST_RESAMPLED)
        held = total.mean[total.mean[:, 0] > 0]
        return np.asarray(held[:, 1:] / held[:, :1], dtype=np.float64).reshape(-1, *self.shape)


@dataclass(frozen=True)
class Bootstrap:
    """An estimate with its bootstrap standard error and percentile interval; arrays have the estimate's shape."""

    n: int
    """How many seeds."""
    estimate: Values
    """From the sample itself."""
    standard_error: Values
    """Standard deviation over replicates, times sqrt(n / (n - 1)): replicates vary about the sample's own mean."""
    lower: Values
    """Percentile alpha / 2 of the replicates."""
    upper: Values
    """Percentile 1 - alpha / 2 of the replicates."""
    alpha: float
    """Probability that the interval misses, about; both ends together. Below 30 seeds it misses more often."""
    replicates: int
    """How many replicates."""


def poisson_weights(seeds: Iterable[int], replicates: int, *, key: int) -> NDArray[np.int64]:
    """[seed, replicate] Poisson(1) weights; each is a function of (key, seed, replicate) and of nothing else.

    Integers are compared with integers only, so they are the same on every machine.

    >>> poisson_weights([5, 9], 3, key=1)[1].tolist() == poisson_weights([9], 7, key=1)[0, :3].tolist()
    True
    """
    drawn = [words(key, "poisson", (seed, 0), replicates) for seed in seeds]
    return np.searchsorted(_cumulative(), np.stack(drawn), side="right").astype(np.int64)


def resampled(
    values: ArrayLike, seeds: Iterable[int], *, key: int = 0, replicates: int = REPLICATES
) -> Resampled:
    """The part of values[seed ...], of the given seeds, in every replicate.

    Memory and cost: 2 x replicates x (1 + values) numbers a node of the tree, log2(seeds) nodes at most at the end.
    """
    places = list(seeds)
    rows = np.asarray(values, dtype=np.float64)
    _refuse_misfit(rows, len(places), replicates)
    refuse_not_finite(rows, ("row",), "values")
    # The sum is built from one seed's leaf at a time: all leaves at once would be as many copies of the values.
    forest = Forest()
    for place, row in zip(places, rows, strict=True):
        weights = np.concatenate([[1], poisson_weights([place], replicates, key=key)[0]])
        leaf = np.multiply.outer(weights, np.concatenate([[1.0], row.ravel()]))
        forest = forest + Forest.of(leaf[None], [place])
    return Resampled(key, replicates, rows.shape[1:], forest)


def bootstrap(
    parts: Resampled, *, alpha: float = 0.05, of_means: Callable[[Values], ArrayLike] = lambda means: means
) -> Bootstrap:
    """Standard error and percentile interval of a function of means over seeds.

    `of_means` takes means[replicate, value ...] and gives estimates[replicate ...], such as the root of a mean
    square or the ratio of two means; by default the means themselves.
    """
    probability_of(alpha)
    estimates = np.asarray(of_means(parts.means), dtype=np.float64)
    refuse_not_finite(estimates, ("replicate",), "The estimates")
    drawn = estimates[1:]
    n = parts.forest.total().n
    error = drawn.std(axis=0, ddof=1) * np.sqrt(n / (n - 1))
    lower, upper = np.quantile(drawn, [alpha / 2, 1 - alpha / 2], axis=0)
    return Bootstrap(n, estimates[0], np.asarray(error), lower, upper, alpha, len(drawn))


@cache
def _cumulative() -> Words:
    """P(weight <= k) in units of 2^-64; a word at or above the k-th has a larger weight than k."""
    terms, total, factorial = [], 0, 1
    for k in range(20):
        factorial *= max(k, 1)
        total += _EXP_MINUS_1 // factorial
        terms.append(total)
    return np.array(terms, dtype=np.uint64)


def _refuse_misfit(rows: Values, seeds: int, replicates: int) -> None:
    if rows.ndim < 1 or len(rows) != seeds or not seeds or 0 in rows.shape:
        raise DefinitionError(
            f"values have the shape {rows.shape!r} for {seeds} seed(s).",
            consequence="Which value belongs to which seed cannot be told.",
            remedy="pass an array [seed ...] and one seed for each of its rows, at least one",
        )
    if replicates < 100:
        raise DefinitionError(
            f"{replicates!r} replicates are asked for.",
            consequence="Their spread would itself be uncertain by more than 14 %.",
            remedy=f"use at least 100; {REPLICATES} are the default",
        )
