"""Noise as a function of (purpose, seed, t, draw): the reason why any two profiles can be subtracted.

Common random numbers across labels, batches, workers and days need noise that depends on nothing else. Philox is
a counter-based generator: the names are its key and counter, so no two of them can ever collide. The numbers are
the same on every machine, to the last bit: the logarithm and the cosine are looked up in tables built with
additions, multiplications and divisions only, because a library's `log` differs in its last bit between CPUs.
"""

import threading
from collections.abc import Sequence
from functools import cache
from math import prod
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flowprofile.errors import DefinitionError

SCHEME: Final = "philox-box-muller-1"
"""Name of the recipe below; it is part of every run's key, so changing a bit means changing the name."""

_MANTISSA: Final = 11
"""Bits of mantissa that select a row of the logarithm's table; the truncated series then errs below 1e-11."""
_ANGLE: Final = 16
"""Bits of the angle. With 2**16 equal angles every mixed moment of a pair up to order 65535 is exact."""
_BLOCK: Final = 6144
"""Pairs worked on at once: the work arrays then stay in a core's cache. Does not change a bit."""
_PI: Final = 3.141592653589793


def noise(
    seed: int, t: int, shape: Sequence[int], *, purpose: str = "step", draw: int = 0
) -> NDArray[np.float32]:
    """Standard normal numbers that belong to (purpose, seed, t, draw) and to nothing else.

    Box & Muller 1958 in float64, rounded once to float32: the first half of the numbers are the cosines and the
    second half the sines of the same pairs. x_T is ``noise(seed, T)``; the transition into state t adds
    ``noise(seed, t)``. Cost: under 2x ``torch.randn`` of the same size.

    >>> noise(0, 1000, (2,)).tolist() == noise(0, 1000, (2,)).tolist()
    True
    """
    size = prod(shape)
    pairs = (size + 1) // 2
    # Six bytes make a pair: four for the radius, all pairs' first, then two for the angle.
    drawn = _words(seed, t, -(-pairs * 6 // 8), purpose, draw).astype("<u8", copy=False)
    radii, angles = drawn.view("<u4")[:pairs], drawn.view("<u2")[2 * pairs : 3 * pairs]
    out = np.empty(2 * pairs, dtype=np.float32)
    for at in range(0, pairs, _BLOCK):
        end = min(at + _BLOCK, pairs)
        _box_muller(radii[at:end], angles[at:end], out[at:end], out[pairs + at : pairs + end])
    return out[:size].reshape(shape)


def noise_batch(
    seeds: Sequence[int], t: int, shape: Sequence[int], *, purpose: str = "step", draw: int = 0
) -> NDArray[np.float32]:
    """`noise` of several seeds along a new first axis; equal seeds are drawn once.

    Of small images many are worked on together: an image of 8x8 costs a fifth of what it costs alone.
    """
    each = list(dict.fromkeys(seeds))
    size, pairs = prod(shape), (prod(shape) + 1) // 2
    out = np.empty((len(each), 2 * pairs), dtype=np.float32)
    together = max(1, _BLOCK // max(1, pairs))
    for at in range(0, len(each), together):
        part = each[at : at + together]
        if len(part) == 1:
            out[at, :size] = noise(part[0], t, (size,), purpose=purpose, draw=draw)
        else:
            _several(part, t, purpose, draw, out[at : at + together])
    rows = {seed: row for row, seed in enumerate(each)}
    drawn = out[:, :size].reshape(len(each), *shape)
    return drawn if len(each) == len(seeds) else drawn[[rows[seed] for seed in seeds]]


def _several(seeds: Sequence[int], t: int, purpose: str, draw: int, out: NDArray[np.float32]) -> None:
    """Fill out[seed number] with the numbers that `noise` gives each seed."""
    pairs = out.shape[1] // 2
    count = -(-pairs * 6 // 8)
    drawn = np.empty((len(seeds), count), dtype="<u8")
    for row, seed in enumerate(seeds):
        drawn[row] = _words(seed, t, count, purpose, draw)
    radii, angles = drawn.view("<u4")[:, :pairs].ravel(), drawn.view("<u2")[:, 2 * pairs : 3 * pairs].ravel()
    normal = np.empty((2, radii.size), dtype=np.float32)
    _box_muller(radii, angles, normal[0], normal[1])
    out.reshape(len(seeds), 2, pairs)[:] = normal.reshape(2, len(seeds), pairs).swapaxes(0, 1)


def words(seed: int, t: int, count: int, *, purpose: str, draw: int = 0) -> NDArray[np.uint64]:
    """Uniform 64-bit words of one name, for choices that are not Gaussian (signs, channels, permutations)."""
    return _words(seed, t, count, purpose, draw)


class _Tables(NamedTuple):
    """Everything transcendental, computed once and portably."""

    inverse: NDArray[np.float64]
    log: NDArray[np.float64]
    cos: NDArray[np.float64]
    sin: NDArray[np.float64]


class _PerThread(threading.local):
    """A generator that is re-keyed for every draw (building one costs ten times more), and work arrays."""

    def __init__(self) -> None:
        self.philox = np.random.Philox(key=0)
        self.state = self.philox.state
        self.key: NDArray[np.uint64] = self.state["state"]["key"]
        self.counter: NDArray[np.uint64] = self.state["state"]["counter"]
        # Arrays a whole number of memory pages apart evict each other (measured: 1.5x); 72 numbers keep them apart.
        stride = _BLOCK + 72
        whole = np.empty(4 * stride, dtype=np.float64)
        self.a, self.b, self.c, places = (whole[k * stride : k * stride + _BLOCK] for k in range(4))
        self.i = places.view(np.int64)


_LOCAL: Final = _PerThread()


@cache
def _code(purpose: str) -> int:
    """The purpose's own letters as a number: distinct for distinct names, with nothing to keep by hand."""
    letters = purpose.encode()
    if not purpose.isascii() or not 1 <= len(letters) <= 8:
        raise DefinitionError(
            f"The noise purpose {purpose!r} is not one to eight ASCII letters.",
            consequence="Its letters are the key of the generator, which holds eight bytes.",
            remedy='use a short name such as "step" or "probe"',
        )
    return int.from_bytes(letters, "little")


def _words(seed: int, t: int, count: int, purpose: str, draw: int) -> NDArray[np.uint64]:
    if not (0 <= seed < 2**63 and 0 <= t < 2**31 and 0 <= draw < 2**31):
        raise DefinitionError(
            f"There is no noise for seed {seed!r}, t = {t!r}, draw {draw!r}.",
            consequence="Outside its range a name would collide with another one's numbers.",
            remedy="use 0 <= seed < 2**63, 0 <= t < 2**31 and 0 <= draw < 2**31",
        )
    local = _LOCAL
    local.key[0], local.key[1] = seed, _code(purpose)
    # The generator counts blocks in the first word, so names in the others never overlap. The state handed over
    # is a fresh generator's in all else, with nothing left in its buffer.
    local.counter[1], local.counter[2] = t, draw
    local.philox.state = local.state
    return local.philox.random_raw(count)


def _box_muller(
    k: NDArray[np.uint32], angle: NDArray[np.uint16], cosines: NDArray[np.float32], sines: NDArray[np.float32]
) -> None:
    """Two normal numbers from each radius word and angle word."""
    tables = _tables()
    local, n = _LOCAL, len(k)
    a, b, c, i = local.a[:n], local.b[:n], local.c[:n], local.i[:n]
    r = _radius(k, a, b, c, i)
    np.copyto(i, angle)
    np.multiply(tables.cos.take(i, out=b, mode="clip"), r, out=b)
    np.multiply(tables.sin.take(i, out=c, mode="clip"), r, out=c)
    cosines[...] = b
    sines[...] = c


def _radius(
    k: NDArray[np.uint32],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    c: NDArray[np.float64],
    i: NDArray[np.int64],
) -> NDArray[np.float64]:
    """sqrt(-2 log(k / 2**32)) for 32-bit k, in `a`.

    With g = k / c for the table's c nearest to k, -2 log g = (g - 2)**2 - 1 + O((g - 1)**3); the -1 is in the
    table. k = 0 has no logarithm; it clips to the first row, whose 6.88 stands for everything beyond 6.66.
    """
    tables = _tables()
    np.copyto(a, k)
    np.right_shift(a.view(np.int64), 52 - _MANTISSA, out=i)
    np.subtract(i, 1023 << _MANTISSA, out=i)
    tables.inverse.take(i, out=b, mode="clip")
    tables.log.take(i, out=c, mode="clip")
    np.multiply(a, b, out=a)
    np.subtract(a, 2.0, out=a)
    np.square(a, out=a)
    np.add(a, c, out=a)
    return np.sqrt(a, out=a)


@cache
def _tables() -> _Tables:
    mantissa = 1.0 + (np.arange(1 << _MANTISSA) + 0.5) / (1 << _MANTISSA)
    exponent = np.arange(32)
    centre = np.ldexp(mantissa, exponent[:, None]).ravel()
    log2 = _log(np.array([2.0]))[0]
    log = -1.0 - 2.0 * (_log(mantissa) + (exponent[:, None] - 32) * log2).ravel()
    # One cosine over five quarter turns holds the sine too: sin(x) = cos(x - quarter turn).
    quarter = 1 << (_ANGLE - 2)
    cosine = _cos_turns((np.arange(5 * quarter) - quarter + 0.5) / (1 << _ANGLE))
    return _Tables(1.0 / centre, log, cosine[quarter:], cosine[: 4 * quarter])


def _log(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """log x on [1, 2] as 2 artanh((x - 1) / (x + 1)), by its series."""
    s = (x - 1.0) / (x + 1.0)
    total = np.zeros_like(x)
    for n in range(35, 0, -2):
        total = total * (s * s) + 1.0 / n
    return 2.0 * s * total


def _cos_turns(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """cos(2 pi turns) for turns in [-1/4, 1], by reflection to a quarter turn and Taylor's series."""
    distance = np.abs(turns)
    distance = np.minimum(distance, 1.0 - distance)
    flipped = distance > 0.25
    x = 2.0 * _PI * np.where(flipped, 0.5 - distance, distance)
    total = np.zeros_like(x)
    for n in range(22, 0, -2):
        total = (1.0 - total) * (x * x) / (n * (n - 1))
    return np.where(flipped, total - 1.0, 1.0 - total)
