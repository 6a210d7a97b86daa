"""Many cases as a table: who they are and what their curves come to, sorted by any column.

A column is a measure and what is taken of its curve. Cases are those that have their last state; of more than can be
read in a moment the first ones are taken, and the answer says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.app.asked import Query
from flowprofile.app.curves import opening, plain, url_of
from flowprofile.app.lines import PRESENT, Curve, Line, Values, curves, over_pixels
from flowprofile.app.notes import of_table
from flowprofile.app.remedies import grown
from flowprofile.axes import CASE_AXES, INTERVENTION, LABEL, OTHER, PIXEL, SEED, TIME
from flowprofile.captions import caption
from flowprofile.errors import StoreError, nearest
from flowprofile.store.lazy import STATUS, unchunked

PAGE: Final = 200
"""Rows of one answer at most."""
CASES: Final = 20_000
"""Cases that are sorted at most."""
COLUMNS: Final = 8
"""Columns besides who a case is, at most."""
CELLS: Final = 1 << 22
"""Values that are read at once."""
IDENTITY: Final = (INTERVENTION, LABEL, SEED)
LAST: Final = "last"
STATISTICS: Final[Mapping[str, str]] = {
    "mean": "mean over the stored t",
    LAST: "value at the last stored t",
    "min": "minimum over the stored t",
    "excess": "mean over the stored t of value - null",
}
OVER: Final[Mapping[str, str]] = {
    "mean": "mean over t",
    LAST: "at the last state",
    "min": "minimum over t",
    "excess": "mean excess over t",
}
"""The same, short enough for the head of a column."""


@dataclass(frozen=True)
class Column:
    """A line of a measure, and what is taken of it."""

    line: Line
    statistic: str

    @property
    def name(self) -> str:
        """As an address says it."""
        key = self.line.key
        layers = "".join(f"[{value}]" for value in key.values())
        return f"{self.line.curve.name.replace(': ', '.')}{layers}:{self.statistic}"

    @property
    def told(self) -> dict[str, Any]:
        """The column, for a person."""
        curve = self.line.curve
        what = curve.long_name or curve.name
        return {
            "name": self.name,
            "title": f"{self.name.rpartition(':')[0]}, {OVER[self.statistic]}",
            "what": what,
            "told": f"{what}: {STATISTICS[self.statistic]}",
            "unit": str(curve.array.attrs.get("units", "1")),
            "python": self.python,
        }

    @property
    def python(self) -> str:
        """The xarray expression of the column, of all cases."""
        curve = self.line.curve
        select = f".sel({', '.join(f'{k}={v!r}' for k, v in self.line.key.items())})" if self.line.key else ""
        value = f'tree["{curve.node}"]["{curve.variable}"]{select}.astype(float)'
        if self.statistic == "excess":
            value = f'({value} - tree["{curve.node}"]["{curve.null}"]{select}.astype(float))'
        if OTHER in curve.array.dims:
            value = f'{value}.where(tree["label"] != tree["{curve.node}"]["other_label"]).mean("other_label")'
        if PIXEL in curve.array.dims:
            value += '.mean("pixel")'
        ends = {LAST: ".isel(time=-1)", "min": '.min("time", skipna=False)'}
        return value + ends.get(self.statistic, '.mean("time", skipna=False)')


def columns(tree: xr.DataTree) -> list[Column]:
    """Every column that a run's table may have; those of whole curves before those of single layers."""
    found = []
    for curve in curves(tree):
        if not curve.number:
            continue
        few = len(curve.array[TIME]) == 1
        names = [LAST] if few else [name for name in STATISTICS if name != "excess" or curve.null is not None]
        found += [Column(line, name) for line in _lines(curve) for name in names]
    return sorted(found, key=lambda column: len(column.line.key))


def _lines(curve: Curve) -> list[Line]:
    """A measure's lines; the other labels are averaged, since each label has its own."""
    return list(
        {_known(line): line for line in (Line(curve, _kept(line.key)) for line in curve.lines(-1))}.values()
    )


def _known(line: Line) -> tuple[Any, ...]:
    return tuple(line.key.items())


def _kept(key: Mapping[str, Any]) -> dict[str, Any]:
    return {axis: value for axis, value in key.items() if axis != OTHER}


@dataclass(frozen=True)
class Cases:
    """Cases as positions along the axes of a run."""

    places: np.ndarray[Any, np.dtype[np.int64]]
    """[case, axis]: intervention, label, seed."""
    computed: int
    """How many there are."""

    @property
    def cut(self) -> bool:
        """Whether these are not all."""
        return len(self.places) < self.computed


def sweep(tree: xr.DataTree, asked: Query) -> dict[str, Any]:
    """A page of the table.

    Parameters
    ----------
    tree
        One run.
    asked
        ``column`` (repeated) by name, ``sort`` one of these or an axis, ``order`` ``asc`` or ``desc``, ``offset`` and
        ``limit`` (at most 200), ``only`` (repeated) such as ``label=6`` or ``intervention=none``.
    """
    offered = columns(tree)
    chosen = _chosen(offered, asked)
    cases = cases_of(tree, asked)
    order = _order(tree, cases, chosen, offered, asked)
    wanted = asked.number("limit")
    most = PAGE if wanted is None else min(PAGE, max(1, wanted))
    first = _first(asked.number("offset") or 0, most, len(order))
    page = order[first : first + most]
    found: dict[str, Any] = {
        "columns": [column.told for column in chosen],
        "offered": [{"name": c.name, "title": c.told["title"]} for c in offered],
        "most": COLUMNS,
        "sort": asked.get("sort", SEED),
        "order": asked.get("order", "asc"),
        "offset": first,
        "cases": len(order),
        "note": f"the first {len(order):,} of {cases.computed:,} computed cases" if cases.cut else "",
        "rows": rows(tree, Cases(cases.places[page], len(page)), chosen),
        "python": f"import flowprofile as fp\n{opening(tree)}",
    }
    found["notes"] = of_table(asked, found, most=PAGE)
    if not cases.computed:
        found["missing"] = grown(url_of(tree), {"stages.trajectory": {"keep": [0]}})
    return found


def _first(offset: int, most: int, cases: int) -> int:
    """Where a page begins: at what is asked for, and beyond the end at the last page."""
    return max(0, offset if offset < cases else (cases - 1) // most * most)


def cases_of(tree: xr.DataTree, asked: Query) -> Cases:
    """The computed cases that an address does not leave out, in the order of the axes."""
    whole = _computed(tree)
    for text in asked.all("only"):
        axis, _, value = text.partition("=")
        if axis not in CASE_AXES:
            raise StoreError(f"The table cannot be filtered by {axis!r}.", remedy=nearest(axis, CASE_AXES))
        known = [str(v) for v in tree.coords[axis].values.tolist()]
        if value not in known:
            raise StoreError(f"This run has no {axis} {value!r}.", remedy=nearest(value, known))
        whole = whole & (tree.coords[axis].astype(str) == value)
    found = np.argwhere(whole.transpose(*CASE_AXES).values)
    return Cases(found[:CASES], len(found))


def _computed(tree: xr.DataTree) -> xr.DataArray:
    """Cases of which some object has its last state."""
    none = np.zeros([tree.sizes[axis] for axis in CASE_AXES], bool)
    found = xr.DataArray(none, {axis: tree.coords[axis].values for axis in CASE_AXES}, CASE_AXES)
    for node in tree.subtree:
        if STATUS in node.data_vars:
            told = unchunked(node.to_dataset())[STATUS]
            told = told.isel({TIME: -1}, drop=True) if TIME in told.dims else told
            told = told.min(PIXEL) if PIXEL in told.dims else told
            found = found | (told.reset_coords(drop=True) == PRESENT)
    return found


def _chosen(offered: Sequence[Column], asked: Query) -> list[Column]:
    names = asked.all("column")
    if not names:
        return _usual(offered) or list(offered[:1])
    if len(names) > COLUMNS:
        raise StoreError(f"{len(names)} columns are asked for.", remedy=f"name at most {COLUMNS}")
    return [_column(offered, name) for name in names]


def _usual(offered: Sequence[Column]) -> list[Column]:
    """Of every object's first curve the mean, or all there is; of fidelity that of the case's own label."""
    found: dict[str, Column] = {}
    for column in offered:
        curve = column.line.curve
        own = curve.data.attrs.get("kind") == "fidelity"
        if not column.line.key and (not own or curve.variable == "asked"):
            found.setdefault(curve.node, column)
    return list(found.values())[:COLUMNS]


def _column(offered: Sequence[Column], name: str) -> Column:
    found = {column.name: column for column in offered}
    if name not in found:
        raise StoreError(f"The table has no column {name!r}.", remedy=nearest(name, found))
    return found[name]


def _order(
    tree: xr.DataTree, cases: Cases, chosen: Sequence[Column], offered: Sequence[Column], asked: Query
) -> np.ndarray[Any, Any]:
    """Positions of the cases as they are sorted; those without a value are last either way."""
    name, back = asked.get("sort", SEED), asked.get("order", "asc")
    if back not in ("asc", "desc"):
        raise StoreError(f"The order is {back!r}.", remedy="use 'asc' or 'desc'")
    if name in IDENTITY:
        keys = cases.places[:, IDENTITY.index(name)].astype(np.float64)
    else:
        column = next((c for c in chosen if c.name == name), None) or _column(offered, name)
        keys = values_of(column, cases)
    keys = -keys if back == "desc" else keys
    return np.lexsort((cases.places[:, 2], cases.places[:, 1], cases.places[:, 0], keys))


def rows(tree: xr.DataTree, cases: Cases, chosen: Sequence[Column]) -> list[dict[str, Any]]:
    """Cases as rows of the table."""
    names = [tree.coords[axis].values.tolist() for axis in CASE_AXES]
    told = {label: _words(tree, label) for label in {names[1][at] for at in cases.places[:, 1].tolist()}}
    values = [plain(values_of(column, cases)) for column in chosen]
    never = {
        name: [_never(column, name) for column in chosen]
        for name in {names[0][at] for at in cases.places[:, 0].tolist()}
    }
    found = []
    for at, (i, j, k) in enumerate(cases.places.tolist()):
        case = {INTERVENTION: names[0][i], LABEL: names[1][j], SEED: names[2][k]}
        found.append(
            {
                **case,
                "caption": told[names[1][j]],
                "values": [column[at] for column in values],
                "never": never[case[INTERVENTION]],
            }
        )
    return found


def _never(column: Column, intervention: str) -> bool:
    """Whether a measure is not asked for of what was done: of the clean run there is no distance to itself."""
    return not (column.line.curve.status(**{INTERVENTION: intervention}) > 0).any()


def _words(tree: xr.DataTree, label: int) -> str:
    order = list(tree.attrs.get("model", {}).get("attributes", ()))
    return " ".join(caption(tree.to_dataset(), label, order=order).split())


def values_of(column: Column, cases: Cases) -> Values:
    """A column's value of each case; NaN where some stored state has none."""
    found = np.full(len(cases.places), np.nan)
    curve = column.line.curve
    width = max(
        1, CELLS // int(np.prod([curve.array.sizes[d] for d in curve.array.dims if d not in CASE_AXES]))
    )
    # Cases come in the order of the axes, so neighbours are read together.
    order = np.lexsort(cases.places.T[::-1])
    for part in _runs(cases.places, order, width):
        i, j = cases.places[part[0], :2].tolist()
        found[part] = _taken(column, i, j, cases.places[part, 2])
    return found


def _runs(places: Any, order: Any, width: int) -> list[Any]:
    """Positions of cases of one intervention and label, at most so many together."""
    parts = []
    heads = places[order, :2]
    ends = np.flatnonzero((heads[1:] != heads[:-1]).any(axis=1)) + 1
    for group in np.split(order, ends):
        parts += [group[at : at + width] for at in range(0, len(group), width)]
    return [part for part in parts if len(part)]


def _taken(column: Column, intervention: int, label: int, seeds: Any) -> Values:
    """What is taken of the curves of some seeds of one label."""
    curve = column.line.curve
    at: dict[str, Any] = {INTERVENTION: intervention, LABEL: label, SEED: seeds}
    if column.statistic == LAST:
        at[TIME] = [-1]
    data = curve.data.isel(at).sel(column.line.key)
    cells = data[curve.variable].astype(np.float64)
    if column.statistic == "excess":
        cells = cells - data[str(curve.null)].astype(np.float64)
    if OTHER in cells.dims:
        cells = cells.where(cells[OTHER] != cells[LABEL]).mean(OTHER)
    along = over_pixels(cells)
    if column.statistic == "min":
        return np.asarray(along.min(TIME, skipna=False).values)
    return np.asarray(along.mean(TIME, skipna=False).values)
