"""Sides, their pictures and how far they are apart: what `flowprofile.compare` says, and nothing written."""

import json
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl

import numpy as np
import pytest
from click.testing import CliRunner
from curved_stores import asked, curved
from half_floats import unpacked

import flowprofile as fp
from flowprofile import running
from flowprofile.app import parting
from flowprofile.app.blocks import block
from flowprofile.app.comparisons import compare
from flowprofile.app.profiles import opened
from flowprofile.app.spreadsheets import pairs_csv
from flowprofile.cli.looking import _others
from flowprofile.cli.main import group
from flowprofile.errors import StoreError
from flowprofile.measures import windows
from pipelines import pipeline


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return curved(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def profiles(url):
    return opened(url)


def pair(found, at=0):
    assert "refused" not in found["pairs"][at], found["pairs"][at]["refused"]
    return found["pairs"][at]


def equal(told, want):
    np.testing.assert_allclose(np.array(told, float), want, rtol=1e-6, atol=1e-9)


def test_two_labels_are_compared_as_fp_compare_does(profiles, url, tmp_path):
    found = pair(compare(profiles, asked(label=0, seed=3, side=["label=1"])))
    copy = shutil.copytree(url, tmp_path / "copy")
    want = fp.compare(str(copy), between={"label": (0, 1)})
    for name, values in found["mean"].items():
        equal(values, want[name])
    for at, onset in enumerate(found["onsets"]):
        for name in ("onset", "onset_lower", "onset_upper", "null_onset"):
            equal(onset[name], want[name].values[at])
        assert onset["claimed"] == bool(want["claimed"][at])
    assert found["n"] == 6
    other = fp.compare(str(copy), between={"label": (0, 2)})
    assert not np.allclose(found["mean"]["value"], other["value"])


def test_the_python_of_a_pair_gives_it(profiles):
    found = pair(compare(profiles, asked(label=0, side=["intervention=" + switch(profiles)], excess=1)))
    reading = SimpleNamespace(compare=partial(fp.compare, remember=False))
    again = eval(found["python"], {"fp": reading})
    equal(found["mean"]["excess"], again["excess"])
    equal(found["mean"]["lower"], again["lower"])
    assert found["claimed"] == "excess"
    assert 0 not in found["mean_times"]


def switch(profiles):
    return str(profiles.run()[1]["intervention"].values[1])


def test_the_seeds_own_curve_is_the_stored_one(profiles):
    _, tree = profiles.run()
    found = pair(compare(profiles, asked(label=0, seed=3, side=["label=1"])))
    cells = tree["measures/label_ssim"].sel(intervention="none", label=0, other_label=1, seed=3)
    equal(found["own"], 1 - cells["value"])
    equal(found["own_null"], 1 - cells["null"])
    assert not np.allclose(found["own"], found["mean"]["value"])


def test_looking_writes_nothing(profiles, url):
    before = sorted(Path(url).rglob("*"))
    compare(profiles, asked(label=0, side=["label=1"]))
    assert sorted(Path(url).rglob("*")) == before
    assert not Path(url, "comparisons").exists()


def test_two_seeds_are_compared_as_pictures_without_an_interval(profiles):
    _, tree = profiles.run()
    found = pair(compare(profiles, asked(label=0, seed=0, side=["seed=1"])))
    x = tree["trajectory"]["x_t"].sel(intervention="none", label=0, time=found["times"])
    frames = x.sel(seed=[0, 1]).transpose("time", "seed", "channel", "y", "x").values
    equal(found["own"], 1 - windows.between(frames, [(0, 1)], window=7, data_range=2.0)[:, 0])
    assert found["n"] == 0
    assert "share no noise" in found["note"]
    assert "mean" not in found


def test_fewer_than_three_seeds_have_a_curve_and_no_interval(small, tmp_path):
    stages = {"trajectory": {}, "label_ssim": {"use": "ssim", "between": "labels", "window": 5}}
    running.run(pipeline(seeds="0:2", steps=10, **stages), into=tmp_path / "two")
    found = pair(compare(opened(tmp_path / "two"), asked(label=0, side=["label=1"])))
    assert found["note"] == "2 seed(s) are stored of both: an interval needs at least 3"
    assert len(found["own"]) == len(found["times"])
    assert "mean" not in found
    assert "mean" in pair(compare(opened(small), asked(label=0, side=["label=1"])))


def test_blocks_of_all_sides_are_at_the_addresses_told(profiles):
    _, tree = profiles.run()
    found = compare(profiles, asked(label=0, side=["label=1", "seed=2"]))
    assert len(found["panels"]) == 3
    for side, panel in zip(found["sides"], found["panels"], strict=True):
        pairs = dict(parse_qsl(panel["block"]))
        data = block(tree, asked(**{**pairs, "times": "0"}))
        want = tree["trajectory"]["x_t"].sel(
            intervention=side["intervention"], label=side["label"], seed=side["seed"], time=0
        )
        np.testing.assert_allclose(unpacked(data)[1][0], want, atol=2e-3)


def test_it_is_said_of_what_the_distance_is(profiles):
    """The pictures beside it may be of something else."""
    assert pair(compare(profiles, asked(label=0, side=["label=1"])))["of"] == "x_t"
    assert pair(compare(profiles, asked(label=0, side=["seed=1"])))["of"] == "x_t"
    layers = pair(compare(profiles, asked(label=0, side=["label=1"], measure="layer_distance")))
    assert layers["of"] == ""


def test_a_side_has_the_title_of_its_intervention(profiles):
    found = compare(profiles, asked(label=0, side=["intervention=" + switch(profiles)]))
    assert [side["title"] for side in found["sides"]] == ["none", "later"]


@pytest.mark.parametrize(
    ("given", "fact"),
    [
        (("a=one", "a=two"), "Two stores are called 'a'"),
        (("one/a", "two/a"), "Two stores are called 'a'"),
        (("=one",), "gives no name"),
        (("a=",), "gives no store"),
    ],
)
def test_a_store_beside_that_has_no_name_of_its_own_is_refused(url, given, fact):
    words = [word for text in given for word in ("--beside", text)]
    run = CliRunner().invoke(group, ["app", url, "--no-open", *words])
    assert run.exit_code != 0
    assert fact in f"{run.output} {run.exception}"


def test_an_address_may_hold_a_sign_of_its_own():
    given = ("s3://bucket/a=b/c", "new=out/x=y", "out/first")
    assert _others(given) == {"c": "s3://bucket/a=b/c", "new": "out/x=y", "first": "out/first"}


def test_stores_given_at_the_start_are_compared_by_name(profiles, url, tmp_path):
    beside = opened(shutil.copytree(url, tmp_path / "beside"))
    found = compare(profiles, asked(label=1, side=["store=new"]), others={"new": beside})
    assert found["sides"][1]["store"] == "new"
    assert found["panels"][1]["block"].endswith("&beside=new")
    own = pair(found)
    assert own["differs"] == ["run"]
    equal(own["mean"]["value"], 0)


@pytest.mark.parametrize(
    ("side", "fact"),
    [
        ("store=/etc", "No store '/etc'"),
        ("path=x", "A side has no 'path'"),
        ("label=77", "no label 77"),
        ("intervention=burn", "no intervention 'burn'"),
    ],
)
def test_a_side_that_is_none_is_refused(profiles, side, fact):
    with pytest.raises(StoreError, match=fact):
        compare(profiles, asked(side=[side]))


def test_five_sides_are_too_many(profiles):
    with pytest.raises(StoreError, match="5 sides"):
        compare(profiles, asked(side=["seed=1", "seed=2", "seed=3", "seed=4"]))


def test_a_measure_that_cannot_answer_leaves_the_pictures(profiles):
    found = compare(profiles, asked(label=0, side=["label=1"], measure="layer_distance", layer=["nowhere"]))
    assert "asked for is 'nowhere'" in found["pairs"][0]["refused"]["fact"]
    assert len(found["panels"]) == 2


def test_of_a_measure_of_layers_the_first_is_taken_where_none_is_named(profiles):
    found = compare(profiles, asked(label=0, side=["label=1"], measure="layer_distance"))
    assert found["layers"] == ["downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn"]
    _, tree = profiles.run()
    node = tree["measures/layer_distance"]["value"].sel(intervention="none", seed=0, layer="downs.0.2.fn")
    equal(pair(found)["own"], node.sel(label=1).astype(float) - node.sel(label=0))


def test_a_layer_left_in_the_address_is_nothing_to_a_measure_without_layers(profiles):
    left = pair(compare(profiles, asked(label=0, seed=3, side=["label=1"], layer=["downs.0.2.fn"])))
    plain = pair(compare(profiles, asked(label=0, seed=3, side=["label=1"])))
    equal(left["mean"]["value"], plain["mean"]["value"])


def test_without_a_word_the_next_label_is_beside(profiles):
    found = compare(profiles, asked(label=2))
    assert [side["label"] for side in found["sides"]] == [2, 0]
    json.dumps(found, allow_nan=False)


def test_seeds_that_are_not_computed_do_not_count(tall):
    found = pair(compare(opened(tall), asked(label=0, side=["label=1"])))
    assert found["n"] == 8


def test_many_seeds_are_bounded_and_it_is_said(profiles, monkeypatch):
    monkeypatch.setattr(parting, "SEEDS", 4)
    found = pair(compare(profiles, asked(label=0, side=["label=1"])))
    assert (found["n"], found["note"]) == (4, "the first 4 of 6 computed seeds")


def test_as_csv_both_sides_are_named(profiles):
    lines = pairs_csv(compare(profiles, asked(label=0, seed=3, side=["label=1"]))).splitlines()
    assert lines[0] == "first,second,quantity,t,series,value"
    assert sum(",upper," in line for line in lines) == 21
    assert "label 1, seed 3" in lines[1]
