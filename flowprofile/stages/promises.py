"""What stages promise: an image, a map or a number per state, with the coordinates that every one of them has."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, CHANNEL, TIME, X, Y
from flowprofile.cases import Case
from flowprofile.flow.blocks import labelled
from flowprofile.kinds import Context
from flowprofile.store.promise import promise as promised

Promise = Callable[[tuple[int, ...]], xr.Dataset]
Keep = int | str | list[int] | dict[str, int]
"""States to keep: a list, a slice "::50" of those the sampler visits, or { exponential = 20 }."""

STATES: Final = "trajectory"
"""The stage every pipeline has: the sampler's states, whether or not they are stored."""
NULL: Final = "trajectory.null"
"""The chain of the same noise, driven by the finished image: it exists in flight only."""
INVERSION: Final = "trajectory.inversion"
"""The chain from a given image up to its noise: it exists in flight only."""


def coords(times: tuple[int, ...], context: Context) -> dict[str, Any]:
    """State, what it holds (alpha-bar at least) and generative step along time."""
    schedule = context.schedule
    return {
        TIME: np.array(times, dtype=np.int64),
        **{name: (TIME, values) for name, values in schedule.coords(times).items()},
        "generative_step": (TIME, schedule.T - np.array(times, dtype=np.int64)),
    }


def array_promise(
    name: str,
    dims: Sequence[str],
    axes: Mapping[str, Any],
    context: Context,
    *,
    attrs: Mapping[str, Any],
    dtype: str = "float32",
) -> Promise:
    """The promise of one array per state, with the given axes behind time."""

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        return promised(
            {name: ((TIME, *dims), dtype)},
            coords(times, context) | dict(axes),
            variable_attrs={name: attrs},
        )

    return promise


def image_promise(
    name: str, context: Context, *, long_name: str, lead: Mapping[str, Any] = MappingProxyType({})
) -> Promise:
    """The promise of one image per state, or of one for each place on the leading axes."""
    channel, y, x = context.card.shape
    attrs = {"long_name": long_name, "units": "pixel value", "pixel_range": list(context.card.pixel_range)}
    axes = {**lead, CHANNEL: np.arange(channel), Y: np.arange(y), X: np.arange(x)}
    return array_promise(name, tuple(axes), axes, context, attrs=attrs)


def in_flight(arrays: Mapping[str, np.ndarray], cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
    """Images of a batch, labelled: dims (case, time, channel, y, x)."""
    variables = {name: ((CASE, TIME, CHANNEL, Y, X), values) for name, values in arrays.items()}
    return xr.Dataset(variables, coords={**labelled(cases), TIME: list(times)})


def curve_promise(context: Context, attrs: Mapping[str, Any]) -> Promise:
    """The promise of one number per state."""
    return array_promise("value", (), {}, context, attrs=attrs)
