"""A profile as a folder that opens without a server, for a talk, a paper's supplement or a colleague.

The page is the same; only its answers come from files. They are asked of those who answer the server, address by
address, so that the folder cannot say anything that the server does not. What a page may ask for must be foreseen:
the views of every chosen case, every layer that can be chosen, and all kept states of their panels.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

import numpy as np
import xarray as xr

from flowprofile import __version__
from flowprofile.app import page
from flowprofile.app.catalogue import stretches
from flowprofile.app.packs import REFUSED, Entry, Packs, key_of
from flowprofile.app.profiles import opened
from flowprofile.app.server import Shown, answered, answers
from flowprofile.app.views import KINDS, SIX
from flowprofile.axes import INTERVENTION, LABEL, SEED
from flowprofile.cases import CLEAN
from flowprofile.choices import choose
from flowprofile.errors import DefinitionError, FlowProfileError, nearest
from flowprofile.flow.budget import human
from flowprofile.selecting import labels_of

LARGEST: Final = 2 << 30
"""Bytes of a folder at most."""
ACTED: Final = 4
"""Interventions that are exported where none is named, besides the clean run."""
MARK: Final = "flowprofile-export.json"
"""What tells a folder of ours from another's."""
VARIANTS: Final[Mapping[str, tuple[tuple[tuple[str, str], ...], ...]]] = {
    "gradients": ((), (("object", "pixels"),), (("object", "layers"),)),
}
"""What a view's own controls add to its address."""
Pair = tuple[str, str]
Ask = Callable[[str, Iterable[Pair]], tuple[bool, bytes]]
"""The answer to an address, and whether it is one or a refusal."""


@dataclass(frozen=True)
class Chosen:
    """The cases that are exported, of one run."""

    run: str
    interventions: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]

    def cases(self) -> list[tuple[Pair, ...]]:
        """Every case as the parameters of an address."""
        whole = product(self.interventions, self.labels, self.seeds)
        return [(("run", self.run), (INTERVENTION, i), (LABEL, str(v)), (SEED, str(s))) for i, v, s in whole]


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

    Raises
    ------
    DefinitionError
        Where the folder holds something else, or what is asked for exceeds 2 GiB; nothing is written then.
    """
    target = _free(Path(into))
    shown = Shown(opened(store))
    name, tree = shown.profiles.run(run)
    chosen = _chosen(name, tree, interventions, labels, seeds)
    table = answers()

    def ask(name: str, pairs: Iterable[Pair]) -> tuple[bool, bytes]:
        found = answered(shown, table[name], pairs)
        return found.status_code == 200, bytes(found.body)

    told = {case: list(_views(ask, case)) for case in chosen.cases()}
    panels = _panels(told.values())
    _affordable(panels.values(), chosen)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        folder = Path(scratch, "new")
        folder.mkdir()
        _page(folder, chosen, store)
        packs = Packs(folder)
        packs.put([(key_of("catalogue", ()), "", _catalogue(ask, chosen))])
        for entries in told.values():
            packs.put(entries)
        for panel in panels.values():
            packs.put(_blocks(ask, panel))
        packs.put(_limits(ask, panels.values()))
        packs.close({"defaults": dict(chosen.cases()[0]), "cases": len(told), "store": store})
        _put_in_place(folder, target, Path(scratch, "old"))
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    left_out = tree.sizes[INTERVENTION] - len(chosen.interventions)
    return Exported(target, len(sizes), sum(sizes), len(told), left_out)


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
    return tuple(dict.fromkeys(values))


def _views(ask: Ask, case: tuple[Pair, ...]) -> Iterator[Entry]:
    """The JSON of every view of a case, and of every layer what choosing it changes."""
    for view in KINDS:
        found = {more: ask(view, (*case, *more)) for more in VARIANTS.get(view, ((),))}
        offered = [each for good, data in found.values() if good for each in json.loads(data)["offered"]]
        layers = dict.fromkeys(offer[name] for offer in offered for name in ("title", "node"))
        for more, (good, data) in found.items():
            yield key_of(view, (*case, *more)), "" if good else REFUSED, data
            if good:
                yield from _layers(ask, view, (*case, *more), json.loads(data), list(layers))


def _layers(
    ask: Ask, view: str, pairs: tuple[Pair, ...], base: Mapping[str, Any], layers: Sequence[str]
) -> Iterator[Entry]:
    """What each layer changes of a view's answer; the page puts several side by side."""
    for at in range(0, len(layers), SIX):
        some = layers[at : at + SIX]
        told = json.loads(_good(*ask(view, (*pairs, *(("layer", layer) for layer in some)))))
        changed = {name: value for name, value in told.items() if base.get(name) != value}
        for layer, panel in zip(some, told["panels"], strict=True):
            yield key_of(view, (*pairs, ("layer", layer))), "", _json({**changed, "panels": [panel]})


def _panels(told: Iterable[Iterable[Entry]]) -> dict[str, dict[str, Any]]:
    """Every panel that some view has, by the address of its blocks."""
    texts = (data for entries in told for _, _, data in entries)
    return {panel["block"]: panel for text in texts for panel in panels_in(json.loads(text))}


def panels_in(told: Any) -> Iterator[dict[str, Any]]:
    """Panels in an answer, wherever they are."""
    if isinstance(told, dict):
        if "block" in told and "times" in told:
            yield told
        told = list(told.values())
    if isinstance(told, list):
        for part in told:
            yield from panels_in(part)


def _states(panel: Mapping[str, Any]) -> list[int]:
    """States of a panel that are stored."""
    return [t for t in panel["times"] if str(t) not in panel["missing"]]


def _blocks(ask: Ask, panel: Mapping[str, Any]) -> Iterator[Entry]:
    """The block of every stored state of a panel, as the server sends it when it is asked for that state alone."""
    pairs = parse_qsl(panel["block"])
    key = key_of("block", pairs)
    channels = [""] if panel["whole"] else [str(c) for c in range(prod(panel["shape"][:-2]))]
    for t, channel in product(_states(panel), channels):
        asked = [*pairs, ("times", str(t)), *([("channel", channel)] if channel else [])]
        yield key, f"{t}/{channel}" if channel else str(t), _good(*ask("block", asked))


def _limits(ask: Ask, panels: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    for panel in panels:
        pairs = parse_qsl(panel["block"])
        yield key_of("limits", pairs), "", _good(*ask("limits", pairs))


def _catalogue(ask: Ask, chosen: Chosen) -> bytes:
    """What there is to choose from, which is what is exported."""
    told = json.loads(_good(*ask("catalogue", ())))
    run = next(run for run in told["runs"] if run["name"] == chosen.run)
    run["labels"] = [each for each in run["labels"] if each["label"] in chosen.labels]
    run["interventions"] = [each for each in run["interventions"] if each["name"] in chosen.interventions]
    run["seeds"] = stretches(np.array(sorted(chosen.seeds)))
    return _json({**told, "runs": [run], "runs_allowed": False, "others": []})


def _good(good: bool, data: bytes) -> bytes:
    """An answer that must be one: what the store itself offers cannot be refused."""
    if good:
        return data
    told = json.loads(data)
    raise FlowProfileError(
        told["fact"], consequence="Nothing was exported.", remedy=told["remedy"], evidence=told["evidence"]
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _affordable(panels: Iterable[Mapping[str, Any]], chosen: Chosen) -> None:
    """Refuse what a browser would not open any more; half floats hardly pack, and text takes a third more."""
    size = sum(2 * prod(panel["shape"]) * len(_states(panel)) for panel in panels) * 4 // 3
    if size > LARGEST:
        raise DefinitionError(
            f"The export of {len(chosen.cases())} case(s) would take up to {human(size)}.",
            consequence=f"A folder has at most {human(LARGEST)}; nothing was written.",
            remedy="name fewer cases with --label, --seed and --intervention, or export a store with fewer "
            "layers and kept states",
        )


def _free(target: Path) -> Path:
    """Where the folder may be written; what is not ours is left alone."""
    target = target.expanduser().resolve()
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


def _put_in_place(folder: Path, target: Path, old: Path) -> None:
    """The finished folder under its name; an earlier one goes only when the new one is whole."""
    if target.exists():
        target.rename(old)
    folder.rename(target)
