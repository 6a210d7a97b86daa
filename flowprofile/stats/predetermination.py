"""When an outcome is settled: the first switch step after which switching no longer changes it.

A run is switched (to another label, another noise) at step s, and its outcome compared with the run that was not.
Early switches change it, late ones do not. Predetermined is it from the first s on after which the probability of a
change, or the mean dissimilarity, stays at or below a level.

The interval is that of an onset, mirrored: from the first switch step on, an s is ruled out as long as the *lower*
bound is above the level; from the last one back, the mean is taken for "settled" as long as its *upper* bound is at
or below it. Each end errs with alpha / 2 at most, without assuming that the curve falls; only the estimate does.

None of 32 seeds changed does not show that fewer than 5 % do: shares need `seeds_for_level` seeds (72 for 5 %) before
anything can be claimed. With fewer, the interval has a lower end alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from flowprofile.errors import DefinitionError
from flowprofile.stats.bounds import MeanBounds, is_binary, mean_bounds, seeds_for_level, share_bounds
from flowprofile.stats.curves import NEVER, Values, curves_of, first_of, probability_of, start_of_tail

LEVEL: Final = 0.05
"""How often, or by how much, an outcome may still change and be called settled."""

FLAT_SHARE: Final = 0.2
"""An answer that moves over more than this share of the switch steps is called flat."""

FLAT_LEAST: Final = 2
"""An answer that moves by this many switch steps at most is never called flat: a grid has no finer answer."""


@dataclass(frozen=True)
class Predetermination:
    """From which switch step on the outcome is settled; switch steps by index, in the order of generation."""

    estimate: int
    """First switch step whose falling mean is at or below the level; NEVER if none is. A description."""
    lower: int
    """The outcome is not settled before this one; NEVER if all lower bounds are above the level."""
    upper: int
    """The outcome is settled from this one on; NEVER where that is not claimed."""
    falling: Values
    """[switch] mean over seeds, made to fall by pooling adjacent violators: what the estimate is read from."""
    bounds: MeanBounds
    """[switch] mean over seeds with the bounds the interval is made of, each with alpha / 2."""
    early: int
    """The estimate at one and a half times the level; NEVER if there is none."""
    late: int
    """The estimate at half the level; NEVER if there is none."""
    flat: bool
    """Whether the curve is flat about the level, so that the answer hangs on it: `early` and `late` (the end of the
    grid for NEVER) or the ends of a claimed interval are further apart than a fifth of the switch steps, and than 2."""
    level: float
    """How often, or by how much, an outcome may still change and be called settled."""
    seeds_needed: int
    """Seeds without which shares cannot be claimed to be at or below the level; 3 for dissimilarities."""
    alpha: float
    """Probability that the interval lower..upper misses the switch step, at most."""

    @property
    def claimed(self) -> bool:
        """Whether the outcome is settled at the last switch step, surely."""
        return self.upper != NEVER


def predetermination(
    values: ArrayLike,
    *,
    level: float = LEVEL,
    alpha: float = 0.05,
    bounds: Callable[..., MeanBounds] | None = None,
) -> Predetermination:
    """From which switch step on values[seed, switch] stay at or below the level, with an interval.

    The values are outcomes (1 changed, 0 did not), probabilities of a change, or dissimilarities. Bounds are
    `share_bounds` where all of them are 0 or 1, which is never too narrow, and else `mean_bounds`; name one to decide
    otherwise, such as `mean_bounds` for dissimilarities that happen to be 0 throughout.
    """
    array = curves_of(values, name="values")
    _refuse_level(level)
    chosen = bounds or (share_bounds if is_binary(array) else mean_bounds)
    made = chosen(array, alpha=probability_of(alpha) / 2)
    falling = falling_mean(made.mean)
    estimate, early, late = (_settled(falling, level * part) for part in (1.0, 1.5, 0.5))
    lower, upper = int(first_of(made.lower <= level)), int(start_of_tail(made.upper <= level))
    moves = [_distance(early, late, len(falling))] + [upper - lower] * (upper != NEVER)
    return Predetermination(
        estimate,
        lower,
        upper,
        falling,
        made,
        early=early,
        late=late,
        flat=max(moves) > max(FLAT_LEAST, FLAT_SHARE * len(falling)),
        level=level,
        seeds_needed=seeds_for_level(level, alpha=made.alpha) if chosen is share_bounds else 3,
        alpha=alpha,
    )


def falling_mean(mean: ArrayLike) -> Values:
    """The closest falling (never rising) curve to mean[step] in least squares: pool adjacent violators.

    Equal to min over a <= k of max over b >= k of the average of mean[a..b]. Ayer et al. 1955.
    """
    return np.asarray(isotonic_regression(np.asarray(mean, dtype=np.float64), increasing=False).x)


def _settled(falling: Values, level: float) -> int:
    # Pooling averages equal numbers, and can lift a mean that is the level exactly above it in the last bit.
    return int(first_of(falling <= level + 4 * np.spacing(level)))


def _distance(early: int, late: int, steps: int) -> int:
    ends = [steps if end == NEVER else end for end in (early, late)]
    return ends[1] - ends[0]


def _refuse_level(level: float) -> None:
    if not 0 < level < 1:
        raise DefinitionError(
            f"The level is {level!r}.",
            consequence="At 0 no number of seeds could show that nothing changes; at 1 nothing is asked.",
            remedy="pass a level between 0 and 1, such as .05",
        )
