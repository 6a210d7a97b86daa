"""Fitting a store into a number of bytes: what would go, in which order, and why.

First what can be computed again from a stored trajectory, the largest first; then the trajectory's states but every
fiftieth. Without a stored trajectory it is said that sampling is the price. Measures are never dropped for room: they are small, and what people came
for. What is pinned counts, and stays.
"""

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase

from flowprofile.store.ledger import Ledger, read_receipt
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
    """Bytes of data the store holds, those that may not be dropped too."""
    steps: tuple[Step, ...]
    left: int
    """Bytes it would hold then; more than the budget where nothing else may go."""


def room(store: Store, budget: int) -> Room:
    """What would be dropped so that the data fit into `budget` bytes; nothing is touched."""
    store.refresh()
    sizes, pins = _sizes(store), pinned(store)
    held = left = sum(sizes.values())
    free = [
        name for name, size in sizes.items() if size and not any(fnmatchcase(name, each) for each in pins)
    ]
    heavy = [name for name in free if name != TRAJECTORY and not name.startswith(MEASURES)]
    heavy.sort(key=lambda name: -sizes[name])
    again = "must be sampled again"
    if sizes[TRAJECTORY]:
        again = "can be computed again from the stored trajectory"
    steps: list[Step] = []
    for name in (*heavy, TRAJECTORY):
        if left <= budget or name not in free:
            continue
        if name == TRAJECTORY:
            cells = Cells(stages=(name,), but_times=THINNED)
            step = Step(cells, sum(loss.bytes for loss in losses(store, cells)),
                        f"all states but {THINNED}; the rest can be sampled again")  # fmt: skip
        else:
            step = Step(Cells(stages=(name,)), sizes[name], again)
        if step.bytes:
            steps.append(step)
            left -= step.bytes
    return Room(held, tuple(steps), left)


def _sizes(store: Store) -> Counter[str]:
    """Bytes of data by a stage's name, every object once."""
    sizes: Counter[str] = Counter()
    for run in store.runs():
        for group, stage in store.stages(run).items():
            objects = {}
            for region in Ledger(store.place, run, group).regions():
                receipt = read_receipt(store.place, region)
                objects.update(
                    {} if receipt is None else {k: seal.size for k, seal in receipt.objects.items()}
                )
            sizes[stage.group] += sum(objects.values())
    return sizes
