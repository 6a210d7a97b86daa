"""Gradient volumes grow by pixels: another mask computes only the rows that no volume of the recipe holds yet.

Rows are stored in volumes of disjoint sets of pixels, and opened as one. What is asked for is therefore cut into the
volumes that are there already, and one more for the rest.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from flowprofile.flow.stage import Stage


@dataclass(frozen=True)
class Split:
    """A stage that can be made of any set of pixels."""

    group: str
    """Where its parts are stored, and shown as one."""
    of: str
    """Digest of the recipe without the pixels."""
    wanted: tuple[int, ...]
    """Numbers y * width + x of the pixels that are asked for, ascending."""
    make: Callable[[str, tuple[int, ...]], Stage]
    """From the suffix of a part's name and its pixels to the stage."""


def parts(wanted: Sequence[int], held: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """The pixel sets to ask for: the held ones that are touched, as they are, and what none of them has.

    >>> parts([1, 2, 3, 4], [[2, 3], [9]])
    [(2, 3), (1, 4)]
    """
    touched = [tuple(sorted(each)) for each in held if set(each) & set(wanted)]
    known = {pixel for each in touched for pixel in each}
    rest = tuple(pixel for pixel in wanted if pixel not in known)
    return [*touched, *([rest] if rest else [])]


def stages_of(split: Split, held: Sequence[Sequence[int]]) -> list[Stage]:
    """The stages that together make what is asked for; the first has the plain name."""
    sets = parts(split.wanted, held)
    return [split.make("" if number == 0 else f"+{number}", pixels) for number, pixels in enumerate(sets)]


def numbers(pixels: np.ndarray, width: int) -> tuple[int, ...]:
    """Pixels [pixel 2] (y, x) as ascending numbers."""
    return tuple(sorted((pixels[:, 0] * width + pixels[:, 1]).tolist()))
