"""Every label of a seed against every other: what of a sample the label decides, and from when on.

All functions take one seed's states with the label first, frames[... label time ...], and give [... label other
time] float64: symmetric to the last bit, with a diagonal of exactly 1 (SSIM) or 0 (errors and distances). A value
depends on its own two frames only, so adding a label, or cutting time otherwise, changes no bit of the others.

SSIM needs four filtered planes that belong to one frame alone; they are made once per frame. Distances could share
likewise, ||a||^2 + ||b||^2 - 2 <a, b>, but that subtracts nearly equal numbers exactly where it matters: before
labels diverge. With ||a - b|| = 1e-8 ||a|| all its digits are gone in float64, and a square root may get a negative
number. So differences are always taken directly; only scaling and norms are shared.
"""

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError
from flowprofile.measures import images, layers, windows
from flowprofile.measures.base import Measure, Statistic

Values = NDArray[np.float64]


def ssim(frames: ArrayLike, *, window: int = 7, data_range: float) -> Values:
    """SSIM of all pairs of frames[... label time channel y x], [... label other time]; see `images.ssim`."""
    states = _images(frames)
    pairs = _pairs(states.shape[-5])
    found = windows.between(np.moveaxis(states, -5, -4), pairs, window=window, data_range=data_range)
    return _square(np.moveaxis(found, -1, 0), pairs, _of_itself(states, 1.0, axes=3))


def mse(frames: ArrayLike) -> Values:
    """Mean squared difference of all pairs of frames[... label time channel y x], [... label other time]."""
    return _pointwise(frames, images.mse)


def l1(frames: ArrayLike) -> Values:
    """Mean absolute difference of all pairs of frames[... label time channel y x], [... label other time]."""
    return _pointwise(frames, images.l1)


def psnr(frames: ArrayLike, *, data_range: float) -> Values:
    """10 log10(data_range^2 / mse) in decibels, [... label other time]; infinite between equal images.

    The diagonal is infinite, and so is a pair with one x_T at t = T: results that are stored should hold the MSE.
    """
    return images.psnr_of_mse(mse(frames), data_range=data_range)


def distance(frames: ArrayLike, *, normalise: layers.Normalise = "none", lead: int = 2) -> Values:
    """Layer distance of all pairs of frames[... label time ...], [... label other time]; see `layers.distance`.

    `lead` counts the axes up to and including time; the norm runs over all after it. Every frame is scaled and its
    norm taken once; the values are those of `layers.distance`, bit for bit.
    """
    array = np.asarray(frames)
    if lead < 2:
        raise DefinitionError(
            f"{lead!r} leading axes cannot be a label and a time.",
            consequence="It is not known which frames belong together.",
            remedy="give frames[label time ...] with lead=2, or [seed label time ...] with lead=3",
        )
    flat = layers.rows(array, lead=lead).reshape(*array.shape[:lead], -1)
    states = np.moveaxis(flat, lead - 2, 0).reshape(array.shape[lead - 2], -1, flat.shape[-1])
    pairs = _pairs(len(states))
    found = np.empty((len(pairs), states.shape[1]))
    for part in layers.blocks(states.shape[1:]):
        ready = [layers.prepared(state[part], normalise=normalise) for state in states]
        for p, (one, other) in enumerate(pairs):
            found[p, part] = layers.apart(ready[one], ready[other])
    outer = (*array.shape[: lead - 2], array.shape[lead - 1])
    return _square(found.reshape(len(pairs), *outer), pairs, _of_itself(flat, 0.0, axes=1))


def mean_ssim(*, window: int = 7, data_range: float) -> Measure:
    """The mean over seeds of the SSIM between labels, from frames[seed label time channel y x]."""
    return Measure("ssim", (Statistic.of(ssim, window=window, data_range=data_range),))


def mean_psnr(*, data_range: float) -> Measure:
    """The PSNR of the mean error over seeds, which shares its statistic with `MSE`."""
    return Measure("psnr", MSE.statistics, partial(images.psnr_of_mse, data_range=data_range))


def mean_distance(*, normalise: layers.Normalise = "none") -> Measure:
    """The mean over seeds of the distance between labels, from frames[seed label time ...]."""
    return Measure("distance", (Statistic.of(distance, normalise=normalise, lead=3),))


MSE = Measure("mse", (Statistic.of(mse),))
"""The mean over seeds of the squared error between labels, from frames[seed label time channel y x]."""
L1 = Measure("l1", (Statistic.of(l1),))
"""The mean over seeds of the absolute error between labels, from frames[seed label time channel y x]."""


def _pointwise(frames: ArrayLike, error: Callable[[ArrayLike, ArrayLike], Values]) -> Values:
    states = np.moveaxis(_images(frames).astype(np.float64), -5, 0)
    pairs = _pairs(len(states))
    found = np.empty((len(pairs), *states.shape[1:-3]))
    for p, (one, other) in enumerate(pairs):
        found[p] = error(states[one], states[other])
    return _square(found, pairs, _of_itself(np.moveaxis(states, 0, -5), 0.0, axes=3))


def _images(frames: ArrayLike) -> NDArray[np.generic]:
    array = np.asarray(frames)
    if array.ndim < 5:
        raise DefinitionError(
            f"An array of shape {array.shape!r} holds no labels over time.",
            consequence="It is not known which frames are compared with which.",
            remedy="give [label time channel y x], or [seed label time channel y x]",
        )
    return array


def _pairs(labels: int) -> list[tuple[int, int]]:
    return list(combinations(range(labels), 2))


def _of_itself(states: NDArray[np.generic], same: float, *, axes: int) -> Values:
    """What each frame of states[... label time ...] gives with itself: `same`, or NaN if it is not finite."""
    lead = states.shape[: states.ndim - axes]
    finite = np.isfinite(states).reshape(*lead, prod(states.shape[states.ndim - axes :])).all(axis=-1)
    diagonal: Values = np.where(finite, same, np.nan)
    return diagonal


def _square(found: Values, pairs: list[tuple[int, int]], diagonal: Values) -> Values:
    """found[pair ... time] and diagonal[... label time] as one array [... label other time]."""
    *outer, labels, times = diagonal.shape
    square = np.empty((*outer, labels, labels, times))
    own = np.arange(labels)
    square[..., own, own, :] = diagonal
    for (one, other), values in zip(pairs, found, strict=True):
        square[..., one, other, :] = square[..., other, one, :] = values
    return square
