"""SSIM of many frames at once: each frame is filtered once, however many others it is compared with.

SSIM needs five filtered planes per pair (x, y, xx, yy, xy), but four of them belong to one frame alone. Keeping
those makes consecutive frames cost three planes a pair, and all pairs of 16 labels 152 planes instead of 600.

The code uses nothing but slices and one-operation calls that NumPy and torch both have, in a fixed order, so the
same lines run on either, and a value has the same bits in any batch, in any cut of time, and through either library
(on a device too if its float64 rounds as IEEE 754 asks; a test looks where there is one).
"""

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any, Final

import numpy as np

from flowprofile.errors import DefinitionError
from flowprofile.measures.images import window_fits
from flowprofile.measures.ordered import ordered_mean

K1: Final = 0.01
K2: Final = 0.03
_BLOCK: Final = 16384
"""Numbers per plane worked on at once by NumPy: the dozen planes then stay in a core's second-level cache."""


class Windows:
    """Room to compare frames of one shape: slots that remember a frame's window sums, and scratch.

    Planes are flat, and a shift by one pixel is a shift of the flat array. Windows that cross an edge hold sums of
    unrelated pixels; they are never read, since only whole windows count (as in skimage, which crops them).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        slots: int,
        window: int,
        data_range: float,
        lib: Any = np,
        **where: Any,
    ) -> None:
        """shape is [row channel y x]; `lib` is numpy or torch, `where` its device if it has one."""
        _valid(shape, window, data_range)
        self.shape = shape
        self.window = window
        self._lib = lib
        area = window * window
        self._area = area
        # Sums instead of means, and halves of both constants, save four passes; the factor 4 is exact.
        self._c1 = (K1 * data_range * area) ** 2 / 2
        self._c2 = (K2 * data_range) ** 2 * (area - 1) / 2
        size = int(np.prod(shape))
        self._used = size - (window - 1) * (shape[3] + 1)

        def planes(count: int) -> Any:
            # Planes a whole number of memory pages apart evict each other; 72 numbers more keep them apart.
            return lib.empty((count, size + 72), dtype=lib.float64, **where)[:, :size]

        self._frames, self._sums, self._squares, self._variances = (planes(slots) for _ in range(4))
        self._product, self._box, self._left, self._right, self._down, self._result = planes(6)

    def keep(self, slot: int, frames: Any) -> None:
        """Remember one frame per row, [row channel y x] of any float type."""
        lib, n = self._lib, self._used
        x = self._frames[slot]
        x.reshape(self.shape)[...] = frames
        total, square, variance = self._sums[slot][:n], self._squares[slot][:n], self._variances[slot][:n]
        self._sum_windows(x, total)
        lib.multiply(x, x, out=self._product)
        self._sum_windows(self._product, variance)
        lib.multiply(total, total, out=square)
        lib.multiply(square, 1.0 / self._area, out=self._box[:n])
        lib.subtract(variance, self._box[:n], out=variance)
        lib.add(variance, self._c2, out=variance)
        lib.add(square, self._c1, out=square)

    def ssim(self, one: int, other: int) -> Any:
        """Mean SSIM between the frames of two slots, [row] float64; NaN where a frame is not finite."""
        lib, n = self._lib, self._used
        lib.multiply(self._frames[one], self._frames[other], out=self._product)
        cross, means, result = self._box[:n], self._left[:n], self._result[:n]
        self._sum_windows(self._product, cross)
        lib.multiply(self._sums[one][:n], self._sums[other][:n], out=means)
        lib.multiply(means, 1.0 / self._area, out=self._right[:n])
        lib.subtract(cross, self._right[:n], out=cross)
        lib.add(cross, self._c2, out=cross)
        lib.add(means, self._c1, out=means)
        lib.multiply(means, cross, out=result)
        lib.add(self._squares[one][:n], self._squares[other][:n], out=means)
        lib.add(self._variances[one][:n], self._variances[other][:n], out=cross)
        lib.multiply(means, cross, out=means)
        lib.divide(result, means, out=result)
        values = self._mean() * 4.0
        # A NaN's sign says nothing and depends on the path, so every NaN is the same one.
        return lib.where(values == values, values, lib.nan)

    def _sum_windows(self, plane: Any, out: Any) -> None:
        """out[i] = sum of the window whose first pixel is i: down the columns, then along the rows."""
        width = self.shape[3]
        down = self._down[: len(plane) - (self.window - 1) * width]
        self._sum_runs(plane, width, down)
        self._sum_runs(down, 1, out)

    def _sum_runs(self, plane: Any, stride: int, out: Any) -> None:
        """out[i] = plane[i] + plane[i + stride] + ..., `window` terms, by doubling: 4 additions for 7 terms.

        Running sums would need two, but they drift, and a value would depend on where its plane begins.
        """
        add, n = self._lib.add, len(out)
        power, at, total = 1, 0, None
        spare, free = self._left, self._right
        while True:
            if self.window & power:
                part = plane[at * stride : at * stride + n]
                total = part if total is None else add(total, part, out=out)
                at += power
            if 2 * power > self.window:
                return
            length = len(plane) - power * stride
            plane = add(plane[:length], plane[power * stride :], out=spare[:length])
            spare, free = free, spare
            power *= 2

    def _mean(self) -> Any:
        """Mean over whole windows, [row]."""
        rows, channels, height, width = self.shape
        tall, wide = height - self.window + 1, width - self.window + 1
        whole = self._result.reshape(self.shape)[:, :, :tall, :wide]
        return ordered_mean(whole.reshape(rows, channels * tall * wide), lib=self._lib)


class Running:
    """SSIM of each frame with the one before it, while the frames are being made.

    Holds two frames per case; the values are those of `consecutive`, bit for bit.
    """

    def __init__(
        self, shape: tuple[int, ...], *, window: int = 7, data_range: float, lib: Any = np, **where: Any
    ) -> None:
        """shape is [case channel y x]; `lib` is numpy or torch, `where` its device if it has one."""
        self._parts = _blocks((shape[0], 1, *shape[1:]), lib)
        self._work = [
            Windows(
                (part.stop - part.start, *shape[1:]),
                slots=2,
                window=window,
                data_range=data_range,
                lib=lib,
                **where,
            )
            for part in self._parts
        ]
        self._lib = lib
        self._seen = 0

    def push(self, frames: Any) -> Any:
        """SSIM of these frames [case channel y x] with the ones pushed before, [case]; None for the first."""
        slot, values = self._seen % 2, []
        with _quiet(self._lib):
            for part, work in zip(self._parts, self._work, strict=True):
                work.keep(slot, frames[part])
                if self._seen:
                    values.append(work.ssim(1 - slot, slot))
        self._seen += 1
        return self._lib.concatenate(values) if values else None


def consecutive(frames: Any, *, window: int = 7, data_range: float, lib: Any = np, **where: Any) -> Any:
    """SSIM of each frame with the one before it: frames[... time channel y x] -> [... time - 1] float64."""
    rows, lead = _rows(frames, 4)
    out = lib.empty((rows.shape[0], rows.shape[1] - 1), dtype=lib.float64, **where)
    for part in _blocks(rows.shape, lib):
        block = rows[part]
        work = Windows(_frame_shape(block), slots=2, window=window, data_range=data_range, lib=lib, **where)
        with _quiet(lib):
            work.keep(0, block[:, 0])
            for k in range(1, block.shape[1]):
                work.keep(k % 2, block[:, k])
                out[part, k - 1] = work.ssim((k - 1) % 2, k % 2)
    return out.reshape(*lead, -1)


def to_reference(
    frames: Any, reference: Any, *, window: int = 7, data_range: float, lib: Any = np, **where: Any
) -> Any:
    """SSIM of each frame with one image of its case.

    frames[... time channel y x] and reference[... channel y x] -> [... time] float64.
    """
    rows, lead = _rows(frames, 4)
    if frames.shape[:-4] + frames.shape[-3:] != reference.shape:
        raise DefinitionError(
            f"References of shape {tuple(reference.shape)!r} do not belong to frames of {tuple(frames.shape)!r}.",
            consequence="Each case is compared with an image of its own.",
            remedy="give the frames' shape without the time axis, the fourth from the end",
        )
    images, _ = _rows(reference, 3)
    out = lib.empty(rows.shape[:2], dtype=lib.float64, **where)
    for part in _blocks(rows.shape, lib):
        block = rows[part]
        work = Windows(_frame_shape(block), slots=2, window=window, data_range=data_range, lib=lib, **where)
        with _quiet(lib):
            work.keep(0, images[part])
            for k in range(block.shape[1]):
                work.keep(1, block[:, k])
                out[part, k] = work.ssim(0, 1)
    return out.reshape(*lead, -1)


def between(
    frames: Any,
    pairs: Iterable[tuple[int, int]],
    *,
    window: int = 7,
    data_range: float,
    lib: Any = np,
    **where: Any,
) -> Any:
    """SSIM of chosen pairs along one axis: frames[... member channel y x] -> [... pair] float64.

    Every member is filtered once: all pairs of 16 members need 152 filtered planes instead of 600.
    """
    rows, lead = _rows(frames, 4)
    chosen = list(pairs)
    out = lib.empty((rows.shape[0], len(chosen)), dtype=lib.float64, **where)
    for part in _blocks(rows.shape, lib):
        block = rows[part]
        members = block.shape[1]
        shape = _frame_shape(block)
        work = Windows(shape, slots=members, window=window, data_range=data_range, lib=lib, **where)
        with _quiet(lib):
            for k in range(members):
                work.keep(k, block[:, k])
            for p, (one, other) in enumerate(chosen):
                out[part, p] = work.ssim(one, other)
    return out.reshape(*lead, -1)


def _rows(array: Any, kept: int) -> tuple[Any, tuple[int, ...]]:
    """All leading axes as one, and what they were."""
    if array.ndim < kept:
        raise DefinitionError(
            f"An array of shape {tuple(array.shape)!r} holds no frames.",
            consequence="SSIM is a number per pair of images.",
            remedy="give [... time channel y x]",
        )
    lead = tuple(array.shape[: array.ndim - kept])
    return array.reshape(int(np.prod(lead)), *array.shape[array.ndim - kept :]), lead


def _frame_shape(block: Any) -> tuple[int, ...]:
    return (block.shape[0], *block.shape[2:])


def _blocks(shape: tuple[int, ...], lib: Any) -> list[slice]:
    """Rows that are worked on together: as many as fit the cache, or all of them on a device."""
    frame = int(np.prod(shape[2:]))
    step = max(1, (_BLOCK if lib is np else shape[0] * frame) // frame)
    return [slice(at, min(at + step, shape[0])) for at in range(0, shape[0], step)]


def _quiet(lib: Any) -> Any:
    """A frame that is not finite is reported as NaN in its value, not as a warning from the middle of a sum."""
    return np.errstate(over="ignore", invalid="ignore") if lib is np else nullcontext()


def _valid(shape: tuple[int, ...], window: int, data_range: float) -> None:
    window_fits(window, shape[2:])
    if not 0 < data_range < float("inf"):
        raise DefinitionError(
            f"SSIM needs the range of the data, and {data_range!r} is not one.",
            consequence="Its two constants are fractions of that range, and the depth of the dip depends on them.",
            remedy="state it: 1.0 for pixels in [0, 1], 2.0 for [-1, 1]",
        )
