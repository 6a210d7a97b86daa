"""A region: the unit of work, and of truth, of a store.

It is named by positions on the axes in order of arrival, so a name is true for ever: axes only grow at their end.
Presence is read from these names alone, a hundred thousand of them in under a second.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowprofile.errors import StoreError

_NAME = re.compile(r"i(\d+)\.l(\d+)\.s(\d+)-(\d+)\.t(\d+)-(\d+)")


@dataclass(frozen=True, order=True, slots=True)
class Region:
    """Some seeds of one label and intervention over a block of time, of one stage; half-open positions."""

    run: str
    """``name@key``, the run's folder."""
    group: str
    """``measures/step_ssim@key``, the stage's folder in the run."""
    intervention: int
    label: int
    seeds: tuple[int, int]
    times: tuple[int, int]
    """``(0, 1)`` for a stage without time."""

    def __post_init__(self) -> None:
        for axis, (start, stop) in (("seeds", self.seeds), ("times", self.times)):
            if not 0 <= start < stop:
                raise StoreError(f"A region cannot have {axis} {start}:{stop}.", remedy="give start < stop")
        if self.intervention < 0 or self.label < 0:
            raise StoreError(f"A region cannot be at {self.name!r}.", remedy="positions start at 0")

    @property
    def tile(self) -> str:
        """The part of the name that says label and intervention."""
        return f"i{self.intervention}.l{self.label}"

    @property
    def name(self) -> str:
        """The name, as the receipt's file has it.

        >>> Region("r@0", "trajectory@1", 0, 1, (0, 4), (0, 334)).name
        'i0.l1.s0-4.t0-334'
        """
        return f"{self.tile}.s{self.seeds[0]}-{self.seeds[1]}.t{self.times[0]}-{self.times[1]}"

    def __str__(self) -> str:
        return f"{self.run}/{self.group}/{self.name}"


def region_of(run: str, group: str, name: str) -> Region | None:
    """The region a name stands for, None where it is not a region's name.

    >>> region_of("r@0", "trajectory@1", "i0.l1.s0-4.t0-334").seeds
    (0, 4)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    i, label, s0, s1, t0, t1 = map(int, match.groups())
    return Region(run, group, i, label, (s0, s1), (t0, t1)) if s0 < s1 and t0 < t1 else None


def cut(run: str, group: str, wanted: npt.NDArray[np.bool_], *, seeds: int, times: int) -> Iterator[Region]:
    """Cut wanted cells into regions that never cross a tile of seeds or a block of times.

    Parameters
    ----------
    wanted
        ``(intervention, label, seed, time)``: the cells to cover, exactly.
    seeds, times
        Lengths of a tile and of a block; a writer of one such region shares few objects with others.
    """
    tiles = (
        (int(i), int(label), int(start))
        for i, label in np.argwhere(wanted.any((2, 3)))
        for start in range(0, wanted.shape[2], seeds)
    )
    for i, label, s0 in tiles:
        for t0 in range(0, wanted.shape[3], times):
            part = wanted[i, label, s0 : s0 + seeds, t0 : t0 + times]
            for (a, b), (c, d) in _rectangles(part):
                yield Region(run, group, i, label, (s0 + a, s0 + b), (t0 + c, t0 + d))


def _rectangles(part: npt.NDArray[np.bool_]) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Rectangles that cover the true cells once: runs of equal rows, then the runs within such a row."""
    row = 0
    while row < len(part):
        stop = row + 1
        while stop < len(part) and np.array_equal(part[row], part[stop]):
            stop += 1
        for start, end in runs(part[row]):
            yield (row, stop), (start, end)
        row = stop


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Half-open runs of true values.

    >>> runs(np.array([True, True, False, True]))
    [(0, 2), (3, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.view(np.int8), [0]])))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]
