"""How a sweep is cut into batches: tiles of cases, fixed per run so that no file ever has two writers.

Positions, not coordinates, are cut: an axis only ever grows at its end, so the tile a case belongs to never
changes, however the sweep grows later.
"""

from collections.abc import Iterable, Iterator, Sequence
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

    >>> fitting(Sweep((0, 1, 2, 3), (6, 7)), 8)
    Tile(labels=2, seeds=4)
    >>> fitting(Sweep((5,), (0,)), 8)
    Tile(labels=1, seeds=8)
    """
    shapes = [Tile(batch // seeds, seeds) for seeds in range(1, batch + 1) if batch % seeds == 0]

    def batches(tile: Tile) -> int:
        return -(-len(sweep.labels) // tile.labels) * -(-len(sweep.seeds) // tile.seeds)

    return min(shapes, key=lambda tile: (batches(tile), -tile.seeds))


def households(
    sweep: Sweep, order: Order, tile: Tile, *, linked: bool, crossed: bool
) -> Iterator[list[tuple[Case, ...]]]:
    """The sweep's cases in groups that may read each other's results, each as *atoms* that share their files.

    An atom is one label of one intervention and the seeds of one tile. A group is a tile's atoms, or everything
    with a tile's seeds where labels are `linked` or something is done to the model, or all there is where seeds are
    `crossed`.
    """
    blocks = _blocks(sweep.seeds, order.seeds, tile.seeds)
    if crossed:
        yield [atom for seeds in blocks for atom in _everything(sweep, order, seeds)]
    elif linked or len(sweep.interventions) > 1:
        for seeds in blocks:
            yield _everything(sweep, order, seeds)
    else:
        for labels in _blocks(sweep.labels, order.labels, tile.labels):
            for seeds in blocks:
                name = sweep.interventions[0]
                yield [tuple(Case(seed, label, name) for seed in seeds) for label in labels]


def _everything(sweep: Sweep, order: Order, seeds: Sequence[int]) -> list[tuple[Case, ...]]:
    return [
        tuple(Case(seed, label, name) for seed in seeds)
        for name in sorted(sweep.interventions, key=order.interventions.index)
        for label in sorted(sweep.labels_of(name), key=order.labels.index)
    ]


def _blocks(wanted: Iterable[int], axis: Sequence[int], size: int) -> list[list[int]]:
    place = {value: position for position, value in enumerate(axis)}
    blocks: dict[int, list[int]] = {}
    for value in sorted(wanted, key=place.__getitem__):
        blocks.setdefault(place[value] // size, []).append(value)
    return [blocks[number] for number in sorted(blocks)]


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
