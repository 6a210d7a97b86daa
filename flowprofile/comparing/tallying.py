"""From a source of curves to tallies over seeds: streamed, so that memory does not grow with the seeds.

Tallies are merged along the tree that their seeds' numbers fix (`measures.base`), so the result has the same bits
however many seeds are read at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.axes import SEED
from flowprofile.choices import Labels, choose
from flowprofile.comparing.stored import Flags, Source, Values
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.measures.base import Forest, Tally
from flowprofile.stats.curves import LEAST_SEEDS

ROOM: Final = 96 * 2**20
"""Bytes that are read at once."""
_LOOKED_AT: Final = 2**22
"""Cells whose status is looked at at once."""


@dataclass(frozen=True)
class Tallied:
    """Means over seeds and their spread, each [pair, time]."""

    value: Tally
    null: Tally | None
    """None where there is no null."""
    excess: Tally | None
    """Of value - null, seed by seed: what the two share cancels."""


def held_part(source: Source, asked: Any, *, url: str, free: bool) -> tuple[Source, tuple[int, ...]]:
    """The source at the states, and the seeds, that are compared: those asked for, or all that both sides hold.

    A seed that was never asked of one of the sides is left out, unless it is asked for here. One with missing cells
    is refused: leaving it out would change the sample without a word.

    Parameters
    ----------
    free
        Whether no state was named by itself: one that was dropped of some seed, or never asked of it, is then left out
        for all of them.
    """
    wanted = source.seeds if asked is None else _asked(source, asked, url)
    seeds: list[int] = []
    for part in _parts(wanted, _LOOKED_AT // len(source.times)):
        status = source.status(part)
        if free and _dropped(status).any():
            return held_part(_everywhere(source, wanted), asked, url=url, free=False)
        _refuse_missing(source, part, status, asked=asked is not None, url=url)
        seeds += [seed for seed, row in zip(part, status, strict=True) if (row == 2).all()]
    if len(seeds) < LEAST_SEEDS:
        raise DefinitionError(
            f"{len(seeds)} seed(s) are held by both sides.",
            consequence="Their spread over seeds, and so every interval, would be a guess.",
            remedy=f"sample at least {LEAST_SEEDS} in both, for instance: flowprofile ensure {url} --seeds 0:30",
            evidence=f"seeds {seeds}",
        )
    return source, tuple(seeds)


def _everywhere(source: Source, seeds: Sequence[int]) -> Source:
    """The source without the states that some held seed lacks; the source itself where none would be left."""
    gone = np.zeros(len(source.times), bool)
    for part in _parts(seeds, _LOOKED_AT // len(source.times)):
        gone |= _dropped(source.status(part))
    return (
        source
        if gone.all()
        else source.at([t for t, lost in zip(source.times, gone, strict=True) if not lost])
    )


def _dropped(status: Flags) -> NDArray[np.bool_]:
    """Per state, whether some seed that is held at others is not asked for there."""
    result: NDArray[np.bool_] = ((status == 0) & (status == 2).any(axis=1)[:, None]).any(axis=0)
    return result


@dataclass(frozen=True)
class Forests:
    """The same of some seeds, not yet added up; forests of other seeds can be added."""

    value: Forest = field(default_factory=Forest)
    null: Forest = field(default_factory=Forest)
    excess: Forest = field(default_factory=Forest)

    def __add__(self, other: "Forests") -> "Forests":
        return Forests(self.value + other.value, self.null + other.null, self.excess + other.excess)

    def tallied(self) -> Tallied:
        """All seeds, added up in the order that their numbers fix."""
        if not self.null.nodes:
            return Tallied(self.value.total(), None, None)
        return Tallied(self.value.total(), self.null.total(), self.excess.total())


def forests(source: Source, seeds: Sequence[int], *, room: int = ROOM) -> Forests:
    """The forests of some seeds, read a few at a time."""
    value, null, excess = Forest(), Forest(), Forest()
    for part in _parts(seeds, room // source.weight):
        values, nulls = source.values(part)
        _refuse_not_finite(source, part, values, "the measure")
        value = _with(value, values, part)
        if nulls is not None:
            _refuse_not_finite(source, part, nulls, "its null")
            null, excess = _with(null, nulls, part), _with(excess, values - nulls, part)
    return Forests(value, null, excess)


def _with(forest: Forest, values: Values, seeds: Sequence[int]) -> Forest:
    """The forest with some more seeds; one at a time, so that no second copy of them is made."""
    for seed, row in zip(seeds, values, strict=True):
        forest = forest + Forest.of(row[None], [seed])
    return forest


def _parts(seeds: Sequence[int], width: int) -> Iterator[Sequence[int]]:
    # Whole tiles of a store are mostly a power of two: what is read then is not read again.
    width = 2 ** (max(1, width).bit_length() - 1)
    for first in range(0, len(seeds), width):
        yield seeds[first : first + width]


def _asked(source: Source, asked: Any, url: str) -> tuple[int, ...]:
    known = np.array(source.seeds, np.int64)
    choice = replace(choose(SEED, asked, _no_labels), ordered=False)
    places, strange = choice.positions(_axis(known))
    if strange or not places:
        raise StoreError(
            f"Seed {strange[0] if strange else asked!r} is not held by both sides.",
            consequence="It cannot be compared with itself under the other condition.",
            remedy=f"sample it: flowprofile ensure {url} --seeds {strange[0] if strange else 0}",
            evidence=f"both hold {len(known)} seeds",
        )
    if len(places) < LEAST_SEEDS <= len(known):
        raise DefinitionError(
            f"{len(places)} seed(s) are asked for.",
            consequence="Their spread over seeds, and so every interval, would be a guess.",
            remedy=f"ask for at least {LEAST_SEEDS} of the {len(known)} that both sides hold, or leave the seeds out",
        )
    return tuple(int(known[at]) for at in places)


def _axis(values: np.ndarray) -> Any:
    import xarray as xr

    return xr.Dataset(coords={SEED: values})


def _no_labels() -> Labels:
    """Seeds have none; `choose` asks for them along the label axis only."""
    return Labels(np.zeros(0, np.int64), {})


def _refuse_missing(source: Source, seeds: Sequence[int], status: Flags, *, asked: bool, url: str) -> None:
    """Refuse a seed of which some cells are there and some are not, or that was asked for and is not there."""
    held = (status == 2).any(axis=1)
    lost = (status != 2) & (held | asked)[:, None] | (status == 1)
    if not lost.any():
        return
    row, column = np.argwhere(lost)[0].tolist()
    remedy = f"compute them: flowprofile rerun {url}"
    if status[row, column] == 0:
        remedy = f"have them computed: flowprofile ensure {url} --seeds {seeds[row]}; or name other states (--time, time=)"
    raise StoreError(
        f"{int(lost.sum()):,} cells of {source.said} are missing, among {len(seeds)} seeds.",
        consequence="A mean over what happens to be there would be of another sample at every step.",
        remedy=remedy + "; or name complete seeds (--seeds, seed=)",
        evidence=f"first seed {seeds[row]}, t = {source.times[column]}",
    )


def _refuse_not_finite(source: Source, seeds: Sequence[int], values: Values, what: str) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, _, column = bad[0].tolist()
        raise StoreError(
            f"{len(bad):,} values of {what} ({source.said}) are missing.",
            consequence="Every mean over seeds there would be no number.",
            remedy="compute what is missing (flowprofile rerun STORE), or leave it out with seed= or time=",
            evidence=f"first seed {seeds[row]}, t = {source.times[column]}",
        )
