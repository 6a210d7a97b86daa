"""What attention layers attend to: maps per layer and token, and their mean over layers, per word.

The network's own attention is fused and never replaced; probabilities are worked out again, from queries and keys,
at the kept steps alone. Under guidance they are those of the label's call, unless a table names the halves.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field

from flowprofile.axes import HEAD, TOKEN, X, Y
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.models import folders, layouts
from flowprofile.models.sites import Attends, JointlyAttends
from flowprofile.objects.probes import Attention
from flowprofile.stages.halves import Halved
from flowprofile.stages.inside import observed, window
from flowprofile.stages.layers import Layers, chosen
from flowprofile.stages.promises import Keep


class AttendingParams(Halved):
    """Parameters of attention maps by token."""

    layers: Layers = Field(
        "*.attn2", description='names and globs of attention modules: "*.attn2", "*.attentions.0"'
    )
    keep: Keep = Field(
        "::1",
        description='states to look at: a list, a slice "::50" of those visited, or { exponential = 20 }',
    )
    heads: Literal["mean", "each"] = Field(
        "mean", description="each: an axis of heads, as many times the bytes"
    )


class WordMapsParams(Halved):
    """Parameters of maps by word."""

    layers: Layers = Field("*.attn2", description="names and globs of cross-attention modules")
    keep: Keep = Field(
        "::1",
        description='states to look at: a list, a slice "::50" of those visited, or { exponential = 20 }',
    )


def _attention_maps(request: Request) -> list[Stage]:
    """One group per layer, at the layer's own resolution."""
    params, context = request.params, request.context
    assert isinstance(params, AttendingParams)
    stages = []
    for attends in _attending(params.layers, context, place=request.place):
        site, each = context.sites[attends.layer], params.heads == "each"
        axes: dict[str, Any] = {HEAD: np.arange(attends.heads)} if each else {}
        axes |= {TOKEN: np.arange(_keys(attends, context)), Y: np.arange(site.y), X: np.arange(site.x)}
        about = {
            "layer": attends.layer,
            "layer_index": list(context.sites).index(attends.layer),
            "of": _of(attends),
        }
        probe, name = Attention((attends,), heads=each), f"{request.name}/{attends.layer}"
        stages.append(_stage(request, probe, axes, name=name, about=about))
    return stages


def _word_maps(request: Request) -> list[Stage]:
    """The mean over heads and layers, at the size of a state."""
    params, context = request.params, request.context
    assert isinstance(params, WordMapsParams)
    found = _attending(params.layers, context, place=request.place)
    own = next((one.layer for one in found if not one.text), None)
    if own is not None:
        raise DefinitionError(
            f"{own!r} attends to the picture and not to a text ({request.place}).",
            consequence="Its tokens are places, and are not those of the other layers.",
            remedy='name cross-attention, layers = "*.attn2", or joint attention, layers = "*.attn"; attention_maps takes any',
        )
    about: dict[str, Any] = {"layers": [one.layer for one in found]}
    if any(isinstance(one, JointlyAttends) for one in found):
        # Picture and text share one softmax, so the tokens of a place add up to less than one.
        about["long_name"] = "share of attention, the rest of one going to the picture"
        found = tuple(replace(one, words=True) if isinstance(one, JointlyAttends) else one for one in found)
    _, height, width = context.card.shape
    axes = {TOKEN: np.arange(_keys(found[0], context)), Y: np.arange(height), X: np.arange(width)}
    return [_stage(request, Attention(found, size=(height, width)), axes, name=request.name, about=about)]


def _stage(
    request: Request, probe: Attention, axes: Mapping[str, Any], *, name: str, about: Mapping[str, Any]
) -> Stage:
    params = request.params
    assert isinstance(params, AttendingParams | WordMapsParams)
    attrs = {"long_name": "share of attention, one over all tokens", "units": "1", **about}
    return observed(
        request,
        probe,
        name=name,
        variable="attention",
        axes=axes,
        times=window(request, params.keep),
        params={"layers": [one.layer for one in probe.attends], "heads": probe.heads, "size": probe.size},
        attrs=attrs,
    )


def _attending(layers: Layers, context: Context, *, place: str) -> tuple[Attends, ...]:
    known = [name for name, site in context.sites.items() if site.attends is not None]
    if not known:
        raise DefinitionError(
            f"The model {context.card.name!r} has no attention with queries and keys ({place}).",
            consequence="There are no weights to look at.",
            remedy="`attention` sums the outputs of attention branches, which every network with attention has",
        )
    found = []
    for layer in chosen(layers, context, place=place):
        attends = context.sites[layer].attends
        if attends is None:
            raise DefinitionError(
                f"{layer!r} is no attention with queries and keys of its own ({place}).",
                consequence="There are no weights to look at.",
                remedy=f"name one of {', '.join(known[:4])}{', ...' if len(known) > 4 else ''}",
            )
        found.append(attends)
    return tuple(found)


def _of(attends: Attends) -> str:
    """What the tokens are that a layer attends to."""
    if isinstance(attends, JointlyAttends) and attends.text:
        return "the picture's tokens, row by row, and a text's behind them"
    return "a text's tokens" if attends.cross else "the picture's tokens"


def _keys(attends: Attends, context: Context) -> int:
    """How many tokens are attended to."""
    site = context.sites[attends.layer]
    own = 0 if attends.cross or (isinstance(attends, JointlyAttends) and attends.words) else site.y * site.x
    if not attends.text:
        return own
    assert context.reference is not None
    return own + layouts.tokens(folders.read(context.reference))


KINDS = (
    Kind(
        "attention_maps",
        1,
        AttendingParams,
        _attention_maps,
        summary="what each place attends to, per layer and token",
    ),
    Kind(
        "word_maps",
        1,
        WordMapsParams,
        _word_maps,
        summary="attention to each token of the prompt, mean of layers",
    ),
)
