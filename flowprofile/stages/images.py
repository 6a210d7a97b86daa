"""Measures of the states themselves: one curve per case, and the same curve of its null beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, OTHER, TIME, X, Y
from flowprofile.cases import Case
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Scope, Stage
from flowprofile.kernels import fused
from flowprofile.kinds import Kind, Request
from flowprofile.measures import between, images
from flowprofile.sourcing import NOISED, needs_chain
from flowprofile.stages.kinship import interventions_to_compare
from flowprofile.stages.labels import Paired, several_labels, squares
from flowprofile.stages.promises import NULL, STATES, Keep, array_promise, curve_promise
from flowprofile.time.steps import generated, stepped

Values = Callable[..., np.ndarray]
"""(frames[case time ...], reference[case ...] or None for the state before) to values [case time]."""


class ImageParams(Table):
    """Parameters of a measure of pixels."""

    between: Literal["steps", "final", "labels", "clean"] = Field(
        "steps",
        description="steps: x_t and x_t+1 of the sampler; final: x_t and the finished x_0; labels: every pair of"
        " labels of one seed; clean: a case with an intervention and the same one without",
    )
    keep: Keep | None = Field(
        None,
        description="states to measure; by default every step, or the stored states where not between steps",
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


def _image_measure(request: Request, *, kind: str, values: Values, paired: Paired) -> list[Stage]:
    """A curve per case and the same curve of its null, as two stages that share everything but their states."""
    params = request.params
    assert isinstance(params, ImageParams)
    context, compared = request.context, params.between
    if kind == "psnr" and compared in ("labels", "clean"):
        raise DefinitionError(
            f"PSNR is not measured between {compared!r} ({request.place}).",
            consequence="Where two runs are one computation it is infinite.",
            remedy='use "mse" there',
        )
    _comparable(request, kind, compared)
    times = _measured(request, params, kind)
    lo, hi = context.card.pixel_range
    settings = params.model_dump(exclude={"keep"})
    if isinstance(params, RangedParams):
        settings["data_range"] = params.data_range or float(hi - lo)
    _window_fits(request, settings)
    options = {key: value for key, value in settings.items() if key != "between"}
    attrs = {
        "long_name": f"{kind.upper()}(x_t, {_OTHERS[compared]})",
        "units": "dB" if kind == "psnr" else "1",
        **settings,
    }
    promise = curve_promise(context, attrs)
    compute: Callable[..., xr.Dataset]
    if compared == "labels":
        labels = several_labels(context, place=request.place)
        settings = {**settings, "labels": labels}
        promise = array_promise("value", (OTHER,), {OTHER: np.array(labels)}, context, attrs=attrs)
        compute = partial(_to_labels, paired=partial(paired, **options), labels=labels)
    else:
        compute = partial(_CURVES[compared], values=partial(values, **options))

    def stage(name: str, chain: str) -> Stage:
        return Stage(
            name=name,
            kind=kind,
            group=f"measures/{name}",
            version=1,
            params=settings,
            needs=_needs(compared, chain),
            times=times,
            promise=promise,
            compute=compute,
            scope=_SCOPES.get(compared, "all"),
        )

    measured = stage(request.name, STATES)
    # A noised image is its own null: the exact forward process of its x_0.
    apart = context.real is not None and context.real.how == NOISED
    return (
        [replace(measured, attrs={"null": ""})] if apart else [measured, stage(f"{request.name}.null", NULL)]
    )


def _comparable(request: Request, kind: str, compared: str) -> None:
    """Refuse a comparison that the states do not allow, or that has nothing to compare with."""
    if compared != "final":
        needs_chain(
            request.context.real,
            f"{kind.upper()} between {compared} is asked for",
            request.place,
            remedy='use between = "final" (the state and its image), or ask what the network shows: predicted_x0,'
            " activations, max_channel, attention, gradients",
        )
    if compared == "clean":
        interventions_to_compare(request.context, place=request.place)


_OTHERS: Final = {
    "steps": "x_{t+1}",
    "final": "x_0",
    "labels": "x_t of another label",
    "clean": "x_t without the intervention",
}
_SCOPES: Final[Mapping[str, Scope]] = {"labels": "clean", "clean": "changed"}


def _needs(between: str, chain: str) -> tuple[Need, ...]:
    if between == "steps":
        return (Need(chain, halo=1),)
    if between == "final":
        return Need(chain), Need(STATES, "final")
    return (Need(chain, "labels"),) if between == "labels" else (Need(chain), Need(chain, "twin"))


def _frames(block: xr.Dataset) -> np.ndarray:
    return np.asarray(block["x_t"].transpose(CASE, ..., CHANNEL, Y, X).values)


def _result(values: np.ndarray, times: np.ndarray, *dims: str) -> xr.Dataset:
    return xr.Dataset({"value": ((CASE, TIME, *dims), values.astype(np.float32))}, coords={TIME: times})


def _along_steps(block: xr.Dataset, *, values: Values) -> xr.Dataset:
    return _result(values(_frames(block), None), block[TIME].values[1:])


def _to_final(block: xr.Dataset, final: xr.Dataset, *, values: Values) -> xr.Dataset:
    return _result(values(_frames(block), _frames(final)), block[TIME].values)


def _to_twin(block: xr.Dataset, twin: xr.Dataset, *, values: Values) -> xr.Dataset:
    frames, others = _frames(block), _frames(twin)
    lead = frames.shape[:2]
    # Each state has a reference of its own: as if it were a case with one state.
    rows = values(frames.reshape(-1, 1, *frames.shape[2:]), others.reshape(-1, *frames.shape[2:]))
    return _result(rows.reshape(lead), block[TIME].values)


def _to_labels(
    block: xr.Dataset, *, cases: Sequence[Case], paired: Paired, labels: Sequence[int]
) -> xr.Dataset:
    return _result(squares(block, _frames(block), cases, labels, paired), block[TIME].values, OTHER)


_CURVES: Final[Mapping[str, Callable[..., xr.Dataset]]] = {
    "steps": _along_steps,
    "final": _to_final,
    "clean": _to_twin,
}


def _measured(request: Request, params: ImageParams, kind: str) -> tuple[int, ...]:
    context = request.context
    pairs = context.grid[1:]
    if params.between == "steps":
        return pairs if params.keep is None else stepped(params.keep, context.grid)
    # At t = 0 the state is the final image itself: its PSNR is infinite and is left out.
    grid = context.grid[:-1] if kind == "psnr" else context.grid
    if params.keep is not None:
        return generated(params.keep, grid)
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
        return np.asarray(fused.consecutive(frames, **options))
    return np.asarray(fused.to_reference(frames, reference, **options))


def _pointwise(
    function: Callable[..., np.ndarray], frames: np.ndarray, reference: np.ndarray | None, **options: Any
) -> np.ndarray:
    if reference is None:
        return function(frames[:, 1:], frames[:, :-1], **options)
    return function(frames, reference[:, None], **options)


KINDS = (
    Kind(
        "ssim",
        1,
        SsimParams,
        partial(_image_measure, kind="ssim", values=_ssim, paired=between.ssim),
        summary="structural similarity, with its null",
    ),
    Kind(
        "psnr",
        1,
        RangedParams,
        partial(
            _image_measure,
            kind="psnr",
            values=partial(_pointwise, images.psnr),
            paired=between.psnr,
        ),
        summary="peak signal-to-noise ratio in dB, with its null",
    ),
    Kind(
        "mse",
        1,
        ImageParams,
        partial(
            _image_measure,
            kind="mse",
            values=partial(_pointwise, images.mse),
            paired=between.mse,
        ),
        summary="mean squared error, with its null",
    ),
    Kind(
        "l1",
        1,
        ImageParams,
        partial(
            _image_measure,
            kind="l1",
            values=partial(_pointwise, images.l1),
            paired=between.l1,
        ),
        summary="mean absolute error, with its null",
    ),
)
