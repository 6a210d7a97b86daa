"""What can come out of an experiment, and the one logic by which it does.

A claimed effect is measured with an interval over seeds, and so is what is left of it once the null or the control
is taken away. Three things can then be the case, and nothing in between:

- *not found*: the raw effect itself is not there;
- *explained by the null*: it is there, but no more than the null has it too;
- *confirmed*: what goes beyond the null is there.

"There" always means: the whole interval lies beyond a threshold that the definition names, in the claimed direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from numpy.typing import ArrayLike

from flowprofile.stats.bounds import mean_bounds
from flowprofile.stats.curves import curves_of

Outcome = Literal["confirmed", "explained by the null", "not found"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("confirmed", "explained by the null", "not found")
ALPHA: Final = 0.05
"""Probability of error of every interval: .025 at each end, so a false "confirmed" has at most .025."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval."""

    mean: float
    lower: float
    upper: float
    n: int
    """How many seeds."""

    def turned(self) -> "Estimate":
        """The estimate of the negative."""
        return Estimate(-self.mean, -self.upper, -self.lower, self.n)


@dataclass(frozen=True)
class Row:
    """One line of an item's table."""

    name: str
    estimate: Estimate
    unit: str


@dataclass(frozen=True)
class Verdict:
    """What an experiment says about a claim."""

    outcome: Outcome
    estimate: float
    """What is left of the effect beyond its null or control, as a mean over seeds."""
    lower: float
    upper: float
    unit: str
    sentence: str
    """What was seen, in words and numbers."""
    n: int
    """How many seeds."""
    rows: tuple[Row, ...] = ()
    """What the verdict was made of, and what is worth knowing beside it."""


def estimate(values: ArrayLike, *, alpha: float = ALPHA) -> Estimate:
    """The mean over seeds of values[seed] with its t interval; needs at least three."""
    column = curves_of([[float(value)] for value in _listed(values)], name="values")
    bounds = mean_bounds(column, alpha=alpha / 2)
    return Estimate(float(bounds.mean[0]), float(bounds.lower[0]), float(bounds.upper[0]), bounds.n)


def decide(raw: Estimate, excess: Estimate, *, raw_above: float, excess_above: float) -> Outcome:
    """The outcome, where both are turned so that the claim says they are large.

    >>> effect, rest = Estimate(1.0, 0.8, 1.2, 9), Estimate(0.1, -0.1, 0.3, 9)
    >>> decide(effect, rest, raw_above=0.5, excess_above=0.0)
    'explained by the null'
    """
    if not raw.lower > raw_above:
        return "not found"
    return "confirmed" if excess.lower > excess_above else "explained by the null"


def verdict(outcome: Outcome, shown: Estimate, sentence: str, *, unit: str, rows: Sequence[Row]) -> Verdict:
    """The verdict whose estimate is `shown`."""
    return Verdict(outcome, shown.mean, shown.lower, shown.upper, unit, sentence, shown.n, rows=tuple(rows))


def _listed(values: ArrayLike) -> Sequence[float]:
    from numpy import asarray

    return [float(value) for value in asarray(values).ravel()]
