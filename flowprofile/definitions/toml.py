"""TOML as it is read from strangers: no deeper than a definition is, and no number longer than a machine's."""

import re
import tomllib
from typing import Any, Final

MAX_DEPTH: Final = 32
"""Tables and lists inside each other."""
_KEYS: Final = re.compile(rf"(?<![^\s=.,\[\]{{}}])(?:[^\s=.,\[\]{{}}]++[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}")
"""Keys joined by dots, too many of them: each is a table inside the last."""


def read_toml(text: str) -> dict[str, Any]:
    """The table a text stands for.

    Raises
    ------
    ValueError
        For no TOML, for tables that lie too deep in each other, and for whole numbers of more than 64 bits.
    """
    if _KEYS.search(text) is not None:
        raise ValueError(f"more than {MAX_DEPTH} tables lie in each other")
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError(f"more than {MAX_DEPTH} tables lie in each other: {error}") from error
    level: list[Any] = [table]
    for _ in range(MAX_DEPTH):
        if any(type(value) is int and value.bit_length() > 64 for value in level):
            raise ValueError("a whole number has more than 64 bits")
        level = [part for value in level for part in _parts(value)]
    if level:
        raise ValueError(f"more than {MAX_DEPTH} tables lie in each other")
    return table


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
