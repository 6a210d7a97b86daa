"""What a curve looks like when no network is involved: the exact posterior towards an image that is already known.

A sampler whose noise estimate is exact for one image x_0 draws from q(x_{t-1} | x_t, x_0). Most of what step SSIM
does over time (the rise, the plateau near t = 250, the dip at the end) appears in that chain already, so every
curve is reported as its excess over it. The chain needs neither network nor torch: it is the same rule, the same
noise, and an eps that is arithmetic.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError, nearest
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import Rule, ddpm, eps_from_x0
from flowprofile.time.schedule import Levels
from flowprofile.time.sources import NoiseBatch

Correlation = Literal["rbf", "exponential"]
"""How pixels of one axis correlate at distance d: exp(-d^2 / 2 l^2) for smooth images, exp(-d / l) for images with
edges."""
_CORRELATIONS: Final[Mapping[str, Any]] = MappingProxyType(
    {"rbf": lambda d: np.exp(-0.5 * d * d), "exponential": lambda d: np.exp(-d)}
)


class PointDenoiser:
    """The exact denoiser of a distribution that is one known image per case.

    Works on NumPy arrays and on torch tensors; x_0 has the type and the shape of the states, [case channel y x].
    """

    def __init__(self, x0: Any, schedule: Levels) -> None:
        self.x0 = x0
        self.schedule = schedule

    def __call__(self, x: Any, t: int) -> Any:
        """eps of x at state t >= 1, such that the predicted image is x_0 itself."""
        return eps_from_x0(x, self.x0, schedule=self.schedule, t=t)


def posterior_chain(
    x0: ArrayLike,
    seeds: Sequence[int],
    *,
    schedule: Levels,
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
        t, x = grid[0], noise(seeds, grid[0], shape) * np.float32(schedule.start)
        yield t, x
    else:
        t, x = start
    for t_to in grid[grid.index(t) + 1 :]:
        x = rule(x, eps(x, t), noise(seeds, t_to, shape), schedule=schedule, t_from=t, t_to=t_to)
        t = t_to
        yield t, x


def label_gap(*, schedule: Levels, grid: Sequence[int], rule: Rule = ddpm) -> dict[int, float]:
    """What share of the difference of two images is left between their chains in each state, {t: share}.

    Two chains that share their noise differ by d_t = share(t) (a - b), whatever that noise is. Hence, without any
    network, between two labels: L1_t = share L1_0, MSE_t = share^2 MSE_0, PSNR_t = PSNR_0 - 20 log10 share. SSIM has
    no such law, since the noise is part of what it compares; its null is taken of two chains.

    In the forward process the share is sqrt(alpha_bar(t)). A sampler starts both chains in *one* x_T, where it is 0
    and not sqrt(alpha_bar(T)); with the rule `ddpm` that leaves
    sqrt(abar_t) - abar_T / sqrt(abar_t) (1 - abar_t) / (1 - abar_T),
    which is 3 % less at t = 800 of the linear schedule and less than 0.2 % less from t = 600 on.
    """
    gap, share = 0.0, {grid[0]: 0.0}
    for t_from, t in pairwise(grid):
        # The chain is linear in image, state and noise: towards an image of ones, from 0, without noise.
        eps = eps_from_x0(gap, 1.0, schedule=schedule, t=t_from)
        gap = float(rule(gap, eps, 0.0, schedule=schedule, t_from=t_from, t_to=t))
        share[t] = gap
    return share


def gaussian_rows(
    pixels: ArrayLike,
    shape: tuple[int, int],
    *,
    length_scale: float,
    sd: float,
    alpha_bar: float,
    factors: tuple[float, float],
    correlation: Correlation = "rbf",
    channels: int = 1,
) -> NDArray[np.float64]:
    """Rows of d x_t / d x_{t+1} if images are Gaussian and the denoiser is exact, [pixel y x] float64.

    The Jacobian is c_x I + c_eps sqrt(1 - abar) (abar C + (1 - abar) I)^-1, where C = sd^2 K (x) K is the
    covariance of an image's pixels with one correlation per axis. So it needs two small eigendecompositions: 64x64
    pixels, whose C has 16.8 million entries, take 1 ms and 0.05 ms more a pixel.

    Parameters
    ----------
    pixels
        Pixels of x_t, [pixel 2] = (y, x).
    shape
        (height, width) of the image.
    length_scale, sd, correlation
        The distance l in pixels over which images vary, their standard deviation, and the form of it.
    alpha_bar
        Of the state t + 1, which the network is shown.
    factors
        (c_x, c_eps) of the step: `.x` and `.eps` of `flowprofile.time.rules.coefficients`. With c_x = 0 the part
        that the network contributes.
    channels
        Colour channels that are summed over as target and as input, each with this covariance and independent of the
        others: it multiplies the rows.
    """
    if correlation not in _CORRELATIONS or not (length_scale > 0 and sd >= 0 and 0 <= alpha_bar < 1):
        raise DefinitionError(
            f"No Gaussian has the correlation {correlation!r}, length {length_scale!r} and sd {sd!r} at"
            f" alpha_bar {alpha_bar!r}.",
            consequence="Its denoiser would have no Jacobian.",
            remedy=f"{nearest(correlation, _CORRELATIONS)}; length_scale > 0, sd >= 0, 0 <= alpha_bar < 1",
        )
    places = np.asarray(pixels, dtype=np.int64).reshape(-1, 2)
    (values_y, vectors_y), (values_x, vectors_x) = (
        _spectrum(size, length_scale, _CORRELATIONS[correlation]) for size in shape
    )
    gain = factors[0] + factors[1] * np.sqrt(1.0 - alpha_bar) / (
        alpha_bar * sd**2 * np.outer(values_y, values_x) + 1.0 - alpha_bar
    )
    left = vectors_y[places[:, 0], None, :] * vectors_y
    right = vectors_x[places[:, 1], None, :] * vectors_x
    rows: NDArray[np.float64] = channels * (left @ gain @ right.transpose(0, 2, 1))
    return rows


def gaussian_fit(
    images: ArrayLike, *, correlation: Correlation = "exponential", lags: int = 8
) -> tuple[float, float]:
    """(sd, length_scale) of the Gaussian that varies like these images[case channel y x], for `gaussian_rows`.

    The mean image is taken away; the length is fitted to the logarithm of the correlations at 1 to `lags` pixels
    along y and x, all channels together, as far as they are positive.
    """
    varied = np.asarray(images, dtype=np.float64)
    varied = varied - varied.mean(axis=0)
    variance = np.square(varied).mean()
    distances = np.arange(1, min(lags + 1, *varied.shape[2:]))
    shared = np.array(
        [
            (np.mean(varied[..., d:, :] * varied[..., :-d, :]) + np.mean(varied[..., d:] * varied[..., :-d]))
            / 2
            for d in distances
        ]
    )
    if not (shared > 0).any():
        raise DefinitionError(
            f"Images of shape {varied.shape!r} do not vary together at any distance up to {lags} pixels.",
            consequence="No Gaussian with a length scale varies like them.",
            remedy="give several different images with neighbouring pixels alike",
        )
    power = 1 if correlation == "exponential" else 2
    known, falls = distances[shared > 0] ** power, -np.log(shared[shared > 0] / variance)
    rate = float((known * falls).sum() / (known * known).sum())
    length = 1.0 / rate if power == 1 else float(np.sqrt(0.5 / rate))
    return float(np.sqrt(variance)), length


def _spectrum(
    size: int, length_scale: float, correlation: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Eigenvalues and eigenvectors of the correlation of one axis; rounding below 0 is cut off."""
    place = np.arange(size)
    values, vectors = np.linalg.eigh(correlation(np.abs(place[:, None] - place) / length_scale))
    return np.clip(values, 0.0, None), vectors
