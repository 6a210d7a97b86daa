"""Where a sampler's noise comes from: by default a function of (seed, t), for old runs a generator of their own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.time.noise import SCHEME, noise_batch

NoiseBatch = Callable[[Sequence[int], int, Sequence[int]], NDArray[np.float32]]
"""Noise of several seeds at one t: (seeds, t, shape) -> array[case, *shape]."""


@dataclass(frozen=True)
class Noise:
    """A source of noise with its name."""

    scheme: str
    """Says how the numbers are made; part of every key."""
    batch: NoiseBatch = field(compare=False)


PHILOX: Final = Noise(SCHEME, noise_batch)
"""The default: z is a function of (seed, t) and of nothing else."""
