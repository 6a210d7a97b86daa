"""A store in plain values: what is in it and what is missing, for people and programs that do not open arrays."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from flowprofile.errors import StoreError
from flowprofile.store.ledger import Ledger, covered, fills
from flowprofile.store.record import Request, RunRecord, StageRecord
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
    requested, there, stored = _counts(store, name, run, path, stage)
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
        "requested": requested,
        "present": there,
        "bytes": stored * cell,
    }


def _counts(store: Store, name: str, run: RunRecord, path: str, stage: StageRecord) -> tuple[int, int, int]:
    """Cells that were ever asked for, those of them that are stored, and all that are stored.

    Looked at label by label: most labels of a sweep were asked for alike, what is complete is recognised, and only
    seeds that receipts speak of are laid out cell by cell.
    """
    ledger, seeds, times = Ledger(store.place, name, path), len(run.seeds), stage.times
    counts: dict[tuple[int, ...], int] = {}
    asked = present = stored = 0
    for intervention, label in np.ndindex(run.shape[:2]):
        which = tuple(
            number
            for number, request in enumerate(stage.requests)
            if intervention in request.interventions and label in request.labels
        )
        requests = [stage.requests[number] for number in which]
        if which not in counts:
            counts[which] = (
                _area(requests[0])
                if len(requests) == 1
                else int(_requested(requests, (0, seeds), times).sum())
            )
        count = counts[which]
        asked += count
        rows = ledger.rows(intervention, label)
        if fills(rows, seeds, times):
            present, stored = present + count, stored + seeds * times
        elif len(rows):
            stretch = int(rows[:, 0].min()), int(rows[:, 1].max())
            known = covered(rows, stretch, times)
            present += int((_requested(requests, stretch, times) & known).sum())
            stored += int(known.sum())
    return asked, present, stored


def _area(request: Request) -> int:
    """Cells of one label that a request asks for."""
    seeds, times = (sum(stop - start for start, stop in ranges) for ranges in (request.seeds, request.times))
    return seeds * times


def _requested(requests: Sequence[Request], seeds: tuple[int, int], times: int) -> np.ndarray:
    """Flags [seed time] of the cells, in a stretch of seeds, that some requests of one label ask for."""
    flags = np.zeros((seeds[1] - seeds[0], times), dtype=np.bool_)
    for request in requests:
        for first, stop in request.seeds:
            for start, end in request.times:
                flags[max(0, first - seeds[0]) : max(0, stop - seeds[0]), start:end] = True
    return flags
