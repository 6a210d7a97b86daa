"""What the engine does to a block of results: name its cases, join it along time, and look for lost numbers."""

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import Case
from flowprofile.errors import NonFiniteError
from flowprofile.flow.stage import Stage


def labelled(cases: Sequence[Case]) -> dict[str, tuple[str, list[object]]]:
    """The coordinates of a batch: which case each row is."""
    return {
        INTERVENTION: (CASE, [case.intervention for case in cases]),
        LABEL: (CASE, [case.label for case in cases]),
        SEED: (CASE, [case.seed for case in cases]),
    }


def cases_of(block: xr.Dataset) -> tuple[Case, ...]:
    """The cases of a block's rows."""
    columns = zip(block[SEED].values, block[LABEL].values, block[INTERVENTION].values, strict=True)
    return tuple(Case(int(seed), int(label), str(name)) for seed, label, name in columns)


def times_of(block: xr.Dataset) -> tuple[int, ...]:
    """The states of a block."""
    return tuple(int(t) for t in block[TIME].values)


def joined(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    """Blocks of the same cases, one after the other in time."""
    if len(pieces) == 1:
        return pieces[0]
    return xr.concat(
        pieces, dim=TIME, data_vars="minimal", coords="minimal", compat="override", join="override"
    )


def narrowed(block: xr.Dataset, rows: Sequence[int], times: Sequence[int]) -> xr.Dataset:
    """Some cases of a block at some states; nothing is copied where that is all of it."""
    if list(rows) != list(range(block.sizes[CASE])):
        block = block.isel({CASE: list(rows)})
    return block if tuple(times) == times_of(block) else block.sel({TIME: list(times)})


def finite(stage: Stage, block: xr.Dataset, cases: Sequence[Case]) -> None:
    """Refuse a block with a number that is none, and name the first."""
    for variable, values in block.data_vars.items():
        if not np.issubdtype(values.dtype, np.floating):
            continue
        bad = ~np.isfinite(values.values)
        if bad.any():
            index = dict(zip(values.dims, (int(place[0]) for place in np.nonzero(bad)), strict=True))
            t = int(block[TIME].values[index[TIME]])
            raise NonFiniteError(
                f"Stage {stage.name!r} gives a non-finite {variable!r} for {cases[index[CASE]]} at t = {t}.",
                consequence="It is not stored; a NaN that looks like 'not computed' would be a lie.",
                remedy="look at the states around that step, or measure fewer states",
                evidence=f"{int(bad.sum())} of {bad.size} values in this block are not finite",
            )


def lost(stage: Stage, block: xr.Dataset, cases: Sequence[Case]) -> Iterator[str]:
    """Say where an index could not be found because numbers were lost; it is stored as -1."""
    for variable, values in block.data_vars.items():
        if values.dtype.kind != "i" or not (values.values == -1).any():
            continue
        missing = values.values == -1
        index = dict(zip(values.dims, (int(place[0]) for place in np.nonzero(missing)), strict=True))
        where = [
            f"{dim} {block[dim].values[at]}"
            for dim, at in index.items()
            if dim in block.coords and dim != TIME
        ]
        t = int(block[TIME].values[index[TIME]])
        yield (
            f"{stage.name!r} has no {variable!r} at {missing.sum()} of {missing.size} places (stored as -1): the numbers"
            f" it is found from are not finite, or there are none. First: {cases[index[CASE]]}, t = {t}{', ' if where else ''}{', '.join(where)}"
        )
