"""What grows with a sweep and what must not: opening, asking, selecting, memory; and what workers cost and bring."""

import gc
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

import flowprofile as fp
from benchmarks.bench_store import LAYOUT, stage
from benchmarks.harness import Row, exact, summary
from flowprofile import running
from flowprofile.cases import Sweep
from flowprofile.definitions import Pipeline
from flowprofile.description import describe
from flowprofile.models.numerics import settle
from flowprofile.store.declarations import RunDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.store import Store
from flowprofile.time.sample import sample

QUICK = StoreLayout(durability="none")
STEPS = 200
FORWARDS = 64 * STEPS
"""Of one task of `_sweep`: more than a second."""
CALLS = 4
"""Of what takes milliseconds, in one measurement."""
BARE = 12
"""Tasks of a stretch of bare sampling, for each of two processes."""
RUN_OF_EIGHT = RunDeclaration("run", "0123456789", (1, 8))
MEMORY = """
import sys
from benchmarks.harness import peak
from flowprofile import running
from flowprofile.definitions import Pipeline
p = Pipeline.model_validate(dict(model="gaussian8", sampler={"steps": 4}, cases={"seeds": "0:" + sys.argv[2], "labels": [0]},
    numerics={"batch": 250}, stages={"step_mse": {"use": "mse", "between": "steps"}}))
running.run(p, into=sys.argv[1])
print(peak())
"""


def rows(*, tiny: bool = False) -> list[Row]:
    """Stores of a hundred, a thousand and ten thousand seeds, and two workers against one."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        return [
            *_flat(base / "flat", tiny=tiny),
            _readers(base / "readers", tiny=tiny),
            _memory(base / "memory", tiny=tiny),
            *_workers(base / "workers", tiny=tiny),
        ]


def _flat(base: Path, *, tiny: bool) -> list[Row]:
    """A trajectory and a measure of which eight seeds are real, and all others declared."""
    times, tail = (20, (3, 8, 8)) if tiny else (1000, (3, 32, 32))
    works: dict[str, dict[int, Callable[[], object]]] = {"opening": {}, "status": {}, "one profile": {}}
    for seeds in (16, 32) if tiny else (100, 1_000, 10_000):
        url = base / str(seeds)
        with Store.open(url, layout=LAYOUT) as store:
            declared = [stage("trajectory", "a", times // 20, tail), stage("measures/ssim", "b", times, ())]
            store.prepare(RUN_OF_EIGHT, Sweep(tuple(range(seeds)), tuple(range(16))), declared)
            for one in declared:
                wanted = np.zeros((1, 1, 8, one.promise.sizes["time"]), bool)
                wanted[...] = True
                for region in store.cut(RUN_OF_EIGHT.folder, one.folder, wanted):
                    shape = (8, region.times[1] - region.times[0], *one.promise["value"].shape[1:])
                    states = one.promise["time"].values[slice(*region.times)]
                    dims = ("case", *one.promise["value"].dims)
                    block = xr.Dataset({"value": (dims, np.ones(shape, np.float32))}, coords={"time": states})
                    store.write(
                        region, block.assign_coords(one.promise.isel(time=slice(*region.times)).coords)
                    )
        tree = fp.open(url)
        works["opening"][seeds] = partial(fp.open, url)
        works["status"][seeds] = partial(describe, url)
        works["one profile"][seeds] = lambda tree=tree: tree.profile.sel(
            label=0, seed=3, time=slice(30, 0)
        ).load()
    found = []
    for name, by_seeds in works.items():
        few, many = min(by_seeds), max(by_seeds)
        spent = _in_turn(by_seeds, rounds=1 if tiny else 21)
        medians = {seeds: statistics.median(each) for seeds, each in spent.items()}
        if name != "status":
            found.append(
                exact(
                    f"{name}, {many:,} seeds x 16 labels, CPU ms",
                    medians[many],
                    target="" if tiny else "<= 100",
                )
            )
        shown = ", ".join(f"{seeds:,}: {ms:.1f} ms" for seeds, ms in medians.items())
        ratios = [one / other for one, other in zip(spent[many], spent[few], strict=True)]
        found.append(summary(f"{name}, {many:,} seeds against {few:,}", ratios,
                             target="" if tiny else "<= 1.5x", note=shown))  # fmt: skip
    return found


def _in_turn(works: Mapping[int, Callable[[], object]], *, rounds: int) -> dict[int, list[float]]:
    """CPU milliseconds of each in every round: what takes a few of them is lost in a clock that drifts."""
    spent: dict[int, list[float]] = {size: [] for size in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for size, work in works.items():
            gc.collect()
            began = time.process_time()
            for _ in range(CALLS):
                work()
            spent[size].append(1e3 * (time.process_time() - began) / CALLS)
    return spent


def _readers(url: Path, *, tiny: bool) -> Row:
    """A store that is opened again and again while it grows."""
    least, failed, opened = (20 if tiny else 500), 0, 0
    table = {
        "model": "gaussian8",
        "sampler": {"steps": 4},
        "stages": {"trajectory": {}, "step_mse": {"use": "mse"}},
    }

    def grow(seeds: int) -> None:
        cases = {"seeds": f"0:{seeds}", "labels": [0]}
        running.run(Pipeline.model_validate({**table, "cases": cases}), into=url, layout=QUICK)

    grow(1)
    done = threading.Event()

    def writer() -> None:
        seeds = 2
        while not done.is_set():
            grow(seeds)
            seeds += 1

    thread = threading.Thread(target=writer)
    thread.start()
    while opened < least:
        try:
            tree = fp.open(url)
            held = tree["trajectory"]["x_t"].isel(seed=0).load()
            failed += bool(np.isnan(held.values).any())
        except Exception as error:  # noqa: BLE001 - whatever it is counts
            failed += 1
            print(f"an open failed: {error!r}", flush=True)
        opened += 1
    done.set()
    thread.join()
    return exact(f"opens that failed, of {opened} while the store grew", failed, target="<= 0")


def _memory(base: Path, *, tiny: bool) -> Row:
    """The peak of a whole process, from start to end of a sweep."""
    peaks = []
    for seeds in (8, 16) if tiny else (1_000, 10_000):
        command = [sys.executable, "-c", MEMORY, str(base / str(seeds)), str(seeds)]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return exact("peak memory of a sweep, ten times the seeds", peaks[1] / peaks[0], target="" if tiny else "<= 1.10x",
                 note=f"{peaks[0] >> 20} and {peaks[1] >> 20} MiB")  # fmt: skip


def _workers(base: Path, *, tiny: bool) -> list[Row]:
    """Whole sweeps by one worker and by two, and what Dask takes for itself; in turn, since clocks drift."""
    if tiny:
        return []
    seen: dict[str, list[float]] = {"two": [], "dask": []}
    for turn in range(3):
        one, two, plain = (
            _per_task(base / str(turn), who, 10) for who in ("local:1", "local:2", "processes:1")
        )
        seen["two"].append(one / two)
        seen["dask"].append(one / plain)
    return [
        _throughput(base),
        summary("two Dask workers against one, tasks of seconds", seen["two"], target=">= 1.8x"),
        summary("a Dask worker against a plain process", seen["dask"], target="<= 1.02x"),
    ]


def _throughput(base: Path) -> Row:
    """Bare sampling before and after each sweep, since a clock that drifts would pass for a cost."""
    seen = []
    with multiprocessing.get_context("spawn").Pool(2) as pool:

        def bare() -> float:
            began = time.perf_counter()
            pool.map(_bare, [BARE, BARE])
            return (time.perf_counter() - began) / (2 * BARE)

        pool.map(_bare, [1, 1])
        around = [bare()]
        for turn in range(5):
            swept = _per_task(base / f"long{turn}", "local:2", 2 * BARE)
            around.append(bare())
            seen.append((around[-2] + around[-1]) / 2 / swept)
    return summary(
        "measures only on two Dask workers: throughput against bare sampling on the same cores",
        seen,
        target=">= 0.95x",
        note=f"{FORWARDS / around[-1]:,.0f} forwards a second bare",
    )


def _sweep(tasks: int) -> Pipeline:
    """So many tasks of `FORWARDS` forwards each."""
    return Pipeline.model_validate({
        "model": "digits", "sampler": {"steps": STEPS}, "numerics": {"batch": 64},
        "cases": {"seeds": f"0:{64 * tasks}", "labels": [3]}, "stages": {"step_mse": {"use": "mse"}},
    })  # fmt: skip


def _per_task(base: Path, who: str, more: int) -> float:
    """Seconds a task, from the moment two are done until so many more are: starting costs nothing.

    Told by when receipts were written. The difference of a short and a long run would hold the difference of two
    starts, which is more than what is asked for.
    """
    folder = base / who.replace(":", "-")
    running.run(_sweep(2 + more), into=folder, layout=QUICK, cluster=who)
    written = sorted(
        receipt.stat().st_mtime_ns for receipt in (folder / "ledger" / "receipts").rglob("*.json")
    )
    per_task = len(written) // (2 + more)
    return (written[-1] - written[2 * per_task - 1]) / 1e9 / more


def _bare(tasks: int) -> None:
    """The sampling of so many tasks alone: no measure, no store."""
    settle()
    ready = running.assembled(_sweep(tasks))
    context, cases = ready.context, tuple(ready.sweep)
    denoiser = context.open()
    for at in range(0, len(cases), context.batch):
        part = cases[at : at + context.batch]
        for _ in sample(denoiser, part, schedule=context.schedule, grid=context.grid, batch=context.batch):
            pass
