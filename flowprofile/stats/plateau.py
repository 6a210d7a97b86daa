"""Where a curve stands still, and where it dips below its null.

"The slope is not significant" is no plateau: noise alone earns that. A plateau is *shown*, by two one-sided tests
(TOST; Schuirmann 1987) that the mean slope over seeds lies within a margin, which the reader must name: how many units
per step are nothing to speak of.

A dip in a curve alone is no finding either, since the null dips as well (the SSIM of consecutive states of a known
image does). A dip is a mean *excess* over the null below zero, paired by seed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from flowprofile.errors import DefinitionError
from flowprofile.stats.bounds import moments, p_above
from flowprofile.stats.curves import Values, curves_of, excess, longest_run, probability_of, window_of


@dataclass(frozen=True)
class Plateau:
    """The longest stretch on which the mean slope over seeds is shown to be within a margin."""

    first: int
    """First step of the stretch; NEVER if no window qualifies."""
    last: int
    """Last step of the stretch, which belongs to it; NEVER if no window qualifies."""
    slope: Values
    """[window] mean slope over seeds in units per step; window w covers steps w..w + width - 1."""
    p: Values
    """[window] p value of "the mean slope lies outside the margin": TOST, the larger of two one-sided t tests."""
    p_familywise: float
    """p value of the stretch as a whole, for having looked at all windows: the largest p in it times their number
    (Bonferroni), at most 1. Each window alone is tested at alpha; a stretch not named beforehand needs this one."""
    width: int
    """How many steps a window has."""
    margin: float
    """Largest slope, in units per step, that counts as standing still."""
    alpha: float
    """Level of each window's test."""


@dataclass(frozen=True)
class Dip:
    """The mean excess over the null in one window, tested against being at or above zero."""

    first: int
    """First step of the window."""
    last: int
    """Last step of the window, which belongs to it."""
    mean: float
    """Mean excess over seeds and steps of the window; negative is below the null."""
    p: float
    """p value of "the mean excess is at or above zero": paired, one-sided t test over seeds."""
    deepest: int
    """Step of the window at which the mean excess over seeds is lowest."""


@dataclass(frozen=True)
class DipSearch:
    """All windows looked at for a dip that nobody placed beforehand."""

    first: int
    """First step of the longest stretch of windows with a dip; NEVER if there is none."""
    last: int
    """Last step of that stretch, which belongs to it; NEVER if there is none."""
    mean: Values
    """[window] mean excess over seeds and steps of the window."""
    p: Values
    """[window] p value of each window alone."""
    p_familywise: Values
    """[window] p times the number of windows (Bonferroni), at most 1; the stretch is where it is at most alpha."""
    width: int
    """How many steps a window has."""
    alpha: float
    """Probability that any window without a dip is called one, at most."""


def plateau(curves: ArrayLike, margin: float, *, width: int, alpha: float = 0.05) -> Plateau:
    """The longest run of windows of curves[seed, step] whose mean slope is shown to lie within -margin..margin.

    Slopes are least-squares slopes of `width` consecutive steps, one per seed and window, tested over seeds. Where
    all seeds agree on a slope, it is within the margin or it is not.
    """
    values = curves_of(curves)
    probability_of(alpha)
    _refuse_margin(margin)
    slopes = window_slopes(values, window_of(width, values.shape[1]))
    p = equivalence_p(slopes, margin)
    start, end = longest_run(p <= alpha)
    return Plateau(
        first=start,
        last=end + width - 1 if end >= 0 else end,
        slope=moments(slopes)[0],
        p=p,
        p_familywise=min(1.0, float(p[start : end + 1].max()) * len(p)) if end >= 0 else 1.0,
        width=width,
        margin=margin,
        alpha=alpha,
    )


def window_slopes(values: Values, width: int) -> Values:
    """Least-squares slope [seed, window] of every window of `width` steps of values[seed, step]."""
    k = np.arange(width) - (width - 1) / 2
    windows = sliding_window_view(values - values[:, :1], width, axis=1)
    return np.asarray(windows @ (k / np.square(k).sum()))


def equivalence_p(values: Values, margin: float) -> Values:
    """P value of "the mean over the first axis is outside -margin..margin": two one-sided t tests, the larger p.

    At most alpha with probability alpha wherever the mean is at or beyond the margin (intersection-union).
    """
    return np.maximum(p_above(values, -margin), p_above(-values, -margin))


def dip(curves: ArrayLike, null: ArrayLike, *, first: int, last: int) -> Dip:
    """Whether curves[seed, step] lie below their null on steps first..last, a window named beforehand.

    Rows are paired: row i of both is the same seed. The p value is exact for normal excesses.
    """
    beyond = excess(curves, null)
    _refuse_outside(first, last, beyond.shape[1])
    inside = beyond[:, first : last + 1]
    per_seed = inside.mean(axis=1)
    return Dip(
        first,
        last,
        mean=float(moments(per_seed)[0]),
        p=float(p_above(-per_seed, 0.0)),
        deepest=first + int(moments(inside)[0].argmin()),
    )


def find_dips(curves: ArrayLike, null: ArrayLike, *, width: int, alpha: float = 0.05) -> DipSearch:
    """Where curves[seed, step] lie below their null, looked for in all windows of `width` steps.

    Corrected for the search: without a dip anywhere, one is found with probability alpha at most.
    """
    probability_of(alpha)
    beyond = excess(curves, null)
    means = sliding_window_view(beyond, window_of(width, beyond.shape[1]), axis=1).mean(axis=-1)
    p = p_above(-means, 0.0)
    familywise = np.minimum(1.0, p * len(p))
    start, end = longest_run(familywise <= alpha)
    return DipSearch(
        first=start,
        last=end + width - 1 if end >= 0 else end,
        mean=moments(means)[0],
        p=p,
        p_familywise=familywise,
        width=width,
        alpha=alpha,
    )


def _refuse_margin(margin: float) -> None:
    if not (margin > 0 and np.isfinite(margin)):
        raise DefinitionError(
            f"The margin is {margin!r}.",
            consequence="No number of seeds could show a slope to be exactly zero.",
            remedy="pass the largest slope, in units per step, that counts as standing still",
        )


def _refuse_outside(first: int, last: int, steps: int) -> None:
    if not 0 <= first <= last < steps:
        raise DefinitionError(
            f"The window {first!r}..{last!r} is not one of steps 0..{steps - 1}.",
            consequence="There is nothing to compare there.",
            remedy="pass its first and last step, both of which belong to it",
        )
