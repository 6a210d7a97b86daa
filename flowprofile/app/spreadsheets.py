"""What a view plots or lists, as CSV: one row a number, with everything that says what it is."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet compute a text."""
OF_CURVES: Final = ("measure", "line", "unit", "t", "series", "value")
OF_PAIRS: Final = ("first", "second", "quantity", "t", "series", "value")


def curves_csv(found: Mapping[str, Any]) -> str:
    """The curves of the measures' view."""
    rows = (
        (measure["name"], line["caption"], measure["unit"], t, role, value)
        for measure in found["measures"]
        for line in measure.get("lines", ())
        for role, series in line["series"].items()
        for t, value in zip(measure["times"], series["values"], strict=True)
    )
    return written(OF_CURVES, rows)


def pairs_csv(found: Mapping[str, Any]) -> str:
    """The curves of a comparison."""
    return written(OF_PAIRS, (row for pair in found["pairs"] for row in _pair(found["sides"], pair)))


def _pair(sides: Sequence[Mapping[str, Any]], pair: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
    first, second = (_side(sides[at]) for at in pair["sides"])
    own = [(name, pair.get("times", ()), pair.get(name) or ()) for name in ("own", "own_null")]
    mean = [(name, pair.get("mean_times", ()), values) for name, values in pair.get("mean", {}).items()]
    for name, times, values in (*own, *mean):
        for t, value in zip(times, values, strict=False):
            yield first, second, pair["quantity"], t, name, value


def _side(side: Mapping[str, Any]) -> str:
    place = f"{side['store']} " if side["store"] else ""
    return f"{place}{side['run']}, {side['intervention']}, label {side['label']}, seed {side['seed']}"


def sweep_csv(found: Mapping[str, Any]) -> str:
    """The table of cases."""
    names = ("intervention", "label", "caption", "seed")
    head = (*names, *(column["name"] for column in found["columns"]))
    return written(head, ([*(row[name] for name in names), *row["values"]] for row in found["rows"]))


def written(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV. A text that a spreadsheet would compute is quoted: labels and layers are anybody's words."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([_text(name) for name in head])
    writer.writerows([_text(cell) for cell in row] for row in rows)
    return out.getvalue()


def _text(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell
