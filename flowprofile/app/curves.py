"""The measures of a case over time, beside their nulls and beside all seeds of its label, as plain JSON.

A curve is shown at the states that the case has. Of more than a plot can show every n-th is taken and the others are
left out, never averaged, and the answer says so. Statistics are over seeds, of one label and one intervention: the
seed is what is drawn at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.app.absence import absence
from flowprofile.app.asked import Query, Where, case_of
from flowprofile.app.lines import (
    NULL,
    VALUE,
    Curve,
    Line,
    Values,
    cells_of_seed,
    curves,
    over_pixels,
    seeds_kept,
)
from flowprofile.app.notes import of_measures
from flowprofile.app.remedies import grown
from flowprofile.axes import INTERVENTION, LABEL, LAYER, PIXEL, SEED, TIME
from flowprofile.captions import caption
from flowprofile.errors import StoreError, nearest
from flowprofile.figures import BAND
from flowprofile.stats.bounds import mean_bounds
from flowprofile.stats.curves import LEAST_SEEDS

ALPHA: Final = 0.05
"""Probability of error of the interval of a mean."""
POINTS: Final = 1000
"""States of a curve at most."""
LEAST_POINTS: Final = 20
TOGETHER: Final = 30_000
"""States of all lines of a measure at most."""
LINES: Final = 128
"""Lines of a measure at most."""
SEEDS: Final = 512
"""Seeds that statistics are taken over at most."""
CELLS: Final = 1 << 22
"""Values that are read at most for the statistics of one line."""
IMPORTS: Final = "import flowprofile as fp\nfrom flowprofile.stats.bounds import mean_bounds"
UNITS: Final = {"index": "index, no order"}
"""How a unit is said where its name alone misleads: the channel next to a channel is not like it."""
TIME_TOLD: Final = "t (noise → image)"


@dataclass(frozen=True)
class Sample:
    """The seeds that statistics are over."""

    seeds: tuple[int, ...]
    computed: int
    """How many there are."""

    @property
    def note(self) -> str:
        """What a reader must know of the number."""
        if len(self.seeds) < self.computed:
            return f"the first {len(self.seeds)} of {self.computed:,} computed seeds"
        if len(self.seeds) < LEAST_SEEDS:
            return f"{len(self.seeds)} seed(s): an interval needs at least {LEAST_SEEDS}"
        return ""


def measures(tree: xr.DataTree, asked: Query) -> dict[str, Any]:
    """Every measure of a case, or the one that is named.

    Parameters
    ----------
    tree
        One run.
    asked
        The case; ``measure`` for one node alone, ``layer`` (repeated) for some lines of those that have layers.

    Returns
    -------
    dict
        ``measures``: of each its ``times``, axes and ``lines``; of each line ``series`` by role (``value`` and
        ``null`` of the case, ``mean``, ``low`` and ``high`` over seeds, ``excess`` ...) with ``values`` and the
        ``python`` that gives them at all states. Numbers are finite or None.
    """
    where = case_of(tree, asked)
    wanted = _wanted(tree, asked.get("measure"))
    order = list(tree.attrs.get("model", {}).get("attributes", ()))
    found = {
        "case": {
            **where.key(),
            "caption": " ".join(caption(tree.to_dataset(), where.label, order=order).split()),
        },
        "x": {"title": TIME_TOLD, "unit": "step"},
        "band": list(BAND),
        "alpha": ALPHA,
        "python": f"{IMPORTS}\n{opening(tree)}",
        "measures": [_measure(tree, curve, where, asked.all(LAYER)) for curve in wanted],
    }
    layers = [str(v) for curve in wanted if LAYER in curve.axes for v in curve.array[LAYER].values.tolist()]
    found["notes"] = of_measures(asked, found, list(dict.fromkeys(layers)))
    if not wanted:
        found["missing"] = grown(url_of(tree), {"stages.step_ssim": {"use": "ssim"}})
    return found


def opening(tree: xr.DataTree) -> str:
    """The Python that opens the run."""
    return f"tree = fp.open({url_of(tree)!r}, run={str(tree.attrs.get('flowprofile_run', ''))!r})"


def url_of(tree: xr.DataTree) -> str:
    """Where a run's store is."""
    return str(tree.attrs.get("flowprofile_url", "STORE"))


def _wanted(tree: xr.DataTree, name: str) -> list[Curve]:
    held = list(curves(tree))
    if not name:
        return held
    found = [curve for curve in held if name in (curve.node, curve.node.removeprefix("measures/"))]
    if not found:
        raise StoreError(
            f"This run has no measure {name!r}.", remedy=nearest(name, {curve.node: None for curve in held})
        )
    return found


def _measure(tree: xr.DataTree, curve: Curve, where: Where, layers: Sequence[str]) -> dict[str, Any]:
    told = _told(curve)
    kept = curve.kept(where)
    if not kept:
        return {**told, **absence(tree, curve, where)}
    lines = curve.lines(where.label)
    lines = [line for line in lines if line.key.get(LAYER) in layers] or lines
    shown = thinned(kept, max(LEAST_POINTS, min(POINTS, TOGETHER // max(1, len(lines)))))
    sample = _sample(curve, where, shown)
    cells = _Cells(curve, where, shown, sample.seeds)
    return {
        **told,
        "missing": False,
        "times": shown,
        "states": len(kept),
        "absent": curve.array.sizes[TIME] - len(kept),
        "n": len(sample.seeds),
        "computed": sample.computed,
        "note": _note(curve, sample, len(kept), len(shown), len(lines)),
        "lines": [_line(line, cells) for line in lines[:LINES]],
    }


def _told(curve: Curve) -> dict[str, Any]:
    attrs = curve.array.attrs
    unit = str(attrs.get("units", "1"))
    return {
        "node": curve.node,
        "variable": curve.variable,
        "name": curve.name,
        "kind": str(curve.data.attrs.get("kind", "")),
        "long_name": curve.long_name,
        "unit": unit,
        "y": curve.name if unit == "1" else f"{curve.name} ({UNITS.get(unit, unit)})",
        "excess": f"excess ({unit})" if unit != "1" else "excess",
        "has_null": curve.null is not None,
        "axes": list(curve.axes),
        "pixels": curve.array.sizes.get(PIXEL, 0),
    }


def _note(curve: Curve, sample: Sample, kept: int, shown: int, lines: int) -> str:
    parts = []
    if shown < kept:
        parts.append(f"{shown} of {kept:,} states are drawn, none is averaged")
    if lines > LINES:
        parts.append(f"the first {LINES} of {lines} lines")
    parts.append(sample.note if curve.number else "numbers of channels or labels have no mean over seeds")
    return "; ".join(part for part in parts if part)


def thinned(times: Sequence[int], most: int) -> list[int]:
    """Every n-th state and the last, so that there are at most so many.

    >>> thinned([5, 4, 3, 2, 1, 0], 4)
    [5, 3, 1, 0]
    """
    step = -(-(len(times) - 1) // max(1, most - 1)) if len(times) > most else 1
    return [*times[:-1:step], times[-1]]


def _sample(curve: Curve, where: Where, times: Sequence[int]) -> Sample:
    if not curve.number:
        return Sample((), 0)
    seeds = seeds_kept(curve, where, times)
    room = max(1, min(SEEDS, CELLS // cells_of_seed(curve, len(times))))
    return Sample(tuple(seeds[:room].tolist()), len(seeds))


@dataclass(frozen=True)
class _Cells:
    """What is read of a measure, once for all of its lines."""

    curve: Curve
    where: Where
    times: Sequence[int]
    seeds: Sequence[int]

    @cached_property
    def own(self) -> xr.Dataset:
        """The case's."""
        return self.curve.cells({**self.where.key(), TIME: list(self.times)})

    @cached_property
    def group(self) -> xr.Dataset:
        """Those of all seeds."""
        return self.curve.cells({**self._of_group, SEED: list(self.seeds), TIME: list(self.times)})

    @property
    def said(self) -> dict[str, Any]:
        """The seeds as Python says them: a slice where nothing lies between."""
        known, seeds = self.curve.array[SEED].values, self.seeds
        between = int(((known >= seeds[0]) & (known <= seeds[-1])).sum())
        whole = between == len(seeds) > 2
        return {**self._of_group, SEED: _Slice(seeds[0], seeds[-1]) if whole else list(seeds)}

    @property
    def _of_group(self) -> dict[str, Any]:
        return {INTERVENTION: self.where.intervention, LABEL: self.where.label}


@dataclass(frozen=True)
class _Slice:
    first: int
    last: int

    def __repr__(self) -> str:
        return f"slice({self.first}, {self.last})"


def _line(line: Line, cells: _Cells) -> dict[str, Any]:
    series = _of_case(line, cells)
    if len(cells.seeds) > 1:
        series |= _over_seeds(line, cells)
    return {"key": line.key, "caption": line.caption, "series": series}


def _of_case(line: Line, cells: _Cells) -> dict[str, Any]:
    """The case's own curve, its null, and what it has beyond it."""
    curve, found = line.curve, dict[str, Any]()
    own = cells.own.sel(line.key)
    value, said = own[VALUE], line.python(curve.variable, cells.where.key())
    mean = '.mean("pixel")' if PIXEL in value.dims else ""
    found["value"] = _series(over_pixels(value).values, said + mean)
    if PIXEL in value.dims:
        found["least"] = _series(value.min(PIXEL).values, f'{said}.min("pixel")')
        found["most"] = _series(value.max(PIXEL).values, f'{said}.max("pixel")')
    if curve.null is not None:
        null, known = over_pixels(own[NULL]), line.python(curve.null, cells.where.key()) + mean
        found["null"] = _series(null.values, known)
        found["excess"] = _series((over_pixels(value) - null).values, f"{said}{mean} - {known}")
    return found


def _over_seeds(line: Line, cells: _Cells) -> dict[str, Any]:
    """Mean and band over seeds; of the excess the mean with its t interval."""
    curve, group = line.curve, cells.group.sel(line.key)
    pixels = '.mean("pixel")' if PIXEL in group.dims else ""
    value, ours = _rows(group[VALUE]), line.python(curve.variable, cells.said) + pixels
    found = {"mean": _series(value.mean(axis=0), f'{ours}.mean("seed")')}
    for role, share, values in zip(("low", "high"), BAND, _quantiles(value), strict=True):
        found[role] = _series(values, f'{ours}.quantile({share}, "seed")')
    if curve.null is not None:
        null, known = _rows(group[NULL]), line.python(curve.null, cells.said) + pixels
        found["null_mean"] = _series(null.mean(axis=0), f'{known}.mean("seed")')
        found |= _excess(value - null, f"({ours} - {known})")
    return found


def _excess(values: Values, said: str) -> dict[str, Any]:
    found = {"excess_mean": _series(values.mean(axis=0), f'{said}.mean("seed")')}
    if len(values) < LEAST_SEEDS:
        return found
    whole = np.isfinite(values).all(axis=0)
    lower, upper = np.full((2, values.shape[1]), np.nan)
    if whole.any():
        bounds = mean_bounds(values[:, whole], alpha=ALPHA / 2)
        lower[whole], upper[whole] = bounds.lower, bounds.upper
    interval = f'mean_bounds({said}.transpose("seed", "time"), alpha={ALPHA / 2})'
    found["excess_lower"] = _series(lower, f"{interval}.lower")
    found["excess_upper"] = _series(upper, f"{interval}.upper")
    return found


def _quantiles(values: Values) -> Values:
    """The band's ends; a state at which some seed has no number has none."""
    whole = np.isfinite(values).all(axis=0)
    found = np.full((len(BAND), values.shape[1]), np.nan)
    if whole.any():
        found[:, whole] = np.quantile(values[:, whole], BAND, axis=0)
    return found


def _rows(values: xr.DataArray) -> Values:
    return np.asarray(over_pixels(values).transpose(SEED, TIME).values)


def _series(values: Values, python: str) -> dict[str, Any]:
    return {"values": plain(values), "python": python}


def plain(values: Any) -> list[float | None]:
    """Numbers as JSON has them, to the eight digits that a stored value has; None for what is no number."""
    return [float(f"{v:.8g}") if np.isfinite(v) else None for v in np.asarray(values, np.float64).tolist()]
