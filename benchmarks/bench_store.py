"""What the store costs beside the network: writing, opening, and reading one profile of many."""

import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from benchmarks.harness import Row, exact, summary
from flowprofile.cases import Sweep
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace
from flowprofile.store.promise import promise
from flowprofile.store.snapshot import snapshot
from flowprofile.store.store import Store
from flowprofile.store.tree import Opener

RUN = RunDeclaration("bench", "ab" * 8, (1, 4))
LAYOUT = StoreLayout(durability="none")


def rows(*, tiny: bool = False) -> list[Row]:
    """Throughput per CPU-second, the cost of opening, and bytes read for one profile."""
    folder = Path(tempfile.mkdtemp(prefix="bench-store"))
    try:
        return [
            writing(folder / "write", tiny=tiny),
            *opening(folder, tiny=tiny),
            selecting(folder / "select", tiny=tiny),
        ]
    finally:
        shutil.rmtree(folder)


def stage(name: str, key: str, times: int, tail: tuple[int, ...]) -> StageDeclaration:
    """A stage of one array."""
    dims = ("time", "channel", "y", "x")[: 1 + len(tail)]
    sizes = dict(zip(dims[1:], tail, strict=True))
    steps = np.arange(times - 1, -1, -1)
    coords = {"time": steps, "alpha_bar": ("time", np.linspace(1, 0, times))}
    return StageDeclaration(name, key * 10, promise({"value": (dims, "float32")}, coords, sizes=sizes), times)


def fill(store: Store, declared: StageDeclaration, data: np.ndarray) -> None:
    """Write the same noise everywhere."""
    times = store.stages(RUN.folder)[declared.folder].time or ()
    for region in store.cut(RUN.folder, declared.folder, ~store.present(RUN.folder, declared.folder)):
        (s0, s1), (t0, t1) = region.seeds, region.times
        dims = ("case", *declared.promise["value"].dims)
        block = xr.Dataset({"value": (dims, data[: s1 - s0, : t1 - t0])}, coords={"time": list(times[t0:t1])})
        store.write(region, block)


def noise(times: int, tail: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, times, *tail), dtype=np.float32)


def writing(folder: Path, *, tiny: bool) -> Row:
    """A trajectory with the default codec."""
    times, tail = (8, (3, 8, 8)) if tiny else (1001, (3, 32, 32))
    declared, data, speeds = stage("trajectory", "a", times, tail), noise(times, tail), []
    for _ in range(1 if tiny else 9):
        shutil.rmtree(folder, ignore_errors=True)
        with Store.open(folder, layout=LAYOUT) as store:
            store.prepare(RUN, Sweep(tuple(range(8)), (0,)), [declared])
            began = time.process_time()
            fill(store, declared, data)
            speeds.append(2 * data.nbytes / 1e6 / (time.process_time() - began))
    return summary("writing x_t, MB per CPU-second", speeds, target=">= 400")


def opening(folder: Path, *, tiny: bool) -> list[Row]:
    """Thirty stage groups of a thousand steps, for a hundred seeds and for ten thousand."""
    groups, times = (3, 8) if tiny else (30, 1001)
    medians = {}
    found = []
    for seeds in (10, 20) if tiny else (100, 10_000):
        with Store.open(folder / str(seeds), layout=LAYOUT) as store:
            tails: list[tuple[int, ...]] = [(16, 8, 8) if n % 2 else () for n in range(groups)]
            stages = [stage(f"objects/s{n}", f"{n:02x}", times, tail) for n, tail in enumerate(tails)]
            store.prepare(RUN, Sweep(tuple(range(seeds)), (0, 1)), stages)
        open_profile(folder / str(seeds))
        spent = [_cpu_ms(folder / str(seeds)) for _ in range(1 if tiny else 21)]
        row = summary(f"opening {groups} groups, {seeds} seeds, CPU ms", spent, target="<= 100")
        found.append(row)
        medians[seeds] = row.measured
    small, large = medians.values()
    return [*found, exact("opening many seeds / few seeds", large / max(small, 1e-9), target="<= 1.5x")]


def _cpu_ms(folder: Path) -> float:
    began = time.process_time()
    open_profile(folder)
    return 1e3 * (time.process_time() - began)


class Counting(LocalPlace):
    """A folder that counts the bytes of data read from it."""

    count = 0

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        data = super().read(key, start, stop)
        self.count += len(data or b"") if "/value/c." in key else 0
        return data


def selecting(folder: Path, *, tiny: bool) -> Row:
    """One case, forty consecutive steps, of a stored trajectory."""
    times, tail = (40, (3, 8, 8)) if tiny else (1001, (3, 32, 32))
    declared = stage("trajectory", "a", times, tail)
    with Store.open(folder, layout=LAYOUT) as store:
        store.prepare(RUN, Sweep((0, 1, 2, 3), (0,)), [declared])
        fill(store, declared, noise(times, tail))
    place = Counting(folder)
    tree = Opener(place, snapshot(place).record, version="", missing="nan").tree(None)
    part = tree["trajectory"]["value"].isel(seed=1, label=0, intervention=0, time=slice(0, 40)).load()
    return exact("bytes read / bytes wanted, 40 steps of one case", place.count / part.nbytes, target="<= 2x")
