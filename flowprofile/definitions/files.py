"""Definitions as files: found by name, merged along `extends`, overridden on the command line.

TOML rather than YAML: there, ``0110`` would be the number 72.
"""

import os
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from flowprofile.definitions.pipeline import Pipeline, pipeline
from flowprofile.definitions.text import Text
from flowprofile.definitions.toml import read_toml
from flowprofile.errors import DefinitionError, nearest

MAX_BYTES: Final = 1 << 20
"""A definition larger than this is refused unread."""
MAX_EXTENDS: Final = 8
"""How long a chain of ``extends`` may be."""
_NAME: Final = re.compile(r"(?:[\w\-]+/)?\w[\w\-.]*")
"""A name, or a folder and a name: ``digits``, ``thesis/fig-5.6``."""


def read(
    name: str | Path, *, search: Iterable[Path] = (), overrides: Iterable[str] = ()
) -> tuple[Pipeline, Text]:
    """The pipeline of a file or of a name on the search path, with ``key=value`` overrides applied."""
    path = find(name, kind="pipelines", search=search)
    table, text = _merged(path, search=search, seen=())
    given = tuple(overrides)
    text = replace(text, overrides=given)
    return pipeline(overridden(table, given), text), text


def overridden(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A definition's table with ``key=value`` overrides applied."""
    changed = deepcopy(dict(table))
    for override in overrides:
        _override(changed, override)
    return changed


def find(name: str | Path, *, kind: Literal["pipelines", "stores"], search: Iterable[Path] = ()) -> Path:
    """The file of a path or of a name: working folder, search path, then the shipped ones."""
    given = Path(name)
    if given.suffix == ".toml" or given.is_file():
        if given.is_file():
            return given
        raise DefinitionError(
            f"There is no definition file {str(name)!r}.",
            remedy=f"correct the path, or name one of: {', '.join(names(kind, search=search))}",
        )
    for folder in folders(kind, search=search):
        candidate = folder / f"{name}.toml"
        if _NAME.fullmatch(str(name)) and candidate.is_file():
            return candidate
    known = names(kind, search=search)
    raise DefinitionError(
        f"There is no {kind.removesuffix('s')} {str(name)!r}.",
        consequence="Nothing was computed.",
        remedy=f"{nearest(name, known)} (`flowprofile pipelines list` lists them), or give the path of a .toml file",
    )


def folders(kind: Literal["pipelines", "stores"], *, search: Iterable[Path] = ()) -> tuple[Path, ...]:
    """Where names are looked up, first match wins."""
    extra = [Path(part) for part in os.environ.get("FLOWPROFILE_PATH", "").split(os.pathsep) if part]
    return (Path(kind), *(Path(folder) / kind for folder in search), *extra, shipped(kind))


def shipped(kind: str) -> Path:
    """The folder of shipped definitions: inside the wheel, or beside the package in a checkout."""
    inside = Path(str(resources.files("flowprofile"))) / "shipped" / kind
    return inside if inside.is_dir() else Path(__file__).resolve().parents[2] / kind


def names(kind: Literal["pipelines", "stores"], *, search: Iterable[Path] = ()) -> tuple[str, ...]:
    """Every name that can be used instead of a path."""
    found = {
        file.relative_to(folder).with_suffix("").as_posix()
        for folder in folders(kind, search=search)
        for depth in ("*.toml", "*/*.toml")
        for file in folder.glob(depth)
    }
    return tuple(sorted(name for name in found if _NAME.fullmatch(name)))


def merged(path: Path) -> dict[str, Any]:
    """One file's table with those it extends, unchecked."""
    return _merged(path, search=(), seen=())[0]


def parse(path: Path) -> tuple[dict[str, Any], Text]:
    """One file's table; a TOML error is explained, a bare label like 0110 with the quotes it needs."""
    if path.stat().st_size > MAX_BYTES:
        raise DefinitionError(
            f"{path} is {path.stat().st_size} bytes; a definition has at most {MAX_BYTES}.",
            remedy="give the path of a definition, not of data",
        )
    try:
        source = path.read_text(encoding="utf-8")
        return read_toml(source), Text(str(path), source)
    except UnicodeDecodeError as error:
        raise DefinitionError(
            f"{path} is not UTF-8 text.",
            remedy="give the path of a definition, not of data",
            evidence=str(error),
        ) from None
    except ValueError as error:
        raise _toml_refusal(path, source, str(error)) from None


def _toml_refusal(path: Path, source: str, message: str) -> DefinitionError:
    place = re.search(r"line (\d+)", message)
    line = (
        source.splitlines()[int(place[1]) - 1] if place and int(place[1]) <= len(source.splitlines()) else ""
    )
    bare = re.search(r"(?<![\w\"'.])(0\d+)(?![\w\"'.])", line)
    if bare is not None:
        return DefinitionError(
            f"{path}, line {place[1] if place else '?'}: {bare[1]} is not a number in TOML.",
            consequence="A label written as bits would lose its leading zeros.",
            remedy=f'quote it: "{bare[1]}"',
            evidence=line.strip(),
        )
    return DefinitionError(
        f"{path} is not valid TOML.",
        remedy="correct the line named below",
        evidence=f"{message}: {line.strip()}",
    )


def _merged(path: Path, *, search: Iterable[Path], seen: tuple[Path, ...]) -> tuple[dict[str, Any], Text]:
    table, text = parse(path)
    base = table.pop("extends", None)
    if base is None:
        return table, text
    here = path.resolve()
    _ends(here, seen)
    if not isinstance(base, str):
        raise DefinitionError(
            f"`extends` is the name of a pipeline, not {base!r} ({text.place(['extends'])}).",
            remedy='name one, extends = "first-profile", or give the path of a .toml file',
        )
    beside = [path.parent / name for name in (base, f"{base}.toml")]
    near = [file for file in beside if file.is_file() and file.resolve() != here]
    found = near[0] if near else find(base, kind="pipelines", search=search)
    under, below = _merged(found, search=search, seen=(*seen, here))
    return _over(under, table), replace(text, under=below)


def _ends(here: Path, seen: tuple[Path, ...]) -> None:
    """Refuse a chain that comes back to where it was, or is longer than anybody would write."""
    if here in seen or len(seen) >= MAX_EXTENDS:
        chain = " -> ".join(step.name for step in (*seen, here))
        raise DefinitionError(
            f"The definitions extend each other too deeply: {chain}.",
            remedy=f"end the chain; at most {MAX_EXTENDS} levels are possible",
        )


def _over(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, dict)
        merged[key] = _over(below, value) if nested and below is not None else value
    return merged


def _override(table: dict[str, Any], override: str) -> None:
    """Apply ``a.b=value`` in place; the value is TOML if it parses as such, else a string."""
    dotted, equals, written = override.partition("=")
    keys = [part.strip() for part in dotted.split(".")]
    if not equals or not all(keys):
        raise DefinitionError(
            f"--set {override!r} is not of the form key=value.",
            remedy='write for instance --set sampler.steps=250 or --set cases.seeds="0:8"',
        )
    value: Any = written
    try:
        value = read_toml(f"value = {written}")["value"]
    except ValueError:
        bare = re.search(r"[\[,]\s*(0\d+)\s*[\],]", written)
        if bare is not None:
            raise DefinitionError(
                f"--set {override!r}: {bare[1]} is not a number in TOML.",
                consequence="A label written as bits would lose its leading zeros.",
                remedy=f"quote it, and the whole from the shell: --set '{dotted}=[\"{bare[1]}\"]'",
            ) from None
    inner = table
    for part in keys[:-1]:
        inner = inner.setdefault(part, {})
        if not isinstance(inner, dict):
            raise DefinitionError(
                f"--set {override!r} goes into {part!r}, which is a value and not a table.",
                remedy="name a key that exists; `flowprofile pipelines show NAME` prints them",
            )
    inner[keys[-1]] = value
