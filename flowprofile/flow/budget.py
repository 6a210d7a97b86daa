"""What a plan will take, added up before it takes it.

The memory of a run is a sum of a few terms that a person can check. A plan whose sum is over the budget is
refused while refusing is free.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowprofile.errors import BudgetError
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Plan, cell_bytes, scratch_bytes

PROCESS: Final = 514 << 20
"""Bytes of a Python process with torch, zarr and xarray loaded, and with the noise that it may keep."""
COPIES: Final = 4
"""How many times a region's bytes exist while it is joined, cut, encoded and written."""
IN_FLIGHT: Final = 256 << 20
"""Bytes that the blocks in flight may have before there are fewer states in them."""
STATES: Final = 128
"""Most states in flight at once."""


@dataclass(frozen=True)
class Cost:
    """Projected bytes."""

    process: int
    model: int
    """Weights, and the activations of one canonical batch, as far as the weights' size tells."""
    blocks: int
    """Blocks in flight, of every stage."""
    regions: int
    """Regions waiting for their last state, with the copies that writing makes."""
    scratch: int
    """On disk: states that wait between passes, of one batch."""
    store: int
    """On disk: new data in the store."""

    @property
    def memory(self) -> int:
        """The peak of one process."""
        return self.process + self.model + self.blocks + self.regions

    def lines(self) -> list[tuple[str, int]]:
        """The additions, named."""
        return [
            ("process", self.process),
            ("model", self.model),
            ("blocks in flight", self.blocks),
            ("regions being written", self.regions),
            ("scratch on disk", self.scratch),
            ("store on disk", self.store),
        ]


def states_in_flight(graph: Graph, batch: int) -> int:
    """How many states a block has: as many as fit, since their number changes no result.

    A state of large objects (all activations, a gradient volume) may be alone.
    """
    each = sum(cell_bytes(stage) for stage in graph.stages.values()) * batch
    return max(1, min(STATES, IN_FLIGHT // max(1, each)))


def cost(plan: Plan, *, block: int, weights: int, regions: Sequence[int], store: int) -> Cost:
    """Project the plan.

    Parameters
    ----------
    plan
        What will be computed.
    block
        States in flight.
    weights
        Bytes of the model's weights.
    regions
        For every stored stage, the largest bytes of one case in one region of the store.
    store
        Bytes on disk of what is new in the store.
    """
    stages = plan.graph.stages.values()
    in_flight = sum(cell_bytes(stage) for stage in stages) * plan.batch * block
    # Every stage may hold a region that waits for its last state; one at a time is being written.
    waiting = sum(regions) + (COPIES - 1) * max(regions, default=0)
    scratch = max((scratch_bytes(task, plan.graph) for task in plan.tasks), default=0)
    return Cost(
        PROCESS, 4 * weights, 2 * in_flight, waiting * plan.batch if plan.tasks else 0, scratch, store
    )


def check(
    cost: Cost,
    *,
    memory: int | None,
    disk: int | None,
    folder: Path | None,
    processes: int = 1,
    beside: int = 0,
) -> None:
    """Refuse a plan over its budget; without a stated one, over what the machine has free.

    ``memory`` is for all the processes of this machine together, each of which holds ``beside`` bytes more than the
    plan says.
    """
    allowed = memory if memory is not None else _free_memory()
    needed = (cost.memory + beside) * processes
    if allowed is not None and needed > allowed:
        parts = ", ".join(f"{name} {human(size)}" for name, size in cost.lines()[:4])
        raise BudgetError(
            f"The plan needs about {human(needed)} of memory, and {human(allowed)} are allowed.",
            consequence="It would be killed in the middle, or make the machine swap.",
            remedy=("" if processes == 1 else _fewer(allowed, cost.memory + beside))
            + "use a smaller numerics.batch or fewer kept states per shard, or raise --memory",
            evidence=parts if processes == 1 else f"{processes} processes, each: {parts}",
        )
    needed = cost.store + cost.scratch * processes
    room = disk if disk is not None else _free_disk(folder)
    if room is not None and needed > room:
        raise BudgetError(
            f"The plan writes about {human(needed)}, and {human(room)} are allowed.",
            consequence="The disk would be full before the last sample is stored.",
            remedy='keep fewer states (keep = "::50"), fewer seeds or labels, or raise --disk',
            evidence=f"store {human(cost.store)}, scratch {human(cost.scratch * processes)}",
        )


def _fewer(allowed: int, each: int) -> str:
    """How many workers there is memory for, as the first thing to try."""
    count = allowed // each
    return f"use at most {count} worker{'s' if count > 1 else ''}; or " if count else ""


def human(size: float) -> str:
    """Bytes for people.

    >>> human(3 * 2**20)
    '3.0 MiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _free_memory() -> int | None:
    """Bytes the machine could still hand out, where the system tells."""
    source = Path("/proc/meminfo")
    if not source.exists():
        return None
    for line in source.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _free_disk(folder: Path | None) -> int | None:
    if folder is None:
        return None
    existing = folder
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free
