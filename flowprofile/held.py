"""What a store holds, in the words of the engine; and the engine's graph, in the words of the store.

The engine thinks in cases and steps, the store in positions on axes that grow. This page is the only one that
speaks both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.assembly import Assembled
from flowprofile.axes import INTERVENTION, LABEL, PROMPT, SEED
from flowprofile.cases import CLEAN, Case, Sweep
from flowprofile.conditioning.interventions import NOWHERE
from flowprofile.flow.demand import Mask
from flowprofile.flow.events import Listen
from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import scoped
from flowprofile.flow.shelf import Cut
from flowprofile.flow.tiles import Order, Tile
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.joined import MASKS
from flowprofile.store.ledger import Ledger, Rows, covered, fills
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.regions import Region, cut, region_of
from flowprofile.store.store import Store
from flowprofile.store.urls import Where

Places = npt.NDArray[np.intp]
STRETCH: Final = 512
"""Seeds looked at together where it is not plain that a stage is complete."""


class Held:
    """One run of a store, as the planner and the executor see it."""

    def __init__(self, store: Store, run: str, listen: Listen) -> None:
        self.store = store
        self.run = run
        self.listen = listen
        self._ledgers: dict[str, Ledger] = {}

    @cached_property
    def record(self) -> RunRecord:
        """The run's axes and stages."""
        return self.store.runs()[self.run]

    @property
    def order(self) -> Order:
        """The case axes in order of arrival."""
        return Order(self.record.interventions, self.record.labels, self.record.seeds)

    @property
    def tile(self) -> Tile:
        """The shape of a batch, fixed when the run began."""
        return Tile(*self.record.tile)

    @cached_property
    def places(self) -> dict[str, dict[Any, int]]:
        """Value to position along the case axes."""
        axes = {
            INTERVENTION: self.record.interventions,
            LABEL: self.record.labels,
            SEED: self.record.seeds,
        }
        return {name: {value: at for at, value in enumerate(values)} for name, values in axes.items()}

    def forget(self) -> None:
        """Look at the ledger again: somebody else has worked on the same tasks."""
        self._ledgers.clear()

    def _rows(self, path: str, intervention: int, label: int) -> Rows:
        ledger = self._ledgers.setdefault(path, Ledger(self.store.place, self.run, path))
        return ledger.rows(intervention, label)

    def complete(self, path: str, sweep: Sweep, times: tuple[int, ...]) -> bool:
        """Whether every cell of a stage exists."""
        stage = self.record.stages.get(path)
        wanted: tuple[tuple[Mapping[Any, int], Sequence[Any]], ...] = (
            (self.places[INTERVENTION], sweep.interventions),
            (self.places[LABEL], sweep.labels),
            (self.places[SEED], sweep.seeds),
            ({t: at for at, t in enumerate(stage.time or ())} if stage is not None else {}, times),
        )
        if stage is None or any(value not in where for where, values in wanted for value in values):
            return False
        interventions, labels, seeds, states = (
            np.array([where[value] for value in values], dtype=np.intp) for where, values in wanted
        )
        return all(
            self._holds(self._rows(path, i, label), seeds, states, stage.times)
            for i in interventions.tolist()
            for label in labels.tolist()
        )

    def _holds(self, rows: Rows, seeds: Places, states: Places, times: int) -> bool:
        """Whether rows cover all of some seeds and states; looked at in stretches, so that memory stays flat."""
        if fills(rows, len(self.record.seeds), times):
            return True
        stretches = np.split(np.sort(seeds), range(STRETCH, len(seeds), STRETCH))
        return all(
            bool(covered(rows, (some[0], some[-1] + 1), times)[np.ix_(some - some[0], states)].all())
            for some in stretches
        )

    def present(self, path: str, cases: Sequence[Case], times: tuple[int, ...]) -> Mask:
        """Flags (case, time) of the cells of a stage that exist; cases and stages may be new."""
        flags = np.zeros((len(cases), len(times)), dtype=np.bool_)
        stage = self.record.stages.get(path)
        if stage is None:
            return flags
        where = {t: at for at, t in enumerate(stage.time or ())}
        columns = [(column, where[t]) for column, t in enumerate(times) if t in where]
        targets, sources = [pair[0] for pair in columns], [pair[1] for pair in columns]
        atoms: dict[tuple[int, int], dict[int, int]] = {}
        for row, case in enumerate(cases):
            at = self._at(case)
            if at is not None and targets:
                atoms.setdefault(at[:2], {})[row] = at[2]
        for (intervention, label), seeds in atoms.items():
            first, stop = min(seeds.values()), max(seeds.values()) + 1
            known = covered(self._rows(path, intervention, label), (first, stop), stage.times)
            for row, seed in seeds.items():
                flags[row, targets] = known[seed - first, sources]
        return flags

    def _at(self, case: Case) -> tuple[int, int, int] | None:
        found = (
            self.places[INTERVENTION].get(case.intervention),
            self.places[LABEL].get(case.label),
            self.places[SEED].get(case.seed),
        )
        return None if None in found else found  # type: ignore[return-value]

    def read(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
        """Stored results, dims (case, time, ...)."""
        return self.store.read(self.run, path, cases, times)

    def cuts(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> list[Cut]:
        """The regions that hold these cells of one tile, with their cases and times in the store's order."""
        stage = self.record.stages[path]
        where = {t: at for at, t in enumerate(stage.time or ())}
        tile = self.record.tile[1]
        by_label: dict[tuple[int, int], dict[int, Case]] = {}
        for case in cases:
            intervention, label, seed = self._position(case)
            by_label.setdefault((intervention, label), {})[seed] = case
        found = []
        for (intervention, label), members in by_label.items():
            first = min(members) // tile * tile
            wanted = np.zeros((1, 1, max(members) + 1 - first, len(where)), dtype=np.bool_)
            for seed in members:
                wanted[0, 0, seed - first, [where[t] for t in times]] = True
            for region in cut(self.run, path, wanted, seeds=tile, times=stage.block):
                start, stop = (first + seed for seed in region.seeds)
                moved = replace(region, intervention=intervention, label=label, seeds=(start, stop))
                found.append(_cut(moved, members, stage))
        return found

    def _position(self, case: Case) -> tuple[int, int, int]:
        at = self._at(case)
        assert at is not None
        return at

    def write(self, path: str, cut: Cut, block: xr.Dataset) -> int:
        """Commit a region; returns its size in bytes."""
        region = region_of(self.run, path, cut.name)
        assert region is not None
        receipt = self.store.write(region, block, listen=self.listen)
        return sum(seal.size for seal in receipt.objects.values())

    def pixel_sets(self) -> dict[str, list[tuple[int, ...]]]:
        """The pixels of every stored gradient volume, by the digest of its recipe, in order of arrival."""
        found: dict[str, list[tuple[int, ...]]] = {}
        for stage in sorted(self.record.stages.values(), key=lambda stage: stage.order):
            join = stage.attrs.get("join")
            if join is not None and stage.group.startswith("gradients/"):
                found.setdefault(str(join["of"]), []).append(tuple(stage.coords[join["axis"]].values))
        return found

    def shows(self, ready: Assembled) -> bool:
        """Whether the plain names show the masks that a pipeline asks for."""
        return bool(_masks(ready, self.record).get(MASKS, {}) == self.record.attrs.get(MASKS, {}))

    def _begun(self, path: str) -> bool:
        """Whether any cell of a stage exists."""
        interventions, labels, _ = self.record.shape
        return any(len(self._rows(path, i, label)) for i in range(interventions) for label in range(labels))

    def changed_sources(self, graph: Graph) -> dict[str, str]:
        """Stages whose own code is not what the stored results were computed with, and what to say of it."""
        changed = {}
        for stage in graph.stored():
            held = self.record.stages.get(graph.path(stage.name))
            if held is None or not self._begun(graph.path(stage.name)):
                continue
            if held.attrs.get("source", "") != stage.source:
                changed[stage.name] = (
                    f"The source of stage {stage.name!r} ({stage.kind}) has changed, its version is still"
                    f" {stage.version}: the stored results are those of the old code."
                )
        return changed


def _cut(region: Region, members: Mapping[int, Case], stage: StageRecord) -> Cut:
    cases = tuple(members[seed] for seed in range(*region.seeds))
    times = tuple((stage.time or ())[slice(*region.times)])
    return Cut(region.name, cases, times)


def holdings(store: Store | Where, run: str, listen: Listen) -> Held | None:
    """What a store holds of a run, None where it holds nothing yet."""
    opened = store if isinstance(store, Store) else Store.open(store)
    return Held(opened, run, listen) if run in opened.runs() else None


def met(ready: Assembled, store: Store | Where) -> Assembled:
    """The pipeline under the name that its run has in a store.

    A model is what its weights and configuration are. Where its folder is called something else than when the run was
    begun, the run is the same. A live model's name is its maker's word, and is kept apart.
    """
    runs = (store if isinstance(store, Store) else Store.open(store)).runs()
    if ready.run in runs or not isinstance(ready.pipeline.model, str):
        return ready
    digest = ready.run.rpartition("@")[2]
    for folder, held in runs.items():
        name, _, other = folder.rpartition("@")
        if other == digest and held.attrs.get("model", {}).get("identity") == ready.identity:
            return replace(ready, called=name)
    return ready


def run_declaration(ready: Assembled, store: Store, tile: Tile) -> RunDeclaration:
    """The run as the store should describe it, with every definition it was ever asked for."""
    held = store.runs().get(ready.run)
    known = list(held.attrs.get("definitions", [])) if held is not None else []
    definition = ready.definition()
    name, _, digest = ready.run.rpartition("@")
    space = ready.card.labels
    return RunDeclaration(
        name=name,
        key=digest,
        tile=(tile.labels, tile.seeds),
        attrs={
            "model": {
                "reference": definition["model"],
                "identity": ready.identity,
                "name": ready.card.name,
                "shape": list(ready.card.shape),
                "pixel_range": list(ready.card.pixel_range),
                "attributes": list(space.attributes),
                "classes": space.classes,
                "steps": ready.card.steps,
                "schedule": ready.card.schedule,
            },
            "numerics": ready.numerics.table(),
            "definitions": known if definition in known else [*known, definition],
            **_masks(ready, held),
        },
        label_coords={
            attribute: {label: attribute in space.names(label) for label in ready.sweep.labels}
            for attribute in space.attributes
        }
        | ({PROMPT: {label: space.bits(label) for label in ready.sweep.labels}} if space.prompts else {}),
        intervention_coords=_intervention_coords(ready, held),
        seed_coords=_seed_coords(ready, held),
    )


def _seed_coords(ready: Assembled, held: RunRecord | None) -> dict[str, Mapping[int, Any]]:
    """Which image a seed stands for; a file's name is the first under which the picture was seen."""
    real = ready.context.real
    if real is None:
        return {}
    known = held.seed_coords if held is not None else {}
    first: dict[str, str] = {}
    for digest, name in zip(known.get("digest", ()), known.get("image", ()), strict=True):
        first.setdefault(digest, name)
    names = {
        seed: first.get(digest, real.coords["image"][seed]) for seed, digest in real.coords["digest"].items()
    }
    return {**real.coords, "image": names}


def _masks(ready: Assembled, held: RunRecord | None) -> dict[str, Any]:
    """The pixels that were asked for last of everything that grows by pixels, by its group and recipe."""
    masks = {group: dict(known) for group, known in (held.attrs.get(MASKS, {}) if held else {}).items()}
    for split in ready.context.splits.values():
        masks.setdefault(split.group, {})[split.of] = list(split.wanted)
    return {MASKS: masks} if masks else {}


def _intervention_coords(ready: Assembled, held: RunRecord | None) -> dict[str, dict[str, Any]]:
    """What an intervention is found by, besides its name; a title is the first that anybody gave it."""
    done = ready.context.interventions
    if not done:
        return {}
    tables = {CLEAN: dict(NOWHERE), **{name: one.coords() for name, one in done.items()}}
    titles = held.intervention_coords.get("title", ()) if held is not None else ()
    for name, title in zip(held.interventions if held is not None and titles else (), titles, strict=True):
        if name in tables:
            tables[name]["title"] = title
    return {coord: {name: table[coord] for name, table in tables.items()} for coord in NOWHERE}


def _rule(graph: Graph) -> dict[str, Any]:
    """The sampler's rule and its options; of a scheduler its class and whole configuration."""
    if "scheduler" not in graph.base:
        return {"rule": graph.base["rule"], **graph.base["options"]}
    recipe = graph.base["scheduler"]
    return {
        "rule": recipe["class"],
        "diffusers": recipe["diffusers"],
        **recipe["config"],
        **recipe["options"],
    }


def stage_declarations(graph: Graph, sweep: Sweep) -> list[StageDeclaration]:
    """The stored stages as the store should describe them, each with the cases it is made of."""
    found = []
    for stage in graph.stored():
        part = scoped(stage, sweep)
        if part is None:
            continue
        attrs = {
            "kind": stage.kind,
            "version": stage.version,
            "params": dict(stage.params),
            "needs": [need.stage for need in stage.needs],
            "source": stage.source,
            "sampler": {**_rule(graph), **graph.stages[graph.root(stage.name)].params},
            **stage.attrs,
        }
        if f"{stage.name}.null" in graph.stages:
            attrs["null"] = graph.path(f"{stage.name}.null")
        promise = stage.promise(stage.times)
        found.append(
            StageDeclaration(
                stage.group,
                graph.keys[stage.name],
                promise,
                len(graph.chain(stage.name).grid),
                attrs,
                **({} if part == sweep else {"cases": part}),
            )
        )
    return found
