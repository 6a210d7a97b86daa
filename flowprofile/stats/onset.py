"""When a difference begins: the first step after which the mean over seeds stays above a threshold.

The interval inverts a test at every step, walked in a fixed order, so that no correction for the number of steps is
needed and nothing is assumed of the curve's shape or of how the steps of a seed hang together:

- *Lower end*: from the first step on, the onset is ruled out as long as the upper bound of the mean is at or below
  delta. If the onset is k, ruling k out takes an error of the one bound at k.
- *Upper end*: from the last step back, the mean is taken for "above" as long as its lower bound is above delta. If
  the mean at k - 1 is not above, passing it takes an error of the one bound at k - 1.

Each end errs with probability alpha / 2 at most, whatever the number of steps (fixed-sequence testing: Maurer,
Hothorn & Lehmacher 1995). "The first step with p < .05" has no such guarantee: with many steps it finds one.

What an onset is depends on delta, so it always comes as a curve over several.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from flowprofile.errors import DefinitionError
from flowprofile.stats.bounds import MeanBounds, mean_bounds, moments
from flowprofile.stats.curves import (
    LEAST_SEEDS,
    NEVER,
    Steps,
    Values,
    curves_of,
    first_of,
    probability_of,
    refuse_unpaired,
    start_of_tail,
)

FLOOR: Final = 0.05
"""The least delta: a smaller difference of two images (1 - SSIM) is not seen and is made by rounding alone."""


@dataclass(frozen=True)
class Onset:
    """Onset of the mean over seeds for each of several thresholds; steps count from 0 in the order of generation."""

    deltas: Values
    """[delta] the thresholds, as given."""
    estimate: Steps
    """[delta] first step after which the sample's mean stays above delta; NEVER if its last one is not above.
    A description; a finding only where `claimed`."""
    lower: Steps
    """[delta] the onset is not before this step; NEVER if no upper bound exceeds delta: then it is not at all."""
    upper: Steps
    """[delta] the onset is not after this step; NEVER where nothing is claimed: it may be later than the last."""
    n: int
    """How many seeds."""
    steps: int
    """How many steps a curve has."""
    alpha: float
    """Probability that an interval lower..upper misses the onset, at most; per delta."""

    @property
    def claimed(self) -> NDArray[np.bool_]:
        """[delta] whether there is an onset: the mean at the last step is surely above delta."""
        return np.not_equal(self.upper, NEVER)


@dataclass(frozen=True)
class SeedOnsets:
    """Onset of each seed's own curve; a distribution, where `Onset` speaks of the mean alone."""

    deltas: Values
    """[delta] the thresholds, as given."""
    onset: Steps
    """[delta, seed] first step after which this seed's curve stays above delta; NEVER if its last one is not."""
    steps: int
    """How many steps a curve has."""

    @property
    def never(self) -> Steps:
        """[delta] how many seeds have no onset."""
        return np.asarray((self.onset == NEVER).sum(axis=1), dtype=np.int64)

    @property
    def share(self) -> Values:
        """[delta, step] share of all seeds whose onset is at or before the step: the distribution function."""
        begun = (self.onset[..., None] != NEVER) & (self.onset[..., None] <= np.arange(self.steps))
        return np.asarray(begun.mean(axis=1), dtype=np.float64)

    def quantile(self, q: float) -> Steps:
        """[delta] first step by which a share q of all seeds has begun; NEVER where fewer ever do."""
        return first_of(self.share >= q - 1e-12)


@dataclass(frozen=True)
class OnsetDifference:
    """How much later the onset of a second condition is, in steps, paired by seed."""

    deltas: Values
    """[delta] the thresholds of both."""
    mean: Values
    """[delta] mean over pairs of second - first; positive is later. NaN where fewer than 3 pairs are left."""
    lower: Values
    """[delta] lower end of the t interval; NaN where the mean is."""
    upper: Values
    """[delta] upper end of the t interval; NaN where the mean is."""
    n: Steps
    """[delta] pairs with an onset in both: all that mean and interval speak of."""
    never_first: Steps
    """[delta] seeds dropped because the first alone has no onset. Unlike numbers here and in `never_second` are a
    difference too, and one that the mean does not show."""
    never_second: Steps
    """[delta] seeds dropped because the second alone has no onset."""
    never_both: Steps
    """[delta] seeds dropped because neither has an onset."""
    alpha: float
    """Probability that an interval misses the mean difference, exact for normal differences."""


def onset(
    curves: ArrayLike,
    deltas: ArrayLike,
    *,
    alpha: float = 0.05,
    baseline: ArrayLike | None = None,
    floor: float = FLOOR,
) -> Onset:
    """The onset of the mean of curves[seed, step] over seeds, for each of deltas[delta], with its interval.

    With a baseline [seed, step] (what the measure shows where there is nothing to see: the same label twice, other
    numerics) no delta below `smallest_delta` of it is taken; without one, none below the floor.
    """
    return onset_of_bounds(
        mean_bounds(curves, alpha=probability_of(alpha) / 2), deltas, baseline=baseline, floor=floor
    )


def onset_of_bounds(
    bounds: MeanBounds, deltas: ArrayLike, *, baseline: ArrayLike | None = None, floor: float = FLOOR
) -> Onset:
    """The onset from bounds of the mean, such as those of a tally; each end of the interval has their alpha."""
    thresholds = deltas_of(deltas, smallest_delta(baseline, floor=floor))
    delta = thresholds[:, None]
    return Onset(
        thresholds,
        estimate=start_of_tail(bounds.mean > delta),
        lower=first_of(bounds.upper > delta),
        upper=start_of_tail(bounds.lower > delta),
        n=bounds.n,
        steps=len(bounds.mean),
        alpha=2 * bounds.alpha,
    )


def smallest_delta(baseline: ArrayLike | None, *, quantile: float = 0.99, floor: float = FLOOR) -> float:
    """The smallest admissible threshold: the floor, or the quantile of all baseline[seed, step] values if larger.

    The quantile is a value that was seen (the next larger one), over seeds and steps together; give only those
    steps of the baseline that matter, lest quiet ones hide a loud few.
    """
    if baseline is None:
        return floor
    seen = curves_of(baseline, name="baseline curves", least_seeds=1)
    return max(floor, float(np.quantile(seen, quantile, method="higher")))


def seed_onsets(
    curves: ArrayLike, deltas: ArrayLike, *, baseline: ArrayLike | None = None, floor: float = FLOOR
) -> SeedOnsets:
    """The onset of each of curves[seed, step] on its own, for each of deltas[delta]; thresholds as in `onset`."""
    values = curves_of(curves)
    thresholds = deltas_of(deltas, smallest_delta(baseline, floor=floor))
    return SeedOnsets(
        thresholds, start_of_tail(values[None] > thresholds[:, None, None]), steps=values.shape[1]
    )


def onset_difference(first: SeedOnsets, second: SeedOnsets, *, alpha: float = 0.05) -> OnsetDifference:
    """Second minus first onset, paired by seed: mean, t interval over pairs, and who had to be dropped.

    Both must be of the same seeds in the same order and of the same thresholds.
    """
    probability_of(alpha)
    _refuse_other_onsets(first, second)
    without = first.onset == NEVER, second.onset == NEVER
    paired = ~without[0] & ~without[1]
    intervals = [
        _t_interval((second.onset - first.onset)[row, kept].astype(np.float64), alpha)
        for row, kept in enumerate(paired)
    ]
    mean, lower, upper = np.array(intervals, dtype=np.float64).T
    return OnsetDifference(
        first.deltas,
        mean,
        lower,
        upper,
        n=paired.sum(axis=1),
        never_first=(without[0] & ~without[1]).sum(axis=1),
        never_second=(without[1] & ~without[0]).sum(axis=1),
        never_both=(without[0] & without[1]).sum(axis=1),
        alpha=alpha,
    )


def deltas_of(deltas: ArrayLike, smallest: float) -> Values:
    """The thresholds as float64[delta], refused unless they are finite and at least the smallest admissible one."""
    thresholds = np.asarray(deltas, dtype=np.float64)
    if thresholds.ndim != 1 or not len(thresholds):
        raise DefinitionError(
            f"The thresholds have the shape {thresholds.shape!r}.",
            consequence="An onset is a curve over thresholds; one alone hides how much hangs on it.",
            remedy="pass a list of them, such as [.05, .1, .2]",
        )
    bad = thresholds[~(thresholds >= smallest) | np.isinf(thresholds)]
    if len(bad):
        raise DefinitionError(
            f"The threshold {float(bad[0])!r} is not admissible.",
            consequence="So small a difference appears where there is nothing to see, and its onset would be noise's.",
            remedy=f"pass finite thresholds of at least {smallest:.6g}",
            evidence="the smallest one is the larger of the floor and the 99 % quantile of the baseline, if given",
        )
    return thresholds


def _t_interval(differences: Values, alpha: float) -> tuple[float, float, float]:
    """Mean and two-sided t interval of a sample; NaN for fewer than LEAST_SEEDS."""
    n = len(differences)
    if n < LEAST_SEEDS:
        return np.nan, np.nan, np.nan
    mean, m2 = moments(differences)
    reach = stdtrit(n - 1, 1 - alpha / 2) * np.sqrt(m2 / (n - 1) / n)
    return float(mean), float(mean - reach), float(mean + reach)


def _refuse_other_onsets(first: SeedOnsets, second: SeedOnsets) -> None:
    refuse_unpaired(first.onset, second.onset, "onsets [delta, seed]")
    if not np.array_equal(first.deltas, second.deltas):
        raise DefinitionError(
            "The onsets are of different thresholds.",
            consequence="Their difference would be one of thresholds, not of conditions.",
            remedy="compute both with the same deltas",
            evidence=f"{first.deltas.tolist()} and {second.deltas.tolist()}",
        )
