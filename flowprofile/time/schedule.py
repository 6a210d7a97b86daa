"""How much signal and how much noise a state holds: beta and alpha-bar, in one indexing.

Papers number the betas 0..T-1 and the states 0..T, and a formula copied with the wrong one of the two is off by
one step without looking wrong. Here `alpha_bar` takes a *state* t in 0..T with alpha_bar(0) = 1, and `beta` takes
the *network index* i in 0..T-1 of the transition from state i + 1 to state i. No other convention exists.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from flowprofile.errors import DefinitionError, nearest


@dataclass(frozen=True)
class Schedule:
    """The forward process q(x_t | x_0) = N(sqrt(alpha_bar(t)) x_0, (1 - alpha_bar(t)) I)."""

    name: str
    """Name under which `schedule` finds it; with T it is the schedule's whole identity."""
    betas: tuple[float, ...] = field(repr=False)
    """Variance added by each forward transition; entry i leads from state i to state i + 1."""
    _alpha_bars: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.betas or not all(0.0 < beta < 1.0 for beta in self.betas):
            raise DefinitionError(
                f"Schedule {self.name!r} has {len(self.betas)} betas, and not all lie between 0 and 1.",
                consequence="A state would hold no signal, or a negative amount of noise.",
                remedy="give at least one beta, each with 0 < beta < 1",
            )
        products = np.cumprod(1.0 - np.asarray(self.betas, dtype=np.float64))
        object.__setattr__(self, "_alpha_bars", (1.0, *products.tolist()))

    @property
    def T(self) -> int:
        """Number of transitions; states are 0..T."""
        return len(self.betas)

    def alpha_bar(self, t: int) -> float:
        """Fraction of the signal's variance left in state t."""
        if not 0 <= t <= self.T:
            raise DefinitionError(
                f"State t = {t!r} is not one of 0 .. {self.T}.",
                consequence=f"Schedule {self.name!r} says nothing about it.",
                remedy=f"use t = {self.T} for noise and t = 0 for the image",
            )
        return self._alpha_bars[t]

    def sigma(self, t: int) -> float:
        """Standard deviation of the noise in state t."""
        return math.sqrt(1.0 - self.alpha_bar(t))

    def beta(self, i: int) -> float:
        """Variance of the forward transition from state i to state i + 1."""
        if not 0 <= i < self.T:
            raise DefinitionError(
                f"Network index i = {i!r} is not one of 0 .. {self.T - 1}.",
                consequence="There is no transition with this number.",
                remedy="the transition t + 1 -> t has index t",
            )
        return self.betas[i]

    def posterior_variance(self, i: int) -> float:
        """Variance of q(x_i | x_{i+1}, x_0): Ho et al. 2020, Eq. 7. Zero at i = 0, so the last step has no noise."""
        return self.beta(i) * (1.0 - self.alpha_bar(i)) / (1.0 - self.alpha_bar(i + 1))


def linear(T: int = 1000) -> Schedule:
    """Ho et al. 2020: beta from 1e-4 to 0.02 in equal steps, the ends being the same for every T.

    >>> round(linear().alpha_bar(800), 6)
    0.001532
    """
    return Schedule("linear", tuple(np.linspace(1e-4, 0.02, _positive(T)).tolist()))


def cosine(T: int = 1000) -> Schedule:
    """Nichol & Dhariwal 2021, Eq. 17: alpha-bar falls like a squared cosine; beta is capped at 0.999."""

    def level(t: int) -> float:
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    return Schedule("cosine", tuple(min(1.0 - level(i + 1) / level(i), 0.999) for i in range(_positive(T))))


SCHEDULES: Final[Mapping[str, Callable[[int], Schedule]]] = {"linear": linear, "cosine": cosine}


def schedule(name: str, T: int = 1000) -> Schedule:
    """The schedule of this name with T transitions."""
    if name not in SCHEDULES:
        raise DefinitionError(
            f"There is no schedule {name!r}.",
            consequence="Without alpha-bar no state can be sampled.",
            remedy=nearest(name, SCHEDULES),
        )
    return SCHEDULES[name](T)


def _positive(T: int) -> int:
    if T < 1:
        raise DefinitionError(
            f"A schedule of T = {T!r} steps is empty.",
            consequence="There would be no transition from noise to image.",
            remedy="use T >= 1; the embedded models have T = 1000",
        )
    return T
