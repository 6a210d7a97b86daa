"""A part of a store as a store of its own, and a store in another form: the same bits, and nothing else asked for."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from kept_stores import FAST, Killed, killer, sweep, told

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError, IntegrityError
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import MemoryPlace
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep import pins
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.joining import laid_out
from flowprofile.upkeep.merge import merge
from flowprofile.upkeep.migrate import migrate

OTHER = StoreLayout(durability="none", chunk="2 KiB", shard="4 KiB", small="4 KiB", codec="zstd")
PART = Cells(stages=("trajectory", "measures/step_ssim"), seeds=(1, 2, 4), labels=(1,), times="::5")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    url = tmp_path_factory.mktemp("base") / "store"
    running.run(sweep(), into=url, layout=FAST)
    return url


def copied(base, into, cells=None, *, layout=FAST, **how):
    with Store.open(into, layout=layout) as target:
        return merge([Store.open(base)], target, cells=cells, **how)


def test_a_part_has_the_same_bits_and_asks_for_nothing_else(base, tmp_path):
    copied(base, tmp_path / "part", PART)
    tree, whole = fp.open(tmp_path / "part"), fp.open(base)
    assert set(tree.children) == {"trajectory", "measures"}
    states = tree["trajectory"]
    assert states["seed"].values.tolist() == [1, 2, 4]
    assert states["label"].values.tolist() == [1]
    assert states["time"].values.tolist() == [1000, 750, 500, 250, 0]
    for name, variable in (
        ("trajectory", "x_t"),
        ("measures/step_ssim", "value"),
        ("measures/step_ssim", "null"),
    ):
        part = tree[name][variable].load()
        assert part.notnull().any()
        xr.testing.assert_identical(part, whole[name][variable].sel(part.coords.indexes).load())
    counts = told(tmp_path / "part")
    assert (15, 15) in counts.values(), counts
    assert all(requested == present for requested, present in told(tmp_path / "part").values())
    assert verify(tmp_path / "part").findings == ()
    assert copied(base, tmp_path / "part", PART).regions == 0


def test_a_part_grows_to_the_whole_and_a_run_of_what_it_holds_has_nothing_to_do(base, tmp_path):
    part = Cells(seeds=(2, 3), labels=(1,))
    copied(base, tmp_path / "part", part)
    assert running.run(sweep(seeds="2:4", labels=(1,)), into=tmp_path / "part", layout=FAST).forwards == 0
    copied(base, tmp_path / "part")
    for name, variable in (("trajectory", "x_t"), ("predicted_x0", "x0_hat")):
        xr.testing.assert_identical(
            fp.open(tmp_path / "part")[name][variable].load(), fp.open(base)[name][variable].load()
        )
    assert running.run(sweep(), into=tmp_path / "part", layout=FAST).forwards == 0


def test_a_second_part_adds_its_own_cells_alone(base, tmp_path):
    copied(base, tmp_path / "parts", Cells(stages=("trajectory",), seeds=(0, 1), labels=(0,)))
    copied(base, tmp_path / "parts", Cells(stages=("trajectory",), seeds=(5,), labels=(1,), span=(500, 400)))
    status = fp.open(tmp_path / "parts")["trajectory"]["status"].load()
    assert (status.sel(seed=[0, 1], label=0) == 2).all()
    there = status.sel(seed=5, label=1)
    assert there["time"].values[there.values.ravel() == 2].tolist() == [500, 450, 400]
    assert (status.sel(seed=[0, 1], label=1) == 0).all()
    assert (status == 1).sum() == 0


def test_a_part_killed_at_every_phase_ends_the_same(base, tmp_path):
    heard = []
    copied(base, tmp_path / "whole", PART, listen=heard.append)
    whole = fp.open(tmp_path / "whole")["trajectory"].load()
    for at in range(0, len(heard), 7):
        url = f"memory://part-{tmp_path.name}-{at}"
        with pytest.raises(Killed):
            copied(base, url, PART, listen=killer(at))
        copied(base, url, PART)
        xr.testing.assert_identical(fp.open(url)["trajectory"].load(), whole)
        assert all(requested == present for requested, present in told(url).values())


@pytest.mark.parametrize(
    ("cells", "said"),
    [(Cells(seeds=(99,)), "Nothing that was asked of"), (Cells(stages=("trajektory",)), "has no stage")],
)
def test_a_part_of_nothing_is_refused_before_anything_is_written(base, tmp_path, cells, said):
    with pytest.raises(DefinitionError, match=said):
        copied(base, tmp_path / "part", cells)
    assert not (tmp_path / "part" / "profile.zarr").exists()


def test_a_migrated_store_has_another_form_and_the_same_bits(base, tmp_path):
    with Store.open(base) as store:
        pins.pin(store, "measures/*")
    with Store.open(tmp_path / "new", layout=OTHER) as target:
        found = migrate(Store.open(base), target)
    with Store.open(tmp_path / "new", layout=OTHER) as target:
        again = migrate(Store.open(base), target)
        assert pins.pinned(target) == ("measures/*",)
    assert (again.regions, again.cells) == (0, found.cells)
    assert found.cells == sum(present for _, present in told(base).values())
    assert told(tmp_path / "new") == told(base)
    for node in fp.open(base).subtree:
        for name in node.data_vars:
            xr.testing.assert_identical(
                fp.open(tmp_path / "new")[node.path][name].load(), fp.open(base)[node.path][name].load()
            )
    [run] = Store.open(tmp_path / "new").runs().values()
    assert {v.form.codec for stage in run.stages.values() for v in stage.variables.values()} == {"zstd"}


@pytest.mark.parametrize("name", ["store", "../base/store", "link", "store/inside"])
def test_a_store_is_not_migrated_into_itself_whatever_it_is_called(base, tmp_path, name):
    here = tmp_path / "base"
    here.mkdir()
    shutil.copytree(base, here / "store")
    (here / "link").symlink_to(here / "store")
    before = sorted((here / "store").rglob("*"))
    with (
        Store.open(here / name, layout=FAST) as target,
        pytest.raises(DefinitionError, match="removes the only copy"),
    ):
        migrate(Store.open(here / "store"), target)
    assert [one for one in sorted((here / "store").rglob("*")) if one not in before] in (
        [],
        [here / "store/ledger/tmp"],
    )


def test_one_place_behind_two_addresses_is_known_by_what_is_written_there(base):
    class Gateway(MemoryPlace):
        """The same bytes under another address."""

        url = "memory://elsewhere"

    name = "memory://two-addresses"
    copied(base, name)
    with (
        Store.open(Gateway("two-addresses"), layout=FAST) as target,
        pytest.raises(DefinitionError, match="is the place of"),
    ):
        migrate(Store.open(name), target)


def test_a_layout_is_not_promised_to_arrays_that_have_one(base, tmp_path):
    copied(base, tmp_path / "there")
    with (
        Store.open(tmp_path / "there", layout=OTHER) as target,
        pytest.raises(DefinitionError, match="in another layout"),
    ):
        laid_out(target)
    laid_out(Store.open(tmp_path / "there", layout=FAST))  # what was cut off goes on
    laid_out(Store.open(tmp_path / "new", layout=OTHER))


def test_a_wrong_write_is_found_by_the_second_reading_alone(base, tmp_path, monkeypatch):
    write = Store.write

    def wrong(self, region, block, **how):
        changed = block.copy(deep=True)
        name = next(iter(changed.data_vars))
        changed[name].values.reshape(-1)[:1] = np.nextafter(changed[name].values.reshape(-1)[:1], 2)
        return write(self, region, changed, **how)

    monkeypatch.setattr(Store, "write", wrong)
    copied(base, tmp_path / "unseen", Cells(stages=("trajectory",)))
    with (
        Store.open(tmp_path / "new", layout=FAST) as target,
        pytest.raises(IntegrityError, match="in two stores with other values"),
    ):
        migrate(Store.open(base), target)


def test_the_commands_write_a_part_and_a_migrated_store(base, tmp_path):
    def say(*args, code=0):
        command = [sys.executable, "-m", "flowprofile", *map(str, args)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    part = ("--objects", "trajectory", "--measures", "step_ssim", "--seed", "1:3", "--time", "500:400")
    assert "cells; 0 were there" in say("export", base, "--into", tmp_path / "part", *part)
    assert fp.open(tmp_path / "part")["trajectory"]["time"].values.tolist() == [500, 450, 400]
    assert "no range of states" in say("export", base, "--into", tmp_path / "no", "--time", "a:b", code=2)
    assert "for stores" in say("export", base, "--into", tmp_path / "x.nc", "--layout", "local", code=2)
    assert "ends in none of" in say("export", base, "--into", tmp_path / "x.csv", code=2)
    assert "may go" in say("migrate", base, "--into", tmp_path / "new", "--layout", "archive")
    assert "may go" in say("migrate", base, "--into", tmp_path / "new", "--layout", "archive")
    assert "another layout" in say("migrate", base, "--into", tmp_path / "new", "--layout", "local", code=2)
    assert "may go" not in say("migrate", base, "--into", base, code=2)
    assert "another layout" in say("merge", base, "--into", tmp_path / "new", "--layout", "local", code=2)
