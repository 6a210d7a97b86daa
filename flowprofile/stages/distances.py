"""Distances between what the network shows: from one kept step to the next, and from one label to another.

What is compared passes by in flight unless somebody stores it; then it is read. Either way the key, and every bit
of the result, are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, GUIDANCE, LAYER, OTHER, TIME
from flowprofile.cases import Case
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.measures import between
from flowprofile.measures.layers import consecutive
from flowprofile.sourcing import needs_chain
from flowprofile.stages.gradients import LayerGradientParams, all_gradients
from flowprofile.stages.halves import axis, halves
from flowprofile.stages.halves import settings as halved
from flowprofile.stages.inside import (
    AttentionParams,
    LayersParams,
    activation,
    attention_layers,
    attention_map,
    window,
)
from flowprofile.stages.labels import several_labels, squares
from flowprofile.stages.layers import chosen
from flowprofile.stages.promises import array_promise


class Compared(Table):
    """What a distance is between."""

    between: Literal["steps", "labels"] = Field(
        "steps",
        description="steps: one kept state and the one before; labels: every pair of labels of a seed",
    )
    normalise: Literal["none", "minmax", "relative"] = Field(
        "none",
        description="minmax: each array scaled to 0..1 first; relative: by the root of both squared norms",
    )


class LayerDistanceParams(LayersParams, Compared):
    """Parameters of a distance between activations."""


class AttentionDistanceParams(AttentionParams, Compared):
    """Parameters of a distance between attention maps."""


class GradientDistanceParams(LayerGradientParams, Compared):
    """Parameters of a distance between layer gradients."""


@dataclass(frozen=True)
class Shown:
    """One thing that is compared with itself at other steps or labels."""

    name: str
    """What it is called on the layer axis."""
    stage: Stage
    variable: str


def _layer_distance(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, LayerDistanceParams)
    times = window(request, params.keep)
    shown = []
    for layer in chosen(params.layers, context, place=request.place):
        stage = activation(request, layer, times=times, stored=False, name=f"{request.name}.{layer}")
        shown.append(Shown(layer, _stored_twin(stage, context) or stage, "activation"))
    return _compared(request, params, shown, times)


def _attention_distance(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, AttentionDistanceParams)
    times = window(request, params.keep)
    layers = attention_layers(params, context, place=request.place)
    stage = attention_map(request, layers, times=times, stored=False, name=f"{request.name}.map")
    return _compared(request, params, [Shown("map", _stored_twin(stage, context) or stage, "map")], times)


def _gradient_distance(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, GradientDistanceParams)
    layers = chosen(params.layers, context, place=request.place)
    joint = all_gradients(request, params, layers)
    return _compared(request, params, [Shown(layer, joint, layer) for layer in layers], joint.times)


def _stored_twin(stage: Stage, context: Context) -> Stage | None:
    """A stored stage with the same recipe at all of its states."""
    for other in context.built.values():
        same = (other.kind, other.params, other.needs) == (stage.kind, stage.params, stage.needs)
        if same and other.stored and set(stage.times) == set(other.times):
            return other
    return None


def _compared(
    request: Request, params: Compared, shown: Sequence[Shown], times: tuple[int, ...]
) -> list[Stage]:
    context, guidance = request.context, halves(request)
    _comparable(request, params, times)
    names = [one.name for one in shown]
    attrs: dict[str, Any] = {
        "long_name": f"Frobenius distance between {params.between}",
        "units": "1",
        "normalise": params.normalise,
        "between": params.between,
    }
    axes: dict[str, Any] = axis(guidance) | {LAYER: np.array(names, dtype=object)}
    settings: dict[str, Any] = {"normalise": params.normalise, "names": names, **halved(guidance)}
    if params.between == "labels":
        labels = several_labels(context, place=request.place)
        axes[OTHER], settings["labels"] = np.array(labels), labels
    steps = params.between == "steps"
    # What several layers share (one backward pass) is read once.
    sources = list(dict.fromkeys(one.stage.name for one in shown))

    def compute(*blocks: xr.Dataset, cases: tuple[Case, ...] = ()) -> xr.Dataset:
        kept = blocks[0][TIME].values

        def apart(block: xr.Dataset, values: xr.DataArray) -> np.ndarray:
            frames = values.transpose(CASE, TIME, ...).values
            if steps:
                return np.asarray(consecutive(frames, normalise=params.normalise))
            pairs = partial(between.distance, normalise=params.normalise)
            return squares(block, frames, cases, settings["labels"], pairs)

        def of(one: Shown) -> np.ndarray:
            block = blocks[sources.index(one.stage.name)]
            values = block[one.variable]
            if not guidance:
                return apart(block, values)
            # A half is compared with the same half.
            each = [apart(block, values.isel({GUIDANCE: place})) for place in range(len(guidance))]
            return np.stack(each, axis=2)

        result = np.stack([of(one) for one in shown], axis=2 + bool(guidance)).astype(np.float32)
        return xr.Dataset(
            {"value": ((CASE, TIME, *axes), result)}, coords={TIME: kept[1:] if steps else kept}
        )

    made = Stage(
        name=request.name,
        kind=f"distance.{params.between}",
        group=f"measures/{request.name}",
        version=1,
        params=settings,
        needs=tuple(
            Need(name, halo=1, kept=True) if steps else Need(name, view="labels") for name in sources
        ),
        times=times[1:] if steps else times,
        promise=array_promise("value", tuple(axes), axes, context, attrs=attrs),
        compute=compute,
        scope="all" if steps else "clean",
        attrs=attrs,
    )
    new = {one.stage.name: one.stage for one in shown if one.stage.name not in context.built}
    return [*new.values(), made]


def _comparable(request: Request, params: Compared, times: tuple[int, ...]) -> None:
    """Refuse a distance between steps where there are none."""
    if params.between != "steps":
        return
    needs_chain(
        request.context.real,
        "A distance between steps is asked for",
        request.place,
        remedy='use between = "labels"',
    )
    if len(times) < 2:
        raise DefinitionError(
            f"A distance between steps needs two kept states ({request.place}).",
            consequence="There is no earlier one to compare with.",
            remedy="keep more states",
        )


KINDS = (
    Kind("layer_distance", 1, LayerDistanceParams, _layer_distance, summary="distance between activations"),
    Kind(
        "attention_distance",
        1,
        AttentionDistanceParams,
        _attention_distance,
        summary="distance between attention maps",
    ),
    Kind(
        "gradient_distance",
        1,
        GradientDistanceParams,
        _gradient_distance,
        summary="distance between layer gradients",
    ),
)
