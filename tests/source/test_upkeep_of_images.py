"""Stores of pictures are kept like any other: joined, narrowed, exported, opened by others; each seed keeps its image."""

import numpy as np
import pytest
import xarray as xr
from photographs import looking, photographs

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError
from flowprofile.store.layout import StoreLayout
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.export import export
from flowprofile.upkeep.merge import merge

FAST = StoreLayout(durability="none")
BESIDE = ("image", "digest", "draw")


def ran(folder, store, **how):
    running.run(looking(folder, **how), into=store, layout=FAST)
    return Store.open(store)


def told(store):
    """What stands beside each seed."""
    tree = fp.open(store)
    return {int(seed): [tree[name].sel(seed=seed).item() for name in BESIDE] for seed in tree.seed.values}


def test_stores_of_other_pictures_are_joined_and_parts_taken_out(tmp_path):
    one, other, both = (
        photographs(tmp_path / name, numbers)
        for name, numbers in zip("abc", ((0, 1), (1, 2), (0, 1, 2)), strict=True)
    )
    sources = [ran(folder, tmp_path / f"s{at}") for at, folder in enumerate((one, other))]
    ran(both, tmp_path / "whole")
    with Store.open(tmp_path / "joined", layout=FAST) as target:
        merge(sources, target)
    assert told(tmp_path / "joined") == told(tmp_path / "whole")
    assert verify(tmp_path / "joined").sound
    assert running.run(looking(both), into=tmp_path / "joined", layout=FAST).forwards == 0
    seeds = sorted(told(tmp_path / "whole"))[1:]
    with Store.open(tmp_path / "part", layout=FAST) as target:
        merge([Store.open(tmp_path / "whole")], target, cells=Cells(seeds=seeds))
    assert told(tmp_path / "part") == {seed: told(tmp_path / "whole")[seed] for seed in seeds}


def test_other_programs_read_which_image_it_is(tmp_path):
    ran(photographs(tmp_path / "p"), tmp_path / "s", draws=2)
    tree = fp.open(tmp_path / "s")
    raw = xr.open_datatree(tmp_path / "s" / "profile.zarr", engine="zarr")
    run = next(iter(raw.children.values()))
    found = dict(
        zip(
            run.seed.values.tolist(),
            zip(*(run[name].values.tolist() for name in BESIDE), strict=True),
            strict=True,
        )
    )
    assert {seed: list(values) for seed, values in found.items()} == told(tmp_path / "s")
    chosen = tree.profile.sel(image="1.png", objects="predicted_x0")
    export(chosen, tmp_path / "mine.nc")
    with xr.open_datatree(tmp_path / "mine.nc", engine="h5netcdf") as read:
        assert read["image"].values.tolist() == ["1.png", "1.png"]
        assert np.array_equal(read["x0_hat"].values, chosen["x0_hat"].values)
    mean = tree["predicted_x0"].x0_hat.isel(intervention=0, label=0).groupby("image").mean()
    assert mean.sizes["image"] == 3


def test_axes_of_many_pictures_span_chunks_and_grow_in_them(tmp_path):
    """Coordinates of seeds are cut at 1024; these need two chunks, and the second begins while they grow."""
    folder = photographs(tmp_path / "p", (0, 1))
    stages = {"far": {"use": "mse", "between": "final", "keep": [1000]}}
    for draws in (300, 520):
        ran(folder, tmp_path / "s", draws=draws, model="gaussian8", labels=[0], **stages)
    beside = told(tmp_path / "s")
    assert len(beside) == 1040
    assert sorted(draw for _, _, draw in beside.values()) == sorted(2 * list(range(520)))
    raw = next(iter(xr.open_datatree(tmp_path / "s" / "profile.zarr", engine="zarr").children.values()))
    assert set(raw.image.values) == {"0.png", "1.png"}
    assert verify(tmp_path / "s").sound


def test_images_are_selected_by_name_or_glob_with_all_their_draws(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1, 12))
    ran(folder, tmp_path / "s", draws=2)
    tree = fp.open(tmp_path / "s")

    def found(image, **more):
        chosen = tree.profile.sel(image=image, time=500, objects="predicted_x0", **more)
        return list(zip(chosen.image.values.tolist(), chosen.draw.values.tolist(), strict=True))

    assert found("1.png") == [("1.png", 0), ("1.png", 1)]
    assert found(["12.png", "0.png"]) == [("12.png", 0), ("12.png", 1), ("0.png", 0), ("0.png", 1)]
    assert {name for name, _ in found("1*")} == {"1.png", "12.png"}
    with pytest.raises(DefinitionError, match=r"No image is called '13\.png'.*\n.*12\.png"):
        found("13.png")
    with pytest.raises(DefinitionError, match="Both images and seeds"):
        found("1.png", seed=3)
    fp.profile("digits", seeds=[0], labels=[3], into=tmp_path / "t", sampler={"steps": 4})
    with pytest.raises(DefinitionError, match="are of noise, not of given images"):
        fp.open(tmp_path / "t").profile.sel(image="1.png")
