"""Comparing labels: every pair of them, for one seed at a time.

Two labels of one seed share every random number, so what parts them is the label.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from flowprofile.axes import TIME
from flowprofile.cases import Case
from flowprofile.errors import DefinitionError
from flowprofile.flow.blocks import cases_of
from flowprofile.kinds import Context
from flowprofile.sourcing import needs_labels

Paired = Callable[..., np.ndarray]
"""From frames [label time ...] of one seed to values [label other time]; see `measures.between`."""


def several_labels(context: Context, *, place: str) -> list[int]:
    """The labels that are compared; one alone is refused, and images with one label each."""
    needs_labels(context.real, place)
    if len(context.labels) < 2:
        raise DefinitionError(
            f"Labels are compared, and the sweep has one ({place}).",
            consequence="Every value would be that of a sample and itself.",
            remedy="name at least two labels in [cases]",
        )
    return list(context.labels)


def squares(
    block: xr.Dataset, frames: np.ndarray, cases: Sequence[Case], labels: Sequence[int], paired: Paired
) -> np.ndarray:
    """Values of each case against every label of its seed, [case time other_label]; frames[row time ...] of a block."""
    rows = dict(zip(cases_of(block), frames, strict=True))
    found = np.empty((len(cases), block.sizes[TIME], len(labels)))
    for seed in dict.fromkeys(case.seed for case in cases):
        one = next(case for case in cases if case.seed == seed)
        square = paired(np.stack([rows[replace(one, label=label)] for label in labels]))
        for row, case in enumerate(cases):
            if case.seed == seed:
                found[row] = square[labels.index(case.label)].T
    return found
