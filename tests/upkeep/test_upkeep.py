"""A store that shrinks, is tidied, joined and exported, and never holds a wrong number on the way."""

import os
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from safetensors.numpy import load_file

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.layout import StoreLayout
from flowprofile.store.ledger import RECEIPTS, Ledger, covered, fills
from flowprofile.store.places import LocalPlace
from flowprofile.store.segments import SETTLED, segment
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.compact import compact
from flowprofile.upkeep.drop import drop, losses
from flowprofile.upkeep.export import export
from flowprofile.upkeep.merge import merge
from flowprofile.upkeep.pins import pin, pinned, unpin
from flowprofile.upkeep.room import room
from flowprofile.upkeep.tidy import ABANDONED, gc, waste
from pipelines import pipeline

FAST = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
STAGES = {"trajectory": {}, "step_ssim": {"use": "ssim"}, "predicted_x0": {"keep": "::2"}}


def sweep(**changes):
    return pipeline(**{"seeds": "0:6", "labels": (0, 1), "steps": 20, **STAGES, **changes})


def contents(url):
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(files) if f.is_file()}


def data(found):
    return [key for key in found if key.startswith("profile.zarr/")]


@pytest.fixture
def filled(tmp_path):
    url = tmp_path / "store"
    running.run(sweep(), into=url, layout=FAST)
    return url


@pytest.mark.parametrize(
    ("cells", "forwards"),
    [
        (Cells(stages=("trajectory",), but_times="::5"), None),
        (Cells(stages=("trajectory", "predicted_x0"), seeds=(1, 4), labels=(1,)), 2 * 20),
        (Cells(stages=("measures/*",)), 0),
        (Cells(seeds=(2,)), 2 * 20),
    ],
)
def test_what_is_dropped_is_gone_and_grows_again_to_the_same_bytes(filled, cells, forwards):
    before, tree = contents(filled), fp.open(filled).load()
    with Store.open(filled) as store:
        promised = sum(loss.bytes for loss in losses(store, cells))
        assert drop(store, cells)
        gc(store)
        assert not any(loss.bytes for loss in losses(store, cells))
    left = contents(filled)
    sizes = [sum(len(found[key]) for key in data(found) if "/c." in key) for found in (before, left)]
    assert sizes[0] - sizes[1] == promised
    assert verify(filled).sound
    left = fp.open(filled)
    for node in ("trajectory", "predicted_x0", "measures/step_ssim"):
        for name, values in left[node].to_dataset().data_vars.items():
            if name != "status":
                there = left[node]["status"] == 2
                xr.testing.assert_equal(
                    values.where(there, drop=False), tree[node][name].where(there, drop=False)
                )
    plan = running.plan(sweep(), into=filled).plan
    outcome = running.run(sweep(), into=filled, layout=FAST)
    assert outcome.forwards == plan.forwards
    assert forwards is None or outcome.forwards == forwards
    after = contents(filled)
    # The regions are cut differently now; the data are the same.
    assert {key for key in data(before) if before[key] != after.get(key)} == set()


def test_a_drop_that_is_killed_anywhere_leaves_no_wrong_number(filled, tmp_path, monkeypatch):
    before, cells = contents(filled), Cells(stages=("trajectory",), but_times="::5")

    class Killed(BaseException):
        pass

    for nth in range(0, 40, 3):
        left = iter(range(nth))
        for verb in ("write", "delete"):
            real = getattr(LocalPlace, verb)

            def dies(self, *args, real=real, left=left, **options):
                if next(left, None) is None:
                    raise Killed
                return real(self, *args, **options)

            monkeypatch.setattr(LocalPlace, verb, dies)
        with suppress(Killed), Store.open(filled) as store:
            drop(store, cells)
        monkeypatch.undo()
        assert verify(filled).sound
        running.run(sweep(), into=filled, layout=FAST)
        after = contents(filled)
        assert {key for key in data(before) if before[key] != after.get(key)} == set()


def test_what_is_pinned_stays(filled):
    with Store.open(filled) as store:
        assert pin(store, "traj*", "measures/*") == ("traj*", "measures/*")
    with Store.open(filled) as store:
        with pytest.raises(DefinitionError, match="pinned"):
            drop(store, Cells(stages=("trajectory",)))
        assert all(step.cells.stages == ("predicted_x0",) for step in room(store, 0).steps)
        unpin(store, "traj*")
        assert pinned(store) == ("measures/*",)
        assert drop(store, Cells(stages=("trajectory",), seeds=(0,)))
        with pytest.raises(DefinitionError, match="did you mean 'trajectory'"):
            drop(store, Cells(stages=("trajectry",)))


def test_room_is_made_in_the_stated_order_and_never_of_measures(filled):
    with Store.open(filled) as store:
        everything = room(store, 0)
        assert [step.cells.stages[0] for step in everything.steps] == ["predicted_x0", "trajectory"]
        assert room(store, everything.held).steps == ()
        little = room(store, everything.held - 1)
        assert [step.cells.stages[0] for step in little.steps] == ["predicted_x0"]
        assert little.left == little.held - little.steps[0].bytes


def test_only_what_nobody_acknowledges_is_waste(filled):
    before = contents(filled)
    with Store.open(filled) as store:
        waste_of_growth = waste(store)
        assert all("ledger/" in key for key in waste_of_growth.keys)
        run = next(iter(store.runs()))
        group = next(iter(store.stages(run)))
        store.place.write(f"profile.zarr/{run}/{group}/x_t/c.9.9.9.9", b"junk")
        store.place.write("ledger/tmp/left", b"over")
        os.utime(filled / "ledger" / "tmp" / "left", ns=(0, time.time_ns() - 2 * ABANDONED))
        assert {key.rpartition("/")[2] for key in gc(store).keys} >= {"c.9.9.9.9", "left"}
        assert waste(store).keys == ()
    assert contents(filled) == before
    assert verify(filled).findings == ()


def test_a_segment_is_believed_only_as_long_as_it_is_true(filled):
    with Store.open(filled) as store:
        run = next(iter(store.runs()))
        assert compact(store).unsettled > 0  # everything was written just now
        for folder in (filled / RECEIPTS).glob("*/*/*"):
            os.utime(folder, ns=(time.time_ns() - 2 * SETTLED,) * 2)
        assert compact(store).regions == sum(1 for _ in (filled / RECEIPTS).rglob("*.json"))
        group = next(g for g in store.stages(run) if g.startswith("trajectory"))
        listed = Ledger(store.place, run, group)
        asked = []
        store.place.list, real = lambda prefix: (asked.append(prefix), real(prefix))[1], store.place.list
        rows = Ledger(store.place, run, group).rows(0, 0)
        assert asked == []
        assert rows.tolist() == listed.rows(0, 0).tolist()
        region = next(iter(Ledger(store.place, run, group).regions()))
        store.retire(region)  # the folder changes
        assert list(region.seeds + region.times) not in Ledger(store.place, run, group).rows(0, 0).tolist()
        key = next(iter((filled / "ledger" / "segments").rglob("trajectory*")))
        data = key.read_bytes()
        for broken in (b"", data[:50], data[:-1] + bytes([data[-1] ^ 1])):
            key.write_bytes(broken)
            assert segment(store.place, run, group) == {}
    assert running.run(sweep(), into=filled, layout=FAST).regions == 1


def test_rows_that_lie_edge_to_edge_fill_a_box():
    rows = np.array([[s, min(s + 4, 10), t, min(t + 3, 8)] for s in range(0, 10, 4) for t in range(0, 8, 3)])
    assert fills(rows, 10, 8)
    assert covered(rows, (0, 10), 8).all()
    for gone in range(len(rows)):
        less = np.delete(rows, gone, axis=0)
        assert not fills(less, 10, 8)
        assert not covered(less, (0, 10), 8).all()
    assert not fills(rows, 11, 8)
    assert not fills(rows[:0], 10, 8)
    assert covered(rows, (3, 6), 8).shape == (3, 8)


def test_stores_are_joined_and_joining_again_writes_nothing(tmp_path):
    running.run(sweep(seeds="0:6"), into=tmp_path / "whole", layout=FAST)
    running.run(sweep(seeds="0:4"), into=tmp_path / "a", layout=FAST)
    running.run(sweep(seeds="2:6", labels=(1, 0)), into=tmp_path / "b", layout=FAST)
    sources = [Store.open(tmp_path / name) for name in "ab"]
    with Store.open(tmp_path / "c", layout=FAST) as target:
        done = merge(sources, target)
    assert done.regions
    assert done.there  # seeds 2 and 3 are in both
    with Store.open(tmp_path / "c", layout=FAST) as target:
        again = merge(sources, target)
    assert (again.regions, again.cells) == (0, 0)
    assert verify(tmp_path / "c").sound
    xr.testing.assert_equal(
        fp.open(tmp_path / "c").to_dict()["/trajectory"].load(),
        fp.open(tmp_path / "whole").to_dict()["/trajectory"].load(),
    )
    assert running.run(sweep(), into=tmp_path / "c", layout=FAST).forwards == 0


def test_two_values_for_one_cell_are_refused(tmp_path, monkeypatch):
    running.run(sweep(seeds="0:4"), into=tmp_path / "a", layout=FAST)
    source = Store.open(tmp_path / "a")
    with Store.open(tmp_path / "c", layout=FAST) as target:
        merge([source], target)
    real = source.read

    def other(*args):
        return real(*args).map(lambda values: values + 1)

    monkeypatch.setattr(source, "read", other)
    with Store.open(tmp_path / "c", layout=FAST) as target, pytest.raises(StoreError, match="other values"):
        merge([source], target)


def test_selections_are_read_by_other_programs(filled, tmp_path):
    tree = fp.open(filled)
    chosen = tree.profile.sel(seed=[1, 2], label=1, time=slice(500, 100), objects="trajectory")
    expected = chosen["x_t"].values
    export(chosen, tmp_path / "x.nc")
    export(chosen, tmp_path / "x.zarr")
    export(chosen, tmp_path / "x.safetensors")
    with xr.open_datatree(tmp_path / "x.nc", engine="h5netcdf") as read:
        assert (read["x_t"].values == expected).all()
        assert read["time"].values.tolist() == list(range(500, 99, -50))
    assert (
        xr.open_datatree(tmp_path / "x.zarr", engine="zarr", consolidated=False)["x_t"].values == expected
    ).all()
    assert (load_file(tmp_path / "x.safetensors")["x_t"] == expected).all()
    with pytest.raises(DefinitionError, match="exists"):
        export(chosen, tmp_path / "x.nc")
    with pytest.raises(DefinitionError, match="ends in none"):
        export(chosen, tmp_path / "x.csv")
    export(tree, tmp_path / "all.safetensors")
    assert load_file(tmp_path / "all.safetensors")["trajectory/x_t"].shape == tree["trajectory"]["x_t"].shape


NO_ROOM = """
import resource, sys
import flowprofile as fp
from flowprofile.upkeep.export import export

chosen = fp.open(sys.argv[1]).profile.sel(objects="trajectory")
resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))
try:
    export(chosen, sys.argv[2])
except OSError as error:
    print(error.strerror, error.filename)
"""
"""No file may be longer than a few bytes, as on a full disk; in a process of its own, whose output may be a file."""


def test_a_full_disk_is_an_error_of_the_system_and_leaves_nothing(filled, tmp_path):
    words = [sys.executable, "-c", NO_ROOM, str(filled), str(tmp_path / "full" / "x.safetensors")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert "x.safetensors" in done.stdout
    assert list((tmp_path / "full").iterdir()) == []


def test_whoever_may_read_one_export_may_read_another(filled, tmp_path):
    chosen = fp.open(filled).profile.sel(objects="trajectory")
    files = [export(chosen, tmp_path / f"x{ending}") for ending in (".nc", ".safetensors", ".arrow")]
    assert len({stat.S_IMODE(file.stat().st_mode) for file in files}) == 1


def test_what_is_missing_is_computed_on_demand(filled):
    tree = running.ensure(filled, seeds=(4, 5, 6, 7), labels=(1,))
    assert tree["trajectory"]["x_t"].sel(label=1, seed=7).notnull().all()
    assert running.run(sweep(seeds="4:8", labels=(1,)), into=filled, layout=FAST).forwards == 0


def test_the_commands_say_what_they_do(filled, tmp_path):
    def say(*args, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "flowprofile", *map(str, args)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "regions lose cells" in say("drop", filled, "trajectory", "--keep-times", "::5", "--yes")
    assert "seeds" in say("drop", filled, "trajectory", "--seeds", "5:1", "--yes", code=2)
    assert "would be removed" in say("gc", filled, "--dry-run")
    assert "removed" in say("gc", filled)
    assert "regions of" in say("compact", filled)
    assert say("pin", filled, "measures/*") == "measures/*\n"
    mistyped = say("pin", filled, "mesures/step_ssim")
    assert mistyped.startswith("measures/*\nmesures/step_ssim  matches no stage yet")
    assert "did you mean 'measures/step_ssim'" in mistyped
    assert say("pin", filled) == mistyped
    assert "is pinned" in say("drop", filled, "measures/*", "--yes", code=2)
    assert "would be left" in say("room", filled, "--budget", "1KB")
    assert "holds it" in say("ensure", filled, "--seeds", "0:2", "--quiet")
    assert "KiB" in say(
        "export",
        filled,
        "--into",
        tmp_path / "x.nc",
        "--objects",
        "trajectory",
        "--seed",
        "1",
        "--time",
        "500:100",
    )
    for args in (("drop", "x"), ("gc",), ("compact",), ("pin", "x"), ("merge", "--into", tmp_path / "new")):
        assert "There is no store" in say(args[0], tmp_path / "nothing", *args[1:], code=3)
    assert not (tmp_path / "nothing").exists()
    assert not (tmp_path / "new").exists()
    assert "cells; " in say("merge", filled, "--into", tmp_path / "joined")
