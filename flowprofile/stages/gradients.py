"""Gradients: of the selected pixels of x_t with respect to the state before it, and to every layer.

They never sample: each asks the network on its own from a state that is stored or passing by, with the case's label
and interventions in force, and goes backwards through it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, LAYER, PIXEL, TIME, X, Y
from flowprofile.cases import Case
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.blocks import cases_of
from flowprofile.flow.fingerprint import key
from flowprofile.flow.stage import Given, Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.measures.channels import strongest
from flowprofile.objects.masks import Mask, pixels, resampled
from flowprofile.stages.inside import Where, window
from flowprofile.stages.layers import chosen
from flowprofile.stages.masks import MaskValue, fixed_mask
from flowprofile.stages.promises import STATES, Keep, array_promise, coords
from flowprofile.stages.splitting import Split, numbers, stages_of
from flowprofile.stages.strokes import Strokes, drawn
from flowprofile.store.promise import promise as promised
from flowprofile.time.steps import hundredth

Reduce = Literal["sum", "abs", "l2", "none"]
EVERY_HUNDREDTH: Final = "states t, each a step t+1 -> t; by default every hundredth of those visited"


class VolumeParams(Table):
    """Parameters of a gradient volume."""

    mask: MaskValue = Field(description="the pixels of x_t whose rows are computed and stored")
    keep: Keep | None = Field(None, description=EVERY_HUNDREDTH)
    reduce: Reduce = Field("sum", description="over the input's colour channels")
    identity: bool = Field(True, description="false: only the part that the network contributes")


class MaskedParams(Table):
    """Parameters of a gradient map."""

    mask: MaskValue = Field(description="the pixels of x_t that are added up")
    keep: Keep | None = Field(None, description=EVERY_HUNDREDTH)
    identity: bool = Field(True, description="false: only the part that the network contributes")


class EnergyParams(MaskedParams):
    """Parameters of the energy sketch."""

    probes: int = Field(8, ge=1, le=1024, description="random-sign probes; one backward pass each")


class LayerGradientParams(Where):
    """Parameters of layer gradients."""

    mask: MaskValue = Field(description="the pixels of x_t whose sum is differentiated")
    keep: Keep | None = Field(None, description=EVERY_HUNDREDTH)


class GradientChannelParams(LayerGradientParams):
    """Parameters of the strongest gradient channel."""

    statistic: Literal["sum", "abs", "max", "mean_top"] = Field(
        "sum", description="what makes a channel strong"
    )
    q: float = Field(0.1, gt=0, le=1, description="share of positions for mean_top")
    look: MaskValue = Field(None, description="where in the layer to look; everywhere by default")


Rows = Callable[[Any, Sequence[Case], tuple[int, ...], np.ndarray, Any], dict[str, np.ndarray]]
"""(pulled, cases, states, starts[case time channel y x], what was given) to arrays [case time ...] by variable."""


def asking(context: Context, rows: Rows, dims: Mapping[str, tuple[str, ...]]) -> Callable[..., xr.Dataset]:
    """The `compute` of a stage that asks the network from the state before each of its states.

    Raises
    ------
    DefinitionError
        For a sampler whose steps have no factors.
    """
    context.factors(*context.grid[:2])

    def compute(block: xr.Dataset, *, given: Given) -> xr.Dataset:
        from flowprofile.kernels.pulling import Pulled

        pulled = Pulled(context.watched(), context.factors, context.before)
        times = given.times
        starts = block["x_t"].transpose(CASE, TIME, CHANNEL, Y, X)
        before = starts.sel({TIME: [context.before(t) for t in times]}).values
        arrays = rows(pulled, cases_of(block), times, before, given.sources)
        return xr.Dataset(
            {name: ((CASE, TIME, *dims[name]), values) for name, values in arrays.items()},
            coords={TIME: list(times)},
        )

    return compute


def _steps(request: Request, keep: Keep | None) -> tuple[int, ...]:
    return hundredth(request.context.grid) if keep is None else window(request, keep)


def _asks(context: Context) -> int:
    return 1 if context.sampler.guidance_scale == 1 else 2


def _volume(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, VolumeParams)
    mask, strokes = drawn(params.mask, context, place=request.place)
    assert mask.array is not None
    _published_fits(request, params)
    recipe = {**_recipe(params, context), **_weighed(strokes)}
    split = Split(
        group=f"gradients/{request.name}",
        of=key({**recipe, "base": context.identity, **_sampler(context)})[:10],
        wanted=numbers(pixels(mask.array), context.card.shape[2]),
        make=lambda suffix, rows: _rows(request, params, rows, strokes, name=f"{request.name}{suffix}"),
    )
    context.splits[request.name] = split
    return stages_of(split, ())


def _sampler(context: Context) -> dict[str, Any]:
    scheduler = {name: value for name, value in context.recipe.items() if name == "scheduler"}
    added = {"options", "negative_prompt", "embedded_guidance"}
    told = context.sampler.model_dump(mode="json", include=added, exclude_none=True)
    return {"sampler": {**context.sampler.model_dump(mode="json", exclude=added), **told}, **scheduler}


def _recipe(params: VolumeParams, context: Context) -> dict[str, Any]:
    """What decides a row, but for its pixel."""
    return {"reduce": params.reduce, "identity": params.identity, **context.compat.volume}


def _weighed(strokes: Strokes | None) -> dict[str, str]:
    """The numbers that rows are multiplied by, as a key says them."""
    return {} if strokes is None else {"strokes": sha256(strokes.tobytes()).hexdigest()[:16]}


def _published_fits(request: Request, params: VolumeParams) -> None:
    """Whether the volume can be computed as published code does it."""
    context = request.context
    if not context.compat.volume:
        return
    whole = params.reduce == "sum" and context.sampler.guidance_scale == 1
    if not whole or "init_conv" not in context.sites:
        raise DefinitionError(
            f"compat = {context.compat.name!r} has no such gradient volume ({request.place}).",
            consequence="Its code adds up the colours and the label's planes that the thesis' U-Net is given in one call.",
            remedy='use a U-Net of the thesis\' layout, reduce = "sum" and guidance_scale = 1, or leave out compat',
        )


def _rows(
    request: Request,
    params: VolumeParams,
    rows: tuple[int, ...],
    strokes: Strokes | None,
    *,
    name: str,
) -> Stage:
    """The rows of some pixels; volumes of other pixels of one recipe are joined when they are opened."""
    context = request.context
    colours, height, width = context.card.shape
    inputs = (CHANNEL, Y, X) if params.reduce == "none" else (Y, X)
    attrs = {
        "long_name": f"rows of d x_t / d x_t+1, {params.reduce} over input colours",
        "units": "1",
        "identity": params.identity,
    }
    recipe = _recipe(params, context)
    numbered = np.array(rows, dtype=np.int64)
    places = np.stack([numbered // width, numbered % width], axis=1)
    axes = {
        PIXEL: numbered,
        "pixel_y": (PIXEL, places[:, 0]),
        "pixel_x": (PIXEL, places[:, 1]),
        Y: np.arange(height),
        X: np.arange(width),
        **({CHANNEL: np.arange(colours)} if params.reduce == "none" else {}),
    }

    def computed(pulled: Any, cases: Any, times: Any, starts: Any, given: Any) -> dict[str, np.ndarray]:
        found = pulled.volumes(cases, times, starts, given, pixels=places, **recipe)
        if strokes is not None:
            found = found * strokes[places[:, 0], places[:, 1]][:, None, None]
        return {"gradient": found}

    return Stage(
        name=name,
        kind="gradient_volume",
        group=f"gradients/{request.name}",
        version=1,
        params={**recipe, **_weighed(strokes), "pixels": list(rows)},
        needs=(Need(STATES, halo=1),),
        times=_steps(request, params.keep),
        promise=array_promise("gradient", (PIXEL, *inputs), axes, context, attrs=attrs),
        compute=asking(context, computed, {"gradient": (PIXEL, *inputs)}),
        asks=_asks(context),
        attrs={
            **attrs,
            **context.compat.volume,
            "join": {"axis": PIXEL, "of": context.splits[request.name].of},
        },
    )


def _maps(request: Request, *, kind: str) -> list[Stage]:
    """One map per step: the signed sum of a mask's rows, or the energy of them."""
    params, context = request.params, request.context
    assert isinstance(params, MaskedParams)
    mask = fixed_mask(params.mask, context, place=request.place)
    assert mask.array is not None
    chosen, array = pixels(mask.array), mask.array
    settings: dict[str, Any] = {"identity": params.identity}
    if isinstance(params, EnergyParams):
        settings["probes"] = params.probes

    def rows(pulled: Any, cases: Any, times: Any, starts: Any, given: Any) -> dict[str, np.ndarray]:
        if kind == "gradient_sum":
            return {"gradient": pulled.sums(cases, times, starts, given, mask=array, **settings)}
        return {"energy": pulled.energies(cases, times, starts, given, pixels=chosen, **settings)}

    variable = "gradient" if kind == "gradient_sum" else "energy"
    what = "signed sum" if kind == "gradient_sum" else "sum of squares, estimated from random signs,"
    attrs = {"long_name": f"{what} of the rows of d x_t / d x_t+1", "units": "1", "mask_name": mask.name}
    _, height, width = context.card.shape
    axes = {Y: np.arange(height), X: np.arange(width)}
    return [
        Stage(
            name=request.name,
            kind=kind,
            group=f"gradients/{request.name}",
            version=1,
            params={**settings, "mask": mask.digest},
            needs=(Need(STATES, halo=1),),
            times=_steps(request, params.keep),
            promise=array_promise(variable, (Y, X), axes, context, attrs=attrs),
            compute=asking(context, rows, {variable: (Y, X)}),
            asks=_asks(context),
            attrs=attrs,
        )
    ]


def _joint(request: Request, layers: tuple[str, ...], mask: Mask, *, times: tuple[int, ...]) -> Stage:
    """All layers' gradients of one backward pass, in flight."""
    context, array = request.context, mask.array
    name = f"gradients.{key({'mask': mask.digest, 'layers': layers, 'times': times})[:8]}"
    if name in context.built:
        return context.built[name]
    dims = {layer: tuple(f"{layer}:{axis}" for axis in (CHANNEL, Y, X)) for layer in layers}
    sizes = {
        dim: size
        for layer in layers
        for dim, size in zip(dims[layer], context.sites[layer].shape, strict=True)
    }

    def rows(pulled: Any, cases: Any, times: Any, starts: Any, given: Any) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = pulled.layers(cases, times, starts, given, mask=array, layers=layers)
        return found

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        variables = {layer: ((TIME, *dims[layer]), "float32") for layer in layers}
        return promised(variables, coords(times, context), sizes=sizes)

    return Stage(
        name=name,
        kind="layer_gradients.all",
        group=name,
        version=1,
        params={"mask": mask.digest},
        needs=(Need(STATES, halo=1),),
        times=times,
        promise=promise,
        compute=asking(context, rows, dims),
        asks=_asks(context),
        stored=False,
    )


def all_gradients(request: Request, params: LayerGradientParams, layers: tuple[str, ...]) -> Stage:
    """The gradients at some layers, in flight."""
    mask = fixed_mask(params.mask, request.context, place=request.place)
    return _joint(request, layers, mask, times=_steps(request, params.keep))


def _layer_gradients(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, LayerGradientParams)
    mask = fixed_mask(params.mask, context, place=request.place)
    layers = chosen(params.layers, context, place=request.place)
    joint = all_gradients(request, params, layers)
    return [joint, *(_layer_gradient(request, joint, layer, mask) for layer in layers)]


def _layer_gradient(request: Request, joint: Stage, layer: str, mask: Mask) -> Stage:
    context = request.context
    site = context.sites[layer]
    attrs = {
        "long_name": f"gradient of the masked pixels of x_t at {layer}",
        "units": "1",
        "layer": layer,
        "layer_index": list(context.sites).index(layer),
        "mask_name": mask.name,
    }
    axes = {CHANNEL: np.arange(site.channels), Y: np.arange(site.y), X: np.arange(site.x)}

    def compute(block: xr.Dataset) -> xr.Dataset:
        return xr.Dataset(
            {"gradient": ((CASE, TIME, CHANNEL, Y, X), block[layer].values)}, coords={TIME: block[TIME]}
        )

    name = f"{request.name}/{layer}"
    return Stage(
        name=name,
        kind="layer_gradients",
        group=f"gradients/{name}",
        version=1,
        params={"layer": layer},
        needs=(Need(joint.name),),
        times=joint.times,
        promise=array_promise("gradient", (CHANNEL, Y, X), axes, context, attrs=attrs),
        compute=compute,
        attrs=attrs,
    )


def gradient_channel(request: Request) -> list[Stage]:
    """c* of the gradient: the channel at which the selected pixels pull the strongest."""
    params, context = request.params, request.context
    assert isinstance(params, GradientChannelParams)
    mask = fixed_mask(params.mask, context, place=request.place)
    look = None if params.look is None else fixed_mask(params.look, context, place=request.place)
    layers = chosen(params.layers, context, place=request.place)
    joint = all_gradients(request, params, layers)

    def one(values: np.ndarray) -> np.ndarray:
        weights = None if look is None or look.array is None else resampled(look.array, values.shape[-2:])
        return strongest(values, weights=weights, statistic=params.statistic, q=params.q)

    def compute(block: xr.Dataset) -> xr.Dataset:
        found = np.stack([one(block[layer].values) for layer in layers], axis=-1)
        return xr.Dataset({"channel": ((CASE, TIME, LAYER), found)}, coords={TIME: block[TIME]})

    attrs = {
        "long_name": "strongest channel of the gradient",
        "units": "index",
        "mask_name": mask.name,
        "of": "gradients",
    }
    axes = {LAYER: np.array(layers, dtype=object)}
    return [
        joint,
        Stage(
            name=request.name,
            kind="gradient_channel",
            group=request.name,
            version=1,
            params={
                "layers": list(layers),
                "statistic": params.statistic,
                "look": None if look is None else look.digest,
                **({"q": params.q} if params.statistic == "mean_top" else {}),
            },
            needs=(Need(joint.name),),
            times=joint.times,
            promise=array_promise("channel", (LAYER,), axes, context, attrs=attrs, dtype="int64"),
            compute=compute,
            attrs=attrs,
        ),
    ]


KINDS = (
    Kind("gradient_volume", 1, VolumeParams, _volume, summary="rows of the step's Jacobian at chosen pixels"),
    Kind(
        "gradient_sum",
        1,
        MaskedParams,
        partial(_maps, kind="gradient_sum"),
        summary="signed sum of such rows",
    ),
    Kind(
        "gradient_energy",
        1,
        EnergyParams,
        partial(_maps, kind="gradient_energy"),
        summary="sum of squares of such rows, from a few random probes",
    ),
    Kind(
        "layer_gradients",
        1,
        LayerGradientParams,
        _layer_gradients,
        summary="gradient of a mask at every layer",
    ),
    Kind(
        "gradient_channel",
        1,
        GradientChannelParams,
        gradient_channel,
        summary="strongest channel of that gradient",
    ),
)
