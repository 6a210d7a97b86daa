"""The findings at a glance: when four attributes part, until when they can be changed, and where they differ."""

from pathlib import Path
from typing import TYPE_CHECKING

import xarray as xr

from benchmarks.findings import REGIONS, Numbers, shares, switched, unlike
from flowprofile.figures import DASHED, FAINT, INK, TIME_TOLD, colour_of, style
from flowprofile.models import segmenter
from flowprofile.stats.bounds import mean_bounds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS = (
    "1 - SSIM of the two labels",
    "share of switches that\nchange what is shown",
    "share of the difference\ninside the region",
)


def draw(tree: xr.DataTree, path: Path) -> None:
    """One column for each attribute, one row for each question; bands are 95 % intervals of the mean."""
    from matplotlib.figure import Figure

    reader = segmenter.load("faces32")
    with style():
        figure = Figure(figsize=(11, 6.6), layout="constrained")
        panels = figure.subplots(3, len(REGIONS), sharex="row", sharey="row")
        for column, (attribute, parts) in enumerate(REGIONS.items()):
            curves, nulls, times = unlike(tree, attribute)
            when, until, where = panels[:, column]
            _band(when, times, curves, "the network")
            when.plot(times, nulls.mean(0), color=FAINT, label="two known pictures", **DASHED)
            shown, _, at = switched(tree, attribute)
            _band(until, at, shown, "attribute read off the picture", marker="o")
            until.axhline(0.05, color=FAINT, linewidth=0.8, linestyle=":", label="5 %")
            values, states = shares(tree, reader, attribute, "predicted_x0", "x0_hat")
            _band(where, states, values, "predicted pictures")
            where.axhline(values[:, -1].mean(), color=FAINT, label="two known pictures", **DASHED)
            when.set_title(f"{attribute} ({' + '.join(parts)})", fontsize=10, color=INK, loc="left")
            when.set_xlim(1000, 0)
            until.set_xlim(420, -20)
            where.set_xlim(1000, 0)
        for row, told in enumerate(ROWS):
            panels[row, 0].set_ylabel(told)
            panels[row, 0].legend(frameon=False, fontsize=8, loc="lower left" if row else "upper left")
        for row, told in enumerate((TIME_TOLD, "label switched at t", TIME_TOLD)):
            for panel in panels[row]:
                panel.set_xlabel(told)
        panels[2, 0].set_ylim(0, 1)
        figure.savefig(path, dpi=110)


def _band(axes: "Axes", times: Numbers, values: Numbers, label: str, **how: object) -> None:
    bounds = mean_bounds(values, alpha=0.025)
    axes.plot(times, bounds.mean, color=colour_of(0), linewidth=1.4, markersize=3, label=label, **how)
    axes.fill_between(times, bounds.lower, bounds.upper, color=colour_of(0), alpha=0.2, linewidth=0)
