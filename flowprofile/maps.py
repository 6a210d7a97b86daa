"""Pictures of what happens inside: maps over time, and curves by layer, by label and by intervention.

A map has no range of its own, so each is scaled by its own largest absolute value: maps show where, curves how much.
Where the values of a row have signs, blue is negative and red is positive.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CHANNEL, INTERVENTION, LABEL, LAYER, OTHER, PIXEL, SEED, TIME, X, Y
from flowprofile.cases import CLEAN
from flowprofile.figures import (
    COLOURS,
    FAINT,
    LARGEST,
    MISSING,
    PAD,
    WIDTH,
    caption,
    clean_of,
    node_of,
    sheet,
    spread,
    style,
    time_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST: Final = 12
"""Most lines in one panel."""


def _channels(values: xr.DataArray) -> xr.DataArray:
    return values.sum(CHANNEL)


def _rows(values: xr.DataArray) -> xr.DataArray:
    """What pulls at the chosen pixels from elsewhere: a pixel's own entry would outshine all others."""
    own = (values[Y] == values["pixel_y"]) & (values[X] == values["pixel_x"])
    total = (values.where(~own, 0.0) ** 2).sum(PIXEL)
    return (total.sum(CHANNEL) if CHANNEL in total.dims else total) ** 0.5


READ: Final[Mapping[str, tuple[str, Callable[[xr.DataArray], xr.DataArray], str]]] = {
    "activations": ("activation", _channels, "sum over channels"),
    "channel_sums": ("activation", lambda values: values, "sum over channels"),
    "attention": ("map", lambda values: values, "sum over layers and channels"),
    "layer_gradients": ("gradient", _channels, "gradient, sum over channels"),
    "gradient_volume": ("gradient", _rows, "off-diagonal rows, root of sum of squares"),
    "gradient_sum": ("gradient", lambda values: values, "signed sum of rows"),
    "gradient_energy": ("energy", lambda values: values.clip(min=0.0) ** 0.5, "root of the energy"),
}
"""By kind of node: its variable, what is drawn of it, and how that is called."""


def mappable(node: xr.Dataset) -> bool:
    """Whether a node is drawn as maps."""
    return node.attrs.get("kind") in READ and Y in node.dims


def maps(tree: xr.DataTree, nodes: Sequence[str]) -> "Figure":
    """Maps of one sample over time, a row per node: the first seed of the first label, nothing done to the model."""
    rows = [(name, *_maps(node_of(tree, name))) for name in nodes]
    times = spread(sorted({t for _, shown, _ in rows for t in shown[TIME].values.tolist()}))
    left, above = 2.1, 0.44
    side = min((WIDTH - left) / len(times), LARGEST)
    with style():
        figure, page = sheet(left + side * len(times), above + side * len(rows))
        time_axis(page, times, left, side)
        for line, (name, shown, what) in enumerate(rows):
            top = above + line * side
            page.text(
                0.03,
                top + side / 2 - 0.09,
                name.partition("/")[2] or name,
                va="center",
                weight="bold",
                size=8,
            )
            page.text(0.03, top + side / 2 + 0.09, what, va="center", color=FAINT, size=7)
            held = shown[TIME].values.tolist()
            signed = bool((shown < 0).any())
            for column, t in enumerate(times):
                image = shown.sel({TIME: t}).values if t in held else None
                _map(page, left + column * side, top, side, image, signed=signed)
    return figure


def _maps(node: xr.Dataset) -> tuple[xr.DataArray, str]:
    variable, read, what = READ[str(node.attrs["kind"])]
    values = clean_of(node[variable]).isel({LABEL: 0, SEED: 0}).load()
    dims = [dim for dim in values.dims if dim != TIME]
    return read(values.dropna(TIME, how="all") if dims else values).transpose(TIME, Y, X), what


def _map(
    page: "Axes", left: float, top: float, side: float, image: np.ndarray | None, *, signed: bool
) -> None:
    box = (left + PAD / 2, top + PAD / 2, side - PAD, side - PAD)
    panel = page.inset_axes(box, transform=page.transData)
    panel.set(xticks=[], yticks=[], facecolor=MISSING)
    panel.spines[:].set_visible(False)
    if image is not None and np.isfinite(image).all():
        largest = float(np.abs(image).max()) or 1.0
        panel.imshow(
            image, cmap="RdBu_r" if signed else "magma", vmin=-largest if signed else 0, vmax=largest
        )


def lined(node: xr.Dataset) -> bool:
    """Whether a measure has more axes than a curve per case, or compares runs: then it is drawn as lines."""
    variables = [name for name, values in node.data_vars.items() if name != "status" and TIME in values.dims]
    first = node[variables[0]] if variables else None
    if first is None:
        return False
    extra = {LAYER, OTHER, PIXEL} & set(first.dims)
    return bool(extra) or "value" not in variables or _changed_only(node)


def _changed_only(node: xr.Dataset) -> bool:
    """Whether there is nothing of the clean run: the measure is of interventions."""
    status = node["status"].sel({INTERVENTION: CLEAN})
    return not bool((status == 2).any())


def lines(tree: xr.DataTree, name: str) -> "Figure":
    """Means over seeds and labels along time: a line per intervention, per layer, or per pair of labels."""
    node = node_of(tree, name)
    panels = [key for key, value in node.data_vars.items() if key != "status" and TIME in value.dims]
    panels = [key for key in panels if not str(key).endswith("null")]
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, 2.7 * len(panels) + 0.5), layout="constrained")
        for axes, key in zip(np.atleast_1d(figure.subplots(len(panels), 1)), panels, strict=True):
            _panel(axes, node, str(key))
        figure.suptitle(
            f"{name.partition('/')[2] or name}: {node[panels[0]].attrs.get('long_name', '')}",
            x=0.01,
            ha="left",
        )
    return figure


def _panel(axes: "Axes", node: xr.Dataset, key: str) -> None:
    values = node[key].load()
    drawn = _by_line(values if _changed_only(node) else clean_of(values), node)
    null = {"value": "null"}.get(key, f"{key}_null")
    beside = {}
    if null in node:
        beside = _by_line(node[null].load() if _changed_only(node) else clean_of(node[null].load()), node)
    for place, (label, line) in enumerate(list(drawn.items())[:MOST]):
        colour = COLOURS[place % len(COLOURS)]
        curve = line.dropna(TIME)
        axes.plot(curve[TIME], curve, color=colour, label=label, linewidth=1.4, marker="o", markersize=2.5)
        if label in beside:
            other = beside[label].dropna(TIME)
            axes.plot(other[TIME], other, color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
    more = len(drawn) - MOST
    axes.set(ylabel=key, xlabel="t")
    axes.invert_xaxis()
    title = f"and {more} more" if more > 0 else ""
    axes.legend(title=title, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _by_line(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """Curves by what tells them apart."""
    if INTERVENTION in values.dims:
        groups = values.mean([dim for dim in values.dims if dim not in (INTERVENTION, TIME)])
        return _interventions(groups, node)
    if OTHER in values.dims:
        return _pairs(values, node)
    if LAYER in values.dims:
        means = values.mean([dim for dim in values.dims if dim not in (LAYER, TIME)])
        return {str(layer): means.sel({LAYER: layer}) for layer in means[LAYER].values}
    return {"mean": values.mean([dim for dim in values.dims if dim != TIME])}


def _interventions(curves: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """One line each; of interventions that share title and layer, such as random controls, their mean."""
    found: dict[str, list[xr.DataArray]] = {}
    for name in curves[INTERVENTION].values:
        if name == CLEAN:
            continue
        layer = (
            str(node["target_layer"].sel({INTERVENTION: name}).item())
            if "target_layer" in node.coords
            else ""
        )
        title = str(node["title"].sel({INTERVENTION: name}).item()) if "title" in node.coords else str(name)
        several = layer != "" and title != ""
        found.setdefault(f"{title} {layer}" if several else str(name), []).append(
            curves.sel({INTERVENTION: name})
        )
    return {
        label if len(group) == 1 else f"{label} (mean of {len(group)})": sum(group[1:], group[0]) / len(group)
        for label, group in found.items()
    }


def _pairs(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """One line per pair of labels, each pair once; layers, if there are several, are averaged."""
    means = values.mean([dim for dim in values.dims if dim not in (LABEL, OTHER, TIME)])
    labels = [int(label) for label in means[LABEL].values if label in means[OTHER].values]
    return {
        f"{caption(node, one)} | {caption(node, other)}": means.sel({LABEL: one, OTHER: other})
        for place, one in enumerate(labels)
        for other in labels[place + 1 :]
    }
