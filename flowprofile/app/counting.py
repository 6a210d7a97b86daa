"""How many cases a definition from a page asks for, counted before anything is made of it.

A plan names every case, so one of a million takes a minute and gigabytes. A range of seeds is counted here by its ends;
whatever is no definition counts as one and is refused by who reads it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowprofile.errors import DefinitionError
from flowprofile.models import zoo

CASES: Final = 20_000
"""Cases that a page may plan at once; as many as its table of cases sorts."""


def bounded(table: Mapping[str, Any]) -> None:
    """Refuse a definition of more cases than a page may plan.

    Raises
    ------
    DefinitionError
        With what to do on the command line, where there is no such bound.
    """
    asked = max([cases(table), *map(seeds, _means(table))])
    if asked > CASES:
        raise DefinitionError(
            f"The definition asks for {asked:,} cases; the page plans at most {CASES:,} at once.",
            consequence="Counting them would keep the server from all its other answers; nothing was planned.",
            remedy="ask for fewer seeds, labels or interventions here, some after the others; or write the definition"
            " into a file and use the command line: flowprofile plan FILE --into STORE, then flowprofile run FILE"
            " --into STORE",
        )


def cases(table: Mapping[str, Any]) -> int:
    """Seeds times labels times interventions, the clean run among them.

    >>> cases({"cases": {"seeds": "0:1000000", "labels": [1, 2]}, "interventions": {"a": {}, "b": {}}})
    6000000
    """
    asked, done = table.get("cases"), table.get("interventions")
    if not isinstance(asked, Mapping):
        return 1
    interventions = 1 + (len(done) if isinstance(done, Mapping) else 0)
    return seeds(asked.get("seeds")) * _labels(asked.get("labels"), table) * interventions


def seeds(value: Any) -> int:
    """How many seeds a list or a range "a:b" has."""
    if isinstance(value, str) and (ends := re.fullmatch(r"\s*(\d{1,18})\s*:\s*(\d{1,18})\s*", value)):
        return max(1, int(ends[2]) - int(ends[1]))
    return len(value) if isinstance(value, list) else 1


def _labels(value: Any, table: Mapping[str, Any]) -> int:
    if value == "all":
        space = zoo.card(str(table.get("model"))).labels
        return 1 if space.prompts else space.count
    return len(value) if isinstance(value, list) else 1


def _means(value: Any) -> Iterator[Any]:
    """The seeds that directions are means over, wherever an intervention names some."""
    if isinstance(value, Mapping):
        if "seeds" in value:
            yield value["seeds"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _means(part)
