"""A drop frees the bytes that it announces, and destroys nothing where it would free none."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from kept_stores import FAST, Killed, killer, told

import flowprofile as fp
from flowprofile import running
from flowprofile.store.ledger import RECEIPTS
from flowprofile.store.store import Store
from flowprofile.store.verify import verify
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.drop import drop, losses
from flowprofile.upkeep.room import room
from pipelines import pipeline

CHUNKS = replace(FAST, chunk="4 KiB", shard="16 KiB")
"""Four states to a chunk, sixteen to an object."""


def filled(url, layout=CHUNKS):
    source = pipeline(seeds="0:3", labels=(0,), steps=40, trajectory={}, step_ssim={"use": "ssim"})
    running.run(source, into=url, layout=layout)
    return url


def contents(url):
    place = Store.open(url).place
    return {key: place.read(key) for key in [*place.list("profile.zarr"), *place.list(RECEIPTS)]}


def size(url):
    return sum(len(data) for key, data in contents(url).items() if "/c." in key)


def thinned(to, stage="trajectory"):
    return Cells(stages=(stage,), but_times=to)


def shrunk(url, cells, layout=CHUNKS, **how):
    """What was announced, and what was freed."""
    before = size(url)
    with Store.open(url, layout=layout) as store:
        announced = sum(loss.bytes for loss in losses(store, cells))
        drop(store, cells, **how)
    return announced, before - size(url)


@pytest.mark.parametrize("filters", [["::8"], ["::5", "::20"], ["::20"], ["::16", "::3"]])
def test_what_is_announced_is_freed_to_the_byte_however_often_a_store_is_thinned(tmp_path, filters):
    url = filled(tmp_path / "store")
    for each in filters:
        announced, freed = shrunk(url, thinned(each))
        assert announced == freed
    assert freed > 0 or filters[-1] == "::3"
    assert verify(url).findings == ()


def test_thinned_twice_is_thinned_at_once(tmp_path):
    once = filled(tmp_path / "once")
    shutil.copytree(once, tmp_path / "twice")
    shrunk(once, thinned("::40"))
    for each in ("::8", "::40"):
        shrunk(tmp_path / "twice", thinned(each))
    assert contents(tmp_path / "twice") == contents(once)


@pytest.mark.parametrize("codec", ["zstd", "blosc"])
def test_in_pressed_chunks_every_dropped_state_frees_about_its_share(tmp_path, codec):
    layout = replace(CHUNKS, codec=codec)
    url = filled(tmp_path / "store", layout)
    announced, freed = shrunk(url, thinned("::2"), layout)
    assert announced > 0
    assert 0.8 * announced < freed < 1.2 * announced


@pytest.mark.parametrize(
    "cells", [thinned("::2"), thinned("::8", "measures/*"), Cells(("measures/*",), (1,))]
)
def test_nothing_is_destroyed_where_nothing_is_freed(tmp_path, cells):
    url = filled(tmp_path / "store")
    before, asked = contents(url), told(url)
    assert shrunk(url, cells) == (0, 0)
    assert (contents(url), told(url)) == (before, asked)


def test_one_command_thins_what_frees_bytes_and_leaves_the_rest(tmp_path):
    url = filled(tmp_path / "store")
    announced, freed = shrunk(url, Cells(("trajectory", "measures/step_ssim"), but_times="::8"))
    assert announced == freed > 0
    tree = fp.open(url)
    assert (tree["measures/step_ssim"]["status"] == 2).all()
    assert (tree["trajectory"]["status"].isel(time=slice(1, 8)) == 0).all()


def test_a_second_thinning_that_is_killed_at_every_phase_ends_the_same(tmp_path):
    base = filled(tmp_path / "base")
    shrunk(base, thinned("::8"))
    values = fp.open(base)["trajectory"]["x_t"].load()
    heard = []
    shutil.copytree(base, tmp_path / "whole")
    announced, freed = shrunk(tmp_path / "whole", thinned("::16"), listen=heard.append)
    assert announced == freed > 0
    whole = contents(tmp_path / "whole")
    stays = fp.open(tmp_path / "whole")["trajectory"]["status"].load() == 2
    for at in range(len(heard)):
        url = tmp_path / f"killed{at}"
        shutil.copytree(base, url)
        with pytest.raises(Killed):
            shrunk(url, thinned("::16"), listen=killer(at))
        now = fp.open(url)["trajectory"].load()
        assert (now["status"] == 2).where(stays, True).all(), f"{at}: {heard[at]}"
        assert now["x_t"].where(stays).equals(values.where(stays))
        shrunk(url, thinned("::16"))
        assert contents(url) == whole, f"{at}: {heard[at]}"
        shutil.rmtree(url)


def test_room_promises_what_it_can_give(tmp_path):
    url = filled(tmp_path / "store")
    with Store.open(url, layout=CHUNKS) as store:
        found = room(store, 0)
        for step in found.steps:
            drop(store, step.cells)
        assert room(store, 0).held == found.left
        assert room(store, 0).steps == ()
    whole = filled(tmp_path / "small", replace(FAST, small="64 KiB"))  # all states of a case in one chunk
    with Store.open(whole) as store:
        assert room(store, 0).steps == ()


def test_the_kept_states_are_packed_in_a_new_store(tmp_path):
    url = filled(tmp_path / "store")
    command = [sys.executable, "-m", "flowprofile", "export", str(url), "--into"]
    how = ["--objects", "trajectory", "--keep-times", "::2"]
    subprocess.run([*command, str(tmp_path / "new"), *how, "--layout", str(own(tmp_path))], check=True)
    states = [fp.open(each)["trajectory"]["x_t"].load() for each in (url, tmp_path / "new")]
    assert states[1].equals(states[0].isel(time=slice(None, None, 2)))
    assert size(tmp_path / "new") < 0.7 * sum(
        len(data) for key, data in contents(url).items() if "/x_t/c." in key
    )
    refused = subprocess.run(
        [*command, str(tmp_path / "x.nc"), *how], capture_output=True, text=True, check=False
    )
    assert (refused.returncode, "is for stores" in refused.stderr) == (2, True)


def own(folder):
    path = folder / "own.toml"
    path.write_text('chunk = "4 KiB"\nshard = "16 KiB"\nsmall = "1 KiB"\ndurability = "none"\n')
    return path


def test_the_command_says_that_nothing_would_be_freed(tmp_path):
    url = filled(tmp_path / "store")
    before = contents(url)
    command = [
        sys.executable,
        "-m",
        "flowprofile",
        "drop",
        str(url),
        "trajectory",
        "--keep-times",
        "::2",
        "--yes",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "nothing would be freed" in done.stdout
    assert "are freed" not in done.stdout
    assert f"export {url} --into NEW --objects 'trajectory' --keep-times ::2" in done.stdout
    assert contents(url) == before
