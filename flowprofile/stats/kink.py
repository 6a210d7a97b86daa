"""Where a curve bends: the broken stick, an onset that needs no threshold.

y(k) = a + b k + c max(0, k - kink), fitted by least squares at every possible kink at once. With the line projected
out, the best c at a kink explains (h . y)^2 / (h . h) of the residual, where h is the hinge's own residual: one
matrix product serves all curves and all kinks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from flowprofile.errors import DefinitionError
from flowprofile.stats.curves import NEVER, Steps, Values, curves_of

LEAST_STEPS: Final = 5
"""Two segments with a step of slack on either side."""

ROUNDING: Final = 1e-12
"""A residual that is smaller, relative to the curve's own size, is rounding: the curve is a straight line."""


@dataclass(frozen=True)
class Kinks:
    """The best broken stick of each curve. A description: noise about a line has a best kink too, with a low gain."""

    step: Steps
    """[curve] step of the kink, 1..steps - 2; NEVER for a straight line."""
    before: Values
    """[curve] slope up to the kink, per step."""
    after: Values
    """[curve] slope from the kink on, per step."""
    gain: Values
    """[curve] share of the straight line's squared residual that the kink explains, 0..1."""


def kinks(curves: ArrayLike) -> Kinks:
    """The broken-stick fit of each of curves[curve, step]; for the kink of a mean pass mean[None]."""
    values = curves_of(curves, least_seeds=1)
    steps = values.shape[1]
    _refuse_short(steps)
    k = np.arange(steps, dtype=np.float64)
    line = np.linalg.qr(np.stack([np.ones(steps), k], axis=1))[0]
    hinges = np.maximum(0.0, k - np.arange(1, steps - 1)[:, None])
    bends = hinges - hinges @ line @ line.T
    residual = values - values @ line @ line.T
    lengths = np.square(bends).sum(axis=1)
    explained = np.square(residual @ bends.T) / lengths
    best = explained.argmax(axis=1)
    rows = np.arange(len(values))
    change = (residual @ bends.T)[rows, best] / lengths[best]
    # With the kink taken out, what remains is best met by a line: its slope is the one before.
    before = (values - change[:, None] * hinges[best]) @ _slope(steps)
    left = np.square(residual).sum(axis=1)
    bent = left > np.square(ROUNDING) * np.square(values).sum(axis=1)
    return Kinks(
        step=np.where(bent, best + 1, NEVER).astype(np.int64),
        before=before,
        after=before + np.where(bent, change, 0.0),
        gain=np.divide(explained[rows, best], left, out=np.zeros_like(left), where=bent).clip(0.0, 1.0),
    )


def _slope(steps: int) -> Values:
    """Weights whose product with a curve is its least-squares slope."""
    k = np.arange(steps) - (steps - 1) / 2
    return np.asarray(k / np.square(k).sum())


def _refuse_short(steps: int) -> None:
    if steps < LEAST_STEPS:
        raise DefinitionError(
            f"The curves have {steps} steps.",
            consequence="Two segments would pass through almost any of them.",
            remedy=f"pass curves of at least {LEAST_STEPS} steps",
        )
