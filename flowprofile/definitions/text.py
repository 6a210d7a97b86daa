"""Where in its files a definition says something, so that a refusal can point at it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from flowprofile.errors import DefinitionError, nearest


@dataclass(frozen=True)
class Text:
    """A definition as it was found, to point into."""

    name: str
    source: str
    """Its TOML; empty when it was built in Python."""
    under: "Text | None" = None
    """The definition it extends."""
    overrides: tuple[str, ...] = ()
    """Values given on the command line, ``key=value``."""

    def place(self, keys: Sequence[object]) -> str:
        """``file, line n, key a.b`` of a key path: where its deepest part was written last."""
        path = [str(part) for part in keys]
        dotted = ".".join(path)
        for override in reversed(self.overrides):
            written = override.partition("=")[0].strip()
            if written and (f"{dotted}.".startswith(f"{written}.") or f"{written}.".startswith(f"{dotted}.")):
                return f"--set {override}, key {dotted}"
        name, _, line = max(self._lines(path), key=lambda found: found[1])
        where = f"{name}, line {line}" if line else name
        return f"{where}, key {dotted}" if dotted else where

    def _lines(self, keys: Sequence[str]) -> Iterator[tuple[str, int, int]]:
        """File, depth and line of the best match here and in what is extended; this file first among equals."""
        depth, line = _line_of(keys, self.source)
        yield self.name, depth, line
        if self.under is not None:
            yield from self.under._lines(keys)


def _line_of(keys: Sequence[str], source: str) -> tuple[int, int]:
    """How much of a key path is written, and on which line the deepest part stands; zeros for nothing."""
    best = (0, 0)
    for number, written in _written(source):
        depth = len(written) if tuple(keys[: len(written)]) == written else 0
        if depth > best[0]:
            best = (depth, number)
    return best


def _written(source: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every line that writes a key, with the key's path; the n-th `[[table]]` of a list is also `table.n`."""
    table: tuple[str, ...] = ()
    count: Counter[tuple[str, ...]] = Counter()
    for number, text in enumerate(source.splitlines(), start=1):
        header = re.match(r"\s*(\[+)\s*([^\]]+?)\s*\]+", text)
        item = re.match(r"\s*([\w\-\"'.]+)\s*=", text)
        if header is not None:
            table = _path(header[2])
            yield number, table
            if header[1] == "[[":
                count[table] += 1
                table = (*table, str(count[table] - 1))
                yield number, table
        elif item is not None:
            yield number, (*table, *_path(item[1]))


def _path(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def refusal(error: ValidationError, text: Text, model: Any, *, under: Sequence[str] = ()) -> DefinitionError:
    """The first problem pydantic found, as a refusal that names place and nearest key.

    `model` is what was validated: a table, or an annotation that stands for several.
    """
    problem = error.errors(include_url=False)[0]
    found, at = _followed(model, problem["loc"])
    place = text.place([*under, *found])
    context = problem.get("ctx", {})
    if problem["type"] == "extra_forbidden":
        return DefinitionError(
            f"Unknown key {found[-1]!r} ({place}).",
            consequence="A misspelt setting would silently have no effect.",
            remedy=nearest(found[-1], _keys(at)),
        )
    if problem["type"] == "missing":
        return missing(found[-1], place)
    if problem["type"] == "union_tag_not_found":
        return missing(context["discriminator"].strip("'"), place)
    if problem["type"] == "union_tag_invalid":
        name = context["discriminator"].strip("'")
        return DefinitionError(
            f"There is no {name} {context['tag']!r} ({text.place([*under, *found, name])}).",
            consequence="It is not known what should be done.",
            remedy=nearest(context["tag"], re.findall(r"'([^']*)'", context["expected_tags"])),
        )
    if problem["type"] == "model_type" and (keys := _keys(_bare(_fields(at).get(found[-1])))):
        return DefinitionError(
            f"{found[-1]!r} is a table ({place}).",
            remedy=f"write {found[-1]} = {{ ... }}, with some of its keys: {', '.join(keys)}",
            evidence=f"got {problem['input']!r}"[:200],
        )
    message = problem["msg"].removeprefix("Value error, ")
    return DefinitionError(
        f"{message[:1].upper()}{message[1:]} ({place}).",
        remedy="correct the value; `flowprofile pipelines schema` prints what is allowed",
        evidence=f"got {problem['input']!r}"[:200],
    )


def missing(key: str, place: str) -> DefinitionError:
    """The refusal of a table without a key that it must have."""
    return DefinitionError(
        f"The key {key!r} is missing ({place}).",
        remedy="add it; `flowprofile pipelines show first-profile` prints a complete definition",
    )


def _followed(model: Any, loc: Sequence[int | str]) -> tuple[list[str], Any]:
    """The keys of a location, without pydantic's names of branches, and the table that the last key stands in."""
    keys: list[str] = []
    at, table = model, model
    for part in loc:
        at = _bare(at)
        if _is_table(at):
            table = at
            field = _fields(at).get(str(part))
            at = Any if field is None else field
            keys.append(str(part))
        elif get_origin(at) in (Union, UnionType):
            at = next((branch for branch in get_args(at) if _stands_for(branch, str(part))), Any)
        elif not str(part).startswith(("function-", "tuple[")):
            at = get_args(at)[-1 if get_origin(at) in (dict, Mapping) else 0] if get_args(at) else Any
            keys.append(str(part))
    return keys, table


def _bare(annotation: Any) -> Any:
    """An annotation without its metadata, and without the None that pydantic does not name."""
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):
        some = [branch for branch in get_args(annotation) if branch is not type(None)]
        return _bare(some[0]) if len(some) == 1 else annotation
    return annotation


def _stands_for(branch: Any, name: str) -> bool:
    """Whether pydantic calls a branch of a union so: by its tag, the value of a literal, or its type."""
    if any(isinstance(each, Tag) and each.tag == name for each in getattr(branch, "__metadata__", ())):
        return True
    bare = _bare(branch)
    if not _is_table(bare):
        return str(getattr(bare, "__name__", bare)) == name
    kinds = [_bare(field) for field in _fields(bare).values()]
    return bare.__name__ == name or any(get_origin(k) is Literal and name in get_args(k) for k in kinds)


def _is_table(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields(table: type[BaseModel]) -> dict[str, Any]:
    """What may stand in a table, as it is written there."""
    return {field.alias or name: field.annotation for name, field in table.model_fields.items()}


def _keys(table: Any) -> list[str]:
    return list(_fields(table)) if _is_table(table) else []
