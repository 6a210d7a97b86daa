"""Whether the strongest channel of a layer looks like the edges of the finished picture more than any channel does."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.axes import CHANNEL, INTERVENTION, LABEL, LAYER, SEED, TIME, X, Y
from flowprofile.cases import CLEAN
from flowprofile.definitions import Table
from flowprofile.report.rules.base import Nodes, Rule, Threshold
from flowprofile.report.verdicts import ALPHA, Row, Verdict, decide, estimate, verdict

Values = NDArray[np.float64]


class ResemblanceParams(Table):
    """Parameters of the rule."""

    channels: str
    """The stage of strongest channels."""
    activations: str
    layers: list[str]
    time: int
    states: str = "trajectory"
    raw: Threshold = 0.0
    excess: Threshold = 0.0


def judge(nodes: Nodes, params: ResemblanceParams, alpha: float = ALPHA) -> Verdict:
    """The verdict on strongest channels, activations of each layer, and the finished pictures."""
    edges = edges_of(_clean(nodes[params.states]["x_t"], 0).transpose(LABEL, SEED, CHANNEL, Y, X).values)
    found = [_layer(nodes, layer, edges, params) for layer in params.layers]
    own, others = (np.mean([one[place] for one in found], axis=0) for place in (0, 1))
    raw, beyond = estimate(own, alpha=alpha), estimate(own - others, alpha=alpha)
    outcome = decide(raw, beyond, raw_above=params.raw, excess_above=params.excess)
    rows = [
        Row("|r| of the strongest channel with the edges of x_0", raw, "1"),
        Row("|r| of the other channels", estimate(others), "1"),
        Row("strongest beyond others", beyond, "1"),
        *(
            Row(f"{layer}: strongest beyond others", estimate(one[0] - one[1]), "1")
            for layer, one in zip(params.layers, found, strict=True)
        ),
    ]
    told = (
        f"At t = {params.time} the strongest channels correlate with the edges of the finished picture with"
        f" |r| = {raw.mean:.3g}, and the other channels of the same layers with {estimate(others).mean:.3g}."
    )
    return verdict(outcome, beyond, told, unit="|r|", rows=rows)


def _layer(nodes: Nodes, layer: str, edges: Values, params: ResemblanceParams) -> tuple[Values, Values]:
    """|r| of the strongest channel and the mean of the others' [seed], averaged over labels."""
    maps = _clean(nodes[f"{params.activations}/{layer}"]["activation"], params.time)
    array = maps.transpose(LABEL, SEED, CHANNEL, Y, X).values.astype(np.float64)
    best = _clean(nodes[params.channels]["channel"].sel({LAYER: layer}), params.time).transpose(LABEL, SEED)
    coarse = shrunk(edges, array.shape[-2:])
    r = np.abs(correlation(array, coarse[:, :, None]))
    own = np.take_along_axis(r, best.values[..., None], axis=-1)[..., 0]
    others = (r.sum(axis=-1) - own) / (r.shape[-1] - 1)
    return own.mean(axis=0), others.mean(axis=0)


def _clean(values: xr.DataArray, t: int) -> xr.DataArray:
    return values.sel({INTERVENTION: CLEAN, TIME: t}, drop=True)


def edges_of(images: Values) -> Values:
    """Length of the gradient of images[... channel y x], root of the sum of squares over colours, [... y x]."""
    down, right = np.gradient(images.astype(np.float64), axis=(-2, -1))
    return np.asarray(np.sqrt((down**2 + right**2).sum(axis=-3)))


def shrunk(maps: Values, size: Sequence[int]) -> Values:
    """Means of maps[... y x] over the cells of a coarser grid, whose sides divide theirs."""
    high, wide = (old // new for old, new in zip(maps.shape[-2:], size, strict=True))
    cells = maps.reshape(*maps.shape[:-2], size[0], high, size[1], wide)
    return np.asarray(cells.mean(axis=(-3, -1)))


def correlation(a: Values, b: Values) -> Values:
    """Pearson's r of two maps over their last two axes; 0 where one of them is constant."""
    a, b = (values - values.mean(axis=(-2, -1), keepdims=True) for values in (a, b))
    joint = (a * b).sum(axis=(-2, -1))
    lengths = np.sqrt((a**2).sum(axis=(-2, -1)) * (b**2).sum(axis=(-2, -1)))
    return np.asarray(np.divide(joint, lengths, out=np.zeros_like(joint), where=lengths > 0))


RULE = Rule(
    "resemblance",
    ResemblanceParams,
    lambda params: (
        params.channels,
        params.states,
        *(f"{params.activations}/{layer}" for layer in params.layers),
    ),
    judge,
    "The absolute correlation of each layer's strongest channel with the edges of the finished picture, averaged over"
    " `layers`, per seed. It is there if its whole interval lies above `raw`; it is confirmed if it exceeds the mean of"
    " the same layers' other channels by more than `excess`.",
)
