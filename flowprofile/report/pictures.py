"""The pictures of an item, as data URIs: a page that asks nothing of the network carries its figures within itself."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from pydantic import Field, ValidationError

from flowprofile import figures, maps
from flowprofile.axes import SEED
from flowprofile.definitions import Table, Text, refusal
from flowprofile.definitions.report import FigureTable
from flowprofile.errors import DefinitionError, nearest
from flowprofile.report.endings import endings
from flowprofile.report.verdicts import Row, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI: Final = 130
"""Pixels an inch: sharp enough at the width of a page, and a quarter of the bytes of print."""


@dataclass(frozen=True)
class Shown:
    """What a drawing may look at."""

    tree: xr.DataTree
    """The opened profile, of the item's seeds only."""
    named: Callable[[str], str]
    """Path in the tree of a stage of the definition."""
    verdict: Verdict | None


@dataclass(frozen=True)
class Drawing:
    """One kind of picture."""

    name: str
    params: type[Table]
    draw: Callable[[Shown, Any], "Figure"]
    told: str
    """What is to be seen, for those who cannot."""


class StripParams(Table):
    """Parameters of samples on their way from noise to image."""

    stage: str = "trajectory"
    seeds: int | None = Field(None, ge=1)
    """How many, from the first."""
    labels: list[int] | None = None
    times: list[int] | None = None
    intervention: str = "none"


class EndingsParams(Table):
    """Parameters of finished pictures side by side."""

    stage: str = "trajectory"
    done: str
    """Title of the interventions."""
    seeds: int = Field(4, ge=1)
    """How many, from the first."""
    label: int | None = None


class StageParams(Table):
    """Parameters of a drawing of one stage."""

    stage: str


class MapsParams(Table):
    """Parameters of maps over time."""

    stages: list[str]
    seed: int | None = None
    label: int | None = None


class RowsParams(Table):
    """Parameters of intervals."""

    rows: list[int] | None = None
    """Which lines of the item's table; all of them by default."""


def _strip(shown: Shown, params: StripParams) -> "Figure":
    return figures.strip(
        shown.tree,
        node=shown.named(params.stage),
        seeds=None if params.seeds is None else _first(shown, params.seeds),
        labels=params.labels,
        times=params.times,
        intervention=params.intervention,
    )


def _endings(shown: Shown, params: EndingsParams) -> "Figure":
    states = shown.tree[shown.named(params.stage)].to_dataset()["x_t"]
    return endings(states, title=params.done, seeds=_first(shown, params.seeds), label=params.label)


def _first(shown: Shown, count: int) -> list[int]:
    return [int(seed) for seed in shown.tree.coords[SEED].values[:count]]


def _curves(shown: Shown, params: StageParams) -> "Figure":
    return figures.trajectories(shown.tree, shown.named(params.stage).partition("/")[2])


def _lines(shown: Shown, params: StageParams) -> "Figure":
    return maps.lines(shown.tree, shown.named(params.stage))


def _maps(shown: Shown, params: MapsParams) -> "Figure":
    nodes = [shown.named(stage) for stage in params.stages]
    return maps.maps(shown.tree, nodes, seed=params.seed, label=params.label)


def _intervals(shown: Shown, params: RowsParams) -> "Figure":
    rows = () if shown.verdict is None else shown.verdict.rows
    chosen = rows if params.rows is None else [rows[place] for place in params.rows if place < len(rows)]
    # Where there was nothing to judge a table is shorter than the definition expects.
    return intervals(chosen or rows)


def intervals(rows: Sequence[Row]) -> "Figure":
    """Estimates with their intervals, one under the other; the zero line is where nothing is."""
    from matplotlib.figure import Figure

    with figures.style():
        figure = Figure(figsize=(figures.WIDTH, 0.32 * len(rows) + 0.75), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(rows):
            found, colour = row.estimate, figures.colour_of(place)
            if np.isfinite([found.lower, found.upper]).all():
                axes.plot([found.lower, found.upper], [place, place], color=colour, linewidth=2)
            axes.plot([found.mean], [place], "o", color=colour, markersize=5)
        axes.axvline(0, color=figures.FAINT, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(length=0)
        axes.grid(visible=False, axis="y")
        axes.set_ylim(len(rows) - 0.5, -0.5)
        units = {row.unit for row in rows}
        axes.set_xlabel(
            "mean and 95 % interval over seeds" + (f" ({units.pop()})" if len(units) == 1 else "")
        )
    return figure


DRAWINGS: Final[Mapping[str, Drawing]] = {
    one.name: one
    for one in (
        Drawing("strip", StripParams, _strip, "samples on their way from noise (left) to image (right)"),
        Drawing("endings", EndingsParams, _endings, "finished pictures, clean and with each intervention"),
        Drawing("curves", StageParams, _curves, "curves over time with their null, and the excess below"),
        Drawing("lines", StageParams, _lines, "curves over time, one line for each condition"),
        Drawing("maps", MapsParams, _maps, "maps of one sample over time"),
        Drawing("intervals", RowsParams, _intervals, "the lines of the table as points with intervals"),
    )
}


def drawing_of(table: FigureTable, place: int, text: Text) -> tuple[Drawing, Table]:
    """The drawing that a `figure` asks for, with its parameters; what is wrong is refused with its place."""
    if table.draw not in DRAWINGS:
        raise DefinitionError(
            f"There is no drawing {table.draw!r} ({text.place(['report', 'figure'])}).",
            consequence="A figure of the item would be missing.",
            remedy=nearest(table.draw, DRAWINGS),
        )
    drawing = DRAWINGS[table.draw]
    try:
        return drawing, drawing.params.model_validate(table.settings)
    except ValidationError as error:
        raise refusal(error, text, drawing.params, under=("report", "figure", str(place))) from None


def data_uri(figure: "Figure") -> str:
    """The figure as a PNG of at most 256 colours, within the text of a page."""
    from PIL import Image

    with figures.style():
        raw = io.BytesIO()
        figure.savefig(raw, format="png", dpi=DPI, metadata={"Software": None})
    with Image.open(raw) as picture:
        small = io.BytesIO()
        flat = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        flat.save(small, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode('ascii')}"
