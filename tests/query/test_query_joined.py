"""Stages that hold different pixels of one volume are one node, and reading a pixel reads that pixel."""

import pickle
from dataclasses import replace

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.errors import StoreError
from flowprofile.opening import open as open_profile
from flowprofile.store import lazy
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace
from flowprofile.store.promise import promise
from flowprofile.store.snapshot import snapshot
from flowprofile.store.store import Store
from flowprofile.store.tree import Opener
from flowprofile.store.verify import verify

WIDTH = 8
RUN = RunDeclaration("net", "ab" * 8, (1, 4))


def volume(
    key: str, pixels: list[int], times: list[int], *, of: str = "1a2b", side: int = WIDTH, **params: object
) -> StageDeclaration:
    """Rows of some pixels, numbered y * 8 + x."""
    chosen = np.array(pixels)
    made = promise(
        {"gradient": (("time", "pixel", "y", "x"), "float32")},
        {
            "time": times,
            "alpha_bar": ("time", np.array(times) / 20),
            "pixel": chosen,
            "pixel_y": ("pixel", chosen // WIDTH),
            "pixel_x": ("pixel", chosen % WIDTH),
            "y": np.arange(side),
            "x": np.arange(side),
        },
    )
    attrs = {"params": {"pixels": pixels, **params}, "join": {"axis": "pixel", "of": of}}
    return StageDeclaration("gradients/pgv", key * 10, made, 20, attrs)


def truth(seed: int, t: int, pixel: int, side: int = WIDTH) -> np.ndarray:
    plane = np.arange(side * side).reshape(side, side)
    return (plane + seed * 1e4 + t * 100 + pixel / 128).astype("float32")


def fill(
    url: str, stage: StageDeclaration, seeds: tuple[int, ...], *, layout: StoreLayout, write: bool = True
) -> None:
    with Store.open(url, layout=layout) as store:
        run = store.prepare(RUN, Sweep(seeds, (0,)), [stage])
        record = run.stages[stage.folder]
        pixels, side = stage.promise["pixel"].values, stage.promise.sizes["y"]
        asked = np.isin(run.seeds, seeds)[None, None, :, None] & np.isin(record.time, stage.promise["time"])
        mask = asked & ~store.present(RUN.folder, stage.folder)
        for region in store.cut(RUN.folder, stage.folder, mask) if write else ():
            times = list(record.time[slice(*region.times)])
            values = [
                [[truth(seed, t, p, side) for p in pixels] for t in times]
                for seed in run.seeds[slice(*region.seeds)]
            ]
            dims = ("case", "time", "pixel", "y", "x")
            store.write(region, xr.Dataset({"gradient": (dims, np.array(values))}, coords={"time": times}))


@pytest.fixture
def layout(specimen) -> StoreLayout:
    return specimen.LAYOUT


@pytest.fixture
def joined(tmp_path, layout) -> str:
    """Three masks: the second asked for later states, the third was never computed."""
    url = str(tmp_path / "s")
    fill(url, volume("a", [9, 3, 60], [16, 12, 8], reduce="sum"), (0, 1), layout=layout)
    fill(url, volume("b", [2, 40], [12, 4], reduce="sum"), (1, 2), layout=layout)
    fill(url, volume("c", [10], [12], reduce="sum"), (0,), layout=layout, write=False)
    return url


def test_pixels_of_several_masks_are_one_node(joined) -> None:
    tree = open_profile(joined)
    assert [node.path for node in tree["gradients"].leaves] == ["/gradients/pgv"]
    data = tree["gradients/pgv"].to_dataset()
    assert data["gradient"].dims == ("intervention", "label", "seed", "time", "pixel", "y", "x")
    assert data["status"].dims == ("intervention", "label", "seed", "time", "pixel")
    assert data["pixel"].values.tolist() == [2, 3, 9, 10, 40, 60]
    assert data["pixel_y"].values.tolist() == [0, 0, 1, 1, 5, 7]
    assert data["pixel_x"].values.tolist() == [2, 3, 1, 2, 0, 4]
    assert data["time"].values.tolist() == [16, 12, 8, 4]
    npt.assert_array_equal(data["alpha_bar"], [0.8, 0.6, 0.4, 0.2])
    assert data.attrs["params"] == {"reduce": "sum"}
    assert data.attrs["keys"] == ["a" * 10, "b" * 10, "c" * 10]
    status = data["status"].isel(intervention=0, label=0)
    held = {9: ({0, 1}, {16, 12, 8}), 3: ({0, 1}, {16, 12, 8}), 60: ({0, 1}, {16, 12, 8}),
            2: ({1, 2}, {12, 4}), 40: ({1, 2}, {12, 4}), 10: (set(), set())}  # fmt: skip
    for seed in (0, 1, 2):
        for t in data["time"].values.tolist():
            for pixel, (seeds, times) in held.items():
                cell = data["gradient"].isel(intervention=0, label=0).sel(seed=seed, time=t, pixel=pixel)
                present = seed in seeds and t in times
                missing = 1 if (pixel, seed, t) == (10, 0, 12) else 0
                assert int(status.sel(seed=seed, time=t, pixel=pixel)) == (2 if present else missing)
                npt.assert_array_equal(cell, truth(seed, t, pixel) if present else np.full((8, 8), np.nan))


def test_the_plain_name_shows_the_mask_that_was_asked_for_last_and_another_name_all_pixels(
    tmp_path, layout
) -> None:
    url = str(tmp_path / "s")
    for key, pixels in (("a", [2, 40]), ("b", [3, 9, 60])):
        fill(url, volume(key, pixels, [12], reduce="sum"), (0,), layout=layout)
    asked = {"gradients/pgv": {"1a2b": [2, 9, 60], "ffff": [5]}}
    run = replace(RUN, attrs={"masks": asked})
    with Store.open(url, layout=layout) as store:
        store.prepare(run, Sweep((0,), (0,)), [volume("b", [3, 9, 60], [12], reduce="sum")])
    tree = open_profile(url)
    shown, whole = tree["gradients/pgv"].to_dataset(), tree["gradients/pgv[pixel=all]"].to_dataset()
    assert shown["pixel"].values.tolist() == [2, 9, 60]
    assert whole["pixel"].values.tolist() == [2, 3, 9, 40, 60]
    xr.testing.assert_identical(shown.load(), whole.isel(pixel=[0, 2, 4]).load())
    npt.assert_array_equal(
        shown["gradient"].sel(pixel=9, seed=0, time=12, intervention="none", label=0), truth(0, 12, 9)
    )
    assert tree.profile.sel(pixel=(1, 1), objects="gradients/pgv")["status"].item() == 2
    fill(url, volume("d", [5, 6], [12], of="ffff", reduce="abs"), (0,), layout=layout)
    again = open_profile(url)["gradients"]
    assert set(again.children) == {"pgv", "pgv[reduce=abs]", "pgv[reduce=sum]"}, (
        "every version has a name already"
    )


def test_any_selection_of_a_joined_node(joined) -> None:
    gradient = open_profile(joined)["gradients/pgv"]["gradient"].isel(intervention=0, label=0)
    whole = gradient.load().copy()
    fresh = open_profile(joined)["gradients/pgv"]["gradient"].isel(intervention=0, label=0)
    for key in (
        {"pixel": [5, 0, 3], "time": slice(None, None, -1)},
        {"pixel": slice(4, None, -2), "y": [7, 0], "x": 3},
        {"pixel": 2, "seed": [1, 1, 0]},
        {"pixel": xr.DataArray([1, 5], dims="p"), "time": xr.DataArray([0, 1], dims="p")},
        {"pixel": []},
    ):
        xr.testing.assert_identical(fresh.isel(key).load(), whole.isel(key))
    xr.testing.assert_identical(pickle.loads(pickle.dumps(fresh)).load(), whole)


def test_a_joined_array_that_is_large_is_in_blocks(joined, monkeypatch) -> None:
    small = open_profile(joined)["gradients/pgv"].to_dataset().load()
    monkeypatch.setattr(lazy, "LARGE", 0)
    large = open_profile(joined)["gradients/pgv"].to_dataset()
    assert large["gradient"].chunks is not None
    assert large["status"].chunks is not None
    xr.testing.assert_identical(large.compute(), small)


def test_missing_pixels_are_refused_where_that_was_asked_for(joined) -> None:
    gradient = open_profile(joined, missing="raise")["gradients/pgv"]["gradient"]
    assert np.isfinite(gradient.sel(seed=1, time=12, pixel=[40, 3])).all()
    with pytest.raises(StoreError, match="missing"):
        gradient.sel(seed=1, time=8, pixel=[40, 3]).load()


def test_only_what_fits_is_joined(joined, layout) -> None:
    """Other recipes, other shapes and pixels that are there already stay nodes of their own."""
    fill(joined, volume("d", [5], [12], of="ffff", reduce="abs"), (0,), layout=layout)
    fill(joined, volume("e", [9, 11], [12], reduce="sum"), (0,), layout=layout)
    fill(joined, volume("f", [6], [12], of="1a2b", side=4, reduce="sum"), (0,), layout=layout)
    tree = open_profile(joined)
    nodes = {name: node["pixel"].values.tolist() for name, node in tree["gradients"].children.items()}
    assert nodes == {
        "pgv": [6],
        "pgv[key=ffffffffff]": [6],
        "pgv[key=eeeeeeeeee]": [9, 11],
        "pgv[reduce=abs]": [5],
        "pgv[key=aaaaaaaaaa]": [2, 3, 9, 10, 40, 60],
    }
    assert verify(joined).sound


class Counting(LocalPlace):
    """A folder that counts the bytes of data read."""

    count = 0

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        data = super().read(key, start, stop)
        Counting.count += len(data or b"") if key.startswith("profile.zarr") and "/c." in key else 0
        return data


def test_one_pixel_reads_its_own_chunks(tmp_path) -> None:
    """Of 1.5 MiB per state, one pixel's inner chunk."""
    layout = StoreLayout(chunk="16 KiB", shard="512 KiB", durability="none")
    url, side = str(tmp_path / "s"), 32
    fill(url, volume("a", list(range(64)), [16, 12], side=side), (0, 1), layout=layout)
    fill(url, volume("b", list(range(64, 96)), [16], side=side), (0,), layout=layout)
    place = Counting(tmp_path / "s")
    Counting.count = 0
    tree = Opener(place, snapshot(place).record, version="", missing="nan").tree(None)
    gradient = tree["gradients/pgv"]["gradient"].isel(intervention=0, label=0)
    assert Counting.count == 0
    one = gradient.sel(seed=1, time=12, pixel=17).load()
    npt.assert_array_equal(one, truth(1, 12, 17, side))
    assert one.nbytes == 4096
    assert Counting.count <= 16 * 1024 + 64
    Counting.count = 0
    np.testing.assert_array_equal(gradient.sel(seed=0, time=16, pixel=[3, 70])[1], truth(0, 16, 70, side))
    assert Counting.count <= 2 * (16 * 1024 + 64)
    assert np.isnan(gradient.sel(seed=1, time=12, pixel=70)).all()
