"""Many layers and steps at once: which of them differ, when every one is looked at.

Of 1000 hypotheses without any effect, fifty have p < .05. Two corrections answer two questions. `p_familywise` is
the probability that chance alone, among *all* hypotheses of the family, gives a difference as clear as this one; it
keeps hypotheses together as they hang together (steps of one curve nearly always do), so it is not as blunt as
Bonferroni. `q` is the share of false findings to expect in a list that ends at this hypothesis.

A p value says how surely, never how much. So each comes with an effect size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.bounds import moments
from flowprofile.stats.curves import Values
from flowprofile.stats.keyed import DRAWS, signs
from flowprofile.stats.samples import LEAST_FLIPPED, samples_of

Correction = Callable[[Values], Values]
"""From statistics [draw, hypothesis], the hypotheses in falling order of what was observed, to what each observed
one is compared with, likewise [draw, hypothesis]."""

TIE: Final = 1e-9
"""Statistics (between 0 and 1) closer than this are equal: the same sum in another order differs in its last bits."""

_AT_ONCE: Final = 2**21
"""Statistics held at once: 16 MiB."""


@dataclass(frozen=True)
class Family:
    """Every hypothesis of a family, tested together; arrays have the shape of the hypotheses."""

    n: int
    """How many seeds."""
    t: Values
    """Paired t statistic; infinite where all seeds agree on a difference, 0 where all differences are 0."""
    p: Values
    """Two-sided p value of the sign flips, for this hypothesis alone: not a finding if others were looked at."""
    p_familywise: Values
    """Two-sided p value for the whole family: claiming all with <= alpha errs at all with probability alpha."""
    q: Values
    """Benjamini-Hochberg: claiming all with <= alpha, at most a share alpha is expected to be false."""
    effect: Values
    """Hedges-corrected dz: mean difference in standard deviations of the seeds' differences."""
    correction: str
    """How `p_familywise` was made."""
    draws: int
    """How many rearrangements, the observed one included; no p value is below 1 / draws."""
    exact: bool
    """Whether these were all there are."""


def single_step(statistics: Values) -> Values:
    """Compare every hypothesis with the largest of the whole family. Westfall & Young 1993, section 2.3."""
    return np.broadcast_to(statistics.max(axis=1, keepdims=True), statistics.shape)


def step_down(statistics: Values) -> Values:
    """Compare each with the largest of those observed no larger: never less power than `single_step`.

    Westfall & Young 1993, algorithm 4.1; the clear effects no longer hide the others.
    """
    return np.maximum.accumulate(statistics[:, ::-1], axis=1)[:, ::-1]


def family(
    differences: ArrayLike, *, key: int = 0, draws: int = DRAWS, correction: Correction = step_down
) -> Family:
    """Test all paired differences[seed, hypothesis ...] at once, by flipping the signs of whole seeds.

    Under the null a seed's differences are as likely with the opposite sign, all hypotheses of the seed together:
    exact for symmetric differences of any distribution, close for others from about 15 seeds on. The statistic is
    |t|; with few seeds all flips are enumerated (`exact`).

    Parameters
    ----------
    differences
        One seed a row, the same seeds under both conditions; the axes after the first (layers, steps) are one
        family, however many.
    key
        Names the random flips; the same key gives the same p values, to the last bit of the counts.
    draws
        Rearrangements, the observed one included. Cost: draws x seeds x hypotheses multiplications.
    correction
        `step_down` or `single_step`.
    """
    array = samples_of(differences, "hypothesis", name="differences", least_seeds=LEAST_FLIPPED, more=True)
    n, shape = len(array), array.shape[1:]
    flat = _to_size_1(array.reshape(n, -1))
    flips = signs(n, key=key, draws=draws)
    p, p_familywise = _p_values(_unit(flat), flips.values, correction)
    t, dz = _sizes(flat)
    name = getattr(correction, "__name__", repr(correction))
    parts = (t, p, p_familywise, benjamini_hochberg(p), hedges(n - 1) * dz)
    t, p, p_familywise, q, effect = (part.reshape(shape) for part in parts)
    return Family(n, t, p, p_familywise, q, effect, name, len(flips.values), flips.exact)


def benjamini_hochberg(p: ArrayLike) -> Values:
    """Adjusted p values q of p[...] (all of them one family). Benjamini & Hochberg 1995.

    Holds for independent and for positively dependent hypotheses (Benjamini & Yekutieli 2001).

    >>> benjamini_hochberg([0.01, 0.04, 0.03, 0.9]).round(4).tolist()
    [0.04, 0.0533, 0.0533, 0.9]
    """
    values = np.asarray(p, dtype=np.float64)
    _refuse_no_probability(values)
    order = np.argsort(values, axis=None, kind="stable")
    scaled = values.ravel()[order] * values.size / np.arange(1, values.size + 1)
    q = np.empty(values.size)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.minimum(q, 1.0).reshape(values.shape)


def hedges(degrees: int) -> float:
    """The factor that makes a standardised mean unbiased for normal differences. Hedges 1981, Eq. 6e.

    >>> round(hedges(10), 4)
    0.9227
    """
    return float(np.exp(gammaln(degrees / 2) - gammaln((degrees - 1) / 2)) / np.sqrt(degrees / 2))


def _to_size_1(differences: Values) -> Values:
    """Each hypothesis in units of its largest difference: beyond 1e±154 squares have no size any more."""
    largest = np.abs(differences).max(axis=0)
    return np.asarray(differences / np.where(largest > 0, largest, 1.0), dtype=np.float64)


def _unit(differences: Values) -> Values:
    """Differences scaled so that their sum is r in [-1, 1], of which t = r sqrt((n - 1) / (1 - r^2)).

    No flip changes the sum of squares, so ranking flips by |r| ranks them by |t|, and r takes one product only.
    """
    norm = np.sqrt(len(differences) * np.square(differences).sum(axis=0))
    unit: Values = differences / np.where(norm > 0, norm, 1.0)
    return unit


def _p_values(unit: Values, flips: Values, correction: Correction) -> tuple[Values, Values]:
    """P values [hypothesis], each alone and of the family."""
    observed = np.abs(unit.sum(axis=0))
    order = np.argsort(-observed, kind="stable")
    reach = observed[order] - TIE
    alone, together = np.zeros(len(order)), np.zeros(len(order))
    rows = max(1, _AT_ONCE // len(order))
    for at in range(0, len(flips), rows):
        statistics = np.abs(flips[at : at + rows] @ unit[:, order])
        alone += (statistics >= reach).sum(axis=0)
        together += (correction(statistics) >= reach).sum(axis=0)
    p, p_familywise = np.empty(len(order)), np.empty(len(order))
    p[order] = alone / len(flips)
    # A hypothesis cannot be claimed before all that are clearer.
    p_familywise[order] = np.maximum.accumulate(together) / len(flips)
    return p, p_familywise


def _sizes(differences: Values) -> tuple[Values, Values]:
    """Paired t and Cohen's dz [hypothesis]."""
    n = len(differences)
    mean, m2 = moments(differences)
    deviation = np.sqrt(m2 / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        dz = np.where(mean == 0, 0.0, mean / deviation)
    return np.sqrt(n) * dz, dz


def _refuse_no_probability(values: Values) -> None:
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0].tolist()
        raise NonFiniteError(
            f"p holds {values[tuple(bad)]} at {bad} (counted from 0).",
            consequence="The family's size, and so every other q, would be undefined.",
            remedy="leave out hypotheses that were not tested before correcting",
        )
    if not values.size or values.min() < 0 or values.max() > 1:
        raise DefinitionError(
            f"p has the shape {values.shape!r} and holds numbers that are no probabilities."
            if values.size
            else "p holds no p value.",
            consequence="There is nothing to correct.",
            remedy="pass p values between 0 and 1",
        )
