"""What a page may ask for, foreseen: a folder without a server has to hold every answer before it is opened.

Answers come from those who answer the server, address by address, so that a folder cannot say anything else. Where
choices multiply (layers side by side, several sides of a comparison) the folder holds them one by one and the page
puts them together.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from flowprofile.app.packs import REFUSED, Entry, key_of
from flowprofile.app.spreadsheets import pairs_csv
from flowprofile.app.views import KINDS, SIX
from flowprofile.axes import INTERVENTION, LABEL, SEED
from flowprofile.cases import CLEAN
from flowprofile.errors import FlowProfileError

VARIANTS: Final[Mapping[str, tuple[tuple[tuple[str, str], ...], ...]]] = {
    "gradients": ((), (("object", "pixels"),), (("object", "layers"),)),
}
"""What a view's own controls add to its address."""
MEASURED: Final = ("measures", "measures.csv")
"""Views of a case that are all of its curves at once."""
DISTANCE: Final = "ssim"
"""By what cases are compared, and only so: a pair takes the curves of all seeds."""
EXCESS: Final = ((), (("excess", "1"),))
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

    @property
    def usual(self) -> tuple[Pair, ...]:
        """The case of an address that names none."""
        cases = self.cases()
        return next((case for case in cases if (INTERVENTION, CLEAN) in case), cases[0])

    def beside(self, case: tuple[Pair, ...]) -> list[Pair]:
        """What cases that differ in one thing have different: another label first, from this one's on."""
        found = []
        for axis, values in ((LABEL, self.labels), (SEED, self.seeds), (INTERVENTION, self.interventions)):
            texts = [str(value) for value in values]
            at = texts.index(dict(case)[axis])
            found += [(axis, text) for text in (*texts[at + 1 :], *texts[:at])]
        return found


def views(ask: Ask, case: tuple[Pair, ...]) -> Iterator[Entry]:
    """The JSON of every view of a case, and of every layer what choosing it changes."""
    for view in KINDS:
        found = {more: ask(view, (*case, *more)) for more in VARIANTS.get(view, ((),))}
        offered = [each for fine, data in found.values() if fine for each in json.loads(data)["offered"]]
        layers = dict.fromkeys(offer[name] for offer in offered for name in ("title", "node"))
        for more, (fine, data) in found.items():
            yield key_of(view, (*case, *more)), "" if fine else REFUSED, data
            if fine:
                yield from _layers(ask, view, (*case, *more), json.loads(data), list(layers))
    for view in MEASURED:
        fine, data = ask(view, case)
        yield key_of(view, case), "" if fine else REFUSED, data


def _layers(
    ask: Ask, view: str, pairs: tuple[Pair, ...], base: Mapping[str, Any], layers: Sequence[str]
) -> Iterator[Entry]:
    """What each layer changes of a view's answer; the page puts several side by side."""
    for at in range(0, len(layers), SIX):
        some = layers[at : at + SIX]
        told = json.loads(granted(*ask(view, (*pairs, *(("layer", layer) for layer in some)))))
        changed = {name: value for name, value in told.items() if base.get(name) != value}
        for layer, panel in zip(some, told["panels"], strict=True):
            yield key_of(view, (*pairs, ("layer", layer))), "", as_json({**changed, "panels": [panel]})


def pairs(
    ask: Ask, chosen: Chosen, panels: Mapping[str, Mapping[str, Any]], case: tuple[Pair, ...]
) -> Iterator[Entry]:
    """A case beside those that differ from it in one thing; where no side is named, the first of them."""
    known = {key_of("block", parse_qsl(block)): panel for block, panel in panels.items()}
    for at, side in enumerate(chosen.beside(case)):
        asked, other = ("side", urlencode([side])), tuple(dict([*case, side]).items())
        keys = [(*case, ("side", as_json([side]).decode())), *([case] if at == 0 else [])]
        for more in EXCESS:
            told = json.loads(granted(*ask("compare", (*case, asked, *more))))
            shared = {name: found for name in told["objects"] if (found := _both(known, name, case, other))}
            told |= {"objects": list(shared), "measures": [DISTANCE]}
            table = pairs_csv(told).encode()
            for key in keys:
                yield key_of("compare", (*key, *more)), "", as_json(told)
                yield key_of("compare.csv", (*key, *more)), "", table
        for (name, found), key in product(shared.items(), keys):
            yield key_of("compare", (*key, ("object", name))), "", as_json({"object": name, **found})


def table(ask: Ask, chosen: Chosen) -> Iterator[Entry]:
    """The table of cases with every column, for the page to choose from and to sort, and the cases' small pictures."""
    run = ("run", chosen.run)
    usual = json.loads(granted(*ask("sweep", [run])))
    names, most = [offer["name"] for offer in usual["offered"]], usual["most"]
    columns: list[Any] = []
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for at in range(0, len(names), most):
        asked = [run, *(("column", name) for name in names[at : at + most])]
        for each, told in _pages(ask, chosen, asked):
            found = rows.setdefault(each, {**told, "values": []})
            found["values"] += told["values"]
        columns += json.loads(granted(*ask("sweep", [*asked, ("limit", "1")])))["columns"]
    told = {**usual, "note": "", "rows": list(rows.values()), "columns": columns}
    yield key_of("sweep", chosen.usual), "", as_json(told | {"usual": [c["name"] for c in usual["columns"]]})
    for case in chosen.cases():
        *group, (_, seed) = case
        fine, data = ask("thumbnails", [*group, ("seeds", seed)])
        yield key_of("thumbnails", case), "" if fine else REFUSED, data


def _pages(ask: Ask, chosen: Chosen, asked: list[Pair]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Rows of the chosen cases, in the order of the axes; a label's seeds are read until all are found."""
    for intervention, label in product(chosen.interventions, chosen.labels):
        only = [("only", f"{INTERVENTION}={intervention}"), ("only", f"{LABEL}={label}")]
        wanted, offset, more = set(chosen.seeds), 0, True
        while wanted and more:
            told = json.loads(granted(*ask("sweep", [*asked, *only, ("offset", str(offset))])))
            for row in told["rows"]:
                if row[SEED] in wanted:
                    wanted.discard(row[SEED])
                    yield (intervention, str(label), str(row[SEED])), row
            offset += len(told["rows"])
            more = bool(told["rows"]) and offset < told["cases"]


def _both(
    known: Mapping[str, Mapping[str, Any]], name: str, *cases: tuple[Pair, ...]
) -> dict[str, Any] | None:
    """The panels of an object of two cases, and the states that both keep."""
    node, _, variable = name.rpartition(":")
    keys = [key_of("block", (*case, ("node", node), ("variable", variable))) for case in cases]
    if not all(key in known for key in keys):
        return None
    times = set.intersection(*(set(known[key]["times"]) for key in keys))
    return {"panels": [known[key] for key in keys], "times": sorted(times, reverse=True)}


def panels_of(told: Iterable[Iterable[Entry]]) -> dict[str, dict[str, Any]]:
    """Every panel that some view has, by the address of its blocks."""
    texts = (data for entries in told for _, _, data in entries if data.startswith(b"{"))
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


def states(panel: Mapping[str, Any]) -> list[int]:
    """States of a panel that are stored."""
    return [t for t in panel["times"] if str(t) not in panel["missing"]]


def blocks(ask: Ask, panel: Mapping[str, Any]) -> Iterator[Entry]:
    """The block of every stored state of a panel, as the server sends it when it is asked for that state alone."""
    pairs = parse_qsl(panel["block"])
    key = key_of("block", pairs)
    channels = [""] if panel["whole"] else [str(c) for c in range(prod(panel["shape"][:-2]))]
    for t, channel in product(states(panel), channels):
        asked = [*pairs, ("times", str(t)), *([("channel", channel)] if channel else [])]
        yield key, f"{t}/{channel}" if channel else str(t), granted(*ask("block", asked))


def limits(ask: Ask, panels: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    """The range of every panel's values over time."""
    for panel in panels:
        pairs = parse_qsl(panel["block"])
        yield key_of("limits", pairs), "", granted(*ask("limits", pairs))


def granted(is_one: bool, data: bytes) -> bytes:
    """An answer that must be one: what the store itself offers cannot be refused."""
    if is_one:
        return data
    told = json.loads(data)
    raise FlowProfileError(
        told["fact"], consequence="Nothing was exported.", remedy=told["remedy"], evidence=told["evidence"]
    )


def as_json(value: Any) -> bytes:
    """A value as the server would send it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
