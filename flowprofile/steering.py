"""Directions to steer in: the difference of two groups' mean activations, worked out from clean runs.

The groups are runs of the same sweep, so the clean runs come first: their pooled activations are stored like any other
result, and what is added to the network afterwards can be computed again from the store by anybody.
"""

from collections.abc import Callable

import numpy as np
import xarray as xr

from flowprofile.assembly import Assembled
from flowprofile.cases import CLEAN
from flowprofile.conditioning.interventions import Difference, Steer
from flowprofile.definitions import Cases, Pipeline
from flowprofile.errors import DefinitionError
from flowprofile.stages.promises import STATES

POOLED = "steering"
"""Name of the stage that holds the pooled activations."""


def directions(ready: Assembled) -> list[tuple[str, Difference]]:
    """The differences that some intervention refers to, with the layers they belong to."""
    parts = [part for one in ready.context.interventions.values() for part in one.parts]
    found = [
        (part.layer, part.vector)
        for part in parts
        if isinstance(part, Steer) and isinstance(part.vector, Difference)
    ]
    return list(dict.fromkeys(found))


def clean_part(ready: Assembled) -> Pipeline | None:
    """The pipeline whose results the differences are worked out from; None where there are none."""
    wanted = directions(ready)
    if not wanted:
        return None
    if ready.sweep.told is not None:
        raise DefinitionError(
            "A direction is the difference of two labels' means, and every image has one label, that of the table.",
            consequence="The groups would hold other images than those that are steered.",
            remedy="leave source.attributes out and name the labels in [cases]",
        )
    seeds = dict.fromkeys((*ready.sweep.seeds, *(seed for _, each in wanted for seed in each.seeds)))
    labels = dict.fromkeys(
        (*ready.sweep.labels, *(label for _, each in wanted for label in (*each.plus, *each.minus)))
    )
    times = sorted({each.time for _, each in wanted}, reverse=True)
    outside = [t for t in times if t not in ready.context.grid[1:]]
    if outside:
        raise DefinitionError(
            f"The sampler takes no step into t = {outside[0]}.",
            consequence="There is no activation of which a mean could be taken.",
            remedy=f"use a state it visits, for instance {min(ready.context.grid[1:], key=lambda t: abs(t - outside[0]))}",
        )
    pooled = {"use": "pooled", "layers": sorted({layer for layer, _ in wanted}), "keep": times}
    states = {STATES: dict(ready.pipeline.stages[STATES])} if STATES in ready.pipeline.stages else {}
    changed = {
        "cases": Cases(seeds=tuple(seeds), labels=ready.card.labels.written(labels)),
        "interventions": {},
        "stages": {**states, POOLED: pooled},
    }
    return ready.pipeline.model_copy(update=changed)


def resolve(ready: Assembled, tree: Callable[[], xr.DataTree]) -> None:
    """Work the differences out from a store that holds the clean part."""
    for layer, difference in directions(ready):
        node = tree()[f"{POOLED}/{layer}"].to_dataset()
        pooled = node["activation"].sel(intervention=CLEAN, time=difference.time)
        plus, minus = (
            _mean(pooled, labels, difference.seeds) for labels in (difference.plus, difference.minus)
        )
        ready.context.vectors[layer, difference] = (plus - minus).astype(np.float32)


def _mean(pooled: xr.DataArray, labels: tuple[int, ...], seeds: tuple[int, ...]) -> np.ndarray:
    """Mean over a group, [channel] float64; the order of addition is that of the axes."""
    group = pooled.sel(label=sorted(labels), seed=sorted(seeds)).transpose("label", "seed", "channel")
    values: np.ndarray = group.values.astype(np.float64).reshape(-1, group.sizes["channel"]).mean(axis=0)
    return values
