"""How a sweep is cut into batches: tiles of cases, fixed per run so that no file ever has two writers.

Positions, not coordinates, are cut: an axis only ever grows at its end, so the tile a case belongs to never
changes, however the sweep grows later.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flowprofile.cases import Case, Sweep

T = TypeVar("T")


@dataclass(frozen=True)
class Tile:
    """Shape of a tile: how many labels by how many seeds one batch holds."""

    labels: int
    seeds: int


@dataclass(frozen=True)
class Order:
    """The case axes of a run, in order of arrival."""

    interventions: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    def grown(self, sweep: Sweep) -> "Order":
        """With what the sweep adds, at the end of each axis."""
        return Order(
            _appended(self.interventions, sweep.interventions),
            _appended(self.labels, sweep.labels),
            _appended(self.seeds, sweep.seeds),
        )


def _appended(have: tuple[T, ...], new: tuple[T, ...]) -> tuple[T, ...]:
    known = set(have)
    return (*have, *(value for value in new if value not in known))


def fitting(sweep: Sweep, batch: int) -> Tile:
    """The tile that computes this sweep in the fewest batches; among equals, the one with most seeds.

    Where every seed has a label of its own it is one label by as many seeds as fit.

    >>> fitting(Sweep((0, 1, 2, 3), (6, 7)), 8)
    Tile(labels=2, seeds=4)
    >>> fitting(Sweep((5,), (0,)), 8)
    Tile(labels=1, seeds=8)
    """
    if sweep.told is not None:
        return Tile(1, batch)
    shapes = [Tile(batch // seeds, seeds) for seeds in range(1, batch + 1) if batch % seeds == 0]

    def batches(tile: Tile) -> int:
        return -(-len(sweep.labels) // tile.labels) * -(-len(sweep.seeds) // tile.seeds)

    return min(shapes, key=lambda tile: (batches(tile), -tile.seeds))


@dataclass(frozen=True)
class Household:
    """Cases that may read each other's results: some atoms, each with the seeds of one tile."""

    atoms_of: tuple[tuple[str, int], ...]
    """Intervention and label of each atom."""
    blocks: tuple[tuple[int, ...], ...]
    """Seeds, tile by tile."""
    told: Mapping[int, int] | None = None
    """The label of each seed, where it has one of its own."""

    def atoms(self) -> list[tuple[Case, ...]]:
        """The cases as *atoms* that share their files: one label of one intervention, the seeds of one tile."""
        atoms = [
            tuple(Case(seed, label, name) for seed in seeds if self.told is None or self.told[seed] == label)
            for seeds in self.blocks
            for name, label in self.atoms_of
        ]
        return [atom for atom in atoms if atom]


def households(sweep: Sweep, order: Order, tile: Tile, *, linked: bool, crossed: bool) -> list[Household]:
    """A sweep's households, always the same ones in the same order, so that a number tells which one is meant.

    A household is a tile's atoms, or everything with a tile's seeds where labels are `linked` or something is done to
    the model, or all there is where seeds are `crossed`.
    """
    blocks = _blocks(sweep.seeds, order.seeds, tile.seeds)
    if not (crossed or linked or len(sweep.interventions) > 1):
        name = sweep.interventions[0]
        return [
            Household(tuple((name, label) for label in labels), (seeds,), sweep.told)
            for labels in _blocks(sweep.labels, order.labels, tile.labels)
            for seeds in blocks
        ]
    everything = tuple(
        (name, label)
        for name in sorted(sweep.interventions, key=order.interventions.index)
        for label in sorted(sweep.labels_of(name), key=order.labels.index)
    )
    if crossed:
        return [Household(everything, tuple(blocks), sweep.told)]
    return [Household(everything, (seeds,), sweep.told) for seeds in blocks]


def _blocks(wanted: Iterable[int], axis: Sequence[int], size: int) -> list[tuple[int, ...]]:
    place = {value: position for position, value in enumerate(axis)}
    blocks: dict[int, list[int]] = {}
    for value in sorted(wanted, key=place.__getitem__):
        blocks.setdefault(place[value] // size, []).append(value)
    return [tuple(blocks[number]) for number in sorted(blocks)]


def runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Maximal stretches of consecutive numbers in an ascending sequence, half-open.

    >>> list(runs([0, 1, 2, 5, 6, 9]))
    [(0, 3), (5, 7), (9, 10)]
    """
    start = previous = None
    for position in positions:
        if start is None or previous is None:
            start = position
        elif position != previous + 1:
            yield start, previous + 1
            start = position
        previous = position
    if start is not None and previous is not None:
        yield start, previous + 1
