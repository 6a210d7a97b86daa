"""The findings at a glance: when four attributes part, until when they can be changed, and where they differ.

Drawn from the curves that are kept: ``python -m benchmarks.findings_figure docs/findings``.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.curves_file import Band, read
from benchmarks.findings import REGIONS
from flowprofile.figures import DASHED, FAINT, INK, TIME_TOLD, colour_of, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

PAIR, NULL, CHANGED, INSIDE = "pair", "null", "switch changes what it shows", "predicted x_0, inside"
"""The curves of an attribute that are drawn, by their names in the file."""
TOLD = "bands: 95 % interval of the mean at each t, n = {n} seeds; a chain of 200 of the 1000 steps"


def draw(curves: Path, path: Path) -> None:
    """One column for each attribute, one row for each question."""
    with style():
        figure = _figure(read(curves))
        figure.savefig(path, dpi=140)


def _figure(held: Mapping[tuple[str, str], Band]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.8, 8.0), layout="constrained")
    for row, (part, drawn) in enumerate(zip(figure.subfigures(3, 1), (_when, _until, _where), strict=True)):
        panels = part.subplots(1, len(REGIONS), sharey=True)
        for panel, (attribute, parts) in zip(panels, REGIONS.items(), strict=True):
            drawn(panel, {curve: band for (name, curve), band in held.items() if name == attribute})
            if row == 0:
                panel.set_title(f"{attribute}\n({' + '.join(parts)})", fontsize=9, color=INK, loc="left")
        _head(part, panels[0])
    figure.supxlabel(TOLD.format(n=next(iter(held.values())).n), fontsize=8, color=FAINT, x=0.01, ha="left")
    return figure


def _head(part: "SubFigure", first: "Axes") -> None:
    """The question, and the legend beside it, where no curve runs."""
    part.suptitle(first.get_label(), x=0.01, ha="left", fontsize=10, weight="bold", color=INK)
    handles, names = first.get_legend_handles_labels()
    part.legend(handles, names, loc="upper right", ncols=len(names), fontsize=8, borderaxespad=0.1)


def _when(panel: "Axes", held: Mapping[str, Band]) -> None:
    panel.set(label="When the labels part", xlabel=TIME_TOLD, xlim=(1000, 0))
    _named(panel, "1 − SSIM of $x_t$\nunder the two labels")
    _band(panel, held[PAIR], "the network")
    panel.plot(
        held[NULL].times,
        held[NULL].mean,
        color=FAINT,
        label="null: two known pictures on the same noise",
        **DASHED,
    )


def _until(panel: "Axes", held: Mapping[str, Band]) -> None:
    panel.set(label="Until when the label can be another", xlim=(420, -20), ylim=(-0.03, 1.05))
    panel.set_xlabel("label switched at t\n(the last 400 of 1000 only)")
    _named(panel, "share of switches that\nchange what is shown")
    _band(panel, held[CHANGED], "attribute read off the picture", marker="o", clip_on=False)
    panel.axhline(0.05, color=FAINT, linewidth=1, linestyle=":", label="5 %: settled below")


def _where(panel: "Axes", held: Mapping[str, Band]) -> None:
    panel.set(label="Where the pictures differ", xlabel=TIME_TOLD, xlim=(1000, 0), ylim=(0, 1))
    _named(panel, "share of the difference\ninside the region")
    _band(panel, held[INSIDE], "pictures that the network predicts (x_0)")
    end = held[INSIDE].mean[-1]
    panel.axhline(end, color=FAINT, label="null: two known pictures, the same at every t", **DASHED)


def _named(panel: "Axes", told: str) -> None:
    """The y axis' name, where it has room: left of the first column."""
    if panel.get_subplotspec().is_first_col():
        panel.set_ylabel(told)


def _band(axes: "Axes", band: Band, label: str, **how: object) -> None:
    axes.plot(band.times, band.mean, color=colour_of(0), linewidth=1.4, markersize=3, label=label, **how)
    axes.fill_between(band.times, band.lower, band.upper, color=colour_of(0), alpha=0.2, linewidth=0)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) / "curves.csv", Path(sys.argv[1]) / "labels.png")
