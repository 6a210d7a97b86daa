"""What a stage promises about every block it will ever hand over, and the check that it did.

A promise is an empty dataset without the case axes. It costs no memory (its arrays are one broadcast cell), prints
like any dataset, and a block that breaks it is refused before a byte is written, with both sides named.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import CASE, CASE_AXES, TIME
from flowprofile.errors import StoreError, nearest

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
"""What can be stored: types every Zarr v3 reader knows and that have a value for 'missing'."""


def promise(
    variables: Mapping[str, tuple[Sequence[str], str]],
    coords: Mapping[str, Any],
    *,
    sizes: Mapping[str, int] | None = None,
    attrs: Mapping[str, Any] | None = None,
    variable_attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """A promise, without allocating what it promises.

    Parameters
    ----------
    variables
        Name to ``(dims, dtype)``; no case axes; ``time`` first where there is one.
    coords
        As for a dataset. ``time`` holds the wanted states, descending; coordinates along it grow with it.
    sizes
        Lengths of dims without a coordinate.

    Examples
    --------
    >>> p = promise({"x": (("time", "y"), "float32")}, {"time": [2, 1, 0]}, sizes={"y": 4})
    >>> dict(p.sizes)
    {'time': 3, 'y': 4}
    """
    _no_axis_names(variables)
    base = xr.Dataset(coords=dict(coords))
    lengths = {**{str(dim): length for dim, length in base.sizes.items()}, **(sizes or {})}
    data = {
        name: (tuple(dims), _broadcast(dtype, [_length(dim, lengths, name) for dim in dims]))
        for name, (dims, dtype) in variables.items()
    }
    result = base.assign({key: xr.Variable(dims, cell) for key, (dims, cell) in data.items()})
    for name, values in (variable_attrs or {}).items():
        result[name].attrs.update(values)
    result.attrs.update(attrs or {})
    return verified(result)


def _no_axis_names(variables: Mapping[str, tuple[Sequence[str], str]]) -> None:
    axes = {*CASE_AXES, CASE, *(dim for dims, _ in variables.values() for dim in dims)}
    for name in variables:
        if name in axes:
            raise StoreError(
                f"The promise has a variable {name!r}, which is also the name of an axis.",
                consequence="xarray would take it for that axis' coordinate.",
                remedy="give the variable another name, for instance 'state' for x_t",
            )


def _broadcast(dtype: str, shape: Sequence[int]) -> npt.NDArray[np.generic]:
    return np.broadcast_to(np.zeros((), dtype), tuple(shape))


def _length(dim: str, lengths: Mapping[str, int], name: str) -> int:
    if dim not in lengths:
        raise StoreError(
            f"The promise of {name!r} has the axis {dim!r} of unknown length.",
            remedy=f"give it a coordinate or a size ({nearest(dim, lengths)})",
        )
    return lengths[dim]


def verified(promised: xr.Dataset) -> xr.Dataset:
    """The promise itself, if it is one that can be stored."""
    for name, variable in promised.data_vars.items():
        dims = tuple(map(str, variable.dims))
        taken = [dim for dim in dims if dim in (*CASE_AXES, CASE)]
        if taken or (TIME in dims and dims[0] != TIME):
            raise StoreError(
                f"The promise of {name!r} has the axes {dims!r}.",
                consequence="The store puts the case axes in front itself, and time right behind them.",
                remedy=f"leave out {', '.join((*CASE_AXES, CASE))}, and put {TIME!r} first",
            )
        if str(variable.dtype) not in DTYPES:
            raise StoreError(
                f"The promise of {name!r} has the type {str(variable.dtype)!r}.",
                consequence="Not every reader of Zarr v3 could read it, or nothing could stand for 'missing'.",
                remedy=f"use one of {', '.join(DTYPES)}",
            )
    if not promised.data_vars:
        raise StoreError("The promise has no variables.", remedy="promise at least one")
    if TIME in promised.dims and TIME not in promised.coords:
        raise StoreError(
            f"The promise has a {TIME!r} axis without a coordinate.", remedy="give the wanted states t"
        )
    return promised


def check(block: xr.Dataset, promised: xr.Dataset, *, cases: int, times: Sequence[int] | None) -> None:
    """Refuse a block that is not what was promised.

    Parameters
    ----------
    cases
        How many cases the block must have.
    times
        The states it must have, in order; None for a stage without time.
    """
    _same("the block", "variables", sorted(map(str, block.data_vars)), sorted(map(str, promised.data_vars)))
    for key, variable in promised.data_vars.items():
        name = f"variable {str(key)!r}"
        lengths = dict(variable.sizes)
        if TIME in lengths and times is not None:
            lengths[TIME] = len(times)
        _same(name, "dims", tuple(block[key].dims), (CASE, *variable.dims))
        _same(name, "dtype", str(block[key].dtype), str(variable.dtype))
        _same(name, "shape", block[key].shape, (cases, *(lengths[dim] for dim in variable.dims)))
    if times is not None:
        _same(f"coordinate {TIME!r}", "values", _values(block, TIME), [int(t) for t in times])
    for key, coordinate in promised.coords.items():
        if TIME not in coordinate.dims and key in block.coords:
            _same(f"coordinate {str(key)!r}", "values", _values(block, str(key)), coordinate.values.tolist())


def _values(block: xr.Dataset, name: str) -> object:
    return block[name].values.tolist() if name in block.coords else "none"


def _same(
    what: str, field: Literal["variables", "dims", "dtype", "shape", "values"], got: object, want: object
) -> None:
    if got != want:
        raise StoreError(
            f"The block breaks its promise: {what} has {field} {_short(got)}, promised were {_short(want)}.",
            consequence="Nothing of this block was written.",
            remedy="make the stage's compute return what its promise says, or change the promise and the version",
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]} … ({len(text)} characters)"
