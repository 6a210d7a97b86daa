"""What people say of samples, on the axes of the profile, so that it can be set against what is measured of them.

A table of ratings is written by hand and by programs of others: a seed that is not in the profile, a sample that is
rated twice, or a word where a number belongs would shift or vanish silently. Each is refused with its line.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.axes import CASE_AXES, INTERVENTION, LABEL, SEED
from flowprofile.cases import CLEAN, Case
from flowprofile.errors import DefinitionError, nearest

SHOWN: Final = 5
"""How many faults of one kind a refusal names."""


@dataclass(frozen=True)
class Row:
    """One line of a table of ratings."""

    line: int
    """Where it stands in the file, counted from 1."""
    case: Case
    scores: tuple[float, ...]
    """In the order of the table's columns; NaN for an empty cell."""


def join_ratings(profile: xr.DataTree | xr.Dataset, ratings: str | Path) -> xr.Dataset:
    """The ratings in a CSV file on the axes of a profile: a variable for each column of scores.

    Parameters
    ----------
    profile
        What `flowprofile.open` gave (of several runs: one of them), or any part of it.
    ratings
        A file with a heading and the columns ``seed``, ``label``, where there are interventions also
        ``intervention``, and at least one of scores. A label is a number, or the bits of a profile's attributes
        (``0110``). Without an intervention, the clean run is meant. An empty cell was not rated; of several people,
        each has a column.

    Returns
    -------
    xarray.Dataset
        float64, along those of ``(intervention, label, seed)`` that the profile still has; NaN where nobody rated.
        Its coordinates are the profile's, so that arithmetic with any measure finds the same samples.

    Raises
    ------
    DefinitionError
        For a sample that the profile does not have or that is rated twice, and for what is no number.
    """
    axes = {axis: _values(profile, axis) for axis in CASE_AXES}
    names, rows = _table(Path(ratings), _attributes(profile))
    _known(rows, axes, ratings)
    _once(rows, ratings)
    coordinates = _coordinates(profile)
    _unnamed(names, coordinates, ratings)
    dims = [axis for axis in CASE_AXES if axis in coordinates.dims]
    places = {axis: {value: at for at, value in enumerate(axes[axis])} for axis in dims}
    found = np.full((*(len(axes[axis]) for axis in dims), len(names)), nan)
    for row in rows:
        place: tuple[int, ...] = tuple(places[axis][getattr(row.case, axis)] for axis in dims)
        found[place] = row.scores
    return coordinates.assign({name: (dims, found[..., number]) for number, name in enumerate(names)})


def _coordinates(profile: xr.DataTree | xr.Dataset) -> xr.Dataset:
    """The case axes of a profile, and what stands beside them."""
    kept = {str(name): c for name, c in profile.coords.items() if set(c.dims) <= set(CASE_AXES)}
    return xr.Dataset(coords=kept)


def _unnamed(names: Sequence[str], coordinates: xr.Dataset, path: str | Path) -> None:
    """Refuse a column that is called as a coordinate is: an attribute's name says what was asked for."""
    for name in names:
        if name in coordinates.coords:
            raise DefinitionError(
                f"The table of ratings {Path(path).name!r} has the column {name!r}, which the profile has itself.",
                consequence="What was asked for and what was seen would have one name.",
                remedy=f"call it something else, for instance 'seen_{name}'",
            )


def _values(profile: xr.DataTree | xr.Dataset, axis: str) -> list[Any]:
    if axis not in profile.coords:
        raise DefinitionError(
            f"What ratings are to be joined to has no axis {axis!r}.",
            consequence="It cannot be known which samples they are about.",
            remedy="give what flowprofile.open gave, one of its nodes, or one run of several: tree[RUN]",
        )
    found: list[Any] = np.atleast_1d(profile.coords[axis].values).tolist()
    return found


def _attributes(profile: xr.DataTree | xr.Dataset) -> tuple[str, ...]:
    """Names of the bits of a label, as far as the profile says them."""
    nodes = (profile, *profile.parents) if isinstance(profile, xr.DataTree) else (profile,)
    for node in nodes:
        names = [str(name) for name in node.attrs.get("label_attributes", ())]
        if names:
            return tuple(name for name in names if node.coords[name].dtype == bool)
    return ()


def _table(path: Path, attributes: Sequence[str]) -> tuple[tuple[str, ...], list[Row]]:
    """The columns of scores, and the lines of a file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        heading = [name.strip() for name in next(lines, [])]
        names = _scores(heading, path)
        return names, [
            _row(dict(zip(heading, cells, strict=True)), number, names, path, attributes)
            for number, cells in _filled(lines, len(heading), path)
        ]


def _scores(heading: Sequence[str], path: Path) -> tuple[str, ...]:
    names = tuple(name for name in heading if name not in CASE_AXES)
    missing = [axis for axis in (SEED, LABEL) if axis not in heading]
    twice = sorted({name for name in heading if heading.count(name) > 1})
    if missing or twice or not names or not all(names):
        what = f"has no column {missing[0]!r}" if missing else "has no scores" if not names else ""
        what = what or (f"has the column {twice[0]!r} twice" if twice else "has a column without a name")
        raise DefinitionError(
            f"The table of ratings {path.name!r} {what}.",
            consequence="It cannot be known which samples its numbers are about, or what they mean.",
            remedy="begin it with a line such as: seed,label,realism; cells are parted by commas",
            evidence=f"columns {list(heading)!r}",
        )
    return names


def _filled(lines: Iterator[list[str]], width: int, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of the lines that are not blank."""
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != width:
            raise _refused(
                path, number, f"has {len(cells)} cells, and the heading {width}", "give one for each"
            )
        yield number, [cell.strip() for cell in cells]


def _row(
    cells: Mapping[str, str], line: int, names: Sequence[str], path: Path, attributes: Sequence[str]
) -> Row:
    seed, label = cells[SEED], _label(cells[LABEL], line, path, attributes)
    if not (seed.isascii() and seed.isdigit()):
        raise _refused(path, line, f"has the seed {seed!r}", "write a whole number of at least 0")
    case = Case(int(seed), label, cells.get(INTERVENTION) or CLEAN)
    return Row(line, case, tuple(_score(name, cells[name], line, path) for name in names))


def _label(text: str, line: int, path: Path, attributes: Sequence[str]) -> int:
    """The number of a label; as many digits 0 and 1 as there are attributes are bits."""
    if text.isascii() and text.isdigit():
        if set(text) <= {"0", "1"} and len(text) == len(attributes):
            return int(text, 2)
        if text == str(int(text)):
            return int(text)
    known = f"its number, or one bit for each of {', '.join(attributes)}" if attributes else "its number"
    raise _refused(path, line, f"has the label {text!r}", f"write {known}")


def _score(name: str, text: str, line: int, path: Path) -> float:
    if not text:
        return nan
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        remedy = "write a number, or nothing where nobody rated; give each person a column of their own"
        raise _refused(path, line, f"has {text!r} as {name!r}", remedy)
    return number


def _refused(path: Path, line: int, what: str, remedy: str) -> DefinitionError:
    return DefinitionError(
        f"Line {line} of the table of ratings {path.name!r} {what}.",
        consequence="Its numbers would be lost, or counted for another sample.",
        remedy=remedy,
    )


def _known(rows: Sequence[Row], axes: Mapping[str, Sequence[Any]], path: str | Path) -> None:
    """Refuse samples that the profile does not have."""
    for axis, values in axes.items():
        held = set(values)
        strange = {getattr(row.case, axis): row.line for row in reversed(rows)}
        strange = {value: line for value, line in strange.items() if value not in held}
        if strange:
            told = [f"{value!r} (line {line})" for value, line in sorted(strange.items(), key=lambda i: i[1])]
            raise DefinitionError(
                f"The table of ratings {Path(path).name!r} names {axis}s that the profile does not have: "
                f"{', '.join(told[:SHOWN])}{f' and {len(told) - SHOWN} more' if len(told) > SHOWN else ''}.",
                consequence="Their ratings would be lost without a word.",
                remedy=f"correct them, leave these lines out, or select fewer of them ({nearest(next(iter(strange)), values)})",
            )


def _once(rows: Sequence[Row], path: str | Path) -> None:
    """Refuse a sample that is rated twice."""
    first: dict[Case, int] = {}
    for row in rows:
        if row.case in first:
            raise DefinitionError(
                f"The table of ratings {Path(path).name!r} rates {row.case} twice, in lines {first[row.case]} and"
                f" {row.line}.",
                consequence="One of the two would be lost.",
                remedy="keep one of them, or give each person a column of their own",
            )
        first[row.case] = row.line
