"""Which experiments are meant: definitions that carry a `[report]` table, by folder, file or name."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowprofile.definitions import Pipeline, Table, Text, find, folders, read
from flowprofile.definitions.report import Report
from flowprofile.errors import DefinitionError
from flowprofile.report.pictures import Drawing, drawing_of
from flowprofile.report.rules import Rule, rule_of


@dataclass(frozen=True)
class Item:
    """One experiment of a report, with everything checked that can be checked before it runs."""

    path: Path
    pipeline: Pipeline
    text: Text
    report: Report
    rule: Rule
    params: Table
    """The rule's parameters."""
    drawings: tuple[tuple[Drawing, Table], ...]
    """The pictures, each with its parameters."""
    digest: str
    """Digest of the definition: of its text, of what it extends, and of what was overridden."""

    @property
    def name(self) -> str:
        """What its store is called."""
        return self.path.stem


def items(targets: Sequence[str], *, overrides: Sequence[str] = ()) -> list[Item]:
    """The experiments that are meant, in the order of targets and, within a folder, of their items' numbers.

    Raises
    ------
    DefinitionError
        If a target has no experiment, or two have the same name.
    """
    found = [item for target in targets for item in _of(target, overrides)]
    _refuse_doubled(found)
    return found


def item_of(path: Path, *, overrides: Sequence[str] = ()) -> Item | None:
    """The experiment of a file; None if it carries no `[report]`."""
    pipeline, text = read(path, overrides=overrides)
    report = pipeline.report
    if report is None:
        return None
    rule, params = rule_of(report, text)
    for stage in rule.stages(params):
        _refuse_unknown(stage, pipeline, text)
    drawings = tuple(drawing_of(table, place, text) for place, table in enumerate(report.figure))
    return Item(path, pipeline, text, report, rule, params, drawings, digest_of(text))


def digest_of(text: Text) -> str:
    """Digest of a definition as it was written, with what it extends and what was overridden."""
    parts = [text.source, *text.overrides]
    if text.under is not None:
        parts.append(digest_of(text.under))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _of(target: str, overrides: Sequence[str]) -> list[Item]:
    folder = _folder(target)
    paths = sorted(folder.rglob("*.toml"), key=_numbered) if folder is not None else [_file(target)]
    found = [item for path in paths if (item := item_of(path, overrides=overrides)) is not None]
    if not found:
        raise DefinitionError(
            f"{target!r} holds no definition with a [report] table.",
            consequence="There is no question to answer.",
            remedy="name a folder or pipelines that have one, for instance: flowprofile report thesis",
            evidence=f"{len(paths)} definitions were looked at",
        )
    return found


def _folder(target: str) -> Path | None:
    """The folder of a path, or of a name among the folders of pipelines."""
    if not re.fullmatch(r"[\w\-./\\: ~]+", target):
        return None
    places = (Path(target), *(folder / target for folder in folders("pipelines")))
    return next((place for place in places if place.is_dir()), None)


def _file(target: str) -> Path:
    """The file of a path or of a name, which may name a folder of pipelines: `thesis/fig-5.6`."""
    inner = [folder / f"{target}.toml" for folder in folders("pipelines")]
    near = next((path for path in inner if "/" in target and path.is_file()), None)
    return near or find(target, kind="pipelines")


def _numbered(path: Path) -> list[tuple[int, str]]:
    """The parts of a path with numbers as numbers, so that 5.10 comes after 5.9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _refuse_unknown(stage: str, pipeline: Pipeline, text: Text) -> None:
    if stage.partition("/")[0] not in pipeline.stages:
        raise DefinitionError(
            f"The verdict reads {stage!r}, which is no stage ({text.place(['report', 'verdict'])}).",
            consequence="There would be nothing to judge.",
            remedy=f"name one of: {', '.join(pipeline.stages)}",
        )


def _refuse_doubled(found: Sequence[Item]) -> None:
    for name in _doubled(item.name for item in found):
        raise DefinitionError(
            f"Two definitions are called {name!r}.",
            consequence="They would share a store and a place on the page.",
            remedy="rename one, or report them apart",
            evidence=", ".join(str(item.path) for item in found if item.name == name),
        )


def _doubled(names: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield name
        seen.add(name)
