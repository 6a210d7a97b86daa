"""One task: batches that read each other's results, each from noise to the last measure.

Nothing here knows what a state is. A pass is walked when everything it reads exists: clean cases before those with
an intervention, and of several labels that are compared, every one up to the point where the comparison begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from flowprofile.flow.events import Listen
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Batch, Task
from flowprofile.flow.scratch import Scratch
from flowprofile.flow.shelf import Holder, Shelf
from flowprofile.flow.stage import Walker
from flowprofile.flow.walk import Walk


@dataclass
class Chains:
    """The chains opened so far in this process; a model is loaded once."""

    graph: Graph
    opened: dict[str, Walker] = field(default_factory=dict)

    def walker(self, name: str) -> Walker:
        """What moves along the chain, opened on first use."""
        if name not in self.opened:
            self.opened[name] = self.graph.chain(name).open()
        return self.opened[name]


def execute(
    task: Task,
    chains: Chains,
    store: Holder,
    *,
    block: int,
    listen: Listen,
    scratch_folder: Path | None = None,
) -> None:
    """Compute and commit everything the task demands, `block` states at a time."""
    finals: dict[int, dict[str, xr.Dataset]] = {number: {} for number in range(len(task.batches))}
    cases = tuple(case for batch in task.batches for case in batch.cases)
    with Scratch(scratch_folder) as scratch:
        for number, batch, level in _in_order(task.batches):
            for one in batch.demand.passes:
                if one.level == level:
                    shelf = Shelf(chains.graph, store, scratch, finals[number], cases)
                    Walk(batch, one, chains.walker, shelf, listen).go(block)


def _in_order(batches: Sequence[Batch]) -> list[tuple[int, Batch, int]]:
    """Batch by batch and level by level: clean ones through all their levels first, and level by level."""
    turns = [
        (not batch.cases[0].clean, one.level, number)
        for number, batch in enumerate(batches)
        for one in batch.demand.passes
    ]
    return [(number, batches[number], level) for _, level, number in sorted(set(turns))]
