"""What happens inside the network: activations, strongest channels, attention maps.

All of them are outputs of the sampler's chain: they ride on steps that are taken anyway, or on replayed ones, and
are reduced where the tensor is before anything is copied.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, LAYER, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError, nearest
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.objects.probes import (
    Activation,
    Attention,
    AttentionMap,
    ChannelSum,
    MaxChannel,
    Pooled,
    Single,
)
from flowprofile.stages.halves import Halved, axis, halves, probed, settings
from flowprofile.stages.layers import Layers, chosen
from flowprofile.stages.masks import MaskValue, mask_of
from flowprofile.stages.promises import STATES, Keep, array_promise
from flowprofile.stages.read_masks import strongest_in_region
from flowprofile.time.steps import stepped


class Where(Table):
    """Which layers."""

    layers: Layers = Field("*.fn", description='names and globs: "mid_attn.fn", ["downs.*.2.fn", "ups.*.3"]')


class LayersParams(Halved, Where):
    """Which layers, when."""

    keep: Keep = Field(
        "::1",
        description='states to look at: a list, a slice "::50" of those visited, or { exponential = 20 }',
    )


class ActivationParams(LayersParams):
    """Parameters of activations."""

    dtype: Literal["float32", "float16"] = Field(
        "float32", description="float16 halves the bytes and is lossy"
    )


class MaxChannelParams(LayersParams):
    """Parameters of the strongest channel."""

    statistic: Literal["sum", "abs", "max", "mean_top"] = Field(
        "sum",
        description="what makes a channel strong: its sum, sum of |a|, max, or mean of its largest share q",
    )
    q: float = Field(0.1, gt=0, le=1, description="share of positions for mean_top")
    mask: MaskValue = Field(None, description="where to look; everywhere by default")


class AttentionParams(LayersParams):
    """Parameters of attention maps."""

    residual: bool = Field(
        False, description="look at the sum after the residual add instead of the attention branch before it"
    )


class AttentionMapParams(AttentionParams):
    """Parameters of stored attention maps."""

    normalise: Literal["none", "minmax"] = Field(
        "none", description="minmax: every map is scaled to 0..1 by its own least and largest number"
    )


def window(request: Request, keep: Keep) -> tuple[int, ...]:
    """The states at which the network shows something: all but noise itself."""
    return stepped(keep, request.context.grid)


def observed(
    request: Request,
    probe: Single,
    *,
    name: str,
    variable: str,
    axes: Mapping[str, Any],
    times: tuple[int, ...],
    params: Mapping[str, Any],
    attrs: Mapping[str, Any],
    dtype: str = "float32",
    stored: bool = True,
) -> Stage:
    """A stage that stores one probe as it comes: of the halves that the table asks for, or of the label's call."""
    context, names = request.context, halves(request)
    output = context.probe(probed(probe, names))
    axes = axis(names) | dict(axes)
    dims = tuple(axes)

    def compute(block: xr.Dataset) -> xr.Dataset:
        return xr.Dataset({variable: ((CASE, TIME, *dims), block[output].values)}, coords={TIME: block[TIME]})

    return Stage(
        name=name,
        kind=request_kind(probe),
        group=name,
        version=1,
        params={**params, **settings(names)},
        needs=(Need(STATES),),
        times=times,
        promise=array_promise(variable, dims, axes, context, attrs=attrs, dtype=dtype),
        compute=compute,
        stored=stored,
        outputs=frozenset({output}),
        attrs=attrs,
    )


def request_kind(probe: Single) -> str:
    """The kind under which a probe's results are known, whatever table asked for them."""
    return {
        Activation: "activations",
        Pooled: "pooled",
        ChannelSum: "channel_sums",
        MaxChannel: "max_channel",
        AttentionMap: "attention",
        Attention: "attention_maps",
    }[type(probe)]


def activation(
    request: Request, layer: str, *, times: tuple[int, ...], dtype: str = "float32", stored: bool, name: str
) -> Stage:
    """The activations of one layer; in flight where nobody asked to store them."""
    context = request.context
    site = context.sites[layer]
    attrs = _about(layer, context) | {"long_name": f"activation of {layer}", "units": "1"}
    axes = {CHANNEL: np.arange(site.channels), Y: np.arange(site.y), X: np.arange(site.x)}
    return observed(
        request,
        Activation(layer, dtype),
        name=name,
        variable="activation",
        axes=axes,
        times=times,
        params={"layer": layer, "dtype": dtype},
        attrs=attrs,
        dtype=dtype,
        stored=stored,
    )


def _about(layer: str, context: Context) -> dict[str, Any]:
    """What a reader should know about a layer: its name and its place in the forward pass."""
    return {"layer": layer, "layer_index": list(context.sites).index(layer)}


def _activations(request: Request) -> list[Stage]:
    params = request.params
    assert isinstance(params, ActivationParams)
    times = window(request, params.keep)
    return [
        activation(
            request, layer, times=times, dtype=params.dtype, stored=True, name=f"{request.name}/{layer}"
        )
        for layer in chosen(params.layers, request.context, place=request.place)
    ]


def _reduced(request: Request, *, make: type[Pooled] | type[ChannelSum]) -> list[Stage]:
    """The same with one number per channel, or one map per layer."""
    params, context = request.params, request.context
    assert isinstance(params, LayersParams)
    stages = []
    for layer in chosen(params.layers, context, place=request.place):
        site = context.sites[layer]
        channels, rows = np.arange(site.channels), {Y: np.arange(site.y), X: np.arange(site.x)}
        axes: dict[str, Any] = {CHANNEL: channels} if make is Pooled else rows
        what = "spatial mean of each channel" if make is Pooled else "sum over channels"
        attrs = _about(layer, context) | {"long_name": f"{what} of {layer}", "units": "1"}
        stages.append(
            observed(
                request,
                make(layer),
                name=f"{request.name}/{layer}",
                variable="activation",
                axes=axes,
                times=window(request, params.keep),
                params={"layer": layer},
                attrs=attrs,
            )
        )
    return stages


def _max_channel(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, MaxChannelParams)
    layers = chosen(params.layers, context, place=request.place)
    return [strongest(request, layers, params, name=request.name, times=window(request, params.keep))]


def strongest(
    request: Request, layers: tuple[str, ...], params: MaxChannelParams, *, name: str, times: tuple[int, ...]
) -> Stage:
    """c* of several layers, from activations that are looked at in passing."""
    context = request.context
    mask = mask_of(params.mask, context, place=request.place)
    decided = {
        "layers": list(layers),
        "statistic": params.statistic,
        "mask": None if mask is None else mask.digest,
        **({"q": params.q} if params.statistic == "mean_top" else {}),
    }
    attrs = {
        "long_name": "strongest channel c*",
        "units": "index",
        "mask_name": "" if mask is None else mask.name,
        "of": "activations",
    }
    if mask is not None and mask.array is None:
        return strongest_in_region(
            request, layers, statistic=params.statistic, q=params.q, mask=mask, name=name, times=times
        )
    return observed(
        request,
        MaxChannel(layers, params.statistic, params.q, mask),
        name=name,
        variable="channel",
        axes={LAYER: np.array(layers, dtype=object)},
        times=times,
        params=decided,
        attrs=attrs,
        dtype="int64",
    )


def residual(layer: str) -> str:
    """The module that adds the residual to an attention branch.

    >>> residual("downs.0.2.fn")
    'downs.0.2'
    """
    return layer.removesuffix(".fn")


def _attention(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, AttentionMapParams)
    layers = attention_layers(params, context, place=request.place)
    times = window(request, params.keep)
    stage = attention_map(request, layers, times=times, stored=True, name=request.name)
    return [_spread(stage, request) if params.normalise == "minmax" else stage]


def _spread(stage: Stage, request: Request) -> Stage:
    """The same maps, each scaled to 0..1; one that is constant becomes 0."""
    attrs = {**stage.attrs, "normalise": "minmax"}
    _, height, width = request.context.card.shape
    axes = axis(halves(request)) | {Y: np.arange(height), X: np.arange(width)}
    made = stage.compute
    assert made is not None

    def compute(block: xr.Dataset) -> xr.Dataset:
        maps = made(block)["map"]
        low, high = maps.min((Y, X)), maps.max((Y, X))
        scaled = (maps - low) / (high - low).where(high > low, 1.0)
        return xr.Dataset({"map": scaled.transpose(CASE, TIME, *axes).astype(np.float32)})

    return replace(
        stage,
        params={**stage.params, "normalise": "minmax"},
        promise=array_promise("map", tuple(axes), axes, request.context, attrs=attrs),
        compute=compute,
        attrs=attrs,
    )


def attention_layers(params: AttentionParams, context: Context, *, place: str) -> tuple[str, ...]:
    """The modules whose outputs are added up: the attention branches, or the sums behind them.

    Which module of a network from outside is attention is not known, so there any of them may be named.
    """
    layers = chosen(params.layers, context, place=place)
    branches = [name for name in context.sites if residual(name) in context.sites and residual(name) != name]
    known = branches if params.residual else [*branches, *map(residual, branches)]
    strange = next((layer for layer in layers if layer not in known), None)
    if strange is not None and (params.residual or _ours(context)):
        raise DefinitionError(
            f"{strange!r} is no attention branch ({place}).",
            consequence="There is no residual add behind it that could be looked at."
            if params.residual
            else "What would be stored is no attention map.",
            remedy=f"{nearest(strange, branches) if branches else 'leave residual out'};"
            " `channel_sums` takes any layer",
        )
    return chosen([residual(layer) for layer in layers], context, place=place) if params.residual else layers


def _ours(context: Context) -> bool:
    """Whether the network is a U-Net of the interface, whose modules are partly not listed."""
    return any(not site.listed for site in context.sites.values())


def attention_map(
    request: Request, layers: tuple[str, ...], *, times: tuple[int, ...], stored: bool, name: str
) -> Stage:
    """A_t of some layers, at the size of the image."""
    context = request.context
    _, height, width = context.card.shape
    attrs = {
        "long_name": "attention map: sum over layers and channels, resized to the image",
        "units": "1",
        "layers": list(layers),
    }
    return observed(
        request,
        AttentionMap(layers, (height, width)),
        name=name,
        variable="map",
        axes={Y: np.arange(height), X: np.arange(width)},
        times=times,
        params={"layers": list(layers), "size": [height, width]},
        attrs=attrs,
        stored=stored,
    )


KINDS = (
    Kind("activations", 1, ActivationParams, _activations, summary="outputs of layers, one group per layer"),
    Kind("pooled", 1, LayersParams, partial(_reduced, make=Pooled), summary="spatial mean of every channel"),
    Kind(
        "channel_sums",
        1,
        LayersParams,
        partial(_reduced, make=ChannelSum),
        summary="sum over a layer's channels",
    ),
    Kind("max_channel", 1, MaxChannelParams, _max_channel, summary="strongest channel c* of each layer"),
    Kind(
        "attention", 1, AttentionMapParams, _attention, summary="attention map A_t, at the size of the image"
    ),
)
