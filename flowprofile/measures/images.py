"""What SSIM, PSNR, MSE and L1 between two images are: the definitions that faster code is tested against.

All take images[... channel y x] of any float type, compute in float64 and give [...] float64. The range of the
data is always stated: the constants of SSIM and the zero of PSNR are relative to it, and two libraries that guess
it differently draw different curves from the same samples. A pair with a NaN or an infinity in it gives NaN.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError
from flowprofile.measures.ordered import ordered_mean

Values = NDArray[np.float64]


def ssim(one: ArrayLike, other: ArrayLike, *, window: int = 7, data_range: float) -> Values:
    """Wang et al. 2004, Eq. 13, with uniform windows and sample covariance; mean over whole windows and channels.

    The same as skimage's `structural_similarity` with its defaults. The thesis' Eq. 4.1.6 and 4.1.7 are misprints
    of it. For many frames `flowprofile.measures.windows` is an order of magnitude faster.
    """
    if not data_range > 0:
        raise _needs_a_range(data_range)
    a, b = (_windows(image, window) for image in (one, other))
    axes = (-2, -1)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    sample = window**2 / (window**2 - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean_a, mean_b = a.mean(axes, keepdims=True), b.mean(axes, keepdims=True)
        covariance = ((a - mean_a) * (b - mean_b)).mean(axes) * sample
        variances = (a.var(axes) + b.var(axes)) * sample
        mean_a, mean_b = mean_a[..., 0, 0], mean_b[..., 0, 0]
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        result: Values = (luminance * (2 * covariance + c2) / (variances + c2)).mean((-3, -2, -1))
    return result


def mse(one: ArrayLike, other: ArrayLike) -> Values:
    """Mean squared difference over channels and pixels."""
    return _mean_of(one, other, np.square)


def l1(one: ArrayLike, other: ArrayLike) -> Values:
    """Mean absolute difference over channels and pixels."""
    return _mean_of(one, other, np.abs)


def psnr(one: ArrayLike, other: ArrayLike, *, data_range: float) -> Values:
    """10 log10(data_range^2 / mse) in decibels; infinite for identical images."""
    return psnr_of_mse(mse(one, other), data_range=data_range)


def psnr_of_mse(error: ArrayLike, *, data_range: float) -> Values:
    """PSNR as a function of the mean squared error, which is what may be averaged over cases."""
    if not data_range > 0:
        raise _needs_a_range(data_range)
    with np.errstate(divide="ignore"):
        decibels: Values = -10.0 * np.log10(np.asarray(error, dtype=np.float64) / data_range**2)
    return decibels


def _mean_of(one: ArrayLike, other: ArrayLike, change: np.ufunc) -> Values:
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        difference = a - b
        lead = difference.shape[:-3]
        values = ordered_mean(change(difference).reshape(int(np.prod(lead)), -1)).reshape(lead)
    # An infinite difference has an infinite mean, which is not NaN but is not a finding either.
    finite: Values = np.where(np.isfinite(values), values, np.nan)
    return finite


def window_fits(window: int, shape: tuple[int, ...]) -> None:
    """Refuse a window that has no middle, or of which there is none in an image [y, x]."""
    if window % 2 and 3 <= window <= min(shape):
        return
    largest = min(shape) - 1 + min(shape) % 2
    raise DefinitionError(
        f"An SSIM window of {window!r} does not fit images of {shape[0]}x{shape[1]} pixels.",
        consequence="There would be no whole window to average over.",
        remedy="such images are too small for SSIM: use mse"
        if largest < 3
        else f"use an odd window from 3 to {largest}" + ("; the usual one is 7" if largest >= 7 else ""),
    )


def _windows(image: ArrayLike, window: int) -> Values:
    array = np.asarray(image, dtype=np.float64)
    window_fits(window, array.shape[-2:])
    return sliding_window_view(array, (window, window), axis=(-2, -1))


def _needs_a_range(data_range: float) -> DefinitionError:
    return DefinitionError(
        f"The range of the data is needed, and {data_range!r} is not one.",
        consequence="SSIM's constants and PSNR's zero are relative to it.",
        remedy="state it: 1.0 for pixels in [0, 1], 2.0 for [-1, 1]",
    )
