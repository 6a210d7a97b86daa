"""Whatever kills an upkeep verb, and whoever works beside it: nothing that stays is lost, and the same bytes in the end."""

import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kept_stores import FAST, Killed, killer, sweep, told

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import IntegrityError, StoreError
from flowprofile.store.ledger import RECEIPTS, Ledger
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.compact import compact
from flowprofile.upkeep.drop import drop, losses
from flowprofile.upkeep.export import missing
from flowprofile.upkeep.merge import merge
from flowprofile.upkeep.pins import pin
from flowprofile.upkeep.room import room
from flowprofile.upkeep.tidy import ABANDONED, gc
from pipelines import pipeline

THINNED = Cells(stages=("trajectory", "measures/*"), but_times="::5", seeds=(0, 2, 3))


def filled(url, **changes):
    running.run(sweep(**changes), into=url, layout=FAST)
    return url


def opened(url):
    return Store.open(url, layout=FAST)


def contents(url):
    place = Store.open(url).place
    keys = [*place.list("profile.zarr"), *place.list(RECEIPTS)]
    return {key: place.read(key) for key in keys}


def test_a_drop_killed_at_every_phase_costs_no_kept_cell_and_ends_the_same(tmp_path):
    base = filled(tmp_path / "base")
    values = fp.open(base)["trajectory"]["x_t"].load()
    shutil.copytree(base, tmp_path / "whole")
    heard = []
    with opened(tmp_path / "whole") as store:
        drop(store, THINNED, listen=heard.append)
    whole = contents(tmp_path / "whole")
    assert verify(tmp_path / "whole").findings == ()
    stays = {
        node: fp.open(tmp_path / "whole")[node]["status"].load()
        for node in ("trajectory", "measures/step_ssim")
    }
    for at in range(0, len(heard), 11):
        url = tmp_path / f"killed{at}"
        shutil.copytree(base, url)
        with pytest.raises(Killed), opened(url) as store:
            drop(store, THINNED, listen=killer(at))
        tree = fp.open(url)
        for node, status in stays.items():
            now = tree[node]["status"].load()
            assert not ((status == 2) & (now != 2)).any(), f"{at}: {heard[at]}"
            assert not (now == 1).any()
        there = tree["trajectory"]["status"].load() == 2
        assert tree["trajectory"]["x_t"].load().where(there).equals(values.where(there))
        with opened(url) as store:
            drop(store, THINNED)
        assert contents(url) == whole, f"{at}: {heard[at]}"
        assert verify(url).findings == ()
        shutil.rmtree(url)


def test_what_was_dropped_is_no_longer_asked_for_and_a_run_brings_it_back(tmp_path):
    url = filled(tmp_path / "store")
    before, whole = told(url), contents(url)
    with opened(url) as store:
        gone = sum(int((~loss.kept).sum()) for loss in losses(store, THINNED) if loss.bytes)
        drop(store, THINNED)
    assert sum(asked for asked, _ in told(url).values()) == sum(asked for asked, _ in before.values()) - gone
    assert all(asked == present for asked, present in told(url).values())
    assert running.run(sweep(), into=url, layout=FAST).regions
    assert told(url) == before
    assert {k: v for k, v in contents(url).items() if k.startswith("profile.zarr")} == {
        k: v for k, v in whole.items() if k.startswith("profile.zarr")
    }
    with opened(url) as store:
        drop(store, Cells(labels=(1,)))
    running.run(sweep(), into=url, layout=FAST)
    kept = {
        key: data for key, data in contents(url).items() if "/i0.l1." in key or key.startswith("profile.zarr")
    }
    assert kept == {key: whole[key] for key in kept}


def test_a_filter_counts_the_samplers_steps_as_in_a_definition(tmp_path):
    running.run(pipeline(seeds="0:2", steps=20, trajectory={"keep": "::5"}), into=tmp_path / "s", layout=FAST)
    with opened(tmp_path / "s") as store:
        assert losses(store, Cells(stages=("trajectory",), but_times="::5")) == []
        assert losses(store, Cells(stages=("trajectory",), but_times="::10")) != []


@pytest.mark.parametrize(
    ("parts", "whole"),
    [
        ([{"seeds": "0:6"}, {"seeds": "6:12"}], {"seeds": "0:12"}),
        ([{"seeds": "0:3"}, {"seeds": "3:9"}], {"seeds": "0:9"}),
        ([{"seeds": "0:5"}, {"seeds": "3:9"}], {"seeds": "0:9"}),
        ([{"labels": (0,)}, {"labels": (1,)}], {"labels": (0, 1)}),
        (
            [{"seeds": "0:10", "labels": (0,)}, {"seeds": "10:17", "labels": (0,)}],
            {"seeds": "0:17", "labels": (0,)},
        ),
    ],
)
def test_a_join_is_what_one_run_would_have_made(tmp_path, parts, whole):
    one = filled(tmp_path / "one", **whole)
    sources = [Store.open(filled(tmp_path / str(n), **part)) for n, part in enumerate(parts)]
    with opened(tmp_path / "joined") as target:
        merge(sources, target)
    assert contents(tmp_path / "joined") == contents(one)
    assert told(tmp_path / "joined") == told(one)
    with opened(tmp_path / "joined") as target:
        assert merge(sources, target).regions == 0
    assert contents(tmp_path / "joined") == contents(one)
    assert verify(tmp_path / "joined").findings == ()


def test_a_join_killed_at_every_phase_ends_the_same(tmp_path):
    sources = [
        Store.open(filled(tmp_path / "a", seeds="0:3")),
        Store.open(filled(tmp_path / "b", seeds="2:6")),
    ]
    heard = []
    with opened(tmp_path / "whole") as target:
        merge(sources, target, listen=heard.append)
    whole = contents(tmp_path / "whole")
    for at in range(0, len(heard), 11):
        url = f"memory://join-{tmp_path.name}-{at}"
        with pytest.raises(Killed), opened(url) as target:
            merge(sources, target, listen=killer(at))
        with opened(url) as target:
            merge(sources, target)
        assert contents(url) == whole, f"{at}: {heard[at]}"


def test_a_join_asks_for_what_its_sources_were_asked_for(tmp_path):
    filled(tmp_path / "a", seeds="0:4", labels=(0,))
    sparse = pipeline(seeds="4:8", labels=(0, 1), steps=20, trajectory={"keep": "::10"})
    running.run(sparse, into=tmp_path / "a", layout=FAST)
    with opened(tmp_path / "c") as target:
        merge([Store.open(tmp_path / "a")], target)
    assert told(tmp_path / "c") == told(tmp_path / "a")


def test_another_value_is_found_in_a_case_that_is_there_in_part(tmp_path, monkeypatch):
    filled(tmp_path / "a", seeds="0:4")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with opened(tmp_path / "a") as store:
        drop(store, Cells(stages=("trajectory",), but_times="::5"))
    with opened(tmp_path / "c") as target:
        merge([Store.open(tmp_path / "a")], target)
    other = Store.open(tmp_path / "b")
    real = other.read
    monkeypatch.setattr(other, "read", lambda *args: real(*args).map(lambda values: values + 1))
    with opened(tmp_path / "c") as target, pytest.raises(IntegrityError, match=r"seed 0, label 0, t = \d+"):
        merge([other], target)


def test_other_recipes_and_other_code_are_refused_before_anything_is_written(tmp_path):
    a, b = filled(tmp_path / "a", seeds="0:2"), filled(tmp_path / "b", seeds="2:4", steps=10)
    with opened(tmp_path / "c") as target, pytest.raises(StoreError, match=r"steps is 10 in .*, 20 in"):
        merge([Store.open(a), Store.open(b)], target)
    changed = Store.open(filled(tmp_path / "d", seeds="2:4"))
    ((name, run),) = changed.runs().items()
    stages = {path: replace(one, attrs={**one.attrs, "source": "other"}) for path, one in run.stages.items()}
    changed._record = replace(changed.record, runs={name: replace(run, stages=stages)})
    with opened(tmp_path / "c") as target, pytest.raises(StoreError, match="source is 'other'"):
        merge([Store.open(a), changed], target)
    assert not (tmp_path / "c" / "profile.zarr").exists()


def test_waste_is_looked_at_again_in_its_writers_turn(tmp_path):
    url = filled(tmp_path / "store")
    with opened(url) as store:
        run = next(iter(store.runs()))
        group = next(each for each in store.stages(run) if each.startswith("trajectory"))
        region = next(iter(Ledger(store.place, run, group).regions()))
        held = store.runs()[run]
        cases = [fp.Case(seed, held.labels[region.label]) for seed in held.seeds[slice(*region.seeds)]]
        block = store.read(run, group, cases, held.stages[group].time[slice(*region.times)])
        store.retire(region)
    begun, ended = threading.Event(), threading.Event()

    def collect():
        begun.wait()
        with opened(url) as store:
            gc(store)
        ended.set()

    def listen(phase):
        if phase.name == "receipt":
            begun.set()
            ended.wait(0.5)

    thread = threading.Thread(target=collect)
    thread.start()
    opened(url).write(region, block, listen=listen)
    thread.join()
    assert verify(url).findings == ()


def test_waste_is_told_from_the_store_as_it_is_now_and_workers_files_stay(tmp_path):
    url = filled(tmp_path / "store", seeds="0:2")
    early = opened(url)
    assert early.runs()
    running.run(sweep(seeds="0:4", wide={"use": "ssim", "window": 11}), into=url, layout=FAST)
    young, old = (url / "ledger" / "tmp" / name for name in ("flowprofile-young", "old"))
    for each in (young, old):
        each.write_bytes(b"states")
    os.utime(old, ns=(0, time.time_ns() - 2 * ABANDONED))
    with early:
        gc(early)
    assert (young.exists(), old.exists()) == (True, False)
    young.unlink()
    assert verify(url).findings == ()


def test_a_copy_that_lost_receipts_is_not_believed_for_its_folders_times(tmp_path):
    url = filled(tmp_path / "store")
    for each in (url / RECEIPTS).glob("*/*/*"):
        os.utime(each, ns=(time.time_ns() - 10**10,) * 2)
    with opened(url) as store:
        compact(store)
    gone = next((url / RECEIPTS).rglob("i0.l0.s0*.json"))
    seen = gone.parent.stat()
    gone.unlink()
    os.utime(gone.parent, ns=(seen.st_atime_ns, seen.st_mtime_ns))  # as a partial rsync -a leaves it
    (run,) = Store.open(url).runs()
    assert not Store.open(url).present(run, gone.parent.parent.name.replace("~", "/")).all()


def test_what_is_pinned_counts_and_sampling_is_named_as_the_price_without_a_trajectory(tmp_path):
    url = filled(tmp_path / "store")
    names = ("x_t", "x0_hat", "value")
    size = sum(f.stat().st_size for f in Path(url).rglob("c.*") if f.parent.name in names)
    with opened(url) as store:
        pin(store, "trajectory")
        found = room(store, 1)
        assert found.held == size
        assert [step.cells.stages for step in found.steps] == [("predicted_x0",)]
    bare = tmp_path / "bare"
    running.run(
        pipeline(seeds="0:2", steps=20, predicted_x0={}, step_ssim={"use": "ssim"}), into=bare, layout=FAST
    )
    with opened(bare) as store:
        assert [step.why for step in room(store, 0).steps] == ["must be sampled again"]


def test_what_is_missing_of_an_export_is_counted(tmp_path):
    url = filled(tmp_path / "store")
    with opened(url) as store:
        drop(store, Cells(stages=("trajectory",), seeds=(1,)))
    tree = fp.open(url)
    assert missing(tree.profile.sel(objects="trajectory")) == (2 * 21, 6 * 2 * 21)
    assert missing(tree.profile.sel(objects="trajectory", seed=2)) == (0, 2 * 21)
