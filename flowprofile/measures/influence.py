"""How far a pixel's influence reaches: radii of the rows of d x_t / d x_{t+1}, each around its own pixel.

The thesis counts the pixels above a fixed threshold (Fig 5.8) and reads "local early, spread late" off the count.
For an exact Gaussian denoiser the very same count grows towards t = 0 while the true radius *shrinks*: late steps have
larger entries, not farther ones. So what is measured here does not change if a row is multiplied by any number. Its
null is `flowprofile.measures.nulls.gaussian_rows`.

All functions take rows[... pixel y x] of any float type, reduced over input channels, and the pixels they belong
to, pixels[pixel 2] = (y, x). The off-diagonal part is the row without its own pixel; that is where the identity
sits, so it does not matter whether the rows contain it. The reach is bounded by the image: around the middle of
64x64 pixels a uniform row has the radius 26. Everything is float64, and a row has the same bits in any company.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError, nearest
from flowprofile.measures.base import Measure, Statistic
from flowprofile.measures.ordered import ordered_mean, ordered_sum

Values = NDArray[np.float64]
Weight = Literal["squared", "absolute"]
"""What a distance is weighed by. `squared` follows the strong entries; `absolute` gives the faint, wide floor more
say, and with it the ringing of a sharp filter and the rounding of the network."""


def radius(rows: ArrayLike, pixels: ArrayLike, *, weight: Weight = "squared") -> Values:
    """Root mean square distance from its pixel of a row's off-diagonal weight, [... pixel] in pixels.

    0 where there is no off-diagonal weight at all; NaN where a row holds a NaN or an infinity.

    >>> row = np.zeros((1, 5, 5))
    >>> row[0, 2, 2], row[0, 2, 4], row[0, 2, 0] = 9.0, -1.0, 1.0
    >>> radius(row, [(2, 2)]).tolist()
    [2.0]
    """
    return radius_of(mass(rows, pixels, weight=weight), moment(rows, pixels, weight=weight))


def mass(rows: ArrayLike, pixels: ArrayLike, *, weight: Weight = "squared") -> Values:
    """Sum of a row's off-diagonal weight, [... pixel]."""
    return _gathered(rows, pixels, weight=weight, power=0)


def moment(rows: ArrayLike, pixels: ArrayLike, *, weight: Weight = "squared") -> Values:
    """Sum of a row's off-diagonal weight times squared distance, [... pixel] in square pixels."""
    return _gathered(rows, pixels, weight=weight, power=1)


def radius_of(total: ArrayLike, second: ArrayLike) -> Values:
    """The radius as a function of mass and moment, which are what may be averaged over cases."""
    m, s = np.asarray(total, dtype=np.float64), np.asarray(second, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        found: Values = np.sqrt(s / np.where(m == 0.0, 1.0, m))
    return found


def pooled_radius(*, weight: Weight = "squared") -> Measure:
    """The radius of all cases' weight together, from (rows, pixels).

    Cases count by their weight; the plain mean of radii is `Statistic.of(radius)`.
    """
    return Measure(
        "radius", (Statistic.of(mass, weight=weight), Statistic.of(moment, weight=weight)), radius_of
    )


def mass_radii(
    rows: ArrayLike, pixels: ArrayLike, *, shares: Sequence[float] = (0.5, 0.9), weight: Weight = "squared"
) -> Values:
    """The least radius within which at least this share of a row's off-diagonal weight lies, [... pixel share].

    Distances on a grid are roots of whole numbers, so the result moves in steps. 0 where there is no off-diagonal
    weight; NaN where a row holds a NaN or an infinity.
    """
    if not shares or not all(0.0 < share <= 1.0 for share in shares):
        raise DefinitionError(
            f"The shares {tuple(shares)!r} are not all between 0 and 1.",
            consequence="No radius holds such a share of the weight.",
            remedy="use shares such as (0.5, 0.9)",
        )
    found = []
    for weights, squared in _off_diagonal(rows, pixels, weight=weight):
        # Nearest first, from the pixel itself: its weight is 0, so a row without any weight is reached there.
        order = np.argsort(squared, kind="stable")
        radii, within = np.sqrt(squared[order]), np.cumsum(weights[:, order], axis=1)
        total = within[:, -1:]
        reached = np.stack([radii[(within >= share * total).argmax(axis=1)] for share in shares], axis=-1)
        found.append(np.where(np.isfinite(total), reached, np.nan))
    lead = np.shape(rows)[:-3]
    return np.stack(found, axis=1).reshape(*lead, len(found), len(shares))


def thesis_count(rows: ArrayLike, *, above_mean: float = 1e-3) -> NDArray[np.int64]:
    """How many pixels of each row exceed the row's mean by 1e-3, [... pixel]: the thesis' reading, for comparison.

    It counts the pixel itself, and it is *not* a measure of reach: it depends on the row's scale, which the step's own
    factors change by orders of magnitude over time. -1 where a row holds a NaN or an infinity.
    """
    array = np.asarray(rows, dtype=np.float64)
    lead = array.shape[:-2]
    flat = array.reshape(prod(lead), -1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = ordered_mean(flat.copy())
        counts = (flat > (mean + above_mean)[:, None]).sum(axis=1)
    return np.where(np.isfinite(mean), counts, -1).astype(np.int64).reshape(lead)


def _gathered(rows: ArrayLike, pixels: ArrayLike, *, weight: Weight, power: Literal[0, 1]) -> Values:
    found = []
    with np.errstate(invalid="ignore", over="ignore"):
        for weights, squared in _off_diagonal(rows, pixels, weight=weight):
            found.append(ordered_sum(weights * squared**power))
    values = np.stack(found, axis=1).reshape(np.shape(rows)[:-2])
    return np.where(np.isfinite(values), values, np.nan)


def _off_diagonal(rows: ArrayLike, pixels: ArrayLike, *, weight: Weight) -> Iterator[tuple[Values, Values]]:
    """For every pixel its rows' weights without its own, [row y*x], and squared distances from it, [y*x]."""
    array, places = np.asarray(rows), np.asarray(pixels)
    _valid(array, places, weight)
    *_, count, height, width = array.shape
    flat = array.reshape(-1, count, height * width)
    y, x = (axis.ravel() for axis in np.indices((height, width)))
    for k, (own_y, own_x) in enumerate(places.tolist()):
        values = flat[:, k].astype(np.float64)
        own = own_y * width + own_x
        # A lost number at the pixel itself is left out of no sum: it says that the row is not to be trusted.
        values[:, own] = np.where(np.isfinite(values[:, own]), 0.0, np.nan)
        with np.errstate(over="ignore"):
            weights = np.square(values) if weight == "squared" else np.abs(values)
        yield weights, ((y - own_y) ** 2 + (x - own_x) ** 2).astype(np.float64)


def _valid(rows: NDArray[Any], pixels: NDArray[Any], weight: str) -> None:
    if weight not in get_args(Weight):
        raise DefinitionError(
            f"There is no weight {weight!r}.",
            consequence="It is not known what a distance counts for.",
            remedy=nearest(weight, get_args(Weight)),
        )
    fits = rows.ndim >= 3 and rows.size > 0 and pixels.shape == (rows.shape[-3], 2)
    if not fits or not np.issubdtype(pixels.dtype, np.integer):
        raise DefinitionError(
            f"Rows of shape {rows.shape!r} and pixels of {pixels.shape!r}, {pixels.dtype}, do not belong together.",
            consequence="A radius is taken around the pixel that a row belongs to.",
            remedy="give rows[... pixel y x] and whole numbers pixels[pixel 2] = (y, x)",
        )
    wrong = pixels[((pixels < 0) | (pixels >= np.array(rows.shape[-2:]))).any(axis=1)]
    if len(wrong):
        raise DefinitionError(
            f"Pixel {tuple(wrong[0].tolist())!r} lies outside of rows of {rows.shape[-2]}x{rows.shape[-1]}.",
            consequence="There is no entry of the pixel itself to leave out.",
            remedy="give (y, x), in this order, counted from 0",
        )
