"""The finished pictures side by side: what a sample became by itself, and what it became when something was done to it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import xarray as xr

from flowprofile import figures
from flowprofile.axes import INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import CLEAN
from flowprofile.picking import chosen_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT: Final = 0.75
"""Inches for the seeds' names."""
ABOVE: Final = 0.42
"""Inches for the columns' names."""
LARGEST: Final = 1.0
"""Inches: side of the largest picture."""


def endings(states: xr.DataArray, *, title: str, seeds: Sequence[int], label: int | None = None) -> "Figure":
    """Pictures at t = 0: a row per seed, the clean run and then a column per intervention of a title."""
    named = columns(states, title)
    seeds = chosen_of(states, SEED, list(seeds))
    (label,) = chosen_of(states, LABEL, None if label is None else [label], most=1)
    ends = figures.pixels(states.sel({LABEL: label, TIME: 0, SEED: seeds})).compute()
    side = min((figures.WIDTH - LEFT) / len(named), LARGEST)
    with figures.style():
        figure, page = figures.sheet(LEFT + side * len(named), ABOVE + side * len(seeds))
        for place, (name, told) in enumerate(named.items()):
            left = LEFT + place * side
            page.text(
                left + side / 2, ABOVE - 0.05, told, ha="center", va="bottom", size=7, color=figures.FAINT
            )
            for line, seed in enumerate(seeds):
                image = ends.sel({INTERVENTION: name, SEED: seed}).values
                figures.picture(page, left, ABOVE + line * side, side, image)
        for line, seed in enumerate(seeds):
            page.text(
                LEFT - 0.08, ABOVE + (line + 0.5) * side, f"seed {seed}", ha="right", va="center", size=8
            )
    return figure


def columns(states: xr.DataArray, title: str) -> dict[str, str]:
    """The interventions of a title in order, each with what it says of itself: a layer, a step, or its name."""
    found = {CLEAN: "clean"}
    if "title" not in states.coords:
        return found
    for place, name in enumerate(str(one) for one in states[INTERVENTION].values):
        one = states.isel({INTERVENTION: place})
        if str(one["title"].item()) == title:
            found[name] = _told(one, name)
    return found


def _told(one: xr.DataArray, name: str) -> str:
    step = int(one["switch_step"].item()) if "switch_step" in one.coords else -1
    layer = str(one["target_layer"].item()) if "target_layer" in one.coords else ""
    if step >= 0:
        return f"switched\nat {step}"
    return layer.replace(".fn", "\n.fn") or name
