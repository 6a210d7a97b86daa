"""What a store's objects lose with some of their cells, to the byte where that can be known.

A chunk is written whole: it goes when the last of its cells goes, and not before. Only where chunks are pressed does
one that loses some of its cells become smaller, since what was never written presses to nearly nothing.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from flowprofile.store.encoding import Seal
from flowprofile.store.ledger import Receipt
from flowprofile.store.objects import Extent, extents_of, inners_at, window
from flowprofile.store.record import StageRecord, Variable
from flowprofile.store.regions import Region
from flowprofile.upkeep.choosing import Flags


@dataclass
class _Object:
    """One object: how many cells of each of its chunks there are, how many of them stay, and who loses some."""

    variable: Variable
    extent: Extent
    seal: Seal
    there: npt.NDArray[np.int64] = field(init=False)
    left: npt.NDArray[np.int64] = field(init=False)
    losers: list[Region] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.there, self.left = np.zeros((2, self._blocks), np.int64)

    @property
    def _blocks(self) -> int:
        """How many stretches of times its chunks are cut into."""
        form = self.variable.form
        return form.chunk[3] // form.inner_times if self.variable.timed else 1

    def count(self, region: Region, kept: Flags | None) -> None:
        """Count a region's cells in it, `kept` of them staying; all, when None."""
        times = region.times if self.variable.timed else (0, 1)
        here = window(self.extent.times, times)
        flags = np.ones((region.seeds[1] - region.seeds[0], times[1] - times[0]), bool)
        stays = flags if kept is None else kept[:, : times[1] - times[0]]
        first = times[0] + here.start - self.extent.times[0]
        width = self.variable.form.inner_times if self.variable.timed else 1
        block = (first + np.arange(here.stop - here.start)) // width
        rows = window(self.extent.seeds, region.seeds)
        every, mine = (each[rows, here].sum(axis=0) for each in (flags, stays))
        np.add.at(self.there, block, every)
        np.add.at(self.left, block, mine)
        if mine.sum() < every.sum():
            self.losers.append(region)

    @property
    def freed(self) -> int:
        """Bytes that go, by share where a chunk is pressed."""
        if not self.left.any():
            return self.seal.size
        return sum(map(self._chunk, np.flatnonzero(self.left < self.there).tolist()))

    def _chunk(self, block: int) -> int:
        left, there = int(self.left[block]), int(self.there[block])
        pressed = self.variable.form.codec != "none"
        if left and not pressed:
            return 0
        return math.ceil(sum(self._sizes(block)) * (there - left) / there)

    def _sizes(self, block: int) -> Iterator[int]:
        width = self.variable.form.inner_times if self.variable.timed else 1
        first = self.extent.times[0] + block * width
        for position in inners_at(self.variable, self.extent, (first, first + 1)):
            entry = self.seal.inner[position]
            yield 0 if entry is None else entry[1]


def freed(
    stage: StageRecord, receipts: Sequence[Receipt], kept: Mapping[Region, Flags]
) -> Mapping[Region, int]:
    """Bytes that go if some regions of a stage keep no more than some of their cells (seed, time).

    Those of an object that several regions have are shared out evenly: a region of which nothing is freed has 0.
    """
    objects: dict[str, _Object] = {}
    for receipt in receipts:
        for name, variable in stage.variables.items():
            for extent in extents_of(receipt.region, name, variable):
                found = objects.setdefault(extent.key, _Object(variable, extent, receipt.objects[extent.key]))
                found.count(receipt.region, kept.get(receipt.region))
    result = dict.fromkeys(kept, 0)
    for each in objects.values():
        size = each.freed if each.losers else 0
        for at, region in enumerate(each.losers):
            result[region] += size // len(each.losers) + (at < size % len(each.losers))
    return result
