"""Fitting a store into a number of bytes: what would go, in which order, and why.

First what can be computed again from the stored trajectory, the largest first; then the trajectory's states but every
fiftieth. Measures are never dropped for room: they are small, and what people came for.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.drop import losses
from flowprofile.upkeep.pins import pinned

THINNED = "::50"
TRAJECTORY = "trajectory"
MEASURES = "measures/"


@dataclass(frozen=True)
class Step:
    """One thing that would go."""

    cells: Cells
    bytes: int
    why: str


@dataclass(frozen=True)
class Room:
    """What it takes to fit."""

    held: int
    """Bytes of data the store holds."""
    steps: tuple[Step, ...]
    left: int
    """Bytes it would hold then."""


def room(store: Store, budget: int) -> Room:
    """What would be dropped so that the data fit into `budget` bytes; nothing is touched."""
    sizes: dict[str, int] = {}
    for run in store.runs():
        for group, stage in store.stages(run).items():
            cells = Cells(stages=(stage.group,))
            if stage.group not in sizes:
                sizes[stage.group] = (
                    0 if _pinned(store, stage.group) else sum(loss.bytes for loss in losses(store, cells))
                )
            del group
    held = left = sum(sizes.values())
    steps: list[Step] = []
    heavy = sorted(
        (n for n in sizes if n != TRAJECTORY and not n.startswith(MEASURES)), key=lambda n: -sizes[n]
    )
    for name in heavy:
        if left > budget and sizes[name]:
            steps.append(
                Step(Cells(stages=(name,)), sizes[name], "can be computed again from the trajectory")
            )
            left -= sizes[name]
    if left > budget and sizes.get(TRAJECTORY):
        cells = Cells(stages=(TRAJECTORY,), but_times=THINNED)
        freed = sum(loss.bytes for loss in losses(store, cells))
        if freed:
            steps.append(Step(cells, freed, f"all states but {THINNED}; the rest can be sampled again"))
            left -= freed
    return Room(held, tuple(steps), left)


def _pinned(store: Store, name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in pinned(store))
