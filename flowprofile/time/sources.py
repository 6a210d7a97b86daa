"""Where a sampler's noise comes from: by default a function of (seed, t), for old runs a generator of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.time.noise import SCHEME, noise_batch

ROOM: Final = 64 << 20
"""Bytes of noise that a run may keep for those who ask again."""

NoiseBatch = Callable[[Sequence[int], int, Sequence[int]], NDArray[np.float32]]
"""Noise of several seeds at one t: (seeds, t, shape) -> array[case, *shape]."""


@dataclass(frozen=True)
class Noise:
    """A source of noise with its name."""

    scheme: str
    """Says how the numbers are made; part of every key."""
    batch: NoiseBatch = field(compare=False)


@dataclass
class Remembered:
    """A source that still knows what it drew last for the same seeds: a null and a changed run ask for it again.

    The states drawn first are kept, as far as `ROOM` goes; other seeds make it forget them all.
    """

    draw: NoiseBatch
    room: int = ROOM
    """Bytes it may keep."""
    _of: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Seeds and shape of what is kept."""
    _kept: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, seeds: Sequence[int], t: int, shape: Sequence[int]) -> NDArray[np.float32]:
        """Noise in memory of the caller's own."""
        of = tuple(seeds), tuple(shape)
        if of != self._of:
            self._of = of
            self._kept.clear()
        if t in self._kept:
            return self._kept[t].copy()
        drawn = self.draw(seeds, t, shape)
        if (len(self._kept) + 1) * drawn.nbytes <= self.room:
            self._kept[t] = drawn.copy()
        return drawn


PHILOX: Final = Noise(SCHEME, noise_batch)
"""The default: z is a function of (seed, t) and of nothing else."""
