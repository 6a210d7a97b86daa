"""What an intervention changes where it was aimed at, and what it changes elsewhere.

The thesis removes an artefact by ablating one channel and shows that the artefact is gone (Fig 5.12); detail went
with it. A change inside the mask is a finding only beside the change outside.
"""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError
from flowprofile.measures.base import Measure, Statistic
from flowprofile.measures.ordered import ordered_sum

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """Mean absolute change of two images on either side of a mask's edge."""

    inside: Values
    """Mean over channels and the mask's pixels, [...]; NaN where one of these is not finite."""
    outside: Values
    """Mean over channels and all other pixels, [...]; NaN where one of these is not finite."""
    pixels_inside: NDArray[np.int64]
    """Pixels in the mask: a number, or [case] if each case has a mask of its own."""
    pixels_outside: NDArray[np.int64]
    """Pixels not in it."""


def change(one: ArrayLike, other: ArrayLike, mask: ArrayLike) -> Change:
    """Mean absolute change between images[... channel y x] inside and outside of a mask.

    The mask is boolean, [y x], or [case y x] with a mask for every entry of the images' first axis. A mask that is
    empty or everything is refused: one of the two means would be of nothing. In float64; a case has the same bits
    in any company.
    """
    a, b = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    chosen = np.asarray(mask)
    _valid(a, b, chosen)
    inside = chosen.sum(axis=(-2, -1), dtype=np.int64)
    outside = prod(chosen.shape[-2:]) - inside
    _refuse_empty(inside, outside)
    # [case y x] stands beside [case ... channel y x]: its axes in between have one entry.
    spread = chosen if chosen.ndim == 2 else chosen.reshape(len(chosen), *(1,) * (a.ndim - 3), *a.shape[-2:])
    counts = (n.reshape(n.shape + (1,) * max(0, a.ndim - 4)) if n.ndim else n for n in (inside, outside))
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
        # A choice, not a product: NaN times 0 would carry a lost number across the mask's edge.
        values = [
            _sum(np.where(part, difference, 0.0)) / (a.shape[-3] * n)
            for part, n in zip((spread, ~spread), counts, strict=True)
        ]
    return Change(_finite(values[0]), _finite(values[1]), inside, outside)


def inside(one: ArrayLike, other: ArrayLike, mask: ArrayLike) -> Values:
    """Mean absolute change inside the mask, [...]; see `change`."""
    return change(one, other, mask).inside


def outside(one: ArrayLike, other: ArrayLike, mask: ArrayLike) -> Values:
    """Mean absolute change outside the mask, [...]; see `change`."""
    return change(one, other, mask).outside


def _ratio(mean_inside: Values, mean_outside: Values) -> Values:
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Values = mean_inside / mean_outside
    return values


INSIDE = Measure("change_inside", (Statistic.of(inside),))
"""The mean over cases of the change inside the mask."""
OUTSIDE = Measure("change_outside", (Statistic.of(outside),))
"""The mean over cases of the change outside of it."""
SELECTIVITY = Measure("selectivity", (*INSIDE.statistics, *OUTSIDE.statistics), _ratio)
"""Mean change inside over mean change outside: 1 for a change that does not know of the mask, infinite if only the
mask's pixels change, NaN if nothing does. A ratio of means, since the ratio of a single case can be anything."""


def _sum(values: Values) -> Values:
    lead = values.shape[:-3]
    total: Values = ordered_sum(values.reshape(prod(lead), -1)).reshape(lead)
    return total


def _finite(values: Values) -> Values:
    finite: Values = np.where(np.isfinite(values), values, np.nan)
    return finite


def _valid(a: Values, b: Values, mask: NDArray[np.generic]) -> None:
    if mask.dtype != np.bool_:
        raise DefinitionError(
            f"A mask of type {str(mask.dtype)!r} is not boolean.",
            consequence="Strokes of 0..255, or area shares, would weigh pixels that were only to be chosen.",
            remedy="compare it with a threshold first, such as mask > 0",
        )
    fits = mask.shape == a.shape[-2:] or (a.ndim > 3 and mask.shape == (a.shape[0], *a.shape[-2:]))
    if a.shape != b.shape or a.ndim < 3 or not fits:
        raise DefinitionError(
            f"Images of shape {a.shape!r} and {b.shape!r} and a mask of {mask.shape!r} do not belong together.",
            consequence="The change would be taken at other pixels than the mask shows.",
            remedy="give two images [... channel y x] and a mask [y x], or [case y x] with one mask a case",
        )


def _refuse_empty(inside: NDArray[np.int64], outside: NDArray[np.int64]) -> None:
    for n, where in ((inside, "inside"), (outside, "outside")):
        if not n.all():
            cases = np.flatnonzero(n == 0).tolist() if n.ndim else []
            raise DefinitionError(
                f"The mask has no pixel {where} of it" + (f" in case {cases[0]}." if cases else "."),
                consequence=f"The mean change {where} would be a mean of nothing.",
                remedy="draw a mask that holds some of the pixels, but not all",
                evidence=f"{len(cases)} of {n.size} masks" if cases else "",
            )
