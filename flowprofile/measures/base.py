"""Statistic -> Tally -> Measure: how a number about one sample becomes a finding about many.

A measure is a function of *means of statistics* (PSNR of the mean error is not the mean of PSNRs), so all that a
sweep must keep of its samples are tallies: how many, their mean, their spread. Tallies are merged along one fixed
tree over the samples' positions. So every cut of the work, every number of workers and every order of arrival
gives the same result, to the last bit.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError

Values = NDArray[np.float64]

Node = tuple[int, int]
"""Level and number of a node of the tree over positions."""


@dataclass(frozen=True)
class Statistic:
    """A number per sample (or per sample and time) whose mean over samples makes sense.

    Two statistics are the same exactly if function and options are: nobody keeps a name for them.
    """

    function: Callable[..., ArrayLike]
    """From arrays with samples along the first axis to values with samples along the first axis."""
    options: tuple[tuple[str, Any], ...] = ()
    """Keyword arguments of the function, sorted by name."""

    @classmethod
    def of(cls, function: Callable[..., ArrayLike], **options: Any) -> "Statistic":
        """The statistic of a function and its keyword arguments, whatever their order."""
        return cls(function, tuple(sorted(options.items())))

    def __call__(self, *arrays: ArrayLike) -> Values:
        return np.asarray(self.function(*arrays, **dict(self.options)), dtype=np.float64)


@dataclass(frozen=True)
class Measure:
    """A finding: a function of the means of some statistics."""

    name: str
    """How it is called in results."""
    statistics: tuple[Statistic, ...]
    """What must be averaged for it."""
    of_means: Callable[..., ArrayLike] = field(default=lambda mean: mean)
    """From the means, in the order of `statistics`, to the finding; the mean itself by default."""

    def __call__(self, tallies: Mapping[Statistic, "Tally"]) -> Values:
        """The finding from the tallies of (at least) its statistics."""
        return np.asarray(self.of_means(*(tallies[s].mean for s in self.statistics)), dtype=np.float64)


@dataclass(frozen=True)
class Tally:
    """Count, mean and sum of squared deviations of values of one shape."""

    n: int
    """How many samples; 0 is the tally of nothing, and merging it changes nothing."""
    mean: Values
    """Their mean; NaN wherever one of them is NaN."""
    m2: Values
    """Sum of squared deviations from the mean."""

    @classmethod
    def one(cls, value: ArrayLike) -> "Tally":
        """The tally of a single sample."""
        mean = np.asarray(value, dtype=np.float64)
        return cls(1, mean, mean * 0.0)

    def __add__(self, other: "Tally") -> "Tally":
        """Both tallies' samples together: Chan, Golub & LeVeque 1979, Eq. 2.1. Not associative in the last bits."""
        if not self.n:
            return other
        if not other.n:
            return self
        n = self.n + other.n
        step = other.mean - self.mean
        mean = self.mean + step * (other.n / n)
        return Tally(n, mean, self.m2 + other.m2 + step * step * (self.n * other.n / n))

    @property
    def variance(self) -> Values:
        """Unbiased variance of one sample; NaN for fewer than two."""
        return self.m2 / (self.n - 1) if self.n > 1 else np.full_like(self.m2, np.nan)

    @property
    def standard_error(self) -> Values:
        """Standard error of the mean."""
        return np.sqrt(self.variance / self.n) if self.n > 1 else np.full_like(self.m2, np.nan)


NOTHING = Tally(0, np.zeros(()), np.zeros(()))
"""The tally of no sample."""


@dataclass(frozen=True)
class Forest:
    """Tallies of some of the samples, merged as far as the fixed tree over positions allows.

    Node (level, k) stands for positions k 2^level to (k + 1) 2^level - 1, all of them present. A set of positions
    has exactly one such decomposition into largest nodes, so two forests of the same samples are equal however
    they came about. A position is any number of the sample's own, usually its seed.
    """

    nodes: Mapping[Node, Tally] = field(default_factory=dict)
    """Tally of each largest complete node."""

    @classmethod
    def of(cls, values: ArrayLike, positions: Iterable[int]) -> "Forest":
        """The forest of values[sample ...] at the given positions.

        >>> Forest.of([1.0, 2.0, 6.0], [0, 1, 2]).total().mean.item()
        3.0
        """
        rows = np.asarray(values, dtype=np.float64)
        leaves = [((0, k), Tally.one(row)) for k, row in zip(positions, rows, strict=True)]
        return _grown([], leaves)

    def __add__(self, other: "Forest") -> "Forest":
        """All samples of both; a sample in both is refused, since it would count twice."""
        return _grown(list(self.nodes.items()), list(other.nodes.items()))

    def total(self) -> Tally:
        """The tally of all samples, merged from the lowest position up."""
        return sum((self.nodes[node] for node in sorted(self.nodes, key=_span)), NOTHING)


def tally(
    statistics: Iterable[Statistic], arrays: tuple[ArrayLike, ...], positions: Iterable[int]
) -> dict[Statistic, Forest]:
    """Every distinct statistic of some samples, computed once each."""
    places = list(positions)
    return {statistic: Forest.of(statistic(*arrays), places) for statistic in dict.fromkeys(statistics)}


def _grown(planted: list[tuple[Node, Tally]], added: list[tuple[Node, Tally]]) -> Forest:
    _refuse_overlap([node for node, _ in planted + added])
    nodes = dict(planted)
    for (level, k), branch in added:
        # Two complete siblings become their parent, the lower positions always on the left.
        while (level, k ^ 1) in nodes:
            sibling = nodes.pop((level, k ^ 1))
            branch = sibling + branch if k & 1 else branch + sibling
            level, k = level + 1, k >> 1
        nodes[level, k] = branch
    return Forest(nodes)


def _span(node: Node) -> tuple[int, int]:
    """First position of a node and the first one after it."""
    level, k = node
    return k << level, (k + 1) << level


def _refuse_overlap(nodes: list[Node]) -> None:
    spans = sorted(map(_span, nodes))
    if spans and spans[0][0] < 0:
        raise DefinitionError(
            f"Position {spans[0][0]!r} is negative.",
            consequence="It has no place in the tree that fixes the order of addition.",
            remedy="use positions from 0, such as the seeds themselves",
        )
    for (_, end), (start, _) in pairwise(spans):
        if start < end:
            raise DefinitionError(
                f"The sample at position {start} is tallied twice.",
                consequence="It would count twice in every mean.",
                remedy="merge forests of different samples only",
            )
