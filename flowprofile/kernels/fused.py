"""SSIM of many frames in one pass, several times faster than `flowprofile.measures.windows`, with the same bits.

The loops are compiled by numba, if it is installed (the extra `fast`). Compiling takes seconds once per machine and
loading what was compiled half a second per process, so the first frames of a process go through NumPy until that
has cost about as much: a small run never waits for a compiler, a large one loses a few seconds. Nothing else
changes at that moment. Before the loops are used at all, their bits are compared with NumPy's; a numba that gives
others (or none) is left alone.

Only arrays of float32 and float64 and the usual window of 7 have loops; everything else is handed to `windows`.
"""

import math
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.measures import windows

_WINDOW: Final = 7
_LINE: Final = 8
"""Numbers in a cache line; `PAD` is some of them."""
_TYPES: Final = (np.dtype(np.float32), np.dtype(np.float64))
_RENT: Final = 3e8
"""Numbers that go through NumPy before the loops are compiled: both take five to ten seconds."""
_seen: Final = dict.fromkeys(_TYPES, 0)
"""Numbers this process has compared through NumPy, by the type that the loops would be compiled for."""

Values = NDArray[np.float64]
Compare = Callable[..., None]


def available() -> bool:
    """Whether numba is installed; says nothing about its bits."""
    return find_spec("numba") is not None


def prepare(kind: Any = np.float32) -> bool:
    """Compile, or load, the loops for frames of this type now. Whether they are used: they need the bits of NumPy."""
    wanted = np.dtype(kind)
    if wanted in _seen:
        _seen[wanted] = int(_RENT)
    return wanted in _seen and _loops(wanted) is not None


def consecutive(frames: Any, *, window: int = 7, data_range: float) -> Values:
    """SSIM of each frame with the one before it: frames[... time channel y x] -> [... time - 1] float64.

    The values and the refusals are those of `windows.consecutive`.
    """
    loops = _worth(frames, window, data_range)
    if loops is None:
        return np.asarray(windows.consecutive(frames, window=window, data_range=data_range))
    later = np.arange(1, frames.shape[-4])
    slots = np.arange(frames.shape[-4]) % 2
    return _compare(loops, frames, slots, np.stack([later - 1, later], axis=1), data_range)


def to_reference(frames: Any, reference: Any, *, window: int = 7, data_range: float) -> Values:
    """SSIM of each frame with one image of its case: [... time channel y x], [... channel y x] -> [... time]."""
    belongs = getattr(reference, "shape", None) == frames.shape[:-4] + frames.shape[-3:]
    loops = _worth(frames, window, data_range) if belongs and reference.dtype == frames.dtype else None
    if loops is None:
        return np.asarray(windows.to_reference(frames, reference, window=window, data_range=data_range))
    members = np.concatenate([reference[..., None, :, :, :], frames], axis=-4)
    later = np.arange(1, members.shape[-4])
    slots = np.minimum(np.arange(members.shape[-4]), 1)
    return _compare(loops, members, slots, np.stack([np.zeros_like(later), later], axis=1), data_range)


def between(frames: Any, pairs: Iterable[tuple[int, int]], *, window: int = 7, data_range: float) -> Values:
    """SSIM of chosen pairs along one axis: frames[... member channel y x] -> [... pair] float64."""
    wanted = list(pairs)
    chosen = np.array(wanted, dtype=np.int64).reshape(-1, 2)
    loops = _worth(frames, window, data_range)
    if loops is None or not _within(chosen, frames.shape[-4]):
        return np.asarray(windows.between(frames, wanted, window=window, data_range=data_range))
    order = np.argsort(chosen.max(axis=1), kind="stable")
    found = _compare(loops, frames, np.arange(frames.shape[-4]), chosen[order], data_range)
    values = np.empty_like(found)
    values[..., order] = found
    return values


def _within(pairs: NDArray[np.int64], members: int) -> bool:
    """Whether the loops, which look nothing up, may be given these pairs."""
    return bool(((pairs >= 0) & (pairs < members)).all())


def _worth(frames: Any, window: int, data_range: float) -> Compare | None:
    """The compiled loops, if they can do this and NumPy has done enough of it already."""
    kind = getattr(frames, "dtype", None)
    if kind not in _TYPES or not isinstance(frames, np.ndarray) or not frames.dtype.isnative:
        return None
    fits = window == _WINDOW and frames.ndim >= 4 and min(frames.shape[-2:]) >= _WINDOW
    if not fits or not frames.size or not 0 < data_range < float("inf"):
        return None
    if _seen[kind] < _RENT:
        _seen[kind] += frames.size
        return None
    return _loops(kind)


@cache
def _loops(kind: np.dtype[Any]) -> Compare | None:
    """The compiled loops if numba is there and gives NumPy's bits, on what follows from a few odd frames."""
    if not available():
        return None
    from flowprofile.kernels import loops

    if not loops.COMPILED:
        return None
    # Multiples modulo a prime have no pattern whatever the version of a generator; their cubes have many exponents,
    # so that another order of addition shows: sums of like float32 numbers are exact in float64.
    numbers = np.arange(2 * 3 * 2 * 17 * 23) * 7919 % 104729 / 104729
    frames = ((3 * numbers - 1.5) ** 3).astype(kind).reshape(2, 3, 2, 17, 23)
    try:
        found = _compare(loops.compare, frames, np.arange(3), np.array([(0, 1), (1, 2), (0, 2)]), 2.0)
    except loops.FAILURES:
        return None
    wanted = windows.between(frames, [(0, 1), (1, 2), (0, 2)], data_range=2.0)
    return loops.compare if found.tobytes() == wanted.tobytes() else None


def _compare(
    compare: Compare, frames: Any, slots: NDArray[np.int64], pairs: NDArray[np.int64], data_range: float
) -> Values:
    """Room for the loops, and their result with the leading axes of `frames`."""
    from flowprofile.kernels.loops import PAD

    *lead, members, channels, height, width = frames.shape
    # Writable, because numba would compile another form of everything for an array that is not.
    rows = np.require(frames, requirements=("C", "A", "W", "E"))
    rows = rows.reshape(-1, members, channels, height, width)
    plane = -(-height * width // _LINE) * _LINE + PAD
    kept = _room(int(slots.max(initial=0)) + 1, 3, channels, plane)
    scratch = _room(3, plane)
    result = _room(channels * (height - _WINDOW + 1) * (width - _WINDOW + 1))
    out = np.empty((len(rows), len(pairs)))
    compare(rows, slots, pairs, kept, scratch, result, _constants(data_range), out)
    out[np.isnan(out)] = np.nan  # a NaN has a sign, and it says nothing
    return out.reshape(*lead, len(pairs))


def _room(*shape: int) -> Values:
    """Numbers yet to be written that begin with a cache line: what crosses lines is read and written twice."""
    count = math.prod(shape)
    wide = np.empty(count + _LINE)
    skipped = -wide.ctypes.data // wide.itemsize % _LINE
    return wide[skipped : skipped + count].reshape(shape)


def _constants(data_range: float) -> tuple[float, float]:
    """Of sums instead of means, halved, as in `windows.Windows`."""
    area = _WINDOW * _WINDOW
    return (windows.K1 * data_range * area) ** 2 / 2, (windows.K2 * data_range) ** 2 * (area - 1) / 2
