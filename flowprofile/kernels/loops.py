"""The lines of `flowprofile.measures.windows` as plain loops, which numba compiles where it is installed.

A few rows of column sums at a time are summed along the rows and used at once, while they are in the cache. Every number is made by the same operations in the same order as there, none is contracted or reassociated
(fastmath is off), so a value has the same bits. Without numba the loops run as they are, which only a test wants.

Importing this module imports numba (half a second); `flowprofile.kernels.fused` does so when it is worth it.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

try:
    import numba  # type: ignore[import-not-found,import-untyped,unused-ignore] # the extra `fast` brings it
except ImportError:  # not installed, or one that refuses this NumPy
    numba = None

COMPILED: Final = numba is not None
"""Whether these loops are worth calling."""
FAILURES: Final[tuple[type[Exception], ...]] = (
    () if numba is None else (numba.core.errors.NumbaError, OSError)
)
"""How compiling, or keeping what was compiled, can fail."""
WINDOW: Final = 7
"""Side of a window in pixels: the sums below are written out for this one."""
_REACH: Final = WINDOW - 1
_HELD: Final = 768
"""Column sums held at once, whole rows of them: they fit the first-level cache with what is summed."""
PAD: Final = 72
"""Unused numbers after each plane: planes a whole number of memory pages apart would evict each other."""

Plane = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])


def _compiled(function: Function) -> Function:
    """The function as numba makes it, kept on disk where a folder can be written."""
    if numba is None:
        return function
    # NumPy's division: one by zero is an infinity. A check for it would keep the loop from being vectorised.
    options = {"nogil": True, "error_model": "numpy", "fastmath": False}
    made: Function
    try:
        made = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        made = numba.njit(**options)(function)
    return made


# Slices instead of sums of indices, and few arrays in one loop: only such loops become vector instructions.


@_compiled
def _load(pixels: NDArray[Any], plane: Plane, squares: Plane) -> None:
    for i in range(len(plane)):
        value = np.float64(pixels[i])
        plane[i] = value
        squares[i] = value * value


@_compiled
def _multiply(one: Plane, other: Plane, out: Plane) -> None:
    for i in range(len(out)):
        out[i] = one[i] * other[i]


@_compiled
def _copy(values: Plane, out: Plane) -> None:
    for i in range(len(out)):
        out[i] = values[i]


@_compiled
def _sum_columns(p: Plane, width: int, out: Plane) -> None:
    """out[i] = p[i] + p[i + width] + ..., seven terms, paired as `Windows._sum_runs` pairs them."""
    p1, p2, p3 = p[width:], p[2 * width :], p[3 * width :]
    p4, p5, p6 = p[4 * width :], p[5 * width :], p[6 * width :]
    for i in range(len(out)):
        out[i] = (p[i] + (p1[i] + p2[i])) + ((p3[i] + p4[i]) + (p5[i] + p6[i]))


@_compiled
def _sum_rows(p: Plane, out: Plane) -> None:
    """The sums of whole windows from the sums of their columns."""
    p1, p2, p3, p4, p5, p6 = p[1:], p[2:], p[3:], p[4:], p[5:], p[6:]
    for i in range(len(out)):
        out[i] = (p[i] + (p1[i] + p2[i])) + ((p3[i] + p4[i]) + (p5[i] + p6[i]))


@_compiled
def _variances(p: Plane, totals: Plane, out: Plane, inverse: float, c2: float) -> None:
    p1, p2, p3, p4, p5, p6 = p[1:], p[2:], p[3:], p[4:], p[5:], p[6:]
    for i in range(len(out)):
        squares = (p[i] + (p1[i] + p2[i])) + ((p3[i] + p4[i]) + (p5[i] + p6[i]))
        out[i] = (squares - (totals[i] * totals[i]) * inverse) + c2


@_compiled
def _ratios(
    p: Plane,
    one: Plane,
    other: Plane,
    var: Plane,
    var_other: Plane,
    out: Plane,
    inverse: float,
    constants: Any,
) -> None:
    """A quarter of the SSIM of each window, from the column sums of the product and the moments of both frames."""
    c1, c2 = constants
    p1, p2, p3, p4, p5, p6 = p[1:], p[2:], p[3:], p[4:], p[5:], p[6:]
    for i in range(len(out)):
        cross = (p[i] + (p1[i] + p2[i])) + ((p3[i] + p4[i]) + (p5[i] + p6[i]))
        a, b = one[i], other[i]
        means = a * b
        above = (means + c1) * ((cross - means * inverse) + c2)
        out[i] = above / (((a * a + c1) + (b * b + c1)) * (var[i] + var_other[i]))


@_compiled
def _ordered_sum(values: Plane) -> float:
    """`flowprofile.measures.ordered.ordered_sum` of one row. Overwrites `values`."""
    length = len(values)
    while length > 1:
        half = length // 2
        low, high = values[:half], values[length - half : length]
        for i in range(half):
            low[i] += high[i]
        length -= half
    return float(values[0])


@_compiled
def _keep(frame: Any, kept: Any, scratch: Any, inverse: float, c2: float) -> None:
    """Fill kept[pixels | sums | variances, channel, plane] with one frame [channel y x]."""
    channels, height, width = frame.shape
    size, whole = height * width, (height - _REACH) * width
    squares = scratch[0, :size]
    block = max(1, _HELD // width) * width
    for c in range(channels):
        plane = kept[0, c, :size]
        _load(frame[c].reshape(size), plane, squares)
        for start in range(0, whole, block):
            stop = min(whole, start + block)
            down = scratch[1, : stop - start]
            total = kept[1, c, start : stop - _REACH]
            _sum_columns(plane[start : stop + _REACH * width], width, down)
            _sum_rows(down, total)
            _sum_columns(squares[start : stop + _REACH * width], width, down)
            _variances(down, total, kept[2, c, start : stop - _REACH], inverse, c2)


@_compiled
def _mean_ssim(
    one: Any, other: Any, side: tuple[int, int], scratch: Any, result: Plane, inverse: float, constants: Any
) -> float:
    """SSIM of two kept frames; `result` has a number for every whole window of every channel."""
    height, width = side
    size, whole, wide = height * width, (height - _REACH) * width, width - _REACH
    product = scratch[0, :size]
    block = max(1, _HELD // width) * width
    at = 0
    for c in range(one.shape[1]):
        _multiply(one[0, c, :size], other[0, c, :size], product)
        for start in range(0, whole, block):
            stop = min(whole, start + block)
            down = scratch[1, : stop - start]
            _sum_columns(product[start : stop + _REACH * width], width, down)
            last = stop - _REACH
            quarters = scratch[2, : last - start]
            _ratios(
                down,
                one[1, c, start:last],
                other[1, c, start:last],
                one[2, c, start:last],
                other[2, c, start:last],
                quarters,
                inverse,
                constants,
            )
            for first in range(0, stop - start, width):
                _copy(quarters[first : first + wide], result[at : at + wide])
                at += wide
    return _ordered_sum(result) / len(result) * 4.0


@_compiled
def compare(
    frames: Any, slots: Any, pairs: Any, kept: Any, scratch: Any, result: Plane, constants: Any, out: Any
) -> None:
    """SSIM of pairs of members of each row: frames[row member channel y x] -> out[row pair].

    A member is filtered once, into kept[slots[member]]; pairs[pair 2] are in the order of their later member, and
    must use a slot before it is filled again. scratch[3 plane], result[windows of all channels] and
    kept[slot 3 channel plane] have `PAD` unused numbers after each plane (result has none).
    """
    rows, members, _, height, width = frames.shape
    inverse = 1.0 / (WINDOW * WINDOW)
    for row in range(rows):
        p = 0
        for member in range(members):
            _keep(frames[row, member], kept[slots[member]], scratch, inverse, constants[1])
            while p < len(pairs) and max(pairs[p, 0], pairs[p, 1]) == member:
                one, other = kept[slots[pairs[p, 0]]], kept[slots[pairs[p, 1]]]
                out[row, p] = _mean_ssim(one, other, (height, width), scratch, result, inverse, constants)
                p += 1
