"""From a store's record to an `xarray.DataTree` under the names a researcher thinks in.

Shapes, axes and coordinates come from the layout record that belongs to the root document; the stored coordinates
are compared with it. The arrays themselves are not touched.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import CASE_AXES, INTERVENTION, LABEL, SEED, STORED_AXES, TIME
from flowprofile.errors import DefinitionError, StoreError, nearest
from flowprofile.store.joined import common, join_axis, joined, params_of, sets
from flowprofile.store.lazy import (
    STATUS,
    STATUS_ATTRS,
    Missing,
    StatusArray,
    StoredArray,
    variable_of,
    view_of,
)
from flowprofile.store.ledger import Ledger
from flowprofile.store.places import Place
from flowprofile.store.record import Record, RunRecord, StageRecord
from flowprofile.store.rendering import axis_array, coordinate_of

NULL = ".null"


class Opener:
    """One opening of one store."""

    def __init__(self, where: Place, record: Record, *, version: str, missing: Missing) -> None:
        self.place, self.record, self.version, self.missing = where, record, version, missing

    def tree(self, run: str | None) -> xr.DataTree:
        """The run asked for, or the only one; else one child per run."""
        chosen = self._chosen(run)
        nodes: dict[str, xr.Dataset] = {}
        for path, folder in chosen.items():
            for name, data in self._run(folder):
                nodes["/".join(part for part in (path, name) if part) or "/"] = data
        tree = xr.DataTree.from_dict(nodes)
        tree.attrs.setdefault("flowprofile_url", self.place.url)
        return tree

    def _chosen(self, run: str | None) -> dict[str, str]:
        runs = self.record.runs
        if not runs:
            raise StoreError(
                f"The store {self.place.url!r} holds no run yet.", remedy="run a pipeline into it first"
            )
        if run is None and len(runs) > 1:
            names = [record.name for record in runs.values()]
            return {(r.name if names.count(r.name) == 1 else folder): folder for folder, r in runs.items()}
        matching = [folder for folder, record in runs.items() if run is None or run in (folder, record.name)]
        if len(matching) != 1:
            known = [*runs, *(record.name for record in runs.values())]
            raise DefinitionError(
                f"{self.place.url!r} has {len(matching) or 'no'} run{'s' if matching else ''} {run!r}.",
                remedy=f"name one by its folder: {', '.join(matching)}" if matching else nearest(run, known),
            )
        return {"": matching[0]}

    def _run(self, folder: str) -> Iterator[tuple[str, xr.Dataset]]:
        run = self.record.runs[folder]
        order = [_sorted(run.axis(axis), axis) for axis in CASE_AXES]
        coords = {
            axis: (axis, np.array(run.axis(axis), object if axis == INTERVENTION else np.int64)[at])
            for axis, at in zip(CASE_AXES, order, strict=True)
        }
        beside = _beside(run, order)
        link = {"flowprofile_url": self.place.url, "flowprofile_run": folder}
        order_attr = {"label_attributes": list(run.label_order)} if run.label_order else {}
        yield "", xr.Dataset(coords={**coords, **beside}, attrs={**run.attrs, **order_attr, **link})
        for name, members in _plain_names(run, lambda stage: self._begun(folder, stage)).items():
            # xarray inherits indexes only, so what is known of labels and interventions is said at every node
            if join_axis(run.stages[members[0]]) is None:
                yield name, self._stage(folder, members[0], order, beside)
            else:
                yield name, self._joined(folder, members, order, beside)

    def _joined(
        self,
        run_folder: str,
        folders: Sequence[str],
        order: Sequence[npt.NDArray[np.int64]],
        beside: Mapping[str, Any],
    ) -> xr.Dataset:
        stages = [self.record.runs[run_folder].stages[folder] for folder in folders]
        ledgers = [Ledger(self.place, run_folder, folder) for folder in folders]
        base = self._base(run_folder, "+".join(folders))
        return joined(ledgers, stages, order, base=base, missing=self.missing, beside=beside)

    def _begun(self, run_folder: str, folder: str) -> bool:
        """Whether anything of a stage is stored."""
        return next(Ledger(self.place, run_folder, folder).regions(), None) is not None

    def _base(self, run_folder: str, folder: str) -> str:
        """Names what is read, for task graphs."""
        return f"{self.place.url} {self.version} {run_folder}/{folder} {self.missing}"

    def _stage(
        self,
        run_folder: str,
        folder: str,
        order: Sequence[npt.NDArray[np.int64]],
        beside: Mapping[str, Any],
    ) -> xr.Dataset:
        run = self.record.runs[run_folder]
        stage = run.stages[folder]
        times = None if stage.time is None else sorted(stage.time, reverse=True)
        data = dict(self._variables(run_folder, folder, order, times))
        null = _null_of(run, stage)
        if null is not None:
            for key, value in self._variables(run_folder, null, order, times):
                if key != STATUS:
                    data["null" if key == "value" else f"{key}_null"] = value
        attrs = {**stage.promise_attrs, **stage.attrs, "key": stage.key}
        return xr.Dataset(data, coords={**_coords(stage, times), **beside}, attrs=attrs)

    def _variables(
        self,
        run_folder: str,
        folder: str,
        order: Sequence[npt.NDArray[np.int64]],
        times: Sequence[int] | None,
    ) -> Iterator[tuple[str, xr.Variable]]:
        stage = self.record.runs[run_folder].stages[folder]
        ledger = Ledger(self.place, run_folder, folder)
        view = view_of(stage, order, times)
        base = self._base(run_folder, folder)
        for key, variable in stage.variables.items():
            array = StoredArray(ledger, key, variable, view, missing=self.missing)
            name, form = f"{base} {key} {times}", variable.form
            yield key, variable_of(array, variable.dims, variable.attrs, name=name, aligned=form.chunk)
        status = StatusArray(ledger, stage.requests, view)
        dims = STORED_AXES if stage.time is not None else CASE_AXES
        if stage.time is None:
            lazy = variable_of(
                status, STORED_AXES, STATUS_ATTRS, name=f"{base} {STATUS}", aligned=(1, 1, 1024, 1)
            )
            yield STATUS, lazy.isel({TIME: 0})
        else:
            aligned = (1, 1, 1024, stage.capacity)
            yield (
                STATUS,
                variable_of(status, dims, STATUS_ATTRS, name=f"{base} {STATUS} {times}", aligned=aligned),
            )


def _sorted(values: Sequence[Any], axis: str) -> npt.NDArray[np.int64]:
    """Stored positions in the order in which they are shown; interventions keep the order of arrival."""
    if axis == INTERVENTION:
        return np.arange(len(values))
    return np.argsort(np.array(values, np.int64), kind="stable").astype(np.int64)


def _beside(run: RunRecord, order: Sequence[npt.NDArray[np.int64]]) -> dict[str, Any]:
    """The coordinates beside interventions, labels and seeds."""
    known = {
        INTERVENTION: (run.intervention_coords, order[0]),
        LABEL: (run.label_coords, order[1]),
        SEED: (run.seed_coords, order[2]),
    }
    return {
        name: (axis, axis_array(values)[at])
        for axis, (coords, at) in known.items()
        for name, values in coords.items()
    }


def _coords(stage: StageRecord, times: Sequence[int] | None) -> dict[str, Any]:
    where = {t: at for at, t in enumerate(stage.time or ())}
    shown = np.array([where[t] for t in times or ()], np.int64)
    names = [*([TIME] if stage.time is not None else []), *stage.coords]
    result = {}
    for name in names:
        coordinate = coordinate_of(name, stage)
        values = coordinate.array
        along_time = coordinate.dims == (TIME,)
        result[name] = (coordinate.dims, values[shown] if along_time else values, dict(coordinate.attrs))
    return result


def _plain_names(run: RunRecord, begun: Callable[[str], bool]) -> dict[str, tuple[str, ...]]:
    """Name to the folders it shows: the latest of each group plainly, and all of them by what tells them apart.

    One of which nothing is stored yet, since its run failed or is only beginning, does not take the plain name.
    """
    groups: dict[str, list[str]] = {}
    for folder, stage in run.stages.items():
        if not _is_null(run, stage):
            groups.setdefault(stage.group, []).append(folder)
    result: dict[str, tuple[str, ...]] = {}
    for group, folders in sorted(groups.items()):
        nodes = sorted(
            sets(run, folders), key=lambda node: max(run.stages[f].order for f in node), reverse=True
        )
        first = (node for node in nodes if len(nodes) == 1 or any(map(begun, node)))
        result[group] = next(first, nodes[0])
        if len(nodes) > 1:
            stages = [[run.stages[folder] for folder in node] for node in nodes]
            result |= {
                f"{group}[{text}]": node for text, node in zip(_told_apart(stages), nodes, strict=True)
            }
    return result


def _told_apart(nodes: Sequence[Sequence[StageRecord]]) -> list[str]:
    params = [common([_recipe(stage) for stage in stages]) for stages in nodes]
    names = sorted({name for each in params for name in each})
    differ = [n for n in names if len({json.dumps(each.get(n), sort_keys=True) for each in params}) > 1]
    texts = [",".join(f"{n}={_shown(each[n])}" for n in differ if each.get(n) is not None) for each in params]
    unique = [text if text and texts.count(text) == 1 else "" for text in texts]
    return [text or f"key={stages[0].key[:10]}" for text, stages in zip(unique, nodes, strict=True)]


def _recipe(stage: StageRecord) -> dict[str, Any]:
    """What a stage was asked to be."""
    return {**(stage.attrs.get("sampler") or {}), **params_of(stage)}


def _shown(value: Any) -> str:
    return str(value).replace("/", "|")


def _is_null(run: RunRecord, stage: StageRecord) -> bool:
    measured = {other.group for other in run.stages.values()}
    return stage.group.endswith(NULL) and stage.group.removesuffix(NULL) in measured


def _null_of(run: RunRecord, stage: StageRecord) -> str | None:
    """The stored null of a measure: the one it names, else the one with its parameters, else the latest.

    A measure that names none, "", has none.
    """
    if stage.attrs.get("null") == "":
        return None
    if stage.attrs.get("null") in run.stages:
        return str(stage.attrs["null"])
    nulls = [folder for folder, other in run.stages.items() if other.group == stage.group + NULL]
    nulls.sort(key=lambda folder: run.stages[folder].order)
    params = stage.attrs.get("params")
    same = [folder for folder in nulls if run.stages[folder].attrs.get("params") == params]
    found = same or nulls
    return found[-1] if found else None
