"""The definitions that a store keeps, and what it takes to compute from them again.

They are kept as they were written, so that a store has the same bytes wherever it was filled: a path in one still
begins where it began then.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flowprofile.assembly import Assembled
from flowprofile.definitions import Pipeline, Text, overridden, pipeline
from flowprofile.errors import DefinitionError, ModelError, StoreError
from flowprofile.models import zoo
from flowprofile.projecting import assembled
from flowprofile.store.store import Store
from flowprofile.store.urls import Where, place


def stored_runs(into: Where) -> dict[str, Mapping[str, Any]]:
    """The runs of a store with their provenance; empty where there is no store yet."""
    return {name: run.attrs for name, run in Store.open(into).runs().items()}


def recorded(store: Where, *, overrides: Sequence[str] = ()) -> list[Pipeline]:
    """Every definition a store was ever asked for, in order; a live model's cannot be run from a store.

    With ``key=value`` overrides it is the last definition alone, changed by them.
    """
    found = [table for attrs in stored_runs(store).values() for table in attrs.get("definitions", [])]
    if not found:
        raise StoreError(
            f"{place(store).url!r} holds no definition.",
            consequence="It is not known what to compute.",
            remedy="name the store of an earlier run, or run a pipeline into it",
        )
    live = [str(table["model"]) for table in found if str(table["model"]).startswith("live:")]
    if live:
        raise StoreError(
            f"{place(store).url!r} was filled by the live model {live[0].removeprefix('live:')!r}.",
            consequence="A store keeps no code, so the network cannot be rebuilt from it.",
            remedy="run the same Python that filled it; it computes only what is missing",
        )
    text = Text(f"provenance of {place(store).url}", "", overrides=tuple(overrides))
    chosen = [overridden(found[-1], overrides)] if overrides else found
    return [pipeline(table, text) for table in chosen]


def reassembled(definition: Pipeline, store: Where, *, allow_code: bool = False) -> Assembled:
    """A definition that a store keeps, assembled here.

    Raises
    ------
    DefinitionError, ModelError
        As `assembled`, and saying so where a path in it leads nowhere from this folder.
    """
    try:
        return assembled(definition, allow_code=allow_code)
    except (DefinitionError, ModelError) as error:
        lost = list(_lost(definition))
        if not lost:
            raise
        url, here = place(store).url, Path.cwd()
        raise type(error)(
            error.fact,
            consequence=error.consequence,
            remedy=f"{error.remedy}; a path in a definition that a store keeps begins where it began when the store was "
            f"filled: give the command in that folder, or run the definition's file: flowprofile run FILE --into {url}",
            evidence="; ".join(filter(None, (f"{lost[0]!r} was looked for from {here}", error.evidence))),
        ) from error


def _lost(definition: Pipeline) -> Iterator[str]:
    """Relative paths of a definition at which nothing is."""
    model, source = definition.model, definition.source
    paths = [model] if isinstance(model, str) and model not in zoo.NAMES and ":" not in model else []
    if source is not None:
        images = [source.images] if isinstance(source.images, str) else list(source.images)
        paths += [*images, *([] if source.attributes is None else [source.attributes])]
    yield from (path for path in paths if not Path(path).is_absolute() and not Path(path).exists())
