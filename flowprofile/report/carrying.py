"""Carry experiments out, one by one: choose seeds, run what is missing, judge, draw. One that fails is told, not raised."""

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import xarray as xr

from flowprofile import opening
from flowprofile.assembly import Assembled, assemble
from flowprofile.axes import INTERVENTION, LABEL, SEED
from flowprofile.clusters import executor
from flowprofile.errors import DefinitionError, FlowProfileError
from flowprofile.flow.events import Listen
from flowprofile.flow.fingerprint import key
from flowprofile.held import met
from flowprofile.models.card import ModelCard
from flowprofile.projecting import project
from flowprofile.report.budget import affordable, shares
from flowprofile.report.items import Item
from flowprofile.report.pictures import Shown, data_uri
from flowprofile.report.verdicts import ALPHA, Outcome, Verdict
from flowprofile.running import calibrate, run

CHOSEN: Final = "chosen.json"
"""Beside the stores: how many seeds a budget gave each item, and what the least costs, so that the same command gives the same page."""

Listening = Callable[[str], AbstractContextManager[Listen]]
"""What is told while an item runs, from a line that says which."""


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    source: str
    """Data URI."""
    told: str
    """What is to be seen."""
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One item as it came out."""

    item: Item
    store: str
    command: str
    n: int = 0
    """Seeds; 0 where it failed before they were chosen."""
    labels: tuple[str, ...] = ()
    card: ModelCard | None = None
    """The model, once it is known."""
    verdict: Verdict | None = None
    together: Outcome | None = None
    """The verdict's outcome with intervals that hold for all items of the page at once (Bonferroni)."""
    pictures: tuple[Picture, ...] = ()
    failure: FlowProfileError | None = None
    forwards: int = 0
    """Network evaluations of this time; 0 where everything was stored already."""
    seconds: float = 0.0
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Orders:
    """How a report is to be made."""

    into: Path
    """Folder of the stores."""
    budget: float | None = None
    """Minutes; None for as many seeds as the definitions say."""
    overrides: tuple[str, ...] = ()
    """Values given on the command line, for the commands on the page."""
    allow_code: bool = False
    cluster: str | None = None
    """Who computes, as `flowprofile.running.run` takes it; None for this process."""


def costs_of(items: Sequence[Item], orders: Orders) -> "Costs | None":
    """What the items would cost, where there is a budget that they share."""
    # Asked even where no cost depends on it, so that a wrong word is refused before anything is computed.
    workers = 1 if orders.cluster is None else max(1, executor(orders.cluster).workers)
    return None if orders.budget is None else _costs(items, orders, workers)


def short(items: Sequence[Item], orders: Orders, costs: "Costs | None") -> float | None:
    """Minutes that the least of all items takes from nothing, where the budget is less; None where it suffices.

    Remembered like the chosen seeds, since a machine's rates are measured anew and the page is to stay the same.
    """
    if costs is None or orders.budget is None:
        return None
    choice = f"{len(items)} items {key([item.digest for item in items])[:16]}{_within(orders)}"
    found = _chosen(orders.into).get(choice)
    if not isinstance(found, int | float):
        found = float(f"{sum(few for few, _ in costs.values()) / 60:.2g}")
        _choose(orders.into, choice, found)
    return found if found > orders.budget else None


def sections(
    items: Sequence[Item], orders: Orders, listening: Listening, costs: "Costs | None" = None
) -> Iterator[Section]:
    """Every item as it came out, in order; `costs` as `costs_of` gives them."""
    began = perf_counter()
    costs = costs_of(items, orders) if costs is None else costs
    for place, item in enumerate(items):
        left = None if orders.budget is None else 60 * orders.budget - (perf_counter() - began)
        yield _section(item, orders, listening, place, len(items), costs, left)


Costs = Mapping[str, tuple[float, float]]
"""Projected seconds of each item with its least and with all of its seeds."""


def _section(
    item: Item,
    orders: Orders,
    listening: Listening,
    place: int,
    count: int,
    costs: Costs | None,
    left: float | None,
) -> Section:
    began = perf_counter()
    store = orders.into / item.name
    section = Section(item, str(store), _command(item, orders), n=0)
    try:
        n = _seeds(item, orders, costs, left)
        section = replace(section, n=n)
        ready = of_seeds(item, n, allow_code=orders.allow_code)
        labels = tuple(_said(ready.card, label) for label in ready.sweep.labels)
        section = replace(section, labels=labels, card=ready.card, command=_command(item, orders, n))
        with listening(f"[{place + 1}/{count}] {item.report.item}: {item.report.title} (n = {n})") as listen:
            outcome = run(
                ready, into=store, listen=listen, allow_code=orders.allow_code, cluster=orders.cluster
            )
        section = replace(section, forwards=outcome.forwards, notes=tuple(outcome.warnings.values()))
        section = _judged(section, met(ready, store), count)
    except FlowProfileError as error:
        section = replace(section, failure=error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other experiments must still appear
        section = replace(section, failure=_unforeseen(error))
    return replace(section, seconds=perf_counter() - began)


def of_seeds(item: Item, n: int, *, allow_code: bool = False) -> Assembled:
    """The item's pipeline for its first n seeds."""
    first = _first(item)
    cases = item.pipeline.cases.model_copy(update={"seeds": tuple(range(first, first + n))})
    return assemble(item.pipeline.model_copy(update={"cases": cases}), item.text, allow_code=allow_code)


def _first(item: Item) -> int:
    """The first seed of an item's pipeline; a report's has no source of images, and so names its seeds."""
    assert item.pipeline.cases.seeds is not None
    return item.pipeline.cases.seeds[0]


def _said(card: ModelCard, label: int) -> str:
    names = " + ".join(card.labels.names(label))
    return f"{card.labels.bits(label)} ({names or 'no attribute'})" if card.labels.attributes else str(label)


def _judged(section: Section, ready: Assembled, count: int) -> Section:
    """The section with its verdict and its pictures."""
    item = section.item
    tree = only(opening.open(section.store, run=ready.run), ready)
    named = naming(tree, ready)
    nodes = {stage: tree[named(stage)].to_dataset().load() for stage in item.rule.stages(item.params)}
    verdict = item.rule.judge(nodes, item.params, ALPHA)
    together = item.rule.judge(nodes, item.params, ALPHA / count).outcome
    shown = Shown(tree, named, verdict)
    pictures = tuple(
        Picture(data_uri(drawing.draw(shown, params)), drawing.told, table.caption)
        for (drawing, params), table in zip(item.drawings, item.report.figure, strict=True)
    )
    return replace(section, verdict=verdict, together=together, pictures=pictures)


def only(tree: xr.DataTree, ready: Assembled) -> xr.DataTree:
    """The profile of the pipeline's own cases, where a store holds more."""
    sweep = ready.sweep
    wanted: dict[str, list[Any]] = {
        SEED: list(sweep.seeds),
        LABEL: list(sweep.labels),
        INTERVENTION: list(sweep.interventions),
    }
    more = {
        axis: some for axis, some in wanted.items() if set(tree.coords[axis].values.tolist()) != set(some)
    }
    if not more:
        return tree
    root = tree.to_dataset().sel(more)
    nodes = {"/": root}
    for node in tree.subtree:
        if node is not tree:
            part = node.to_dataset()
            part = part.sel({axis: some for axis, some in more.items() if axis in part.dims})
            nodes[node.path] = part.drop_vars([name for name in part.coords if name in root.indexes])
    return xr.DataTree.from_dict(nodes)


def naming(tree: xr.DataTree, ready: Assembled) -> Callable[[str], str]:
    """Where a stage of the definition is in the tree: by its key, since a name may stand for an earlier recipe."""
    keys = {str(node.attrs["key"]): node.path.strip("/") for node in tree.subtree if "key" in node.attrs}

    def named(stage: str) -> str:
        if stage not in ready.graph.stages:
            return stage
        group = ready.graph.stages[stage].group
        return keys.get(ready.graph.keys[stage], group)

    return named


def _seeds(item: Item, orders: Orders, costs: Costs | None, left: float | None) -> int:
    """How many seeds an item gets: all of them, or what the budget that is left affords."""
    report = item.report
    if costs is None or left is None:
        return report.seeds
    remembered = _chosen(orders.into).get(_choice(item, orders))
    if isinstance(remembered, int) and report.least <= remembered <= report.seeds:
        return remembered
    names = list(costs)[list(costs).index(item.name) :] if item.name in costs else []
    if not names:
        return report.least
    mine = shares([costs[name][1] for name in names], [costs[name][0] for name in names], left)[0]
    few, many = costs[item.name]
    each = (many - few) / max(1, report.seeds - report.least)
    n = affordable(lambda n: few + each * (n - report.least), mine, least=report.least, most=report.seeds)
    _choose(orders.into, _choice(item, orders), n)
    return n


def _costs(items: Sequence[Item], orders: Orders, workers: int) -> Costs:
    """What each would cost from nothing; one that cannot be planned is left to fail in its turn."""
    found = {}
    for item in items:
        with suppress(FlowProfileError):
            few, many = (_seconds(item, n, orders) for n in (item.report.least, item.report.seeds))
            found[item.name] = (few / workers, many / workers)
    return found


def _seconds(item: Item, n: int, orders: Orders) -> float:
    ready = of_seeds(item, n, allow_code=orders.allow_code)
    projection = project(ready, None)
    if len(projection.seconds) < len(projection.plan.graph.stages):
        _time(ready)
        projection = project(ready, None)
    return sum(projection.seconds.values())


def _time(ready: Assembled) -> None:
    """Measure this machine's rates for a pipeline, or those of sampling alone where it cannot be made small."""
    try:
        calibrate(ready)
    except DefinitionError:
        # A few steps of one label have no state t = 200, no second label; sampling is nearly all of the cost anyway.
        bare: dict[str, Any] = {"interventions": {}, "stages": {"trajectory": {}}}
        calibrate(assemble(ready.pipeline.model_copy(update=bare), allow_code=True))


def _choice(item: Item, orders: Orders) -> str:
    return f"{item.name}@{item.digest}{_within(orders)}"


def _within(orders: Orders) -> str:
    by = "" if orders.cluster is None else f" by {orders.cluster}"
    return f" within {orders.budget:g} minutes{by}"


def _chosen(into: Path) -> dict[str, Any]:
    try:
        found = json.loads((into / CHOSEN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _choose(into: Path, choice: str, n: float) -> None:
    into.mkdir(parents=True, exist_ok=True)
    table = json.dumps({**_chosen(into), choice: n}, indent=1, sort_keys=True)
    (into / CHOSEN).write_text(f"{table}\n", "utf-8")


def _command(item: Item, orders: Orders, n: int | None = None) -> str:
    """What to type to compute an item's numbers again."""
    words = ["flowprofile", "run", str(item.path), "--into", str(orders.into / item.name)]
    sets = [one for one in orders.overrides if not one.startswith("report.")]
    if n is not None:
        first = _first(item)
        sets.append(f"cases.seeds={first}:{first + n}")
    for one in sets:
        words += ["--set", one]
    words += [] if orders.cluster is None else ["--cluster", orders.cluster]
    return shlex.join(words + (["--allow-code"] if orders.allow_code else []))


def _unforeseen(error: Exception) -> FlowProfileError:
    return FlowProfileError(
        "The experiment stopped on an error that nobody foresaw.",
        consequence="It has no verdict; what was committed to its store is safe.",
        remedy="run it alone to see where it stopped",
        evidence=f"{type(error).__name__}: {error}"[:500],
    )
