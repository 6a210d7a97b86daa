"""Pictures of a profile, drawn from what `profile.open` returns and nothing else.

A figure is the first thing a person believes, so each shows the data as they are: pixels are clipped to the
model's range and never stretched (states that grow with their noise are shown as the network sees them), a curve stands beside its null, time runs from noise to image. Matplotlib is
imported when something is drawn, not before: whether a picture is up to date can be told without it.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CHANNEL, GUIDANCE, IMAGE, LABEL, PROMPT, SEED, TIME, X, Y
from flowprofile.captions import axis_name, caption, formula, runs_told, sample_told
from flowprofile.cases import CLEAN
from flowprofile.errors import DefinitionError, nearest
from flowprofile.picking import chosen_of, clean_of, done_of, first_state, node_of, samples_of, spread
from flowprofile.time.visited import EXPLODING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#22272e"
FAINT: Final = "#6b7280"
RULE: Final = "#d5d9e0"
PICTURES: Final = ("x_t", "decoded", "x0_hat")
"""Variables that are pictures over time."""
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#3d9ad1", "#882255", "#5c6670")
"""One per label, in order; told apart with any of the common colour deficiencies, and in print."""
BAND: Final = (0.1, 0.9)
"""Quantiles over seeds between which a band is filled."""
WIDTH: Final = 8.8
"""Inches; at 100 pixels an inch this is the width of a README."""
LARGEST: Final = 1.6
"""Inches: side of the largest image panel."""
PAD: Final = 0.035
"""Inches between two images."""
DASHED: Final[Mapping[str, Any]] = {"linestyle": (0, (4, 2)), "linewidth": 1.1}
"""How a null is drawn."""
NULL_TOLD: Final = "null: same noise, image known"
TIME_TOLD: Final = "t   (noise → image)"
MISSING: Final = "#eef0f3"
NOT_STORED: Final = "grey: not stored"
DENSE: Final = 200
"""States above which a curve is drawn thin, and thick as its running mean: its null would be hidden by noise."""
RUNNING: Final = 51
"""States of a running mean."""
STAMP: Final = "flowprofile"
"""Keyword of the text in a PNG that says what was drawn."""
RC: Final[Any] = {
    "font.family": "DejaVu Sans", "font.size": 9, "mathtext.fontset": "dejavusans", "text.color": INK,
    "axes.edgecolor": RULE, "axes.labelcolor": INK, "axes.labelsize": 9, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.titlesize": 9, "axes.titlelocation": "left", "axes.titlepad": 5,
    "axes.grid": True, "axes.grid.axis": "y", "axes.axisbelow": True, "grid.color": "#eceef2", "grid.linewidth": 0.8,
    "xtick.color": RULE, "xtick.labelcolor": FAINT, "xtick.labelsize": 8,
    "ytick.color": RULE, "ytick.labelcolor": FAINT, "ytick.labelsize": 8,
    "figure.facecolor": "white", "savefig.facecolor": "white", "savefig.dpi": 200,
    "image.interpolation": "nearest", "legend.frameon": False, "legend.fontsize": 8,
}  # fmt: skip
"""The one style of every figure."""


def strip(
    tree: xr.DataTree,
    *,
    seeds: Sequence[int] | None = None,
    labels: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
    node: str = "trajectory",
    intervention: str = CLEAN,
) -> "Figure":
    """Samples on their way from noise to image: a row per label and seed, a column per state.

    Parameters
    ----------
    tree
        An opened profile that stores its trajectory, or other pictures over time.
    seeds, labels
        Which rows; by default the first eight labels, and of each as many seeds as make eight rows, at most four.
    times
        Which states; by default eleven that are spread evenly over the stored ones.
    node
        Whose pictures: a trajectory, what was decoded of it, or the predicted image.
    intervention
        What was done to the model, by its value on the intervention axis; by default nothing.
    """
    data = node_of(tree, node)
    whole, told = _pictures(data)
    states = done_of(whole, intervention)
    stored = [int(t) for t in states[TIME].values]
    wanted = chosen_of(states, TIME, spread(stored) if times is None else sorted(times, reverse=True))
    rows = samples_of(data, states, seeds, labels)
    shown = sorted({seed for own in rows.values() for seed in own})
    images = pixels(at_scale(states.sel({SEED: shown, LABEL: list(rows), TIME: wanted}), data)).compute()
    # Inches: captions to the left, the axis of time above, a gap between two labels.
    left, above, gap = 1.9 if IMAGE in states.coords else 1.32, 0.44, 0.1
    side = min((WIDTH - left) / len(wanted), LARGEST)
    count = sum(map(len, rows.values()))
    with style():
        figure, page = sheet(left + side * len(wanted), above + count * side + (len(rows) - 1) * gap)
        time_axis(page, wanted, left, side, first=first_state(states))
        told = [runs_told(whole, intervention), *told, NOT_STORED if _holed(images, rows) else ""]
        page.text(0.03, 0.04, "\n".join(filter(None, told)), va="top", color=FAINT, size=7)
        top = above
        for row, (label, own) in enumerate(rows.items()):
            bar = [top + PAD, top + len(own) * side - PAD]
            page.plot([0.03, 0.03], bar, color=colour_of(row), linewidth=3, solid_capstyle="butt")
            text = caption(states, label, order=_order(tree)).replace(" + ", "\n")
            small: Any = {"size": 6.5} if PROMPT in states.coords else {}
            page.text(0.13, top + side / 2, text, va="center", weight="bold", **small)
            for seed in own:
                name: Any = {"ha": "right", "va": "center", "color": FAINT, "size": 8}
                page.text(left - 0.1, top + side / 2, sample_told(states, seed), **name)
                for column, t in enumerate(wanted):
                    image = images.sel({LABEL: label, SEED: seed, TIME: t}).values
                    picture(page, left + column * side, top, side, image)
                top += side
            top += gap
    return figure


def _pictures(data: xr.Dataset) -> tuple[xr.DataArray, list[str]]:
    """The pictures of a node, and what is to be said of them."""
    whole = next(data[name] for name in PICTURES if name in data)
    told = ["predicted image"] if whole.name == "x0_hat" else []
    if GUIDANCE in whole.dims:
        told.append(f"guidance: {whole[GUIDANCE].values[-1]}")
        whole = whole.isel({GUIDANCE: -1})
    if whole.sizes[CHANNEL] not in (1, 3):
        told.append("latents: three channels as colours")
        whole = whole.isel({CHANNEL: slice(3)})
    return whole, [*told, *(["$x_t$ / √(1 + σ²)"] if grows(whole, data) else [])]


def _holed(images: xr.DataArray, rows: Mapping[int, Sequence[int]]) -> bool:
    """Whether any of the images that are shown is not there."""
    return any(
        bool(images.sel({LABEL: label, SEED: list(own)}).isnull().any()) for label, own in rows.items()
    )


def pictured(node: xr.Dataset) -> bool:
    """Whether a node is drawn as a strip."""
    return node.attrs.get("kind") in ("trajectory", "decoded", "predicted_x0")


def trajectories(tree: xr.DataTree, measure: str, *, labels: Sequence[int] | None = None) -> "Figure":
    """A measure over time for each label beside its null, and below it the excess over the null.

    Lines are means over seeds, bands hold the middle 80 % of them. A measure without a null is drawn alone.
    By default the first sixteen labels are drawn.
    """
    curves = _measure(tree, measure, labels)
    chosen = [int(label) for label in curves[LABEL].values]
    if "null" in curves:
        curves = curves.assign(excess=curves["value"] - curves["null"])
    with style():
        figure, page, panels = _panels(len(chosen), 2 if "null" in curves else 1)
        for place, (label, (upper, *lower)) in enumerate(zip(chosen, panels, strict=True)):
            one, colour = curves.sel({LABEL: label}), colour_of(place)
            upper.set_title(caption(curves, label, order=_order(tree)), weight="bold")
            for panel in lower:
                _curve(upper, one["null"], INK, beside=True, **DASHED)
                panel.axhline(0, color=FAINT, linewidth=0.8)
                _curve(panel, one["excess"], colour)
            _curve(upper, one["value"], colour)
        _name_axes(panels, curves, measure)
        _head(page, measure, curves, INK if len(chosen) > 1 else colour_of(0))
    return figure


def save(figure: "Figure", path: str | Path, *, stamp: str) -> None:
    """Write a PNG that carries `stamp`, an ASCII text that says what was drawn; whole or not at all."""
    if not (stamp.isascii() and stamp.isprintable() and stamp):
        raise DefinitionError(
            f"A stamp is printable ASCII text, not {stamp!r}.",
            consequence="It could not be read back from the file.",
            remedy="give a digest or a name",
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with style():
        # Matplotlib writes its version by default: one picture would differ from machine to machine.
        figure.savefig(partial, format="png", metadata={STAMP: stamp, "Software": None})
    partial.replace(path)


def stamp_of(path: str | Path) -> str | None:
    """The stamp of a PNG written by `save`; None if there is no such file or it carries none."""
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        return None
    for kind, body in _chunks(data):
        keyword, _, text = body.partition(b"\0")
        if kind == b"tEXt" and keyword == STAMP.encode():
            return text.decode("ascii", errors="replace")
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each chunk of a PNG, as far as it is whole."""
    at = 8 if data.startswith(b"\x89PNG\r\n\x1a\n") else len(data)
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        yield kind, data[at + 8 : at + 8 + size]
        at += 12 + size


def _order(tree: xr.DataTree) -> Sequence[str]:
    """The model's attributes, most significant bit first, as the run's provenance names them."""
    return list(tree.attrs.get("model", {}).get("attributes", ()))


def at_scale(states: xr.DataArray, node: xr.Dataset) -> xr.DataArray:
    """States of a node as they are shown: those that grow with their noise by sqrt(1 + sigma^2), as the network sees them."""
    if not grows(states, node):
        return states
    return (states / np.sqrt(1 + states["sigma"] ** 2)).assign_attrs(states.attrs)


def grows(states: xr.DataArray, node: xr.Dataset) -> bool:
    """Whether these are x_0 + sigma eps, most of which lies outside the range of pixels."""
    return states.name == "x_t" and dict(node.attrs.get("sampler", {})).get("rule") in EXPLODING


def pixels(states: xr.DataArray) -> xr.DataArray:
    """States as pixels in [0, 1], dims (..., y, x, channel): clipped to the model's range, never stretched."""
    if states.sizes[CHANNEL] not in (1, 3):
        raise DefinitionError(
            f"Images with {states.sizes[CHANNEL]} channels cannot be shown.",
            consequence="There is no colour they would mean.",
            remedy="select one channel, or the three that are red, green and blue: .sel(channel=[0, 1, 2])",
        )
    low, high = states.attrs["pixel_range"]
    scaled: xr.DataArray = (states.astype(np.float32) - low) / (high - low)
    return scaled.clip(0, 1).transpose(..., Y, X, CHANNEL)


def _measure(tree: xr.DataTree, measure: str, labels: Sequence[int] | None) -> xr.Dataset:
    """The curves of a measure, dims (label, seed, time), without the states at which it has no value at all."""
    held = sorted(tree["measures"].children) if "measures" in tree else []
    if measure not in held:
        raise DefinitionError(
            f"The profile has no measure {measure!r}.",
            consequence="There is no curve to draw.",
            remedy=nearest(measure, held) if held else "add one to the pipeline and run that again",
        )
    curves = node_of(tree, f"measures/{measure}")
    curves = curves[[name for name in ("value", "null") if name in curves]]
    told = runs_told(curves, CLEAN)
    curves = curves.map(clean_of).sel({LABEL: chosen_of(curves, LABEL, labels, most=16)})
    curves = curves.load().dropna(TIME, how="all")
    if not curves.sizes[TIME]:
        raise DefinitionError(
            f"The measure {measure!r} has no value yet.",
            consequence="There is no curve to draw.",
            remedy="run the pipeline again: it computes what is missing",
        )
    return curves.assign_attrs(runs=told)


def colour_of(place: int) -> str:
    return COLOURS[place % len(COLOURS)]


def style() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(RC)


def sheet(wide: float, high: float) -> tuple["Figure", "Axes"]:
    """An empty figure, and the plane in which it is laid out: in inches, from its top left corner."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide, high))
    page = figure.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, wide), ylim=(high, 0))
    page.set_axis_off()
    return figure, page


def picture(page: "Axes", left: float, top: float, side: float, image: np.ndarray) -> None:
    """One image of pixels on the page; an image that is not there is an empty panel."""
    box = (left + PAD / 2, top + PAD / 2, side - PAD, side - PAD)
    panel = page.inset_axes(box, transform=page.transData)
    panel.set(xticks=[], yticks=[], facecolor=MISSING)
    panel.spines[:].set_visible(False)
    if np.isfinite(image).all():
        shown = image.squeeze(-1) if image.shape[-1] == 1 else image
        panel.imshow(shown, cmap="gray", vmin=0, vmax=1, aspect="auto")


def time_axis(
    page: "Axes", times: Sequence[int], left: float, side: float, *, first: int | None, top: float = 0.0
) -> None:
    """Name the columns, from noise to image, in the .44 inches below `top`.

    Only x_T, the state `first`, is called noise, and only x_0 image.
    """
    right = left + side * len(times) - PAD / 2
    for column, t in enumerate(times):
        text = f"t = {t}" if column == 0 else str(t)
        page.text(
            left + (column + 0.5) * side, top + 0.39, text, ha="center", va="bottom", color=FAINT, size=8
        )
    noise, image = times[0] == first, times[-1] == 0 and first is not None
    if noise:
        page.text(left + PAD / 2, top + 0.04, "noise", va="top", weight="bold")
    if image:
        page.text(right, top + 0.04, "image", ha="right", va="top", weight="bold")
    if len(times) > 2 or (len(times) == 2 and not (noise and image)):
        arrow = {"arrowstyle": "->", "color": RULE, "linewidth": 1}
        begin = left + (0.52 if noise else PAD / 2)
        page.annotate("", (right - (0.52 if image else 0), top + 0.12), (begin, top + 0.12), arrowprops=arrow)


def _panels(count: int, parts: int) -> tuple["Figure", "Axes", list[list["Axes"]]]:
    """For each label a column of axes: its values and, below them, the excess. Columns share their scales."""
    columns = min(count, 4)
    blocks = -(-count // columns)
    high = 2.75 if parts == 2 else 2.0
    head, foot, between = 0.72, 0.5, 0.55
    total = head + blocks * high + (blocks - 1) * between + foot
    figure, page = sheet(WIDTH, total)
    panels: list[list[Axes]] = []
    for place in range(count):
        block, column = divmod(place, columns)
        top = head + block * (high + between)
        grid = figure.add_gridspec(
            parts, columns, height_ratios=[2, 1][:parts], hspace=0.1, wspace=0.07,
            left=0.078, right=0.985, top=1 - top / total, bottom=1 - (top + high) / total,
        )  # fmt: skip
        shared = panels[0] if panels else [None] * parts
        panels.append([figure.add_subplot(grid[part, column], sharey=shared[part]) for part in range(parts)])
        for panel in panels[-1]:
            panel.tick_params(length=0, labelleft=column == 0, labelbottom=False)
        panels[-1][-1].tick_params(labelbottom=place + columns >= count)
    return figure, page, panels


def _curve(axes: "Axes", values: xr.DataArray, colour: str, *, beside: bool = False, **line: Any) -> None:
    """Mean over seeds, and the band that holds the middle of them; `beside` is the line alone, above the others."""
    values = values.dropna(TIME, how="all")
    if not values.sizes[TIME]:
        return
    times = values[TIME].values
    if values.sizes[SEED] > 1 and not beside:
        low, high = (values.quantile(q, SEED).values for q in BAND)
        axes.fill_between(times, low, high, color=colour, alpha=0.18, linewidth=0)
    mean, above = values.mean(SEED), {"zorder": 3} if beside else {}
    if _dense(values):
        if not beside:
            axes.plot(times, mean.values, color=colour, linewidth=0.4, alpha=0.6)
        mean = mean.rolling({TIME: RUNNING}, center=True).mean()
    axes.plot(times, mean.values, color=colour, **{"linewidth": 1.4, **above, **line})


def _dense(values: xr.DataArray) -> bool:
    return int(values.sizes[TIME]) > DENSE


def _name_axes(panels: list[list["Axes"]], curves: xr.Dataset, measure: str) -> None:
    """Time from noise to image below, what is drawn to the left."""
    from matplotlib.ticker import MaxNLocator

    time = curves[TIME]
    # A quantity of a pair of states carries the later one's t, so the first of them stands at T - 1.
    known = first_state(curves)
    first = int(time.max()) if known is None else known
    spaced = MaxNLocator(5 if len(panels) < 3 else 2).tick_values(0, first)
    ticks = [t for t in spaced if 0 <= t <= first]
    names = axis_name(measure, curves["value"]), axis_name("excess", curves["value"])
    for column in panels:
        for panel in column:
            panel.set_xlim(first, 0)
            panel.set_xticks(ticks)
            # Centred under the ends of narrow axes, the labels of neighbouring panels would run into each other.
            for t, tick in zip(ticks, panel.xaxis.get_major_ticks(), strict=True):
                side = (
                    "center" if len(panels) < 3 else "left" if t == first else "right" if t == 0 else "center"
                )
                tick.label1.set(horizontalalignment=side)
        if column[-1].xaxis.get_tick_params()["labelbottom"]:
            column[-1].set_xlabel(TIME_TOLD)
        for panel, name in zip(column, names, strict=False):
            if panel.yaxis.get_tick_params()["labelleft"]:
                panel.set_ylabel(name)


def _head(page: "Axes", measure: str, curves: xr.Dataset, colour: str) -> None:
    """The measure's name and formula, and what the lines mean."""
    from matplotlib.lines import Line2D

    name = page.text(0.1, 0.2, measure, va="center", size=11, weight="bold")
    page.annotate(
        formula(str(curves["value"].attrs.get("long_name", ""))),
        (1, 0.5),
        (10, 0),
        xycoords=name,
        textcoords="offset points",
        va="center",
        color=FAINT,
        size=10,
    )
    seeds = curves.sizes[SEED]
    band = f", band {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} %" if seeds > 1 else ""
    lines = [Line2D([], [], color=colour)]
    dense = _dense(curves["value"])
    thick = f"; thick: running mean of {RUNNING} states" if dense else ""
    runs = f"{curves.attrs['runs']}: " if curves.attrs["runs"] else ""
    texts = [runs + (f"mean of {seeds} seeds{band}{thick}" if seeds > 1 else f"one seed{thick}")]
    if "null" in curves:
        lines.append(Line2D([], [], color=INK, **DASHED))
        texts.append(NULL_TOLD)
    corner = {"bbox_to_anchor": (WIDTH - 0.06, 0.2), "bbox_transform": page.transData}
    page.legend(lines, texts, loc="center right", ncols=1 if dense else 2, borderaxespad=0, **corner)
