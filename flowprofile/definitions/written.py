"""A definition's table as the text of a file: what was put together elsewhere can be kept, read and run by name."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""A key that needs no quotes."""


def toml(table: Mapping[str, Any]) -> str:
    """The table as TOML: values first, then its tables, those below them by their dotted names; None is left out.

    >>> print(toml({"model": "digits", "cases": {"seeds": "0:2"}, "stages": {"trajectory": {"keep": [0]}}}), end="")
    model = "digits"
    <BLANKLINE>
    [cases]
    seeds = "0:2"
    <BLANKLINE>
    [stages.trajectory]
    keep = [0]
    """
    return "\n".join(_section((), table)).lstrip("\n") + "\n"


def _section(path: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    """Lines of one table; what is deeper than `[stages.NAME]` stands in one line."""
    own = {key: value for key, value in table.items() if value is not None}
    opens = path in ((), ("stages",), ("interventions",))
    below = {key: value for key, value in own.items() if opens and isinstance(value, Mapping)}
    lines = [f"{_key(key)} = {inline(value)}" for key, value in own.items() if key not in below]
    if path and (lines or not below):
        lines = ["", f"[{'.'.join(map(_key, path))}]", *lines]
    for key, value in below.items():
        lines += _section((*path, key), value)
    return lines


def inline(value: Any) -> str:
    """One value as it stands behind `=`."""
    if isinstance(value, Mapping):
        parts = [f"{_key(key)} = {inline(part)}" for key, part in value.items() if part is not None]
        return f"{{ {', '.join(parts)} }}" if parts else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(inline, value))}]"
    # JSON's strings, numbers and truth values are TOML's, but for one character that TOML wants written out.
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else inline(key)
