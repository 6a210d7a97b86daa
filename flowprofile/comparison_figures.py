"""Pictures of a comparison, drawn from what `compare` returns and nothing else.

A band is the interval of what is claimed, never the spread of seeds; an onset that is not claimed is drawn open
towards the image, since it may lie after the last state.
"""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from flowprofile.axes import TIME
from flowprofile.figures import DASHED, FAINT, INK, NULL_TOLD, TIME_TOLD, WIDTH, colour_of, sheet, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAIR = "pair"
HEAD, FOOT, LEFT, RIGHT = 0.62, 0.5, 0.75, 0.2
"""Inches around the panels."""


def comparison(found: xr.Dataset) -> "Figure":
    """Mean and interval over time with the null dashed and the onsets marked; of many pairs a map of the means."""
    with style():
        return _map(found) if PAIR in found.dims else _curves(found)


def _curves(found: xr.Dataset) -> "Figure":
    """The value beside its null and, where the excess is claimed, the excess below."""
    excess = found.attrs["claimed"] == "excess"
    figure, page, panels = _panels([2.1, 1.7] if excess else [2.6])
    times = found[TIME].values
    first, last = panels[0], panels[-1]
    if np.isfinite(found["null"]).any():
        first.plot(times, found["null"].values, color=FAINT, **DASHED)
    first.plot(times, found["value"].values, color=colour_of(0), linewidth=1.4)
    first.set_ylabel(str(found.attrs["quantity"]))
    if excess:
        last.axhline(0, color=FAINT, linewidth=0.8)
        last.plot(times, found["excess"].values, color=colour_of(0), linewidth=1.4)
        last.set_ylabel("excess over the null")
    last.fill_between(
        times, found["lower"].values, found["upper"].values, color=colour_of(0), alpha=0.18, linewidth=0
    )
    for place, delta in enumerate(found["delta"].values.tolist()):
        _onset(last, found.isel(delta=place), delta, colour_of(place + 1))
    for panel in panels:
        panel.set_xlim(int(times.max()), int(times.min()))
        panel.tick_params(length=0, labelbottom=panel is last)
    last.set_xlabel(TIME_TOLD)
    _head(page, found)
    return figure


def _onset(axes: "Axes", one: xr.Dataset, delta: float, colour: str) -> None:
    """The interval of an onset as a bar at the height of its threshold; open where it has no end."""
    lower, upper = float(one["onset_lower"]), float(one["onset_upper"])
    axes.axhline(delta, color=colour, linewidth=0.6, linestyle=":")
    if np.isnan(upper):
        return
    end = float(one[TIME].min()) if np.isnan(lower) else lower
    solid = bool(one["claimed"])
    axes.plot([upper, end], [delta, delta], color=colour, linewidth=3, alpha=0.9 if solid else 0.3,
              solid_capstyle="butt")  # fmt: skip
    if solid:
        axes.plot(float(one["onset"]), delta, "o", color=colour, markersize=5)


def _map(found: xr.Dataset) -> "Figure":
    """What is claimed of every pair, a row each, with a mark where the claimed onset of the first threshold is."""
    values = found[str(found.attrs["claimed"])].transpose(PAIR, TIME).values
    count, times = len(values), found[TIME].values
    figure, page, (axes,) = _panels([min(8.0, max(1.2, 0.16 * count))])
    reach = float(np.nanmax(np.abs(values))) or 1.0
    signed = found.attrs["claimed"] == "excess"
    mesh = axes.pcolormesh(times, np.arange(count), values, shading="nearest", rasterized=True,
                           cmap="RdBu_r" if signed else "viridis",
                           vmin=-reach if signed else 0.0, vmax=reach)  # fmt: skip
    begun = np.where(found["claimed"].values[:, 0], found["onset"].values[:, 0], np.nan)
    axes.plot(begun, np.arange(count), "o", color="white", markeredgecolor=INK, markersize=4)
    names = [f"{a}, {b}" for a, b in zip(found["label"].values, found["other_label"].values, strict=True)]
    shown = range(0, count, max(1, count // 40))
    axes.set_yticks(list(shown), [names[at] for at in shown], fontsize=6)
    axes.grid(visible=False)
    axes.set_xlim(int(times.max()), int(times.min()))
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlabel(TIME_TOLD)
    axes.set_ylabel("pair of labels")
    figure.colorbar(mesh, ax=axes, pad=0.02, label=_claimed(found))
    delta = float(found["delta"].values[0])
    page.text(0.1, 0.2, f"{found.attrs['between']}", va="center", size=11, weight="bold")
    told = f"mean of {_seeds(found)} seeds; dots: claimed onset above {delta:g}"
    page.text(WIDTH - RIGHT, 0.2, told, va="center", ha="right", color=FAINT)
    return figure


def _panels(heights: list[float]) -> tuple["Figure", "Axes", list["Axes"]]:
    """Panels below each other, under a head line."""
    gap = 0.15
    total = HEAD + sum(heights) + gap * (len(heights) - 1) + FOOT
    figure, page = sheet(WIDTH, total)
    grid = figure.add_gridspec(
        len(heights), 1, height_ratios=heights, hspace=gap / (sum(heights) / len(heights)),
        left=LEFT / WIDTH, right=1 - RIGHT / WIDTH, top=1 - HEAD / total, bottom=FOOT / total,
    )  # fmt: skip
    return figure, page, [figure.add_subplot(grid[row, 0]) for row in range(len(heights))]


def _head(page: "Axes", found: xr.Dataset) -> None:
    """What is compared, and what the lines mean."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour_of(0))]
    texts = [f"mean of {_seeds(found)} seeds, band: {100 * (1 - found.attrs['alpha']):g} % interval"]
    if np.isfinite(found["null"]).any():
        lines.append(Line2D([], [], color=FAINT, **DASHED))
        texts.append(NULL_TOLD)
    for place, delta in enumerate(found["delta"].values.tolist()):
        lines.append(Line2D([], [], color=colour_of(place + 1), linewidth=3))
        texts.append(f"onset > {delta:g}")
    page.text(0.1, 0.17, str(found.attrs["between"]), va="center", size=11, weight="bold")
    corner = {"bbox_to_anchor": (0.04, 0.42), "bbox_transform": page.transData}
    page.legend(
        lines, texts, loc="center left", ncols=len(lines), borderaxespad=0, columnspacing=1.1, **corner
    )


def _claimed(found: xr.Dataset) -> str:
    return "excess over the null" if found.attrs["claimed"] == "excess" else str(found.attrs["quantity"])


def _seeds(found: xr.Dataset) -> int:
    return int(found["n"].values.flat[0])
