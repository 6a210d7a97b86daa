"""A small store of every kind of array, whose every cell is a function of its coordinates."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr

from flowprofile.cases import Case, Sweep
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.phases import Phase, silent
from flowprofile.store.places import LocalPlace
from flowprofile.store.promise import promise
from flowprofile.store.regions import Region
from flowprofile.store.store import Store

T = 12
SHAPE = (3, 8, 8)
LAYOUT = StoreLayout(chunk="2 KiB", shard="6 KiB", small="1 KiB", durability="none")
TRAJECTORY = "trajectory@" + "c" * 10
MEASURE = "measures/step_ssim@" + "e" * 10
COUNT = "measures/count@" + "d" * 10
RUN = RunDeclaration(
    "first",
    "ab" * 8,
    (1, 4),
    {"model": "gaussian", "definition": {"steps": T}},
    {"male": {n: bool(n & 2) for n in range(4)}, "smile": {n: bool(n & 1) for n in range(4)}},
)


def state(case: Case, t: int) -> np.ndarray:
    """What the trajectory of a case is at t."""
    rng = np.random.default_rng([case.seed, case.label, len(case.intervention), t])
    return rng.standard_normal(SHAPE, dtype=np.float32)


def stages(times: Sequence[int]) -> list[StageDeclaration]:
    """A large array, a small one, and one of integers without time."""
    coords = {"time": list(times), "alpha_bar": ("time", np.linspace(0, 1, T + 1)[list(times)])}
    axes = {"y": np.arange(SHAPE[1]), "x": np.arange(SHAPE[2]), "channel": np.arange(SHAPE[0])}
    trajectory = promise({"x_t": (("time", "channel", "y", "x"), "float32")}, {**coords, **axes})
    measure = promise({"value": (("time",), "float32")}, coords, variable_attrs={"value": {"units": "1"}})
    count = promise({"count": ((), "int32")}, {})
    return [
        StageDeclaration("trajectory", "c" * 64, trajectory, T + 1, {"version": 1}),
        StageDeclaration(
            "measures/step_ssim", "e" * 64, measure, T + 1, {"version": 1, "params": {"win": 7}}
        ),
        StageDeclaration("measures/count", "d" * 64, count, T + 1, {"version": 1}),
    ]


def block(store: Store, region: Region) -> xr.Dataset:
    """What a stage computes for a region."""
    run, stage = store.runs()[region.run], store.stages(region.run)[region.group]
    cases = [
        Case(run.seeds[s], run.labels[region.label], run.interventions[region.intervention])
        for s in range(*region.seeds)
    ]
    if stage.time is None:
        return xr.Dataset({"count": ("case", np.array([count(case) for case in cases], np.int32))})
    times = list(stage.time[slice(*region.times)])
    x = np.array([[state(case, t) for t in times] for case in cases])
    if region.group == TRAJECTORY:
        return xr.Dataset({"x_t": (("case", "time", "channel", "y", "x"), x)}, coords={"time": times})
    return xr.Dataset({"value": (("case", "time"), x.mean((2, 3, 4)))}, coords={"time": times})


def count(case: Case) -> int:
    return case.seed * 100 + case.label


def value(case: Case, t: int) -> np.float32:
    """What the measure of a case is at t."""
    return np.array([[state(case, t)]]).mean((2, 3, 4))[0, 0]


@dataclass
class House:
    """Requests and fillings, with a listener that can kill."""

    url: str
    layout: StoreLayout = LAYOUT
    listen: Callable[[Phase], None] = silent
    order: Callable[[list[Region]], list[Region]] = field(default=lambda regions: regions)
    run: RunDeclaration = RUN

    def open(self) -> Store:
        return Store.open(self.url, layout=self.layout)

    def request(self, sweep: Sweep, times: Sequence[int], *, fill: bool = True) -> None:
        """Grow for a request and compute what it misses."""
        with self.open() as store:
            store.prepare(self.run, sweep, stages(times), listen=self.listen)
            if fill:
                self.fill(store)

    def fill(self, store: Store) -> None:
        for region in self.order(self.missing(store)):
            store.write(region, block(store, region), listen=self.listen)

    def missing(self, store: Store) -> list[Region]:
        run = self.run.folder
        return [
            region
            for group in (TRAJECTORY, MEASURE, COUNT)
            for region in store.cut(run, group, ~store.present(run, group))
        ]

    def contents(self) -> dict[str, str]:
        """Digests of everything that must be byte-identical: the arrays and the receipts."""
        with self.open() as store:
            place = store.place
            keys = [*place.list("profile.zarr"), *place.list("ledger/receipts")]
            return {key: hashlib.sha256(place.read(key)).hexdigest() for key in keys}


def copy_of(house: House, folder: Path) -> House:
    """The same bytes elsewhere."""
    shutil.copytree(house.url, folder)
    return House(str(folder))


def place_of(house: House) -> LocalPlace:
    return LocalPlace(Path(house.url))
