"""Why a plan does what it does, in a few words per stage: what is sampled, replayed, borrowed, or only read."""

from collections.abc import Callable, Iterable

from flowprofile.flow.demand import Mask, Pass
from flowprofile.flow.plan import Plan


def reasons(plan: Plan) -> dict[str, str]:
    """One line per stage that has work; stages that are cached have none."""
    found = {}
    for name, stage in plan.graph.stages.items():
        if stage.chain is not None:
            text = _chain(plan, name)
        elif stage.outputs:
            text = _shown(plan, name)
        elif stage.asks:
            text = _asked(plan, name)
        else:
            text = ""
        if text:
            found[name] = text
    return found


def _chain(plan: Plan, name: str) -> str:
    walks = list(_walks(plan, lambda one: one.chain == name))
    stepped = sum(cases * int(one.compute[name][1:].sum()) for cases, one in walks)
    borrowed = sum(cases * int(one.borrow[name].sum()) for cases, one in walks)
    parts = [f"{stepped:,} steps"] if stepped else []
    if borrowed:
        parts.append(f"branched: {borrowed:,} states are the clean run's")
    if any(one.read[name].any() and not one.borrow[name].any() for _, one in walks):
        parts.append("from stored states")
    return ", ".join(parts)


def _shown(plan: Plan, name: str) -> str:
    """A stage that takes what the network shows: fused with steps that are taken anyway, or replayed."""
    walks = list(_walks(plan, lambda one: name in one.compute))
    replayed = sum(cases * int((one.compute[name] & one.replay).sum()) for cases, one in walks)
    fused = sum(cases * int((one.compute[name] & ~one.replay).sum()) for cases, one in walks)
    borrowed = sum(cases * int(one.borrow[name].sum()) for cases, one in walks)
    parts = []
    if fused:
        parts.append(f"{fused:,} fused: their steps are taken anyway")
    if replayed:
        parts.append(f"{replayed:,} replayed, batched over t: the states before are stored")
    if borrowed:
        parts.append(f"{borrowed:,} are the clean run's")
    return ", ".join(parts)


def _asked(plan: Plan, name: str) -> str:
    walks = _walks(plan, lambda one: name in one.compute)
    cells = sum(cases * int(one.compute[name].sum()) for cases, one in walks)
    return f"{cells:,} on their own: gradients never sample" if cells else ""


def _walks(plan: Plan, wanted: Callable[[Pass], Mask | bool]) -> Iterable[tuple[int, Pass]]:
    """The passes of all batches, each with how many cases walk it."""
    return ((len(batch.cases), one) for batch in plan.batches for one in batch.demand.passes if wanted(one))
