"""How much signal and how much noise a state holds: beta and alpha-bar, in one indexing.

Papers number the betas 0..T-1 and the states 0..T, and a formula copied with the wrong one of the two is off by
one step without looking wrong. Here `alpha_bar` takes a *state* t in 0..T with alpha_bar(0) = 1, and `beta` takes
the *network index* i in 0..T-1 of the transition from state i + 1 to state i. No other convention exists.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from flowprofile.errors import DefinitionError, nearest

Says: TypeAlias = Literal["eps", "velocity", "eps and variance"]
"""What a denoiser says of a state: eps; eps - x_0 where states lie on straight lines from noise to image; or eps, and in
as many channels behind it where between two variances that of a step lies (Nichol & Dhariwal 2021, Eq. 15)."""


class Levels(Protocol):
    """What the states of a sampler hold: x_t = signal(t) x_0 + noise(t) eps."""

    @property
    def T(self) -> int:
        """Number of transitions of the schedule that the network was trained for."""
        ...

    @property
    def start(self) -> float:
        """Standard deviation of the first state."""
        ...

    def signal(self, t: int) -> float:
        """Factor of x_0 in state t."""
        ...

    def noise(self, t: int) -> float:
        """Factor of eps in state t."""
        ...

    def alpha_bar(self, t: int) -> float:
        """Fraction of the state's variance that is signal."""
        ...

    @property
    def says(self) -> Says:
        """What a denoiser says in these states."""
        ...

    def coords(self, times: Sequence[int]) -> dict[str, np.ndarray]:
        """What stands beside t along time."""
        ...


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

    @property
    def start(self) -> float:
        """Standard deviation of the first state."""
        return 1.0

    @property
    def says(self) -> Says:
        """A denoiser says eps."""
        return "eps"

    def signal(self, t: int) -> float:
        """Factor of x_0 in state t."""
        return math.sqrt(self.alpha_bar(t))

    def noise(self, t: int) -> float:
        """Factor of eps in state t: the standard deviation of its noise."""
        return math.sqrt(1.0 - self.alpha_bar(t))

    def coords(self, times: Sequence[int]) -> dict[str, np.ndarray]:
        """What stands beside t along time: alpha_bar."""
        return {"alpha_bar": np.array([self.alpha_bar(t) for t in times], dtype=np.float64)}

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


def linear(T: int = 1000, first: float = 1e-4, last: float = 0.02) -> Schedule:
    """Ho et al. 2020: beta from 1e-4 to 0.02 in equal steps, the ends being the same for every T.

    >>> round(linear().alpha_bar(800), 6)
    0.001532
    """
    return Schedule(
        _called("linear", first, last, 1e-4, 0.02), tuple(np.linspace(first, last, _positive(T)).tolist())
    )


def scaled_linear(T: int = 1000, first: float = 0.00085, last: float = 0.012) -> Schedule:
    """Rombach et al. 2022: the square root of beta in equal steps; the ends are those of Stable Diffusion."""
    roots = np.linspace(math.sqrt(first), math.sqrt(last), _positive(T))
    return Schedule(_called("scaled_linear", first, last, 0.00085, 0.012), tuple((roots**2).tolist()))


def cosine(T: int = 1000) -> Schedule:
    """Nichol & Dhariwal 2021, Eq. 17: alpha-bar falls like a squared cosine; beta is capped at 0.999."""

    def level(t: int) -> float:
        return math.cos((t / T + 0.008) / 1.008 * math.pi / 2) ** 2

    return Schedule("cosine", tuple(min(1.0 - level(i + 1) / level(i), 0.999) for i in range(_positive(T))))


SCHEDULES: Final[Mapping[str, Callable[..., Schedule]]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
}
_WITH_ENDS: Final = re.compile(r"(linear|scaled_linear)\(([^,()]+),([^,()]+)\)")


def schedule(name: str, T: int = 1000) -> Schedule:
    """The schedule of this name with T transitions.

    A name may say the first and the last beta, where they are not the usual ones:

    >>> schedule("linear(0.0015, 0.0195)").beta(0)
    0.0015
    """
    ends: tuple[float, ...] = ()
    kind = name
    if match := _WITH_ENDS.fullmatch(name):
        with suppress(ValueError):
            kind, ends = match[1], (float(match[2]), float(match[3]))
    if kind not in SCHEDULES:
        raise DefinitionError(
            f"There is no schedule {name!r}.",
            consequence="Without alpha-bar no state can be sampled.",
            remedy=nearest(name, SCHEDULES),
        )
    return SCHEDULES[kind](T, *ends)


def _called(kind: str, first: float, last: float, *usual: float) -> str:
    return kind if (first, last) == usual else f"{kind}({first!r}, {last!r})"


def _positive(T: int) -> int:
    if T < 1:
        raise DefinitionError(
            f"A schedule of T = {T!r} steps is empty.",
            consequence="There would be no transition from noise to image.",
            remedy="use T >= 1; the embedded models have T = 1000",
        )
    return T
