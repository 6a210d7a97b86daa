"""A store in plain values: what is in it and what is missing, for people and programs that do not open arrays."""

from math import prod
from typing import Any

import numpy as np

from flowprofile.errors import StoreError
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.store import Store
from flowprofile.store.urls import Where, place


def describe(url: Where) -> dict[str, Any]:
    """Runs, stages, axes and counts of a store, read from its metadata and the names of its receipts."""
    store = Store.open(url)
    runs = [_run(store, name, run) for name, run in store.runs().items()]
    if not runs:
        raise StoreError(
            f"There is no profile at {place(url).url!r}.",
            remedy="run a pipeline into it: flowprofile run first-profile --into STORE",
        )
    return {"store": store.url, "runs": runs}


def _run(store: Store, name: str, run: RunRecord) -> dict[str, Any]:
    stages = sorted(run.stages.items(), key=lambda item: (item[1].group, item[1].order))
    return {
        "name": name,
        "model": dict(run.attrs.get("model", {})),
        "numerics": dict(run.attrs.get("numerics", {})),
        "definitions": list(run.attrs.get("definitions", [])),
        "interventions": list(run.interventions),
        "labels": list(run.labels),
        "seeds": list(run.seeds),
        "stages": [_stage(store, name, run, path, stage) for path, stage in stages],
    }


def _stage(store: Store, name: str, run: RunRecord, path: str, stage: StageRecord) -> dict[str, Any]:
    requested = _requested(run, stage)
    present = store.present(name, path)
    cell = sum(
        prod(variable.tail) * np.dtype(variable.form.dtype).itemsize for variable in stage.variables.values()
    )
    return {
        "name": path,
        "group": stage.group,
        "kind": stage.attrs.get("kind", ""),
        "version": stage.attrs.get("version", 0),
        "params": dict(stage.attrs.get("params", {})),
        "key": stage.key,
        "times": list(stage.time or ()),
        "variables": list(stage.variables),
        "requested": int(requested.sum()),
        "present": int((requested & present).sum()),
        "bytes": int(present.sum()) * cell,
    }


def _requested(run: RunRecord, stage: StageRecord) -> np.ndarray:
    """Flags (intervention, label, seed, time) of the cells that were ever asked for."""
    flags = np.zeros((*run.shape, stage.times), dtype=np.bool_)
    for request in stage.requests:
        seeds = [seed for start, stop in request.seeds for seed in range(start, stop)]
        times = [time for start, stop in request.times for time in range(start, stop)]
        flags[np.ix_(request.interventions, request.labels, seeds, times)] = True
    return flags
