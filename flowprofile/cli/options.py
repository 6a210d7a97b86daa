"""Options that several commands share, so that they mean the same everywhere."""

import re
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])


class Finite(click.FloatRange):
    """A number within bounds that is one: "nan" is within all bounds, and infinitely long is no time to wait."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return found


class PipelineName(click.ParamType[str]):
    """A pipeline's name or file, completed by the shell."""

    name = "pipeline"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin like this, then files."""
        from flowprofile.definitions import names

        found = [CompletionItem(name) for name in names("pipelines") if name.startswith(incomplete)]
        return found or [CompletionItem(incomplete, type="file")]


class Size(click.ParamType[int]):
    """A number of bytes such as 200GB or 1.5GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes; decimal units are powers of 1000, binary ones of 1024."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", str(value).upper())
        if match is None:
            self.fail(f"{value!r} is not a size; write for instance 500MB, 8GB or 2GiB", param, ctx)
        base = 1024 if match[3] else 1000
        return int(float(match[1]) * base ** ["", "K", "M", "G", "T"].index(match[2]))


class SeedRange(click.ParamType[tuple[int, ...]]):
    """Seeds such as 0:100, or one number."""

    name = "seeds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The seeds, spelled as in a definition."""
        from flowprofile.definitions.base import seeds_of

        try:
            return seeds_of(int(value) if str(value).isdecimal() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LabelList(click.ParamType[tuple[int, ...]]):
    """Labels such as 3,5."""

    name = "labels"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The labels' numbers."""
        parts = str(value).split(",")
        if not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is no list of labels; write their numbers, for instance 3,5", param, ctx)
        return tuple(int(part) for part in parts)


class Part(click.ParamType[tuple[int, int]]):
    """One of several parts, such as 3/32."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Part and number of parts."""
        match = re.fullmatch(r"(\d+)/(\d+)", str(value).strip())
        if match is None or int(match[1]) >= int(match[2]):
            self.fail(f"{value!r} is no part; write for instance 0/4, counting from 0 to 3", param, ctx)
        return int(match[1]), int(match[2])


def workers(command: Command) -> Command:
    """Who computes."""
    return click.option(
        "--cluster",
        metavar="WHO",
        help="processes:N, local:N (Dask on this machine), a scheduler's address, or a name from clusters.toml."
        "  [default: this process]",
    )(command)


def wait(command: Command) -> Command:
    """How long another planner is waited for."""
    return click.option(
        "--wait",
        type=Finite(min=0),
        default=0.0,
        metavar="SECONDS",
        help="Wait so long for another planner of this store to end.",
    )(command)


def allow_code(command: Command) -> Command:
    """Whether one's own code may be imported."""
    return click.option("--allow-code", is_flag=True, help='Allow use = "module:name" to import your code.')(
        command
    )


def overrides(command: Command) -> Command:
    """What is changed of a definition."""
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override a value, e.g. stages.step_ssim.window=11.",
    )(command)


def pipeline(command: Command) -> Command:
    """The pipeline and what overrides it."""
    return click.argument("pipeline", type=PipelineName())(overrides(allow_code(command)))


def into(command: Command) -> Command:
    """The store a pipeline fills."""
    return click.option(
        "--into", metavar="STORE", help="Store: a path, file:// or memory://NAME.  [default: out/PIPELINE]"
    )(command)


def as_json(command: Command) -> Command:
    """Output for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def store_of(into: str | None, pipeline: str) -> str:
    """The store that is meant when none is named."""
    return into if into is not None else str(Path("out") / Path(pipeline).stem)


def label_said(text: str) -> int | str | list[str]:
    """A number, bits such as 0110, or names of attributes joined by +."""
    text = text.strip()
    if re.fullmatch("[01]{2,}", text):
        return text
    return int(text) if text.isdecimal() else text.split("+")
