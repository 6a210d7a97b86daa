"""What it costs to compare every pair of labels over many seeds: reading stored curves, tallying, and onsets."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

import flowprofile as fp
from benchmarks.harness import Row, exact
from flowprofile.cases import Sweep
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.promise import promise
from flowprofile.store.store import Store

RUN = RunDeclaration("simulated", "ab" * 8, (2, 4), {"model": {"name": "simulated"}})
"""The tile that sixteen labels and hundreds of seeds are given."""
LAYOUT = StoreLayout(durability="none")
PEAK = """
import sys
from benchmarks.harness import peak
import flowprofile as fp
fp.compare(sys.argv[1], between="labels", seed=slice(0, int(sys.argv[2]) - 1))
print(peak())
"""


def rows(*, tiny: bool = False) -> list[Row]:
    """All pairs of sixteen labels, five hundred seeds, a thousand steps; in a tiny form of three, eight and twenty."""
    labels, seeds, steps = (3, 16, 20) if tiny else (16, 500, 1000)
    with simulated(labels, seeds, steps) as url:
        first, again = _timed(url), _timed(url)
        peaks = [_peak(url, count) for count in (seeds // 4, seeds)]
    pairs = labels * (labels - 1) // 2
    what = f"{pairs} pairs x {seeds} seeds x {steps} steps"
    return [
        exact(f"comparing {what}, seconds", first, target="" if tiny else "<= 60 s"),
        exact("the same again, from what was kept, seconds", again, target="" if tiny else "<= 5 s"),
        exact("peak memory of that, four times the seeds", peaks[1] / peaks[0], target="" if tiny else "<= 1.10x",
              note=f"{peaks[0] >> 20} and {peaks[1] >> 20} MiB"),
    ]  # fmt: skip


@contextmanager
def simulated(labels: int, seeds: int, steps: int) -> Iterator[str]:
    """A store with an SSIM between all labels, and its null, that no network made."""
    folder = Path(tempfile.mkdtemp(prefix="bench-stats"))
    try:
        with open_simulated(str(folder / "store"), labels, seeds, steps) as store:
            fill(store, labels)
        yield str(folder / "store")
    finally:
        shutil.rmtree(folder)


def curve(seeds: Sequence[int], label: int, labels: int, steps: int, late: float) -> np.ndarray:
    """The similarity of a label to every other, [seed, step, other]: it falls when the two part, a little unlike."""
    step = np.arange(steps + 1, dtype=np.float32)[:, None] / steps
    when = late * (0.3 + 0.4 * ((label + np.arange(labels)) % labels) / labels).astype(np.float32)
    parted = 1 / (1 + np.exp((when - step) * 30))
    spread = [np.random.default_rng([seed, label]).normal(1, 0.1, (1, labels)) for seed in seeds]
    noise = np.random.default_rng([*seeds, label]).normal(0, 0.01, (len(seeds), steps + 1, labels))
    return (1 - 0.6 * parted * np.array(spread) + noise).astype(np.float32)


def _stage(name: str, key: str, labels: int, steps: int) -> StageDeclaration:
    times = np.arange(steps, -1, -1)
    promised = promise(
        {"value": (("time", "other_label"), "float32")}, {"time": times, "other_label": np.arange(labels)}
    )
    attrs = {"kind": "ssim", "version": 1, "params": {"between": "labels", "window": 7, "data_range": 2.0}}
    return StageDeclaration(f"measures/{name}", key * 10, promised, steps + 1, attrs)


def open_simulated(url: str, labels: int, seeds: int, steps: int) -> Store:
    """A store that is declared for such curves, or has been before."""
    store = Store.open(url, layout=LAYOUT)
    declared = [_stage("label_ssim", "a", labels, steps), _stage("label_ssim.null", "b", labels, steps)]
    store.prepare(RUN, Sweep(tuple(range(seeds)), tuple(range(labels))), declared)
    return store


def fill(store: Store, labels: int) -> None:
    """Write whatever the store does not hold yet."""
    for folder, stage in store.stages(RUN.folder).items():
        late = 0.8 if stage.group.endswith(".null") else 1.0
        for region in store.cut(RUN.folder, folder, ~store.present(RUN.folder, folder)):
            at = slice(*region.times)
            values = curve(range(*region.seeds), region.label, labels, stage.capacity - 1, late)[:, at]
            data = xr.Dataset(
                {"value": (("case", "time", "other_label"), values)},
                coords={"time": list((stage.time or ())[at])},
            )
            store.write(region, data)


def _timed(url: str) -> float:
    began = time.perf_counter()
    fp.compare(url, between="labels", excess=True)
    return time.perf_counter() - began


def _peak(url: str, seeds: int) -> int:
    command = [sys.executable, "-c", PEAK, url, str(seeds)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
