"""A profile as a folder that opens without a server, for a talk, a paper's supplement or a colleague.

The page is the same; only its answers come from files. They are asked of those who answer the server, address by
address, so that the folder cannot say anything that the server does not. What a page may ask for must be foreseen:
the views of every chosen case, every layer that can be chosen, and all kept states of their panels.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile import __version__
from flowprofile.app import page
from flowprofile.app.catalogue import stretches
from flowprofile.app.foreseen import (
    Ask,
    Chosen,
    Pair,
    as_json,
    blocks,
    granted,
    limits,
    pairs,
    panels_of,
    states,
    table,
    views,
)
from flowprofile.app.packs import Packs, key_of
from flowprofile.app.profiles import opened
from flowprofile.app.replacing import replacing
from flowprofile.app.server import Shown, answered, answers
from flowprofile.axes import INTERVENTION, LABEL, SEED
from flowprofile.cases import CLEAN
from flowprofile.choices import choose
from flowprofile.errors import DefinitionError, nearest
from flowprofile.flow.budget import human
from flowprofile.selecting import labels_of
from flowprofile.store.places import LocalPlace
from flowprofile.store.urls import place

LARGEST: Final = 2 << 30
"""Bytes of a folder at most."""
ACTED: Final = 4
"""Interventions that are exported where none is named, besides the clean run."""
MARK: Final = "flowprofile-export.json"
"""What tells a folder of ours from another's."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    files: int
    bytes: int
    cases: int
    left_out: int
    """Interventions of the run that are not in it."""


def export(
    store: str,
    into: str | Path,
    *,
    run: str = "",
    labels: Sequence[Any] = (),
    seeds: Sequence[int] = (),
    interventions: Sequence[str] = (),
    say: Callable[[str], None] = lambda told: None,
) -> Exported:
    """Write a folder whose ``index.html`` shows some cases of a store, from a disk as from any web server.

    Parameters
    ----------
    store
        Url of the store.
    into
        A folder that is new, empty, or an earlier export, which is then replaced as a whole.
    run
        Name of the run; the first where it is empty.
    labels, seeds, interventions
        Cases: all combinations. Left out, the first label, the first seed, and the clean run with up to four
        interventions.
    say
        Is told what is being done, a line a case.

    Raises
    ------
    DefinitionError
        Where the folder holds something else or lies in the store, or what is asked for exceeds 2 GiB; nothing is
        written then.
    """
    target = _free(Path(into), store)
    shown = Shown(opened(store))
    name, tree = shown.profiles.run(run)
    chosen = _chosen(name, tree, interventions, labels, seeds)
    every = answers()

    def ask(name: str, pairs: Iterable[Pair]) -> tuple[bool, bytes]:
        found = answered(shown, every[name], pairs)
        return found.status_code == 200, bytes(found.body)

    told = {case: list(views(ask, case)) for case in _said(chosen, "views", say)}
    panels = panels_of(told.values())
    _affordable(panels.values(), chosen)
    with replacing(target) as folder:
        _page(folder, chosen, store)
        packs = Packs(folder)
        packs.put([(key_of("catalogue", ()), "", _catalogue(ask, chosen))])
        for entries in told.values():
            packs.put(entries)
        for case in _said(chosen, "states and comparisons", say):
            packs.put(pairs(ask, chosen, panels, case))
            for panel in panels_of([told[case]]).values():
                packs.put(blocks(ask, panel))
        packs.put(table(ask, chosen))
        packs.put(limits(ask, panels.values()))
        packs.close({"defaults": dict(chosen.usual), "cases": len(told), "store": store})
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    left_out = tree.sizes[INTERVENTION] - len(chosen.interventions)
    return Exported(target, len(sizes), sum(sizes), len(told), left_out)


def _said(chosen: Chosen, doing: str, say: Callable[[str], None]) -> Iterator[tuple[Pair, ...]]:
    """Every case, after a line that says which it is and what is done with it."""
    cases = chosen.cases()
    for at, case in enumerate(cases, 1):
        told = ", ".join(value if axis == INTERVENTION else f"{axis} {value}" for axis, value in case[1:])
        say(f"case {at} of {len(cases)} ({told}): {doing}")
        yield case


def _chosen(
    run: str, tree: xr.DataTree, interventions: Sequence[str], labels: Sequence[Any], seeds: Sequence[int]
) -> Chosen:
    """The cases that are named; what is not named is the first."""
    known = {axis: tree.coords[axis].values.tolist() for axis in (INTERVENTION, LABEL, SEED)}
    names = known[INTERVENTION]
    usual = [name for name in names if name == CLEAN]
    usual += [name for name in names if name != CLEAN][:ACTED]
    numbers = [number for label in labels for number in choose(LABEL, label, lambda: labels_of(tree)).values]
    return Chosen(
        run,
        _known(INTERVENTION, interventions or usual, names),
        _known(LABEL, numbers or known[LABEL][:1], known[LABEL]),
        _known(SEED, seeds or known[SEED][:1], known[SEED]),
    )


def _known(axis: str, values: Sequence[Any], known: Sequence[Any]) -> tuple[Any, ...]:
    for value in values:
        if value not in known:
            raise DefinitionError(f"This run has no {axis} {value!r}.", remedy=nearest(value, known))
    return tuple(value for value in known if value in values)


def _catalogue(ask: Ask, chosen: Chosen) -> bytes:
    """What there is to choose from, which is what is exported."""
    told = json.loads(granted(*ask("catalogue", ())))
    run = next(run for run in told["runs"] if run["name"] == chosen.run)
    run["labels"] = [each for each in run["labels"] if each["label"] in chosen.labels]
    run["interventions"] = [each for each in run["interventions"] if each["name"] in chosen.interventions]
    run["seeds"] = stretches(np.array(sorted(chosen.seeds)))
    return as_json({**told, "runs": [run], "runs_allowed": False, "others": []})


def _affordable(panels: Iterable[Mapping[str, Any]], chosen: Chosen) -> None:
    """Refuse what a browser would not open any more; half floats hardly pack, and text takes a third more."""
    size = sum(2 * prod(panel["shape"]) * len(states(panel)) for panel in panels) * 4 // 3
    if size > LARGEST:
        raise DefinitionError(
            f"The export of {len(chosen.cases())} case(s) would take up to {human(size)}.",
            consequence=f"A folder has at most {human(LARGEST)}; nothing was written.",
            remedy="name fewer cases with --label, --seed and --intervention, or export a store with fewer "
            "layers and kept states",
        )


def _free(target: Path, store: str) -> Path:
    """Where the folder may be written; what is not ours is left alone, and so is the store."""
    target = target.expanduser().resolve()
    where = place(store)
    root = where.root if isinstance(where, LocalPlace) else None
    if root is not None and (target.is_relative_to(root) or root.is_relative_to(target)):
        raise DefinitionError(
            f"{str(target)!r} {'lies in' if target.is_relative_to(root) else 'holds'} the store {str(root)!r}.",
            consequence="An export is replaced as a whole, and a store holds its own files alone; nothing was written.",
            remedy=f"name a folder beside it: {root.with_name(f'{root.name}-folder')}",
        )
    if not target.exists() or (target.is_dir() and (not any(target.iterdir()) or (target / MARK).is_file())):
        return target
    raise DefinitionError(
        f"{str(target)!r} is there already, and no earlier export.",
        consequence="Nothing was written.",
        remedy="name a new or empty folder",
    )


def _page(folder: Path, chosen: Chosen, store: str) -> None:
    """Everything but the answers."""
    (folder / "index.html").write_text(page.standalone(), encoding="utf-8")
    shutil.copyfile(page.files()["style.css"], folder / "style.css")
    shutil.copyfile(page.plotly(), folder / "plotly.js")
    told = {"flowprofile": __version__, "store": store, "cases": [dict(case) for case in chosen.cases()]}
    (folder / MARK).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
