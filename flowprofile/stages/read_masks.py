"""The strongest channel within a region that is read off each sample's own picture.

The region is known when the picture is finished, so these activations are looked at in a second walk, from states
that are stored or waiting: one evaluation of the network for each of them, and no step.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, CHANNEL, LAYER, TIME, X, Y
from flowprofile.flow.blocks import cases_of
from flowprofile.flow.stage import Given, Need, Stage
from flowprofile.kinds import Context, Request
from flowprofile.measures.channels import Statistic, strongest
from flowprofile.models.regions import reader_digest
from flowprofile.objects.masks import Mask, resampled
from flowprofile.objects.probes import Activation
from flowprofile.stages.halves import axis, halves, probed, settings
from flowprofile.stages.promises import STATES, array_promise


def strongest_in_region(
    request: Request,
    layers: tuple[str, ...],
    *,
    statistic: Statistic,
    q: float,
    mask: Mask,
    name: str,
    times: tuple[int, ...],
) -> Stage:
    """c* of several layers, each sample within its own region; -1 where a sample has no pixel of it."""
    context, names = request.context, halves(request)
    outputs = {layer: context.probe(probed(Activation(layer), names)) for layer in layers}
    axes = axis(names) | {LAYER: np.array(layers, dtype=object)}

    def compute(block: xr.Dataset, final: xr.Dataset, *, given: Given) -> xr.Dataset:
        regions = _regions(context, mask, final["x_t"].transpose(CASE, CHANNEL, Y, X).values)
        wanted = list(given.times)
        each = [len(places) for places in axes.values()]
        found = np.full((block.sizes[CASE], len(wanted), *each), -1, dtype=np.int64)
        for row, at, seen in _looked(context, block, wanted, outputs, given):
            for number, layer in enumerate(layers):
                a = seen[layer]
                weights = resampled(regions[row], (a.shape[-2], a.shape[-1]))
                if weights.any():
                    found[row, at, ..., number] = strongest(a, weights=weights, statistic=statistic, q=q)
        return xr.Dataset({"channel": ((CASE, TIME, *axes), found)}, coords={TIME: wanted})

    attrs = {
        "long_name": "strongest channel c*",
        "units": "index",
        "mask_name": mask.name,
        "of": "activations",
    }
    return Stage(
        name=name,
        kind="max_channel.read",
        group=name,
        version=1,
        params={
            "layers": list(layers),
            "statistic": statistic,
            "mask": _reader_digest(context, mask),
            **({"q": q} if statistic == "mean_top" else {}),
            **settings(names),
        },
        needs=(Need(STATES, halo=1), Need(STATES, "final")),
        times=times,
        promise=array_promise("channel", tuple(axes), axes, context, attrs=attrs, dtype="int64"),
        compute=compute,
        asks=1 if context.sampler.guidance_scale == 1 else 2,
        attrs=attrs,
    )


def _looked(
    context: Context, block: xr.Dataset, times: Sequence[int], outputs: Mapping[str, str], given: Given
) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    """The activations of every case's step into every state: row, place in time, and [... channel y x] by layer."""
    import torch

    from flowprofile.kernels.acting import Lane

    watched, cases = context.watched(), cases_of(block)
    starts = (
        block["x_t"]
        .transpose(CASE, TIME, CHANNEL, Y, X)
        .sel({TIME: [context.before(t) for t in times]})
        .values
    )
    places = [(row, at) for row in range(len(cases)) for at in range(len(times))]
    for first in range(0, len(places), context.batch):
        chosen = places[first : first + context.batch]
        lanes = [Lane(cases[row], context.before(times[at]), times[at]) for row, at in chosen]
        x = torch.from_numpy(np.stack([starts[row, at] for row, at in chosen]).astype(np.float32))
        watched.ask(lanes, x, outputs.values(), given.sources)
        for number, (row, at) in enumerate(chosen):
            yield (
                row,
                at,
                {layer: watched.shown[name][number].cpu().numpy() for layer, name in outputs.items()},
            )


def _regions(context: Context, mask: Mask, images: np.ndarray) -> np.ndarray:
    """Where each finished picture has the region, bool[case y x]."""
    from flowprofile.models import segmenter

    low, high = context.card.pixel_range
    reader = segmenter.load(context.card.name)
    found = reader.regions(np.clip((images - low) / (high - low), 0.0, 1.0).astype(np.float32))
    return np.asarray(found[:, reader.card.regions.index(str(mask.region))])


def _reader_digest(context: Context, mask: Mask) -> str:
    """What decides the region: its name, and the network that reads it."""
    return f"{mask.region}:{reader_digest(context.card.name)[:16]}"
