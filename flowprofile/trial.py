"""A trial of a store layout: a small store is filled, and asked what profiles are asked.

What a layout costs cannot be read off its file: how many bytes a question touches depends on how questions and
chunks lie across each other. So bytes and requests are counted as they pass, below everything that reads; times
beside them are this machine's, with what it just wrote still in memory.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.errors import DefinitionError
from flowprofile.selecting import ProfileAccessor
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.encoding import digest
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import Place
from flowprofile.store.promise import promise
from flowprofile.store.regions import Region
from flowprofile.store.snapshot import snapshot
from flowprofile.store.store import Store
from flowprofile.store.tree import Opener
from flowprofile.store.urls import place

CHANNELS = 3
TILE = 8
"""Seeds of a tile, as a batch of the engine has."""
ROWS = 64
"""Random rows that a probe is trained on."""
_TRAJECTORY, _MEASURE = "trajectory", "measures/mean"


@dataclass(frozen=True)
class Load:
    """What a trial stores: ``x_t (time, channel, y, x)`` of every case, and one measure ``(time,)``."""

    seeds: int = 64
    labels: int = 2
    steps: int = 400
    side: int = 32

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise DefinitionError(
                    f"The trial's {name} is {value!r}.", remedy="give a whole number from 1"
                )

    @property
    def bytes(self) -> int:
        """Bytes of all values."""
        return self.seeds * self.labels * self.steps * 4 * (CHANNELS * self.side**2 + 1)


@dataclass(frozen=True)
class Answer:
    """What one question cost."""

    ms: float
    """Median of the repetitions, on a store that was opened and not yet asked anything."""
    read: int
    """Bytes that passed, receipts included."""
    wanted: int
    """Bytes of the answer."""
    requests: int
    """Reads, looks at a size, and lists: what an object store is asked."""
    digest: str
    """Of the values, which no layout may change."""


@dataclass(frozen=True)
class Trial:
    """What a layout cost."""

    stored: int
    """Bytes of all objects, metadata and ledger included."""
    objects: int
    rate: float
    """Megabytes of values written per CPU-second."""
    answers: Mapping[str, Answer]


@dataclass
class Counted:
    """A place that counts what passes; everything else is the place's own."""

    where: Place
    requests: int = 0
    taken: int = 0
    """Bytes that were read."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.where, name)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """As the place, counted."""
        data = self.where.read(key, start, stop)
        self.requests += 1
        self.taken += len(data or b"")
        return data

    def size(self, key: str) -> int | None:
        """As the place, counted."""
        self.requests += 1
        return self.where.size(key)

    def list(self, prefix: str) -> Iterator[str]:
        """As the place, counted as one request."""
        self.requests += 1
        return self.where.list(prefix)


def state(seed: int, label: int, load: Load) -> npt.NDArray[np.float32]:
    """The states of a case, ``(time, channel, y, x)`` from noise to image: x_t = √ᾱ x_0 + √(1 - ᾱ) ε."""
    rng = np.random.default_rng([seed, label])
    grid = np.linspace(0, np.pi, load.side, dtype=np.float32)
    phase = rng.uniform(0, np.pi, (CHANNELS, 1, 1)).astype(np.float32)
    image = np.sin(grid[:, None] * (1 + label) + phase) * np.cos(grid + phase)
    kept = np.linspace(0, 1, load.steps, dtype=np.float32)[:, None, None, None]
    noise = rng.standard_normal((load.steps, *image.shape), dtype=np.float32)
    return cast("npt.NDArray[np.float32]", np.sqrt(kept) * image + np.sqrt(1 - kept) * noise)


def fill(url: str, layout: StoreLayout, load: Load) -> float:
    """Write a trial's store; the CPU-seconds that writing took, making the values not included."""
    times = np.arange(load.steps - 1, -1, -1)
    axes = {"time": times, "channel": np.arange(CHANNELS)} | {a: np.arange(load.side) for a in ("y", "x")}
    states = promise({"x_t": (("time", "channel", "y", "x"), "float32")}, axes)
    measure = promise({"value": (("time",), "float32")}, {"time": times})
    run = RunDeclaration("trial", "0" * 16, (1, TILE), {"model": {"name": "trial"}})
    stages = [
        StageDeclaration(_TRAJECTORY, "1" * 10, states, load.steps),
        StageDeclaration(_MEASURE, "2" * 10, measure, load.steps),
    ]
    spent = time.process_time()
    with Store.open(url, layout=layout) as store:
        store.prepare(run, Sweep(tuple(range(load.seeds)), tuple(range(load.labels))), stages)
        spent = time.process_time() - spent
        for stage in stages:
            wanted = ~store.present(run.folder, stage.folder)
            for region in store.cut(run.folder, stage.folder, wanted):
                block = _block(region, load)
                start = time.process_time()
                store.write(region, block)
                spent += time.process_time() - start
    return spent


def _block(region: Region, load: Load) -> xr.Dataset:
    part = slice(*region.times)
    x = np.stack([state(seed, region.label, load)[part] for seed in range(*region.seeds)])
    times = np.arange(load.steps - 1, -1, -1)[part]
    if region.group.startswith(_TRAJECTORY):
        return xr.Dataset({"x_t": (("case", "time", "channel", "y", "x"), x)}, coords={"time": times})
    return xr.Dataset({"value": (("case", "time"), x.mean((2, 3, 4)))}, coords={"time": times})


def profile(tree: xr.DataTree, load: Load) -> npt.NDArray[Any]:
    """One profile over time."""
    return _states(tree, seed=load.seeds // 2, label=load.labels - 1).values


def step(tree: xr.DataTree, load: Load) -> npt.NDArray[Any]:
    """One step over all seeds and labels."""
    return _states(tree, time=load.steps // 3).values


def pixel(tree: xr.DataTree, load: Load) -> npt.NDArray[Any]:
    """One pixel over time and the seeds of a label."""
    middle = load.side // 2
    return _states(tree, label=0).isel(y=middle, x=middle).values


def rows(tree: xr.DataTree, load: Load) -> npt.NDArray[Any]:
    """Random (case, step) rows, as a probe is trained on."""
    rng = np.random.default_rng(0)
    picked = [rng.integers(0, n, ROWS).tolist() for n in (load.seeds, load.labels, load.steps)]
    whole = _states(tree)
    return np.stack([whole.isel(seed=s, label=n, time=t).values for s, n, t in zip(*picked, strict=True)])


QUERIES: Mapping[str, Callable[[xr.DataTree, Load], npt.NDArray[Any]]] = {
    "profile": profile, "step": step, "pixel": pixel, "rows": rows
}  # fmt: skip


def _states(tree: xr.DataTree, **choice: Any) -> xr.DataArray:
    chosen = ProfileAccessor(tree).sel(**choice, objects=_TRAJECTORY)
    assert isinstance(chosen, xr.Dataset)
    return chosen["x_t"].isel(intervention=0)


def ask(url: str, query: str, load: Load, *, repeats: int = 1) -> Answer:
    """What a question costs on a trial's store; each repetition opens it anew."""
    seconds, values, seen = [], np.zeros(0), Counted(place(url))
    for _ in range(max(1, repeats)):
        seen = Counted(place(url))
        tree = Opener(cast(Place, seen), snapshot(seen.where).record, version="", missing="raise").tree(None)
        start = time.perf_counter()
        values = QUERIES[query](tree, load)
        seconds.append(time.perf_counter() - start)
    return Answer(
        1000 * statistics.median(seconds), seen.taken, values.nbytes, seen.requests,
        digest(np.ascontiguousarray(values).tobytes()),
    )  # fmt: skip


def tried(url: str, layout: StoreLayout, load: Load, *, repeats: int = 5) -> Trial:
    """Fill a new store with a layout, and ask it everything."""
    spent = fill(url, layout, load)
    where = place(url)
    sizes = [where.size(key) or 0 for part in ("profile.zarr", "ledger") for key in where.list(part)]
    answers = {query: ask(url, query, load, repeats=repeats) for query in QUERIES}
    return Trial(sum(sizes), len(sizes), load.bytes / 1e6 / spent, answers)
