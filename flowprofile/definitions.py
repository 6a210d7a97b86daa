"""Pipelines as files: TOML in, a frozen `Pipeline` out, and refusals that name file, line, key and nearest name.

A definition is data. It can be hashed, kept as provenance in the store it filled, compared with another, and
overridden on the command line. TOML rather than YAML: there, ``0110`` would be the number 72.
"""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from flowprofile.errors import DefinitionError, nearest

MAX_BYTES: Final = 1 << 20
"""A definition larger than this is refused unread."""
MAX_EXTENDS: Final = 8
"""How long a chain of ``extends`` may be."""
MAX_SEEDS: Final = 1_000_000
"""How many seeds one definition may ask for."""


class Table(BaseModel):
    """A table of a definition: unknown keys are refused, values never change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sampler(Table):
    """How noise becomes an image."""

    rule: str = Field("ddpm", description="ddpm or ddim")
    steps: int = Field(1000, ge=1, description="transitions; fewer than the schedule's T respaces them")
    eta: float | None = Field(
        None, ge=0, le=1, description="ddim only: 0 is deterministic, 1 as noisy as ddpm"
    )
    variance: Literal["posterior", "beta"] | None = Field(
        None, description="ddpm only: posterior (default) or beta, the thesis' text"
    )
    guidance_scale: float = Field(
        1.0, allow_inf_nan=False, description="g = 1 + w of classifier-free guidance; 1 is none"
    )


def _seeds(value: object) -> tuple[int, ...]:
    """The seeds that a half-open range "a:b", one number or a list of numbers mean."""
    if isinstance(value, str):
        return _seed_range(value)
    seeds = (value,) if isinstance(value, int) else value
    if not isinstance(seeds, Sequence):
        raise ValueError(f'seeds are "a:b", a number or a list of numbers, not {value!r}')
    if not seeds:
        raise ValueError("an empty list of seeds asks for no sample; give at least one")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"{seed!r} is not a seed; seeds are whole numbers of at least 0")
        if seed < 0:
            raise ValueError(f"seed {seed} is negative; seeds are whole numbers of at least 0")
    doubled = sorted(seed for seed, count in Counter(seeds).items() if count > 1)
    if doubled:
        raise ValueError(f"seeds are named twice: {doubled}; a sample would count twice in every mean")
    return tuple(seeds)


def _seed_range(text: str) -> tuple[int, ...]:
    match = re.fullmatch(r"\s*(\d{1,18})\s*:\s*(\d{1,18})\s*", text)
    if match is None:
        raise ValueError(f'{text!r} is not a half-open range of seeds such as "0:4"')
    first, stop = int(match[1]), int(match[2])
    if not first < stop <= first + MAX_SEEDS:
        raise ValueError(f"{text!r} has {max(0, stop - first)} seeds; 1 to {MAX_SEEDS} are possible")
    return tuple(range(first, stop))


def _no_truth(value: object) -> object:
    """Refuse true and false, which pydantic would take for 1 and 0."""
    if isinstance(value, bool) or (isinstance(value, list) and any(isinstance(part, bool) for part in value)):
        raise ValueError(f"{value!r} holds a truth value, which is not a label")
    return value


class Cases(Table):
    """Which samples."""

    seeds: Annotated[tuple[int, ...], BeforeValidator(_seeds)] = Field(
        description='half-open range "0:4", or a list'
    )
    labels: Annotated[int | str | list[int | str | list[str]], BeforeValidator(_no_truth)] = Field(
        description='numbers, quoted bit strings "0110", attribute names, or "all"'
    )


class Numerics(Table):
    """What decides the last bits of a result, and is therefore fixed per run."""

    batch: int = Field(
        8, ge=1, le=4096, strict=True, description="canonical batch: every batch is padded to this size"
    )


class Pipeline(Table):
    """What to compute: a model, a sampler, cases, and the stages in between.

    The same values as in a file can be given from Python; ``model`` may then be a live denoiser.

    >>> Pipeline(model="digits", cases={"seeds": "0:2", "labels": [3]}, stages={"trajectory": {}}).sampler.steps
    1000
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    description: str = ""
    model: Any = Field(description="a shipped model, the path of a safetensors checkpoint")
    sampler: Sampler = Sampler()
    cases: Cases
    numerics: Numerics = Numerics()
    stages: dict[str, dict[str, Any]] = Field(
        description="[stages.NAME] use = KIND, needs = [...], and the kind's own parameters"
    )


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
    table: tuple[str, ...] = ()
    best = (0, 0)
    for number, text in enumerate(source.splitlines(), start=1):
        header = re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", text)
        if header is not None:
            table = tuple(part.strip().strip("\"'") for part in header[1].split("."))
            written = table
        else:
            item = re.match(r"\s*([\w\-\"'.]+)\s*=", text)
            if item is None:
                continue
            written = (*table, *(part.strip("\"'") for part in item[1].split(".")))
        depth = len(written) if tuple(keys[: len(written)]) == written else 0
        if depth > best[0]:
            best = (depth, number)
    return best


def read(
    name: str | Path, *, search: Iterable[Path] = (), overrides: Iterable[str] = ()
) -> tuple[Pipeline, Text]:
    """The pipeline of a file or of a name on the search path, with ``key=value`` overrides applied."""
    path = find(name, kind="pipelines", search=search)
    table, text = _merged(path, search=search, seen=())
    given = tuple(overrides)
    for override in given:
        _override(table, override)
    text = replace(text, overrides=given)
    return pipeline(table, text), text


def pipeline(table: Mapping[str, Any], text: Text) -> Pipeline:
    """The table as a `Pipeline`; a wrong key or value is refused with its place."""
    try:
        return Pipeline.model_validate(dict(table))
    except ValidationError as error:
        raise refusal(error, text, Pipeline) from None


def refusal(
    error: ValidationError, text: Text, model: type[BaseModel], *, under: Sequence[str] = ()
) -> DefinitionError:
    """The first problem pydantic found, as a refusal that names place and nearest key."""
    problem = error.errors(include_url=False)[0]
    keys = [*under, *(part for part in problem["loc"] if not str(part).startswith(("function-", "tuple[")))]
    place = text.place(keys)
    if problem["type"] == "extra_forbidden":
        known = _fields(model, problem["loc"][:-1])
        fact = f"Unknown key {str(problem['loc'][-1])!r} ({place})."
        return DefinitionError(
            fact,
            consequence="A misspelt setting would silently have no effect.",
            remedy=nearest(problem["loc"][-1], known),
        )
    if problem["type"] == "missing":
        return DefinitionError(
            f"The key {str(problem['loc'][-1])!r} is missing ({place}).",
            remedy="add it; `flowprofile pipelines show first-profile` prints a complete definition",
        )
    message = problem["msg"].removeprefix("Value error, ")
    return DefinitionError(
        f"{message[:1].upper()}{message[1:]} ({place}).",
        remedy="correct the value; `flowprofile pipelines schema` prints what is allowed",
        evidence=f"got {problem['input']!r}"[:200],
    )


def _fields(model: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    for part in loc:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return list(model.model_fields)
        model = inner
    return list(model.model_fields)


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
        if re.fullmatch(r"[\w\-.]+", str(name)) and candidate.is_file():
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
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / kind


def names(kind: Literal["pipelines", "stores"], *, search: Iterable[Path] = ()) -> tuple[str, ...]:
    """Every name that can be used instead of a path."""
    return tuple(
        sorted({file.stem for folder in folders(kind, search=search) for file in folder.glob("*.toml")})
    )


def parse(path: Path) -> tuple[dict[str, Any], Text]:
    """One file's table; a TOML error is explained, a bare label like 0110 with the quotes it needs."""
    if path.stat().st_size > MAX_BYTES:
        raise DefinitionError(
            f"{path} is {path.stat().st_size} bytes; a definition has at most {MAX_BYTES}.",
            remedy="give the path of a definition, not of data",
        )
    try:
        source = path.read_text(encoding="utf-8")
        return tomllib.loads(source), Text(str(path), source)
    except UnicodeDecodeError as error:
        raise DefinitionError(f"{path} is not UTF-8 text.", evidence=str(error)) from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
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
    if here in seen or len(seen) >= MAX_EXTENDS:
        chain = " -> ".join(step.name for step in (*seen, here))
        raise DefinitionError(
            f"The definitions extend each other too deeply: {chain}.",
            remedy=f"end the chain; at most {MAX_EXTENDS} levels are possible",
        )
    if not isinstance(base, str):
        raise DefinitionError(
            f"`extends` is the name of a pipeline, not {base!r} ({text.place(['extends'])})."
        )
    beside = [path.parent / name for name in (base, f"{base}.toml")]
    near = [file for file in beside if file.is_file() and file.resolve() != here]
    found = near[0] if near else find(base, kind="pipelines", search=search)
    under, below = _merged(found, search=search, seen=(*seen, here))
    return _over(under, table), replace(text, under=below)


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
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
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
