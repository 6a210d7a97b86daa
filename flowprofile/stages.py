"""The stages that come with the library, wired: sampler, trajectory, measures, and the null beside each.

Read this after `profile`. Every stage here is a value (see `flow.stage`); what they share is that a state is an
image x_t with dims (case, time, channel, y, x), that time runs from T down to 0, and that every curve a single
case can draw is accompanied by the same curve of a chain that was driven by the finished image alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, SEED, TIME, X, Y
from flowprofile.cases import Case
from flowprofile.definitions import Pipeline, Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.execute import labelled
from flowprofile.flow.stage import Advance, Chain, Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.measures import images, windows
from flowprofile.measures.nulls import posterior_chain
from flowprofile.store.promise import promise as promised
from flowprofile.time.noise import SCHEME
from flowprofile.time.rules import rule
from flowprofile.time.steps import kept

Keep = int | str | list[int] | dict[str, int]

STATES: Final = "trajectory"
"""The stage every pipeline has: the sampler's states, whether or not they are stored."""
NULL: Final = "trajectory.null"
"""The chain of the same noise, driven by the finished image: it exists in flight only."""


class TrajectoryParams(Table):
    """Parameters of the trajectory."""

    keep: Keep = Field("::1", description='states to store: a list, a slice "::50", or { exponential = 20 }')


class ImageParams(Table):
    """Parameters of a measure of pixels."""

    between: Literal["steps", "final"] = Field(
        "steps", description="steps: x_t and x_t+1 of the sampler; final: x_t and the finished x_0"
    )
    keep: Keep | None = Field(
        None, description="states to measure; by default every step, or the stored states for `final`"
    )


class RangedParams(ImageParams):
    """Parameters of a measure that is relative to the range of the data."""

    data_range: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="white minus black; by default the width of the model's pixel range",
    )


class SsimParams(RangedParams):
    """Parameters of SSIM."""

    window: int = Field(7, ge=3, description="side of the uniform window, odd")


def image_promise(name: str, context: Context, *, long_name: str) -> Callable[[tuple[int, ...]], xr.Dataset]:
    """The promise of one image per state."""

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        channel, y, x = context.card.shape
        attrs = {
            "long_name": long_name,
            "units": "pixel value",
            "pixel_range": list(context.card.pixel_range),
        }
        return promised(
            {name: ((TIME, CHANNEL, Y, X), "float32")},
            _coords(times, context) | {CHANNEL: np.arange(channel), Y: np.arange(y), X: np.arange(x)},
            variable_attrs={name: attrs},
        )

    return promise


def curve_promise(context: Context, attrs: Mapping[str, Any]) -> Callable[[tuple[int, ...]], xr.Dataset]:
    """The promise of one number per state."""

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        return promised(
            {"value": ((TIME,), "float32")}, _coords(times, context), variable_attrs={"value": attrs}
        )

    return promise


def _coords(times: tuple[int, ...], context: Context) -> dict[str, Any]:
    schedule = context.schedule
    return {
        TIME: np.array(times, dtype=np.int64),
        "alpha_bar": (TIME, np.array([schedule.alpha_bar(t) for t in times], dtype=np.float64)),
        "generative_step": (TIME, schedule.T - np.array(times, dtype=np.int64)),
    }


def states(context: Context) -> Stage:
    """The sampler's states x_t, as a chain that is not stored unless a trajectory stage says so."""
    sampler = context.sampler
    return Stage(
        name=STATES,
        kind="trajectory",
        group="trajectory",
        version=1,
        params={"steps": len(context.grid) - 1, "guidance_scale": sampler.guidance_scale},
        needs=(),
        times=context.grid,
        promise=image_promise("x_t", context, long_name="state x_t of the reverse process"),
        chain=Chain(context.grid, partial(_sampling, context), 1 if sampler.guidance_scale == 1 else 2),
        stored=False,
        attrs={"noise": SCHEME},
    )


def _sampling(context: Context) -> Advance:
    """Load the model and step with it. The only place where a pipeline imports torch."""
    import torch

    from flowprofile.models.numerics import settle
    from flowprofile.time.sample import sample

    settle()
    denoiser, step = context.open(), rule(context.sampler.rule, **context.rule)

    def advance(
        cases: tuple[Case, ...], start: xr.Dataset | None, times: tuple[int, ...], final: xr.Dataset | None
    ) -> xr.Dataset:
        before = None
        grid: Sequence[int] = times
        if start is not None:
            t = int(start[TIME].values[0])
            first = np.array(start["x_t"].transpose(CASE, TIME, ...).values[:, 0], dtype=np.float32)
            before, grid = (t, torch.from_numpy(first)), (t, *times)
        walk = sample(
            denoiser,
            cases,
            schedule=context.schedule,
            grid=grid,
            rule=step,
            batch=context.batch,
            start=before,
        )
        taken = list(walk)
        arrays = {"x_t": np.stack([one.x.numpy() for one in taken], axis=1)}
        if "x0_hat" in context.network_outputs:
            blank = np.zeros(arrays["x_t"].shape[:1] + arrays["x_t"].shape[2:], dtype=np.float32)
            guesses = [blank if one.x0 is None else one.x0.numpy() for one in taken]
            arrays["x0_hat"] = np.stack(guesses, axis=1)
        return in_flight(arrays, cases, times)

    return advance


def in_flight(arrays: Mapping[str, np.ndarray], cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
    """Images of a batch, labelled: dims (case, time, channel, y, x)."""
    variables = {name: ((CASE, TIME, CHANNEL, Y, X), values) for name, values in arrays.items()}
    return xr.Dataset(variables, coords={**labelled(cases), TIME: list(times)})


def null_states(context: Context) -> Stage:
    """The same sampler and noise, driven by the finished image (METHODS: exact posterior towards x_0)."""
    return Stage(
        name=NULL,
        kind="posterior-null",
        group=NULL,
        version=1,
        params={"steps": len(context.grid) - 1},
        needs=(Need(STATES, "final"),),
        times=context.grid,
        promise=image_promise("x_t", context, long_name="state of the chain that already knows its image"),
        chain=Chain(context.grid, partial(_knowing, context), 0),
        stored=False,
    )


def _knowing(context: Context) -> Advance:
    step = rule(context.sampler.rule, **context.rule)

    def advance(
        cases: tuple[Case, ...], start: xr.Dataset | None, times: tuple[int, ...], final: xr.Dataset | None
    ) -> xr.Dataset:
        assert final is not None
        before, grid = None, times
        if start is not None:
            t = int(start[TIME].values[0])
            before, grid = (t, start["x_t"].transpose(CASE, TIME, ...).values[:, 0]), (t, *times)
        chain = posterior_chain(
            final["x_t"].transpose(CASE, ...).values,
            [int(seed) for seed in final[SEED].values],
            schedule=context.schedule,
            grid=grid,
            rule=step,
            start=before,
        )
        return in_flight({"x_t": np.stack([x for _, x in chain], axis=1)}, cases, times)

    return advance


def _trajectory(request: Request) -> list[Stage]:
    """Store the states: the chain itself, with the states it keeps."""
    assert isinstance(request.params, TrajectoryParams)
    times = kept(request.params.keep, request.context.grid)
    return [replace(request.context.built[STATES], times=times, stored=True)]


def _predicted_x0(request: Request) -> list[Stage]:
    """Store what the network believes the image to be, at each kept step."""
    assert isinstance(request.params, TrajectoryParams)
    context = request.context
    grid = context.grid[1:]
    return [
        Stage(
            name=request.name,
            kind="predicted_x0",
            group=request.name,
            version=1,
            params={},
            needs=(Need(STATES),),
            times=kept(request.params.keep, grid),
            promise=image_promise("x0_hat", context, long_name="x_0 as predicted during the step into x_t"),
            compute=lambda block: block[["x0_hat"]],
            outputs=frozenset({"x0_hat"}),
        )
    ]


def _image_measure(request: Request, *, kind: str, values: Callable[..., np.ndarray]) -> list[Stage]:
    """A curve per case and the same curve of its null, as two stages that share everything but their states."""
    params = request.params
    assert isinstance(params, ImageParams)
    context, between = request.context, params.between
    times = _measured(request, params, kind)
    lo, hi = context.card.pixel_range
    settings = params.model_dump(exclude={"keep"})
    if isinstance(params, RangedParams):
        settings["data_range"] = params.data_range or hi - lo
    _window_fits(request, settings)
    options = {key: value for key, value in settings.items() if key != "between"}
    other = "x_{t+1}" if between == "steps" else "x_0"
    attrs = {
        "long_name": f"{kind.upper()}(x_t, {other})",
        "units": "dB" if kind == "psnr" else "1",
        **settings,
    }
    halo = 1 if between == "steps" else 0

    def stage(name: str, chain: str) -> Stage:
        final = (Need(STATES, "final"),) if between == "final" else ()
        return Stage(
            name=name,
            kind=kind,
            group=f"measures/{name}",
            version=1,
            params=settings,
            needs=(Need(chain, halo=halo), *final),
            times=times,
            promise=curve_promise(context, attrs),
            compute=partial(_curve, values=values, options=options),
        )

    return [stage(request.name, STATES), stage(f"{request.name}.null", NULL)]


def _curve(
    block: xr.Dataset,
    final: xr.Dataset | None = None,
    *,
    values: Callable[..., np.ndarray],
    options: Mapping[str, Any],
) -> xr.Dataset:
    frames = block["x_t"].transpose(CASE, TIME, CHANNEL, Y, X).values
    reference = None if final is None else final["x_t"].transpose(CASE, CHANNEL, Y, X).values
    curve = values(frames, reference, **options)
    times = block[TIME].values if reference is not None else block[TIME].values[1:]
    return xr.Dataset({"value": ((CASE, TIME), curve.astype(np.float32))}, coords={TIME: times})


def _measured(request: Request, params: ImageParams, kind: str) -> tuple[int, ...]:
    context = request.context
    pairs = context.grid[1:]
    if params.between == "steps":
        return pairs if params.keep is None else kept(params.keep, pairs)
    # At t = 0 the state is the final image itself: its PSNR is infinite and is left out.
    grid = context.grid[:-1] if kind == "psnr" else context.grid
    if params.keep is not None:
        return kept(params.keep, grid)
    return tuple(t for t in context.built[STATES].times if t in grid)


def _window_fits(request: Request, settings: Mapping[str, Any]) -> None:
    window, side = settings.get("window"), min(request.context.card.shape[1:])
    if window is not None and (window % 2 == 0 or window > side):
        raise DefinitionError(
            f"An SSIM window of {window} is not possible ({request.place}, key window).",
            consequence="The window must have a middle pixel and fit into the image.",
            remedy=f"use an odd number from 3 to {side - 1 + side % 2}",
        )


def _ssim(frames: np.ndarray, reference: np.ndarray | None, **options: Any) -> np.ndarray:
    if reference is None:
        return np.asarray(windows.consecutive(frames, **options))
    return np.asarray(windows.to_reference(frames, reference, **options))


def _pointwise(
    function: Callable[..., np.ndarray], frames: np.ndarray, reference: np.ndarray | None, **options: Any
) -> np.ndarray:
    if reference is None:
        return function(frames[:, 1:], frames[:, :-1], **options)
    return function(frames, reference[:, None], **options)


def schema() -> dict[str, Any]:
    """The JSON schema of a definition, with the parameters of each kind under ``$defs``."""
    full = Pipeline.model_json_schema()
    kinds = {
        name: kind.params.model_json_schema() | {"description": kind.summary} for name, kind in KINDS.items()
    }
    return full | {"$defs": full.get("$defs", {}) | {f"stage:{name}": table for name, table in kinds.items()}}


KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for kind in (
        Kind("trajectory", 1, TrajectoryParams, _trajectory, needs=(), summary="the sampler's states x_t"),
        Kind("predicted_x0", 1, TrajectoryParams, _predicted_x0, summary="the image predicted at each step"),
        Kind(
            "ssim",
            1,
            SsimParams,
            partial(_image_measure, kind="ssim", values=_ssim),
            summary="structural similarity, with its null",
        ),
        Kind(
            "psnr",
            1,
            RangedParams,
            partial(_image_measure, kind="psnr", values=partial(_pointwise, images.psnr)),
            summary="peak signal-to-noise ratio in dB, with its null",
        ),
        Kind(
            "mse",
            1,
            ImageParams,
            partial(_image_measure, kind="mse", values=partial(_pointwise, images.mse)),
            summary="mean squared error, with its null",
        ),
        Kind(
            "l1",
            1,
            ImageParams,
            partial(_image_measure, kind="l1", values=partial(_pointwise, images.l1)),
            summary="mean absolute error, with its null",
        ),
    )
}
"""Every kind that a definition may ``use`` without further ado."""
