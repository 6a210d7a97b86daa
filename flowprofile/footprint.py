"""What new cells take on disk: objects are written in whole chunks, of which a few kept states fill a part only."""

import math

from flowprofile.axes import TIME
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Plan
from flowprofile.store.layout import Form, StoreLayout, form


def footprint(plan: Plan, layout: StoreLayout) -> dict[str, int]:
    """Bytes on disk of what a plan stores, by stage and before compression.

    A large array has one object per case, and its last inner chunk is written whole; a small one has one chunk per
    tile of seeds, as long as the whole time grid.
    """
    return {
        name: math.ceil(share.cells / max(1, len(plan.graph.stages[name].times)))
        * _per_case(plan.graph, name, layout, plan.tile.seeds)
        for name, share in plan.shares.items()
        if plan.graph.stages[name].stored
    }


def _per_case(graph: Graph, name: str, layout: StoreLayout, seeds: int) -> int:
    """Bytes that one case of a stage takes."""
    stage = graph.stages[name]
    promise = stage.promise(stage.times)
    total = 0
    for variable in promise.data_vars.values():
        timed = TIME in variable.dims
        tail = tuple(variable.shape[1:] if timed else variable.shape)
        capacity = len(graph.chain(name).grid) if timed else None
        cut = form(layout, dtype=str(variable.dtype), tail=tail, capacity=capacity, tile=seeds)
        total += _written(cut, len(stage.times), tail, timed=timed) * variable.dtype.itemsize
    return total


def _written(cut: Form, times: int, tail: tuple[int, ...], *, timed: bool) -> int:
    """Values of one case that are written."""
    if not timed:
        return math.prod(tail)
    if cut.inner is None:
        return math.prod(cut.chunk[3:])
    return math.ceil(times / cut.inner_times) * cut.inner_times * math.prod(cut.chunk[4:])
