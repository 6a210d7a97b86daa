"""Random numbers that belong to a name, so that a resampling is a pure function of what it resamples.

A permutation test that draws from a running generator gives other numbers whenever the work is cut differently.
Here every word is named by (key, purpose, place): Philox is counter-based, so names cannot collide, and its words
are the same on every machine.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.errors import DefinitionError
from flowprofile.stats.curves import Values

Words = NDArray[np.uint64]

DRAWS: Final = 10_000
"""Rearrangements of a test unless told otherwise: p = .05 is then known to within .004 (two standard errors)."""


def words(key: int, purpose: str, place: tuple[int, int], count: int) -> Words:
    """The first `count` uniform 64-bit words of (key, purpose, place); more of them extend the same list.

    >>> words(7, "demo", (0, 0), 2).tolist() == words(7, "demo", (0, 0), 3)[:2].tolist()
    True
    """
    letters = int.from_bytes(purpose.encode(), "little")
    if not (0 <= key < 2**64 and letters < 2**64 and all(0 <= at < 2**64 for at in place)):
        raise DefinitionError(
            f"There are no random numbers for key {key!r} at {place!r}.",
            consequence="Outside its range a name would collide with another one's numbers.",
            remedy="use a key and positions from 0 to 2**64 - 1",
        )
    name = np.array([key, letters], dtype=np.uint64)
    counter = np.array([0, *place, 0], dtype=np.uint64)
    return np.random.Philox(key=name, counter=counter).random_raw(count)


@dataclass(frozen=True)
class Signs:
    """Ways of flipping the signs of seeds, the first of which flips none."""

    values: Values
    """[draw, seed] each +1 or -1; draw 0 is +1 throughout, the data as observed."""
    exact: bool
    """Whether these are all distinct ways (up to flipping every seed), not a random choice of them."""


def signs(seeds: int, *, key: int, draws: int) -> Signs:
    """Sign flips of that many seeds: all 2^(seeds - 1) of them if that is at most `draws`, else `draws` of them.

    Flipping everything changes no two-sided statistic, so seed 0 keeps its sign in an exact enumeration. Otherwise
    the sign of a seed in a draw is a function of (key, seed, draw) alone.
    """
    if draws < 100:
        raise DefinitionError(
            f"{draws!r} rearrangements are asked for.",
            consequence="P values would come in steps coarser than .01.",
            remedy=f"use at least 100; {DRAWS} are the default",
        )
    if 2 ** (seeds - 1) <= draws:
        numbers = np.arange(2 ** (seeds - 1))[:, None] << 1
        bits = (numbers >> np.arange(seeds)) & 1
        return Signs(_plus_minus(bits), exact=True)
    rows = [words(key, "flip", (seed, 0), -(-draws // 64)).astype("<u8") for seed in range(seeds)]
    bits = np.unpackbits(np.stack(rows).view(np.uint8), axis=1)[:, :draws].T.astype(np.int64)
    bits[0] = 0
    return Signs(_plus_minus(bits), exact=False)


def _plus_minus(bits: NDArray[np.int64]) -> Values:
    return np.asarray(1 - 2 * bits, dtype=np.float64)
