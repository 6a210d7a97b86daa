"""What a curve looks like when no network is involved: the exact posterior towards an image that is already known.

A sampler whose noise estimate is exact for one image x_0 draws from q(x_{t-1} | x_t, x_0). Most of what step SSIM
does over time (the rise, the plateau near t = 250, the dip at the end) appears in that chain already, so every
curve is reported as its excess over it. The chain needs neither network nor torch: it is the same rule, the same
noise, and an eps that is arithmetic.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import Rule, ddpm, eps_from_x0
from flowprofile.time.schedule import Schedule

NoiseBatch = Callable[[Sequence[int], int, Sequence[int]], NDArray[np.float32]]
"""Noise of several seeds at one t: (seeds, t, shape) -> array[case, *shape]."""


class PointDenoiser:
    """The exact denoiser of a distribution that is one known image per case.

    Works on NumPy arrays and on torch tensors; x_0 has the type and the shape of the states, [case channel y x].
    """

    def __init__(self, x0: Any, schedule: Schedule) -> None:
        self.x0 = x0
        self.schedule = schedule

    def __call__(self, x: Any, t: int) -> Any:
        """eps of x at state t >= 1, such that the predicted image is x_0 itself."""
        return eps_from_x0(x, self.x0, schedule=self.schedule, t=t)


def posterior_chain(
    x0: ArrayLike,
    seeds: Sequence[int],
    *,
    schedule: Schedule,
    grid: Sequence[int],
    rule: Rule = ddpm,
    noise: NoiseBatch = noise_batch,
    start: tuple[int, NDArray[np.float32]] | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The states (t, x_t) that end in the given images, with the noise of the given seeds.

    With the rule `ddpm` this is the exact posterior chain q(x_{t-1} | x_t, x_0) from x_T = z(seed, T); with another
    rule it is that sampler with an all-knowing network. Arrays are [case channel y x] float32; each case's bits
    are independent of the others. Costs about a second for 8 images of 3x32x32 and 1000 steps.

    Parameters
    ----------
    x0, seeds
        The final image and the noise seed of every case.
    schedule, grid, rule, noise
        As in `flowprofile.time.sample.sample`.
    start
        (t, x_t) to resume from; then only the states after t are yielded.
    """
    images = np.asarray(x0, dtype=np.float32)
    if images.ndim < 2 or len(images) != len(seeds):
        raise DefinitionError(
            f"{len(seeds)} seeds do not belong to images of shape {images.shape!r}.",
            consequence="A null uses each sample's own image with its own noise.",
            remedy="give one image per seed, as an array [case channel y x]",
        )
    shape = images.shape[1:]
    eps = PointDenoiser(images, schedule)
    if start is None:
        t, x = grid[0], noise(seeds, grid[0], shape)
        yield t, x
    else:
        t, x = start
    for t_to in grid[grid.index(t) + 1 :]:
        x = rule(x, eps(x, t), noise(seeds, t_to, shape), schedule=schedule, t_from=t, t_to=t_to)
        t = t_to
        yield t, x
