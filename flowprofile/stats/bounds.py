"""One-sided bounds of a mean over seeds, step by step: what every interval of this room is made of.

A bound is one-sided because an onset asks two separate questions: where is the mean surely not yet above, and from
where on surely is it. Each may be wrong with probability alpha; an interval of 95 % takes alpha = .025 on each side.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv, stdtr, stdtrit

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.measures.base import Tally
from flowprofile.stats.curves import LEAST_SEEDS, Values, curves_of, probability_of


@dataclass(frozen=True)
class MeanBounds:
    """A mean over seeds at each step, with a lower and an upper bound."""

    n: int
    """How many seeds."""
    mean: Values
    """[step] mean over seeds."""
    lower: Values
    """[step] the true mean is at or below it with probability at most alpha."""
    upper: Values
    """[step] the true mean is at or above it with probability at most alpha."""
    alpha: float
    """Probability of error of each bound at each step."""


def mean_bounds(values: ArrayLike, *, alpha: float) -> MeanBounds:
    """Student's t bounds of the mean of values[seed, step] over seeds.

    Exact for normal values, close for others from about 30 seeds on. Not for outcomes that are 0 or 1: see
    `share_bounds`. Where all seeds agree, both bounds are their value, to the last bit.
    """
    curves = curves_of(values, name="values")
    return tally_bounds(Tally(len(curves), *moments(curves)), alpha=alpha)


def tally_bounds(tally: Tally, *, alpha: float) -> MeanBounds:
    """The t bounds of `mean_bounds` from count, mean[step] and sum of squared deviations[step]."""
    probability_of(alpha)
    _refuse_tally(tally)
    reach = float(stdtrit(tally.n - 1, 1 - alpha)) * tally.standard_error
    return MeanBounds(tally.n, tally.mean, tally.mean - reach, tally.mean + reach, alpha)


def share_bounds(values: ArrayLike, *, alpha: float) -> MeanBounds:
    """Clopper-Pearson bounds of the share of seeds whose outcome[seed, step] is 1 (or True).

    Never too narrow, whatever the share: with no 1 among n seeds the upper bound is still 1 - alpha^(1/n), where a
    t bound would be 0. Clopper & Pearson 1934.
    """
    outcomes = curves_of(values, name="outcomes")
    probability_of(alpha)
    if not is_binary(outcomes):
        raise DefinitionError(
            f"Outcomes hold {outcomes[~np.isin(outcomes, (0, 1))][0]!r}.",
            consequence="A share counts seeds, so each outcome must be 0 or 1.",
            remedy="use mean_bounds for probabilities and dissimilarities",
        )
    n, ones = len(outcomes), outcomes.sum(axis=0)
    # The inverse beta function has no value at parameter 0; there the bound is the end of the scale.
    lower = np.where(ones > 0, betaincinv(np.maximum(ones, 1), n - ones + 1, alpha), 0.0)
    upper = np.where(ones < n, betaincinv(ones + 1, np.maximum(n - ones, 1), 1 - alpha), 1.0)
    return MeanBounds(n, ones / n, lower, upper, alpha)


def is_binary(values: Values) -> bool:
    """Whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def seeds_for_level(level: float, *, alpha: float) -> int:
    """Seeds of which none may show the outcome, so that the share's upper bound is at most the level.

    >>> seeds_for_level(0.05, alpha=0.025)
    72
    """
    return int(np.ceil(np.log(alpha) / np.log1p(-level)))


def moments(values: Values) -> tuple[Values, Values]:
    """Mean and sum of squared deviations over the first axis.

    Deviations are taken from the first row: values that all agree then have exactly their value as mean and
    exactly no spread, which a plain mean misses in the last bit.
    """
    offset = values - values[0]
    centre = offset.mean(axis=0)
    return values[0] + centre, np.square(offset - centre).sum(axis=0)


def p_above(values: Values, threshold: float) -> Values:
    """P value of "the mean over the first axis is at most the threshold" against "it is above": one-sided t.

    Where all values agree it is 0 above the threshold and 1 otherwise. Uniform for normal values at the threshold.
    """
    mean, m2 = moments(values)
    n = len(values)
    error = np.sqrt(m2 / (n - 1) / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (mean - threshold) / error
    return np.where(error > 0, stdtr(n - 1, -t), np.where(mean > threshold, 0.0, 1.0))


def _refuse_tally(tally: Tally) -> None:
    if tally.n < LEAST_SEEDS:
        raise DefinitionError(
            f"The means are of {tally.n} seed(s).",
            consequence="Their spread over seeds, and so every interval, would be a guess.",
            remedy=f"sample at least {LEAST_SEEDS} seeds; 30 are a good start",
        )
    bad = np.flatnonzero(~np.isfinite(tally.mean + tally.m2))
    if len(bad):
        raise NonFiniteError(
            f"The means of {tally.n} seeds hold no number at step {bad[0]} (counted from 0).",
            consequence="Some seed had none there, and which one a mean cannot say.",
            remedy="compute what is missing, or tally only seeds and steps whose cells are stored",
            evidence=f"{len(bad)} of {tally.mean.size} steps are not finite",
        )
