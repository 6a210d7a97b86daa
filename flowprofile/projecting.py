"""What a run would do, and what it will cost: a plan is made and priced, and nothing is touched.

Everything that can be refused is refused here, before a store is written or a model is loaded.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from flowprofile import rates
from flowprofile.assembly import Assembled, assemble, regrown
from flowprofile.definitions import Pipeline, Text, read
from flowprofile.errors import DefinitionError
from flowprofile.flow.budget import Cost, cost, states_in_flight
from flowprofile.flow.events import silence
from flowprofile.flow.fingerprint import key
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Nothing, Plan, cell_bytes
from flowprofile.flow.plan import plan as planned
from flowprofile.flow.reasons import reasons
from flowprofile.footprint import footprint
from flowprofile.held import holdings, met
from flowprofile.intervening import notes
from flowprofile.store.layout import StoreLayout, size
from flowprofile.store.layout import layout as named_layout
from flowprofile.store.urls import Where


@dataclass(frozen=True)
class Projection:
    """A plan with what it will cost."""

    assembled: Assembled
    plan: Plan
    cost: Cost
    disk: Mapping[str, int]
    """Bytes that the new cells of every stored stage take on disk."""
    seconds: Mapping[str, float]
    """Projected seconds per stage, for stages whose rate on this machine is known."""
    warnings: Mapping[str, str]
    """What a person should know before running it, by stage."""


Source: TypeAlias = str | os.PathLike[str] | Pipeline | Assembled


def assembled(source: Source, *, overrides: Sequence[str] = (), allow_code: bool = False) -> Assembled:
    """A pipeline by name, by path or as a value, checked and wired."""
    if isinstance(source, Assembled):
        return source
    if isinstance(source, Pipeline):
        return assemble(source, Text("the pipeline", ""), allow_code=allow_code)
    found, text = read(os.fspath(source), overrides=overrides)
    return assemble(found, text, allow_code=allow_code)


def part_of(part: tuple[int, int] | None) -> Callable[[int], bool] | None:
    """Which tasks belong to a part: every n-th, so that parts are of a size however the sweep grew.

    Raises
    ------
    DefinitionError
        If there is no such part.
    """
    if part is None:
        return None
    index, parts = part
    if not 0 <= index < parts:
        raise DefinitionError(
            f"There is no part {index}/{parts}.",
            consequence="Nothing would be computed.",
            remedy=f"count from 0: 0/{max(1, parts)} .. {max(1, parts) - 1}/{max(1, parts)}",
        )
    return lambda number: number % parts == index


def plan(source: Source, *, into: Where | None = None, allow_code: bool = False) -> Projection:
    """What `run` would compute, counted; neither store nor model is opened for writing.

    Parameters
    ----------
    source
        A pipeline's name or file, or a `Pipeline`.
    into
        The store it would go into; without one, everything counts as missing.
    """
    return project(assembled(source, allow_code=allow_code), into)


def project(
    ready: Assembled,
    into: Where | None,
    *,
    layout: StoreLayout | None = None,
    part: tuple[int, int] | None = None,
) -> Projection:
    """`plan` for an assembled pipeline, or for one of its parts."""
    ready = met(ready, into) if into is not None else ready
    held = holdings(into, ready.run, silence) if into is not None else None
    ready = regrown(ready, held.pixel_sets()) if held is not None else ready
    found = planned(
        ready.graph, ready.sweep, held or Nothing(), batch=ready.numerics.batch, only=part_of(part)
    )
    chosen = layout or named_layout("local")
    disk = footprint(found, chosen)
    price = cost(
        found,
        block=states_in_flight(ready.graph, ready.numerics.batch),
        weights=ready.weight_bytes,
        regions=_region_bytes(ready.graph, chosen),
        store=sum(disk.values()),
    )
    warnings = {
        **notes(ready.sweep, ready.context.interventions),
        **(held.changed_sources(ready.graph) if held is not None else {}),
    }
    known = rates.remembered(rate_key(ready))
    seconds = {
        name: value for name in ready.graph.stages if (value := _seconds(name, found, known)) is not None
    }
    return Projection(ready, found, price, disk, seconds, warnings)


def as_table(projection: Projection) -> dict[str, Any]:
    """A projection as plain values."""
    plan, cost = projection.plan, projection.cost
    why = reasons(plan)
    return {
        "run": projection.assembled.run,
        "forwards": plan.forwards,
        "padding": plan.padded,
        "sampled": sampled(plan),
        "batches": len(plan.batches),
        "bytes": plan.bytes,
        "disk": cost.store,
        "memory": cost.memory,
        "scratch": cost.scratch,
        "seconds": sum(projection.seconds.values()) if projection.seconds else None,
        "stages": {
            name: {
                "state": share.state if plan.graph.stages[name].stored else "in flight",
                "cells": share.cells,
                "wanted": share.wanted,
                "forwards": share.forwards,
                "bytes": share.bytes,
                "disk": projection.disk.get(name, 0),
                "seconds": projection.seconds.get(name),
                "key": plan.graph.keys[name],
                "why": why.get(name, ""),
            }
            for name, share in plan.shares.items()
        },
        "warnings": dict(projection.warnings),
    }


def sampled(found: Plan) -> int:
    """How many of the forwards are steps of the sampler, from one state to the next; the others only look.

    A step that is taken again for what the network shows in it, from a stored state, is not one of them.
    """
    total = 0
    for batch in found.batches:
        for one in batch.demand.passes:
            chain = found.graph.chain(one.chain)
            total += int(one.compute[one.chain][1:].sum()) * chain.forwards_to_reach * len(batch.cases)
    return total


def rate_key(ready: Assembled) -> str:
    """Identity under which this machine's rates for a pipeline's model are remembered."""
    return key({"model": ready.identity, "numerics": ready.numerics.table()})[:16]


def _seconds(name: str, found: Plan, known: rates.Rates) -> float | None:
    """Projected seconds of a stage; None if its kind was never timed here."""
    stage = found.graph.stages[name]
    units = 0
    for batch in found.batches:
        walks = [one for one in batch.demand.passes if name in one.compute]
        steps = sum(int(one.compute[name].sum()) for one in walks)
        if stage.chain is None:
            units += steps * len(batch.cases) * (stage.asks or 1)
        else:
            replayed = sum(int(one.replay.sum()) for one in walks if one.chain == name)
            stepped = steps * found.batch * stage.chain.forwards_to_reach
            units += stepped + replayed * len(batch.cases) * stage.chain.forwards_per_step or steps
    if units == 0:
        return 0.0
    return rates.seconds(stage, units, known)


def _region_bytes(graph: Graph, layout: StoreLayout) -> list[int]:
    """Bytes of one case in the regions that wait side by side, one of every stored stage."""
    shard = size(layout.shard)
    return [
        min(max(shard, cell), cell * len(one.times)) for one in graph.stored() for cell in [cell_bytes(one)]
    ]
