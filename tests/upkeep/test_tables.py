"""Tables that other programs read: row by row what the profile shows, bit for bit, in bounded memory."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import xarray as xr

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.layout import StoreLayout
from flowprofile.upkeep import tables
from flowprofile.upkeep.export import export
from pipelines import pipeline

FAST = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
STAGES = {"trajectory": {"keep": "::4"}, "step_ssim": {"use": "ssim"}}
ENDINGS = pytest.mark.parametrize("ending", ["arrow", "parquet"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    into = tmp_path_factory.mktemp("tables") / "store"
    running.run(pipeline(seeds="0:5", labels=(1, 0), steps=20, **STAGES), into=into, layout=FAST)
    return fp.open(into)


def table_of(path):
    if path.suffix == ".parquet":
        return pa.parquet.read_table(path)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def tensors(table, name):
    return table[name].combine_chunks().to_numpy_ndarray()


@ENDINGS
def test_a_row_is_a_case_at_a_state(tree, tmp_path, ending, monkeypatch):
    # Small enough that rows are cut within every axis.
    monkeypatch.setattr(tables, "BATCH", 3 * 4000)
    chosen = tree.profile.sel(seed=[3, 1], time=slice(800, 100), objects="trajectory")
    table = table_of(export(chosen, tmp_path / f"x.{ending}"))
    assert table.num_rows == chosen["x_t"][..., 0, 0, 0].size
    assert [str(n) for n in table["seed"].to_pylist()[:4]] == ["3"] * 4
    found = tensors(table, "x_t")
    for row, values in zip(table.to_pylist(), found, strict=True):
        at = {axis: row[axis] for axis in ("intervention", "label", "seed", "time")}
        cell = chosen.sel(at)
        assert values.tobytes() == cell["x_t"].values.tobytes()
        assert row["status"] == cell["status"] == 2
        assert row["alpha_bar"] == cell["alpha_bar"]
    kind = table.schema.field("x_t").type
    assert (kind.shape, kind.dim_names) == (list(found.shape[1:]), ["channel", "y", "x"])
    told = json.loads(table.schema.metadata[b"flowprofile"])
    assert told["rows"] == ["intervention", "label", "seed", "time"]
    assert told["tensors"]["x_t"] == {"dims": ["channel", "y", "x"], "shape": kind.shape}
    assert told["attrs"]["x_t"]["pixel_range"] == chosen["x_t"].attrs["pixel_range"]
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".")]


@ENDINGS
def test_no_bit_changes_whatever_the_number_is(tmp_path, ending):
    bits = np.array([0x7FC00000, 0x7FC00001, 0xFFC12345, 0x80000000, 0, 1, 0x7F800000], np.uint32)
    half = np.array([0x7E00, 0x7E01, 0x8000, 0, 1, 0x7C00, 0xFBFF], np.uint16)
    data = xr.Dataset(
        {
            "value": (("seed", "time"), np.resize(bits, (4, 7)).view(np.float32)),
            "maps": (("seed", "time", "x"), np.resize(half, (4, 7, 3)).view(np.float16)),
            "flag": (("seed", "x"), np.arange(12).reshape(4, 3) % 2 == 0),
            "layerless": (("time",), np.arange(7, dtype=np.int64)),
        },
        coords={
            "seed": [4, 3, 2, 1],
            "x": [0, 1, 2],
            "prompt": ("seed", np.array(["a", "", "ü", "d"], object)),
        },
    )
    table = table_of(export(data, tmp_path / f"x.{ending}"))
    assert table["value"].combine_chunks().to_numpy().tobytes() == data["value"].values.tobytes()
    assert tensors(table, "maps").tobytes() == data["maps"].values.tobytes()
    flags = table["flag"].combine_chunks().storage.to_pylist()
    assert flags == np.repeat(data["flag"].values, 7, axis=0).tolist()
    assert table["layerless"].to_pylist() == list(range(7)) * 4
    assert table["prompt"].to_pylist() == np.repeat(["a", "", "ü", "d"], 7).tolist()
    assert table["time"].to_pylist() == list(range(7)) * 4


def test_what_cannot_be_a_table_is_refused_and_nothing_stays(tree, tmp_path, monkeypatch):
    with pytest.raises(DefinitionError, match="holds 2 objects"):
        export(tree, tmp_path / "x.arrow")
    with pytest.raises(DefinitionError, match="holds 0 objects"):
        export(xr.Dataset(coords={"seed": [1]}), tmp_path / "x.parquet")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(StoreError, match="need pyarrow") as refusal:
        export(tree.profile.sel(objects="trajectory"), tmp_path / "deep" / "x.arrow")
    assert "flowprofile[arrow]" in refusal.value.remedy
    assert not list(tmp_path.iterdir())


def test_a_table_is_written_in_less_memory_than_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "BATCH", 2**20)
    lazy = xr.DataArray(np.zeros((1, 64, 65536), np.float32), dims=("label", "seed", "x")).chunk({"seed": 4})
    data = xr.Dataset({"activation": lazy + 1})
    export(data.isel(seed=[0]), tmp_path / "first.arrow")  # what is imported then is no batch
    tracemalloc.start()
    export(data, tmp_path / "warm.arrow")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "warm.arrow").stat().st_size > lazy.nbytes
    assert peak < lazy.nbytes // 3


def test_its_writers_are_imported_when_a_table_is_written():
    # Pandas imports pyarrow itself, where it is there; never its Parquet.
    program = "import flowprofile.upkeep.export, flowprofile.cli.upkeep, sys; print('pyarrow.parquet' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_command_writes_a_table(tree, tmp_path):
    store = tmp_path / "store"
    running.run(pipeline(seeds="0:2", labels=(1,), steps=4, trajectory={}), into=store, layout=FAST)
    for args, path in (
        (("--objects", "trajectory", "--seed", "1"), tmp_path / "x.parquet"),
        (("--objects", "trajectory"), tmp_path / "y.arrow"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "flowprofile", "export", str(store), "--into", str(path), *args],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "KiB" in done.stdout
    assert table_of(tmp_path / "x.parquet").num_rows * 2 == table_of(tmp_path / "y.arrow").num_rows
