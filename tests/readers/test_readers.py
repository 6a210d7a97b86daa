"""Every array of a store, of every layout, through three readers that know nothing of us.

zarr-python, the same with zarrs (a codec pipeline in Rust) and tensorstore; with the root document's consolidated
metadata and without.
"""

import itertools
import warnings
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr
import zarr

from flowprofile.cases import Sweep
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import layout, names
from flowprofile.store.promise import promise
from flowprofile.store.record import RunRecord, StageRecord
from flowprofile.store.regions import Region
from flowprofile.store.store import Store

TIMES = list(range(11, -1, -1))
RUN = RunDeclaration(
    "first", "ab" * 8, (1, 2), {"model": "none"}, {"smile": {0: False, 2: True}},
    {"strength": {"none": 0.0, "gain": 2.0}},
)  # fmt: skip
GRID = {"y": np.arange(32), "x": np.arange(32)}
PROMISES = {
    "trajectory": promise(
        {"x_t": (("time", "channel", "y", "x"), "float32")},
        {"time": TIMES, **GRID, "channel": np.arange(8)},
    ),
    "activation": promise(
        {"value": (("time", "channel", "y", "x"), "float16")},
        {"time": TIMES, **GRID, "channel": np.arange(16)},
    ),
    # 67 has no divisors: an object has room for a row more than the array
    "volume": promise(
        {"gradient": (("time", "pixel", "y", "x"), "float32")},
        {"time": TIMES, **GRID, "pixel": np.arange(67)},
    ),
    "measures/ssim": promise(
        {"value": (("time",), "float32"), "index": (("time", "layer"), "int64")},
        {"time": TIMES, "layer": np.array(["down", "ü"], object)},
    ),
    "mask": promise({"inside": (("y", "x"), "bool")}, GRID),
}
STAGES = [
    StageDeclaration(name, "abcde"[number] * 10, made, len(TIMES))
    for number, (name, made) in enumerate(PROMISES.items())
]
SWEEPS = [Sweep((0, 1), (0,)), Sweep((0, 1, 5), (0, 2)), Sweep((1,), (2,), ("gain",))]
ZARRS = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}


def cells(seed: int, label: int, intervention: str, like: xr.DataArray) -> np.ndarray:
    """The values of a case: any number its type has, of either sign where it has signs."""
    rng = np.random.default_rng([seed, label, len(intervention)])
    noise = rng.standard_normal(like.shape, dtype=np.float32) * 3
    return (noise > 0 if like.dtype == bool else noise).astype(like.dtype)


@pytest.fixture(scope="module", params=names())
def filled(request, tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A store of a shipped layout, grown by a seed, a label and an intervention; and what is in it, by array."""
    path = tmp_path_factory.mktemp(request.param) / "store"
    with Store.open(path, layout=layout(request.param)) as store:
        for sweep in SWEEPS:
            run = store.prepare(RUN, sweep, STAGES)
            for stage in STAGES:
                missing = asked(run, run.stages[stage.folder]) & ~store.present(RUN.folder, stage.folder)
                for region in store.cut(RUN.folder, stage.folder, missing):
                    store.write(region, block(run, region, stage.promise))
    truth = {
        f"{stage.folder}/{name}": whole(run, run.stages[stage.folder], str(name), stage.promise)
        for stage in STAGES
        for name in stage.promise.data_vars
    }
    return path / "profile.zarr", truth


def asked(run: RunRecord, stage: StageRecord) -> np.ndarray:
    """Which cells were ever asked for: ``(intervention, label, seed, time)``."""
    wanted = np.zeros((*run.shape, stage.times), bool)
    for request in stage.requests:
        for (first, last), label in itertools.product(request.seeds, request.labels):
            wanted[list(request.interventions), label, first:last] = True
    return wanted


def block(run: RunRecord, region: Region, made: xr.Dataset) -> xr.Dataset:
    """What a stage computes for a region."""
    timed = "time" in made.dims
    part = made.isel(time=slice(*region.times)) if timed else made
    at = run.labels[region.label], run.interventions[region.intervention]
    data = {}
    for name, like in made.data_vars.items():
        cases = np.stack([cells(run.seeds[s], *at, like) for s in range(*region.seeds)])
        data[name] = (("case", *like.dims), cases[:, slice(*region.times)] if timed else cases)
    return xr.Dataset(data, coords={"time": part["time"]} if timed else {})


def whole(run: RunRecord, stage: StageRecord, name: str, made: xr.Dataset) -> np.ndarray:
    """An array as it should be stored: its cells, and the fill value where none was asked for."""
    variable = stage.variables[name]
    result = np.full(run.array_shape(stage, variable), variable.form.fill, variable.form.dtype)
    for i, label, s in np.argwhere(asked(run, stage)[..., 0]).tolist():
        result[i, label, s] = cells(run.seeds[s], run.labels[label], run.interventions[i], made[name])
    return result


def arrays_of(root: Path, *, consolidated: bool) -> dict[str, zarr.Array]:
    """Every array below the root."""
    group = zarr.open_group(root, mode="r", use_consolidated=consolidated)
    return {path: node for path, node in group.members(max_depth=None) if isinstance(node, zarr.Array)}


def test_every_array_is_there(filled) -> None:
    root, truth = filled
    arrays = arrays_of(root, consolidated=True)
    assert set(arrays) == set(arrays_of(root, consolidated=False))
    assert {f"{RUN.folder}/{name}" for name in truth} < set(arrays)
    assert {str(path.parent.relative_to(root)) for path in root.rglob("c.*")} == set(arrays)


@pytest.mark.parametrize("consolidated", [True, False])
def test_zarr_python_reads_what_was_written(filled, consolidated) -> None:
    root, truth = filled
    arrays = arrays_of(root, consolidated=consolidated)
    for name, expected in truth.items():
        raw = arrays[f"{RUN.folder}/{name}"][...]
        assert raw.dtype == expected.dtype
        npt.assert_array_equal(raw, expected)
    assert arrays[f"{RUN.folder}/seed"][:].tolist() == [0, 1, 5]
    assert arrays[f"{RUN.folder}/intervention"][:].tolist() == ["none", "gain"]


@pytest.mark.parametrize("consolidated", [True, False])
def test_zarrs_reads_every_array_as_zarr_python_does(filled, consolidated) -> None:
    """A warning would mean that zarrs does not know a codec and leaves the array to zarr-python: it is an error."""
    pytest.importorskip("zarrs")
    root, _ = filled
    plain = arrays_of(root, consolidated=consolidated)
    with zarr.config.set(ZARRS), warnings.catch_warnings(action="error"):
        fast = arrays_of(root, consolidated=consolidated)
        for name, array in fast.items():
            assert type(array.async_array.codec_pipeline).__name__ == "ZarrsCodecPipeline", name
            npt.assert_array_equal(array[...], plain[name][...])
            if array.ndim > 3:
                npt.assert_array_equal(array[0, 0, 1, 3:9], plain[name][0, 0, 1, 3:9])


def test_tensorstore_reads_every_array_that_is_not_text(filled) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    root, _ = filled
    left_out = set()
    for name, array in arrays_of(root, consolidated=False).items():
        if array.dtype.kind not in "biuf":
            left_out.add(name.rpartition("/")[2])
            continue
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{root}/{name}/"}}
        read = tensorstore.open(spec, read=True).result()
        npt.assert_array_equal(read.read().result(), array[...])
        if array.ndim > 3:
            npt.assert_array_equal(read[0, 0, 1, 3:9].read().result(), array[0, 0, 1, 3:9])
    assert left_out == {"intervention", "layer"}, "tensorstore knows no type of variable-length strings"
