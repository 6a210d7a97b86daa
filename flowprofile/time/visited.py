"""The states of a sampler that keeps a time grid of its own.

Schedulers of other libraries number their steps in their own way: fractions of a step, sigmas, the same time twice.
A profile's time axis is one of whole states that fall from noise to image, so each visited state gets a number t, as
near as can be to the network's own time plus one, and what it truly is stands beside it: how much signal and noise it
holds, and the time that the network is told.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from flowprofile.errors import DefinitionError
from flowprofile.time.schedule import Says

EXPLODING: Final = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
"""Schedulers whose states are x_0 + sigma eps: their variance is 1 + sigma^2 times an image's."""


@dataclass(frozen=True)
class Visited:
    """States x_t = signal(t) x_0 + noise(t) eps, by position from noise to image."""

    T: int
    """Steps of the schedule the network was trained for."""
    states: tuple[int, ...]
    """Their numbers, descending to 0."""
    signals: tuple[float, ...]
    noises: tuple[float, ...]
    timesteps: tuple[float, ...]
    """What the network is told in each state but the last, which is the image."""
    scales: tuple[float, ...]
    """What each state but the last is multiplied by before the network sees it."""
    start: float = 1.0
    """Standard deviation of the first state."""
    says: Says = "eps"
    """What a denoiser says of them. Of a velocity, they lie on straight lines: signal + noise is one."""

    @cached_property
    def _places(self) -> dict[int, int]:
        return {t: place for place, t in enumerate(self.states)}

    def place(self, t: int) -> int:
        """Position of state t from noise to image."""
        if t not in self._places:
            raise DefinitionError(
                f"State t = {t!r} is not one the sampler visits.",
                consequence="How much noise it holds is not known.",
                remedy=f"use one of its {len(self.states)} states, from {self.states[0]} down to 0",
            )
        return self._places[t]

    def signal(self, t: int) -> float:
        """Factor of x_0 in state t."""
        return self.signals[self.place(t)]

    def noise(self, t: int) -> float:
        """Factor of eps in state t."""
        return self.noises[self.place(t)]

    def alpha_bar(self, t: int) -> float:
        """Fraction of the state's variance that is signal, whatever the state's scale."""
        signal, noise = self.signal(t), self.noise(t)
        return signal**2 / (signal**2 + noise**2)

    def coords(self, times: Sequence[int]) -> dict[str, np.ndarray]:
        """What stands beside t along time: alpha_bar, sigma = noise / signal, and the time the network is told.

        On straight lines sigma is noise itself: the first state holds no signal that it could be divided by. The network is told nothing in the image: its timestep is NaN.
        """
        places = [self.place(t) for t in times]
        per = [1.0] * len(self.signals) if self.says == "velocity" else self.signals
        told = (*self.timesteps, math.nan)
        return {
            "alpha_bar": np.array([self.alpha_bar(t) for t in times], dtype=np.float64),
            "sigma": np.array([self.noises[at] / per[at] for at in places], dtype=np.float64),
            "timestep": np.array([told[at] for at in places], dtype=np.float64),
        }


def numbered(timesteps: Sequence[float], T: int) -> tuple[int, ...]:
    """Numbers of the states in which the network is told these times, and 0 behind them.

    Each is the next whole number above the time, or more where a later state would have the same.

    >>> numbered([999.0, 666.5, 333.0, 333.0], 1000)
    (1000, 667, 335, 334, 0)
    """
    found = [0]
    for told in reversed(timesteps):
        found.append(max(min(math.floor(told) + 1, T), found[-1] + 1))
    if found[-1] > T:
        raise DefinitionError(
            f"A sampler of {len(timesteps)} steps does not fit the {T} states of its schedule.",
            consequence="Two of its states would have one number.",
            remedy=f"use fewer steps, or a spacing that uses the whole of 0 .. {T}",
        )
    return tuple(reversed(found))
