"""Every kind of array a stage may promise, from its declaration to other readers of Zarr."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr

from flowprofile.cases import Case, Sweep
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import StageDeclaration
from flowprofile.store.layout import StoreLayout, form
from flowprofile.store.promise import promise
from flowprofile.store.verify import repair, verify

TIMES = [12, 8, 4, 0]
LAYERS = np.array(["downs.0.fn", "mid_attn.fn", "ups.ü"], dtype=object)
PIXELS = np.array([3, 17, 40, 41, 63])
GRID = {"y": np.arange(8), "x": np.arange(8)}
TIME = {"time": TIMES, "alpha_bar": ("time", np.linspace(0, 1, 4))}
PLACES = {"pixel": PIXELS, "pixel_y": ("pixel", PIXELS // 8), "pixel_x": ("pixel", PIXELS % 8)}
PROMISES = {
    "strongest": promise({"index": (("time", "layer"), "int64")}, {**TIME, "layer": LAYERS}),
    "strongest_fixed": promise({"index": (("time", "layer"), "int16")}, {**TIME, "layer": LAYERS.astype("U11")}),
    "mask": promise({"inside": (("y", "x"), "bool")}, GRID),
    "maskt": promise({"inside": (("time", "y", "x"), "bool")}, {**TIME, **GRID}),
    "volume": promise({"gradient": (("time", "pixel", "y", "x"), "float32")}, {**TIME, **PLACES, **GRID}),
    "half": promise({"activation": (("time", "channel", "y", "x"), "float16")}, {**TIME, **GRID}, sizes={"channel": 6}),
    "pairs": promise({"distance": (("time", "other_label"), "float64")}, {**TIME, "other_label": [0, 1, 6]}),
    "number": promise({"count": ((), "int32")}, {"note": ((), np.array("seen once", object))}),
    "bytes": promise({"hue": (("time", "pixel"), "uint8")}, {**TIME, **PLACES}),
}  # fmt: skip
SEEDS, LABELS = (0, 1, 2, 4, 3), (0, 2)


def block(made: xr.Dataset, cases: list[Case], times: list[int] | None) -> xr.Dataset:
    """Cells that differ everywhere; integers have a non-finite one (-1) among them."""
    data = {}
    for name, variable in made.data_vars.items():
        timed = "time" in variable.dims
        cells = []
        for case in cases:
            rng = np.random.default_rng([case.seed, case.label])
            whole = rng.integers(-1, 9, variable.shape)
            whole = (
                whole % 2 if variable.dtype == bool else np.abs(whole) if variable.dtype == "uint8" else whole
            )
            cells.append(whole[[TIMES.index(t) for t in times or ()]] if timed else whole)
        data[name] = (("case", *variable.dims), np.array(cells).astype(variable.dtype))
    return xr.Dataset(data, coords={} if times is None else {"time": times})


def declared(name: str) -> StageDeclaration:
    return StageDeclaration(name, "abcdef012"[list(PROMISES).index(name)] * 10, PROMISES[name], 13)


@pytest.fixture(params=list(PROMISES))
def kind(request, specimen, house):
    """A store with one stage, half of whose regions are written."""
    stage, folder = declared(request.param), specimen.RUN.folder
    with house.open() as store:
        record = store.prepare(house.run, Sweep(SEEDS, LABELS[:1]), [stage])
        record = store.prepare(house.run, Sweep(SEEDS[:3], LABELS), [stage])
        for region in store.cut(folder, stage.folder, ~store.present(folder, stage.folder)):
            if region.label == 0 or region.seeds[0] == 0:
                cases = [Case(record.seeds[s], record.labels[region.label]) for s in range(*region.seeds)]
                times = record.stages[stage.folder].time
                part = None if times is None else list(times[slice(*region.times)])
                store.write(region, block(stage.promise, cases, part))
    return house, stage


def test_every_kind_is_read_back_by_every_reader(specimen, kind) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    house, stage = kind
    times = TIMES if "time" in stage.promise.dims else None
    cases = [Case(s, n) for n in LABELS for s in (SEEDS if n == 0 else SEEDS[:4])]
    truth = block(stage.promise, cases, times)
    with house.open() as store:
        read = store.read(specimen.RUN.folder, stage.folder, cases)
    for name in truth.data_vars:
        npt.assert_array_equal(read[name], truth[name])
        assert read[name].dtype == truth[name].dtype
    root = Path(house.url) / "profile.zarr" / specimen.RUN.folder / stage.folder
    theirs = xr.open_datatree(Path(house.url) / "profile.zarr", engine="zarr")[
        f"{specimen.RUN.folder}/{stage.folder}"
    ]
    ours = open_profile(house.url)[stage.group].to_dataset().isel(intervention=0)
    for name in truth.data_vars:
        for row, case in enumerate(cases):
            npt.assert_array_equal(ours[name].sel(seed=case.seed, label=case.label), truth[name][row])
        gone = ours[name].sel(seed=3, label=2)
        empty = {"f": np.isnan(gone), "i": gone == -2}.get(truth[name].dtype.kind, gone == 0)
        assert bool(empty.all())
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{root}/{name}/"}}
        raw = tensorstore.open(spec).result().read().result()
        npt.assert_array_equal(theirs[name].values, raw)
        sorted_too = theirs[name].isel(intervention=0).sel(label=ours["label"], seed=ours["seed"])
        npt.assert_array_equal(sorted_too.values, ours[name].values)
        assert raw.dtype == truth[name].dtype
    for name, coordinate in stage.promise.coords.items():
        for seen in (ours, theirs, read):
            assert seen[name].values.tolist() == coordinate.values.tolist()
            assert seen[name].dims == coordinate.dims
            assert name in seen.coords
    assert (ours["status"].sel(label=0) == 2).all()
    assert (ours["status"].sel(label=2, seed=3) == 0).all()


def test_every_kind_is_verified_and_mended(specimen, kind) -> None:
    house, stage = kind
    assert verify(house.url).findings == ()
    before = house.contents()
    folder = Path(house.url) / "profile.zarr" / specimen.RUN.folder / stage.folder
    variable = next(iter(stage.promise.data_vars))
    for coordinate in stage.promise.coords:
        chunk = next((folder / str(coordinate)).glob("c*"))
        chunk.write_bytes(bytes(reversed(chunk.read_bytes())))
    (folder / variable / "zarr.json").unlink()
    assert not verify(house.url).sound
    assert repair(house.url).after.findings == ()
    assert house.contents() == before
    chunk = next((folder / variable).glob("c*"))
    whole = chunk.read_bytes()
    chunk.write_bytes(bytes([whole[0] ^ 255]) + whole[1:])
    assert {finding.kind for finding in verify(house.url).findings} == {"object damaged"}
    assert repair(house.url).after.findings == ()
    assert not verify(house.url).findings


KIB, MIB = 1024, 1024**2


@pytest.mark.parametrize(
    ("tail", "dtype", "inner", "shard"),
    [
        ((256, 16, 16), "float32", 256 * KIB, 4 * MIB),
        ((1024, 32, 32), "float32", 128 * KIB, 4 * MIB),
        ((512, 8, 8), "float32", 128 * KIB, 4 * MIB),
        ((42, 64, 64), "float16", 112 * KIB, 4 * MIB),
        ((3, 256, 256), "float32", 256 * KIB, 4 * MIB),
        ((2048, 64, 64), "float32", 128 * KIB, 32 * MIB),
        ((65,), "int64", 128 * KIB, 512 * KIB),
        ((16, 16), "float32", 128 * KIB, 1 * MIB),
    ],
)
def test_large_tails_are_cut_into_sane_pieces(tail, dtype, inner, shard) -> None:
    made = form(StoreLayout(), dtype=dtype, tail=tail, capacity=1001, tile=8)
    size = np.dtype(dtype).itemsize
    assert made.inner is not None
    assert 0.8 * inner <= np.prod(made.inner) * size <= 1.05 * inner
    assert 0.5 * shard <= np.prod(made.chunk) * size <= 1.05 * shard
    assert made.chunk[4:] == tail


@pytest.mark.parametrize(
    ("tail", "capacity"), [((), 1001), ((16,), 1001), ((3,), 5), ((8, 8), None), ((65,), 12)]
)
def test_tiny_arrays_are_one_chunk_per_tile_of_seeds(tail, capacity) -> None:
    made = form(StoreLayout(), dtype="float32", tail=tail, capacity=capacity, tile=8)
    assert made.inner is None
    assert made.chunk == (1, 1, 8, *([] if capacity is None else [capacity]), *tail)


@pytest.mark.parametrize("pixels", [67, 97, 333, 1021])
def test_a_number_of_pixels_without_divisors_is_filled_up(pixels) -> None:
    """A mask of 67 pixels once gave a thousand chunks of one pixel each."""
    made = form(StoreLayout(), dtype="float32", tail=(pixels, 32, 32), capacity=1001, tile=8)
    assert made.inner is not None
    assert 64 * KIB <= np.prod(made.inner) * 4 <= 256 * KIB
    assert pixels <= made.chunk[4] <= 1.04 * pixels
    assert made.chunk[4] % made.inner[4] == 0


def test_an_array_that_is_filled_up_is_read_by_everyone(specimen, tmp_path) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    layout = StoreLayout(chunk="1 KiB", shard="32 KiB", small="1 KiB", durability="none")
    house = specimen.House(str(tmp_path / "s"), layout=layout)
    states = list(range(12, -1, -1))
    axes = {"time": states, "pixel": np.arange(23), **GRID}
    made = promise({"gradient": (("time", "pixel", "y", "x"), "float32")}, axes)
    stage, cases = StageDeclaration("volume", "a" * 10, made, 13), [Case(0, 0), Case(1, 0)]
    truth = np.random.default_rng(0).standard_normal((2, 13, 23, 8, 8), dtype=np.float32)
    with house.open() as store:
        store.prepare(house.run, Sweep((0, 1), (0,)), [stage])
        (first, *others) = store.cut(
            house.run.folder, stage.folder, ~store.present(house.run.folder, stage.folder)
        )
        pieces = [replace(first, times=times) for times in ((2, 3), (0, 2), (3, first.times[1]))]
        for region in (*pieces, *others):
            part = {"gradient": (("case", "time", "pixel", "y", "x"), truth[:, slice(*region.times)])}
            store.write(region, xr.Dataset(part, coords={"time": states[slice(*region.times)]}))
        form = store.stages(house.run.folder)[stage.folder].variables["gradient"].form
        npt.assert_array_equal(store.read(house.run.folder, stage.folder, cases)["gradient"], truth)
    assert form.chunk[4] == 24
    gradient = open_profile(house.url)["volume"]["gradient"].isel(intervention=0, label=0)
    npt.assert_array_equal(gradient, truth)
    for rows in ([22], [0, 22, 5], slice(20, 23), 22):
        npt.assert_array_equal(gradient.isel(pixel=rows, time=2), truth[:, 2, rows])
    root = Path(house.url) / "profile.zarr" / house.run.folder / stage.folder / "gradient"
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{root}/"}}
    npt.assert_array_equal(tensorstore.open(spec).result().read().result()[0, 0], truth)
    theirs = xr.open_datatree(Path(house.url) / "profile.zarr", engine="zarr")[house.run.folder]
    npt.assert_array_equal(theirs[stage.folder]["gradient"][0, 0], truth)
    assert verify(house.url).findings == ()
