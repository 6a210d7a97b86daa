"""Two pipelines side by side: what the second would compute anew where the first has been run.

Identity is in the keys, so the answer is exact; the reasons are found by comparing what the keys were made of.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowprofile.assembly import Assembled


def compared(a: Assembled, b: Assembled) -> list[dict[str, Any]]:
    """One row per stored stage of `b`: 'same', 'grows' or 'recomputed', and why."""
    return [_row(a, b, stage.name) for stage in b.graph.stored()]


def _row(a: Assembled, b: Assembled, name: str) -> dict[str, Any]:
    match = next(
        (other.name for other in a.graph.stored() if a.graph.path(other.name) == b.graph.path(name)), None
    )
    row: dict[str, Any] = {"stage": name, "key": b.graph.keys[name]}
    if match is not None and a.run == b.run:
        new = _new_cells(a, b, match, name)
        return row | {"state": "grows" if new else "same", "why": new or "every cell is there"}
    return row | {"state": "recomputed", "why": "; ".join(_reasons(a, b, name))}


def _new_cells(a: Assembled, b: Assembled, before: str, after: str) -> str:
    added = []
    for what, old, new in (
        ("seeds", a.sweep.seeds, b.sweep.seeds),
        ("labels", a.sweep.labels, b.sweep.labels),
        ("states", a.graph.stages[before].times, b.graph.stages[after].times),
    ):
        count = len(set(new) - set(old))
        if count:
            added.append(f"{count:,} more {what}")
    return ", ".join(added)


def _reasons(a: Assembled, b: Assembled, name: str) -> list[str]:
    reasons = []
    if a.identity != b.identity:
        reasons.append(f"another model ({a.card.name} -> {b.card.name})")
    sources = [one.context.real.how if one.context.real is not None else "sampled" for one in (a, b)]
    if sources[0] != sources[1]:
        reasons.append(f"{sources[0]} images -> {sources[1]} images")
    if a.numerics != replace(b.numerics, decoder=a.numerics.decoder):
        changed = _changes(a.numerics.table(), b.numerics.table())
        reasons.append(f"another numerics class ({changed})")
    bases = _changes({k: v for k, v in a.graph.base.items() if k != "model"}, b.graph.base)
    if bases:
        reasons.append(bases)
    old, new = a.graph.stages.get(name), b.graph.stages[name]
    if old is None:
        reasons.append("a stage the first has not")
    else:
        if old.version != new.version:
            reasons.append(f"version {old.version} -> {new.version}")
        changed = _changes(old.params, new.params)
        if changed:
            reasons.append(changed)
    return reasons or ["something upstream"]


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {old[key]!r} -> {new[key]!r}" for key in old if key in new and old[key] != new[key]
    )
