"""Pictures of what happens inside: maps over time, and curves by layer, by label and by intervention.

A map has no range of its own, so each is scaled by its own largest absolute value: maps show where, curves how much.
Where the values of a row have signs, blue is negative and red is positive.
"""

import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CHANNEL, GUIDANCE, INTERVENTION, LABEL, LAYER, OTHER, PIXEL, SEED, TIME, X, Y
from flowprofile.captions import axis_name, caption, formula, runs_told
from flowprofile.cases import CLEAN
from flowprofile.figures import (
    COLOURS,
    DASHED,
    FAINT,
    LARGEST,
    MISSING,
    NOT_STORED,
    NULL_TOLD,
    PAD,
    TIME_TOLD,
    WIDTH,
    sheet,
    style,
    time_axis,
)
from flowprofile.picking import chosen_of, clean_of, done_of, first_state, node_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST: Final = 2 * len(COLOURS)
"""Most lines in one panel: so many can be told apart."""
SCALES: Final = 4.9
"""Inches that the words and bars of the colours need."""


def _channels(values: xr.DataArray) -> xr.DataArray:
    return values.sum(CHANNEL)


def _rows(values: xr.DataArray) -> xr.DataArray:
    """What pulls at the chosen pixels from elsewhere: a pixel's own entry would outshine all others."""
    own = (values[Y] == values["pixel_y"]) & (values[X] == values["pixel_x"])
    total = (values.where(~own, 0.0) ** 2).sum(PIXEL)
    return (total.sum(CHANNEL) if CHANNEL in total.dims else total) ** 0.5


READ: Final[Mapping[str, tuple[str, Callable[[xr.DataArray], xr.DataArray], str]]] = {
    "activations": ("activation", _channels, "sum over channels"),
    "adopted": ("activation", _channels, "sum over channels"),
    "channel_sums": ("activation", lambda values: values, "sum over channels"),
    "attention": ("map", lambda values: values, "sum over layers and channels"),
    "layer_gradients": ("gradient", _channels, "gradient, sum over channels"),
    "gradient_volume": ("gradient", _rows, "off-diagonal rows,\nroot of sum of squares"),
    "gradient_sum": ("gradient", lambda values: values, "signed sum of rows"),
    "gradient_energy": ("energy", lambda values: values.clip(min=0.0) ** 0.5, "root of the energy"),
}
"""By kind of node: its variable, what is drawn of it, and how that is called."""


def mappable(node: xr.Dataset) -> bool:
    """Whether a node is drawn as maps."""
    return node.attrs.get("kind") in READ and Y in node.dims


def maps(
    tree: xr.DataTree,
    nodes: Sequence[str],
    *,
    seed: int | None = None,
    label: int | None = None,
    intervention: str = CLEAN,
) -> "Figure":
    """Maps of one sample over time, a row per node, each tile scaled by its own largest value.

    Parameters
    ----------
    tree, nodes
        An opened profile, and the nodes to draw.
    seed, label, intervention
        Which sample; by default the first seed of the first label, with nothing done to the model.
    """
    held = [node_of(tree, name) for name in nodes]
    (seed,) = chosen_of(held[0], SEED, None if seed is None else [seed], most=1)
    (label,) = chosen_of(held[0], LABEL, None if label is None else [label], most=1)
    rows = [
        row
        for name, node in zip(nodes, held, strict=True)
        for row in _rows_of(name.partition("/")[2] or name, node, seed, label, intervention)
    ]
    times = _columns(sorted({t for _, shown, _ in rows for t in shown[TIME].values.tolist()}, reverse=True))
    left, head, above = 2.1, 0.52, 0.44
    side = min((WIDTH - left) / len(times), LARGEST)
    with style():
        wide = left + max(side * len(times), SCALES)
        figure, page = sheet(wide, head + above + side * len(rows))
        done = "nothing done to the model" if intervention == CLEAN else intervention
        sample = f"{caption(held[0], label)}, seed {seed}, {done}"
        page.text(0.03, 0.13, sample, va="center", weight="bold", size=9)
        whole = all(bool(shown.reindex({TIME: times}).notnull().all()) for _, shown, _ in rows)
        _scales(page, wide, [bool((shown < 0).any()) for _, shown, _ in rows], whole=whole)
        time_axis(page, times, left, side, first=first_state(held[0]), top=head)
        for line, (name, shown, what) in enumerate(rows):
            top = head + above + line * side
            middle = top + side / 2
            page.text(0.03, middle - 0.02, name, va="bottom", weight="bold", size=9)
            cells = f"{shown.sizes[Y]} × {shown.sizes[X]}"
            page.text(0.03, middle + 0.03, f"{what}, {cells}", va="top", color=FAINT, size=8)
            known = shown[TIME].values.tolist()
            signed = bool((shown < 0).any())
            for column, t in enumerate(times):
                image = shown.sel({TIME: t}).values if t in known else None
                _map(page, left + column * side, top, side, image, signed=signed)
    return figure


def _columns(held: Sequence[int], most: int = 11) -> list[int]:
    """Every n-th of the states, from the image's end: neighbours are equally far apart where those that are held are."""
    return list(held[::-1][:: -(-len(held) // most)][::-1])


def _rows_of(
    name: str, node: xr.Dataset, seed: int, label: int, intervention: str
) -> list[tuple[str, xr.DataArray, str]]:
    """A node's row: its name, maps and what they are of; a row for each half of a guided step."""
    if GUIDANCE not in node.dims:
        return [(name, *_maps(node, seed, label, intervention))]
    return [
        (f"{name}, {half}", *_maps(node.sel({GUIDANCE: half}), seed, label, intervention))
        for half in node[GUIDANCE].values.tolist()
    ]


def _maps(node: xr.Dataset, seed: int, label: int, intervention: str) -> tuple[xr.DataArray, str]:
    variable, read, what = READ[str(node.attrs["kind"])]
    if PIXEL in node[variable].dims:
        what = what.replace("rows", f"rows of {node.sizes[PIXEL]} pixels", 1)
    if "mask_name" in node.attrs:
        what = f"{what},\nof {node.attrs['mask_name']}"
    values = done_of(node[variable], intervention).sel({LABEL: label, SEED: seed}).load()
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
        panel.imshow(image, cmap=_colours(signed), vmin=-largest if signed else 0, vmax=largest)


def _colours(signed: bool) -> str:
    return "RdBu_r" if signed else "magma"


def _scales(page: "Axes", wide: float, signed: Sequence[bool], *, whole: bool) -> None:
    """The colours in words and as bars, above the columns to the right."""
    right, middle = wide - 0.06, 0.35
    for each in sorted(set(signed)):
        low, high = ("−max", "max") if each else ("0", "max")
        page.text(right, middle, high, ha="right", va="center", color=FAINT, size=7)
        bar = page.inset_axes((right - 1.0, middle - 0.04, 0.72, 0.08), transform=page.transData)
        bar.imshow(np.linspace(0, 1, 64)[None], cmap=_colours(each), aspect="auto")
        bar.set(xticks=[], yticks=[])
        bar.spines[:].set_visible(False)
        page.text(right - 1.04, middle, low, ha="right", va="center", color=FAINT, size=7)
        right -= 1.4
    told = "each tile has a scale of its own, to its largest value:\nthey compare in where, not in how much"
    told += "" if whole else f"; {NOT_STORED}"
    page.text(right, middle, told, ha="right", va="center", color=FAINT, size=7)


def lined(node: xr.Dataset) -> bool:
    """Whether a measure has more axes than a curve per case, or compares runs: then it is drawn as lines."""
    variables = [name for name, values in node.data_vars.items() if name != "status" and TIME in values.dims]
    first = node[variables[0]] if variables else None
    if first is None:
        return False
    extra = {LAYER, OTHER, PIXEL, GUIDANCE} & set(first.dims)
    return bool(extra) or "value" not in variables or _changed_only(node)


def _changed_only(node: xr.Dataset) -> bool:
    """Whether there is nothing of the clean run: the measure is of interventions."""
    status = node["status"].sel({INTERVENTION: CLEAN})
    return not bool((status == 2).any())


@dataclass(frozen=True)
class Curve:
    """What one line is the mean of, dims (time, ...), and the same of its null."""

    values: xr.DataArray
    null: xr.DataArray | None = None

    def __post_init__(self) -> None:
        """Leave out what holds no value at all: a switch, for one, is not run for every label."""
        for axis in (LABEL, SEED):
            if axis in self.values.dims:
                rest = [dim for dim in self.values.dims if dim != axis]
                held = self.values.notnull().any(rest)
                object.__setattr__(self, "values", self.values.sel({axis: held}))

    def averaged(self) -> str:
        """What the mean is over: 'label 3, mean of 4 seeds'."""
        one, many = [], []
        for axis in (LABEL, SEED, LAYER, PIXEL, CHANNEL):
            count = self.values.sizes.get(axis, 0)
            if count == 1 and axis in (LABEL, SEED):
                value = int(self.values[axis].item())
                one.append(caption(self.values, value) if axis == LABEL else f"seed {value}")
            elif count > 1:
                many.append(f"{count} {axis}s")
        return ", ".join([*one, *([f"mean of {' × '.join(many)}"] if many else [])])


def lines(tree: xr.DataTree, name: str) -> "Figure":
    """Means over seeds and labels along time: a line per intervention, per layer, or per pair of labels.

    What a line is the mean of stands above the panel, or beside the line's name where lines differ. Of more than
    `MOST` lines the first are drawn, and the others are named below.
    """
    node = node_of(tree, name)
    panels = [str(key) for key, value in node.data_vars.items() if key != "status" and TIME in value.dims]
    panels = [key for key in panels if not key.endswith("null")]
    measure = name.partition("/")[2] or name
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, 2.7 * len(panels) + 0.6), layout="constrained")
        first, *others = np.atleast_1d(figure.subplots(len(panels), 1))
        for axes, key in zip((first, *others), panels, strict=True):
            curves = _curves(node, key)
            _panel(axes, curves)
            said = measure if key == "value" else f"{measure.partition('[')[0]}: {key}"
            axes.set_ylabel(axis_name(said, node[key]))
        others_told = _legend(first, curves, clean="" if _changed_only(node) else runs_told(node, CLEAN))
        (others[-1] if others else first).set_xlabel(TIME_TOLD)
        long_name = formula(str(node[panels[0]].attrs.get("long_name", "")))
        figure.suptitle(f"{measure}:  {long_name}", x=0.01, ha="left", size=11)
        if others_told:
            figure.supxlabel(textwrap.fill(others_told, 150), x=0.01, ha="left", color=FAINT, size=7)
    return figure


def _panel(axes: "Axes", curves: Mapping[str, Curve]) -> None:
    for place, curve in enumerate(list(curves.values())[:MOST]):
        _line(axes, curve.values, **_drawn(place))
        if curve.null is not None:
            _line(axes, curve.null, color=_drawn(place)["color"], **{**DASHED, "linewidth": 0.9})
    axes.invert_xaxis()


def _line(axes: "Axes", values: xr.DataArray, **look: Any) -> None:
    mean = values.mean([dim for dim in values.dims if dim != TIME]).dropna(TIME)
    axes.plot(mean[TIME], mean, **look)


def _drawn(place: int) -> dict[str, Any]:
    """Colour, line and marker of a line: the colours twice, the second time dotted and with hollow squares."""
    colour = COLOURS[place % len(COLOURS)]
    look = {"color": colour, "linewidth": 1.4, "marker": "o", "markersize": 2.5}
    if place < len(COLOURS):
        return look
    return {**look, "linestyle": (0, (1, 1.4)), "marker": "s", "markersize": 3.6, "markerfacecolor": "white"}


def _legend(axes: "Axes", curves: Mapping[str, Curve], *, clean: str) -> str:
    """Name the lines, what they are means of, and how a null looks; returns a note on those that are not drawn."""
    from matplotlib.lines import Line2D

    averaged = {name: curve.averaged() for name, curve in curves.items()}
    common = Counter(averaged.values()).most_common(1)[0][0] if averaged else ""
    names = [name if told == common else f"{name} ({told})" for name, told in averaged.items()]
    shown = [Line2D([], [], **_drawn(place)) for place in range(min(len(names), MOST))]
    texts = names[:MOST]
    if any(curve.null is not None for curve in curves.values()):
        shown.append(Line2D([], [], color=FAINT, **DASHED))
        texts.append(NULL_TOLD)
    axes.legend(shown, texts, fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=2.8)
    axes.set_title(": ".join(part for part in (clean, common) if part), color=FAINT, size=8)
    more = names[MOST:]
    return f"and {len(more)} more that are not drawn: {', '.join(more)}" if more else ""


def _curves(node: xr.Dataset, key: str) -> dict[str, Curve]:
    """The lines of one quantity beside their nulls, by name."""
    null = {"value": "null"}.get(key, f"{key}_null")
    found, beside = (_by_line(node[name], node) if name in node else {} for name in (key, null))
    return {name: Curve(values, beside.get(name)) for name, values in found.items()}


def _by_line(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """What each line is the mean of, by what tells the lines apart."""
    values = values.load() if _changed_only(node) else clean_of(values).load()
    if GUIDANCE not in values.dims:
        return _lines_of(values, node)
    return {
        f"{name}, {half}": line
        for half in values[GUIDANCE].values.tolist()
        for name, line in _lines_of(values.sel({GUIDANCE: half}), node).items()
    }


def _lines_of(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    if INTERVENTION in values.dims:
        return _interventions(values, node)
    if OTHER in values.dims:
        return _pairs(values, node)
    if LAYER in values.dims:
        return {str(layer): values.sel({LAYER: layer}) for layer in values[LAYER].values}
    return {"mean": values}


def _interventions(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """One line each; of interventions that share title and layer, such as random controls, their mean."""
    found: dict[str, list[object]] = {}
    for name in values[INTERVENTION].values:
        if name == CLEAN:
            continue
        layer, title = (
            str(node[coord].sel({INTERVENTION: name}).item()) if coord in node.coords else ""
            for coord in ("target_layer", "title")
        )
        found.setdefault(f"{title} {layer}" if layer and title else str(name), []).append(name)
    return {
        label if len(group) == 1 else f"{label} (mean of {len(group)})": values.sel({INTERVENTION: group})
        for label, group in found.items()
    }


def _pairs(values: xr.DataArray, node: xr.Dataset) -> dict[str, xr.DataArray]:
    """One line per pair of labels, each pair once."""
    labels = [int(label) for label in values[LABEL].values if label in values[OTHER].values]
    return {
        f"{caption(node, one)} | {caption(node, other)}": values.sel({LABEL: one, OTHER: other})
        for place, one in enumerate(labels)
        for other in labels[place + 1 :]
    }
