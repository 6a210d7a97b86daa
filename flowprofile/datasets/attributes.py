"""Tables that say what is to be seen in each picture of a folder: CelebA's own, or the same as CSV.

CelebA's has the number of pictures on its first line, forty names on the second, and then a file name and forty
numbers, 1 or -1, on each. Copies of it are handed on as CSV with a header. Both are read line by line, and only the
columns that are asked for are kept.
"""

import csv
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flowprofile.errors import DefinitionError, nearest

TABLE: Final = "list_attr_celeba.txt"
"""What CelebA calls it."""
NAMES: Final[Mapping[str, str]] = {
    "bangs": "Bangs",
    "male": "Male",
    "smile": "Smiling",
    "lipstick": "Wearing_Lipstick",
}
"""CelebA's names of the thesis' attributes."""
MAX_LINE: Final = 1 << 16
"""A longer line belongs to no such table."""
_ON: Final[Mapping[str, int]] = {"1": 1, "-1": 0, "0": 0}


@dataclass(frozen=True)
class Table:
    """The labels of pictures, as numbers whose bits are the chosen columns."""

    columns: tuple[str, ...]
    """Most significant bit first."""
    labels: Mapping[str, int]
    """By file name, in the order of the table."""
    digest: str
    """First 32 hex digits of the SHA-256 of the file."""


def column_of(attribute: str, columns: Sequence[str]) -> str | None:
    """The column that holds an attribute: its own name in any case, or what CelebA calls it."""
    wanted = (attribute.lower(), NAMES.get(attribute.lower(), attribute).lower())
    return next((name for form in wanted for name in columns if name.lower() == form), None)


def read(path: Path, attributes: Sequence[str], *, place: str = "") -> Table:
    """The labels that a table gives for some attributes, the first of them the most significant bit.

    Raises
    ------
    DefinitionError
        For a file that is none or no such table, and for an attribute that is not in it.
    """
    where = f" ({place})" if place else ""
    if not path.is_file():
        raise DefinitionError(
            f"There is no attribute table {str(path)!r}{where}.",
            consequence="It is not known what label each picture has.",
            remedy=f"CelebA's is called {TABLE}; a CSV of file names and numbers 0 and 1 does as well",
        )
    digest = hashlib.sha256()
    rows = _rows(path, digest)
    try:
        columns = next(rows)
        places = [_place(attribute, columns, path, where) for attribute in attributes]
        labels: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            _add(labels, row, columns, places, path=path, number=number)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _no_table(path, f"{type(error).__name__}: {error}") from error
    except StopIteration:
        raise _no_table(path, "it is empty") from None
    return Table(tuple(columns[at] for at in places), labels, digest.hexdigest()[:32])


def _place(attribute: str, columns: Sequence[str], path: Path, where: str) -> int:
    name = column_of(attribute, columns)
    if name is None:
        raise DefinitionError(
            f"{path.name} has no attribute {attribute!r}{where}.",
            consequence="A bit of the label would have no meaning.",
            remedy=nearest(attribute, columns),
            evidence=f"{len(columns)} columns",
        )
    return columns.index(name)


def _add(
    labels: dict[str, int],
    row: Sequence[str],
    columns: Sequence[str],
    places: Sequence[int],
    *,
    path: Path,
    number: int,
) -> None:
    if not row:
        return
    name, *values = row
    if len(values) != len(columns):
        raise _no_table(path, f"row {number} has {len(values)} values for {len(columns)} columns")
    if name in labels:
        raise _no_table(path, f"row {number} names {name!r} a second time")
    label = 0
    for at in places:
        if values[at] not in _ON:
            raise _no_table(path, f"row {number}, {columns[at]}: {values[at]!r} is neither 1 nor -1 nor 0")
        label = 2 * label + _ON[values[at]]
    labels[name] = label


def _rows(path: Path, digest: "hashlib._Hash") -> Iterator[list[str]]:
    """The names of the columns, and then each row with its file name; bytes are digested as they pass."""
    with path.open("rb") as file:
        first = _line(file.readline(MAX_LINE), digest, path)
        if "," in first:
            yield next(csv.reader([first]))[1:]
            while line := file.readline(MAX_LINE):
                yield from csv.reader([_line(line, digest, path)])
            return
        if not first.strip().isdigit():
            raise _no_table(path, f"its first line is {first.strip()[:40]!r}")
        yield _line(file.readline(MAX_LINE), digest, path).split()
        while line := file.readline(MAX_LINE):
            yield _line(line, digest, path).split()


def _line(line: bytes, digest: "hashlib._Hash", path: Path) -> str:
    if len(line) == MAX_LINE:
        raise _no_table(path, f"a line has {MAX_LINE} bytes or more")
    digest.update(line)
    return line.decode("utf-8").rstrip("\r\n")


def _no_table(path: Path, evidence: str) -> DefinitionError:
    return DefinitionError(
        f"{str(path)!r} is no table of attributes.",
        consequence="It is not known what label each picture has.",
        remedy="give CelebA's list_attr_celeba.txt (a count, a line of names, then file names with numbers 1 and -1), or"
        " a CSV with a header",
        evidence=evidence,
    )
