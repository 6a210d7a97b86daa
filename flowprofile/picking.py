"""What of a profile a picture shows: which node, runs, samples and states; what is not held is refused by name."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr

from flowprofile.axes import IMAGE, INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import CLEAN
from flowprofile.errors import DefinitionError, nearest
from flowprofile.store.lazy import STATUS

DRAW: Final = "draw"
"""Coordinate of given images: which of its noises a seed is."""
GENERATIVE_STEP: Final = "generative_step"
"""Coordinate of states: how far each is from the noise."""


def node_of(tree: xr.DataTree, path: str) -> xr.Dataset:
    """A node of the profile by its path; a wrong one is refused with the nearest."""
    held = {name.strip("/"): node for name, node in tree.subtree_with_keys if node.data_vars}
    if path in held:
        return held[path].to_dataset()
    raise DefinitionError(
        f"The profile has no {path!r}.",
        consequence="There is nothing to draw.",
        remedy=f"add it to the pipeline and run that again: only what is missing is computed; {nearest(path, sorted(held))}",
    )


def clean_of(array: xr.DataArray) -> xr.DataArray:
    """The run in which nothing was done to the model."""
    return done_of(array, CLEAN)


def done_of(array: xr.DataArray, intervention: str) -> xr.DataArray:
    """The runs of one intervention; one that is not held is refused."""
    held = [str(name) for name in array[INTERVENTION].values] if INTERVENTION in array.dims else [CLEAN]
    if intervention not in held:
        raise DefinitionError(
            f"intervention {intervention!r} is not in the profile.",
            consequence="There is no picture of it.",
            remedy=nearest(intervention, held),
        )
    return array.sel({INTERVENTION: intervention}, drop=True) if INTERVENTION in array.dims else array


def chosen_of(
    array: xr.DataArray | xr.Dataset, axis: str, wanted: Sequence[int] | None, *, most: int | None = None
) -> list[int]:
    """The wanted values of an axis, or its first ones; a value that is not held is refused."""
    held = [int(value) for value in array[axis].values]
    if wanted is None:
        return held[:most]
    absent = [value for value in wanted if value not in held]
    if absent or not wanted:
        near = sorted(sorted(held, key=lambda value: abs(value - (absent or [0])[0]))[:5])
        raise DefinitionError(
            f"{axis} {absent[0]!r} is not in the profile." if absent else f"No {axis} was chosen.",
            consequence="There is no picture of it.",
            remedy=f"choose among the {len(held)} that are held, for instance {near!r}",
        )
    return [int(value) for value in wanted]


def spread(stored: Sequence[int], count: int = 11) -> list[int]:
    """At most `count` of the stored states, both ends among them, as evenly spread as they allow."""
    targets = np.linspace(max(stored), min(stored), count)
    return sorted({min(stored, key=lambda t: abs(t - target)) for target in targets}, reverse=True)


def first_state(node: xr.DataArray | xr.Dataset) -> int | None:
    """The state x_T, noise alone, whether it is kept or not; None where the axis of time is not a sampler's."""
    if GENERATIVE_STEP not in node.coords:
        return None
    return int((node[TIME] + node[GENERATIVE_STEP]).max())


def samples_of(
    data: xr.Dataset, states: xr.DataArray, seeds: Sequence[int] | None, labels: Sequence[int] | None
) -> dict[int, list[int]]:
    """The wanted seeds of the wanted labels; by default the first eight labels, and as many seeds as make eight rows.

    Given images may each have a label of its own: of those a label's are the ones that were asked for under it, every
    image before the second draw of one.
    """
    if seeds is not None or IMAGE not in states.coords:
        labels = chosen_of(states, LABEL, labels, most=8)
        return dict.fromkeys(labels, chosen_of(states, SEED, seeds, most=_each(len(labels))))
    # What was asked of one state was asked of all.
    asked = data[STATUS].any([dim for dim in data[STATUS].dims if dim not in (LABEL, SEED)]).load()
    order = states.sortby([DRAW, IMAGE])[SEED].values.tolist()
    held = {
        label: [seed for seed in order if asked.sel({LABEL: label, SEED: seed})]
        for label in chosen_of(states, LABEL, labels)
    }
    shown = [label for label, own in held.items() if own][:8]
    return {label: held[label][: _each(len(shown))] for label in shown}


def _each(labels: int) -> int:
    """How many seeds of each label are shown where nobody says."""
    return max(1, min(4, 8 // labels))
