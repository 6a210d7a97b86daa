"""The curves that the page draws are the profile's: every one equals the xarray expression that stands beside it."""

import json
import time

import numpy as np
import pytest
import xarray as xr
from curved_stores import asked, curved

import flowprofile as fp
from flowprofile import running
from flowprofile.app import curves
from flowprofile.app.curves import measures, thinned
from flowprofile.app.lines import Curve
from flowprofile.app.spreadsheets import curves_csv
from flowprofile.errors import StoreError
from flowprofile.stats.bounds import mean_bounds
from pipelines import pipeline


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return curved(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def tree(url):
    return fp.open(url)


@pytest.fixture(scope="module")
def found(tree):
    return measures(tree, asked(label=1, seed=2))


def named(found, name):
    return next(measure for measure in found["measures"] if measure["name"] == name)


def series(found, name, role, line=0):
    return np.array(named(found, name)["lines"][line]["series"][role]["values"], float)


def evaluated(tree, python, times):
    """What an expression gives at some states."""
    value = eval(python, {"tree": tree, "fp": fp, "mean_bounds": mean_bounds})
    if isinstance(value, np.ndarray):
        node = tree[python.split('tree["')[1].split('"')[0]]
        return value[np.isin(node["time"].values, times)]
    return value.sel(time=times).values


def test_every_series_is_what_its_python_gives(tree, found):
    compared = 0
    for measure in found["measures"]:
        for line in measure.get("lines", ()):
            for role, told in line["series"].items():
                want = evaluated(tree, told["python"], measure["times"])
                got = np.array(told["values"], float)
                np.testing.assert_allclose(
                    got, want, rtol=1e-6, atol=1e-9, err_msg=f"{measure['name']} {role}"
                )
                compared += 1
    assert compared > 100


def test_it_is_json_without_nan(found):
    json.dumps(found, allow_nan=False)


def test_a_case_has_its_own_curve_and_its_null(tree, found):
    node = tree["measures/step_ssim"].sel(intervention="none", label=1, seed=2)
    np.testing.assert_allclose(series(found, "step_ssim", "value"), node["value"], rtol=1e-6)
    np.testing.assert_allclose(series(found, "step_ssim", "excess"), node["value"] - node["null"], atol=1e-6)


def test_the_band_is_over_seeds_and_not_over_labels(tree, found):
    node = tree["measures/step_ssim"]["value"].sel(intervention="none").astype(float)
    over_seeds = node.sel(label=1).quantile(0.1, "seed")
    np.testing.assert_allclose(series(found, "step_ssim", "low"), over_seeds, rtol=1e-6)
    assert not np.allclose(over_seeds, node.sel(seed=2).quantile(0.1, "label"), rtol=1e-6)
    assert not np.allclose(over_seeds, node.quantile(0.1, ["seed", "label"]), rtol=1e-6)


def test_the_interval_of_the_excess_is_students(tree, found):
    node = tree["measures/step_ssim"].sel(intervention="none", label=1)
    excess = (node["value"].astype(float) - node["null"]).transpose("seed", "time").values
    bounds = mean_bounds(excess, alpha=0.025)
    np.testing.assert_allclose(series(found, "step_ssim", "excess_lower"), bounds.lower, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(series(found, "step_ssim", "excess_upper"), bounds.upper, rtol=1e-5, atol=1e-9)


def test_there_is_a_line_for_every_layer_and_every_other_label(found):
    layers = [line["key"]["layer"] for line in named(found, "layer_distance")["lines"]]
    assert layers == ["downs.0.2.fn", "downs.1.2.fn", "mid_attn.fn", "ups.0.2.fn"]
    assert [line["key"] for line in named(found, "label_ssim")["lines"]] == [
        {"other_label": 0},
        {"other_label": 2},
    ]


def test_layers_can_be_chosen(tree):
    found = measures(tree, asked(measure="layer_distance", layer=["mid_attn.fn"]))
    assert [line["caption"] for line in found["measures"][0]["lines"]] == ["mid_attn.fn"]


def test_numbers_of_channels_are_not_averaged(found):
    lines = named(found, "max_channel")["lines"]
    assert {role for line in lines for role in line["series"]} == {"value"}


def test_pixels_are_one_line_with_their_range(found):
    (line,) = named(found, "influence: radius")["lines"]
    least, mean, most = (np.array(line["series"][role]["values"]) for role in ("least", "value", "most"))
    assert (least <= mean).all()
    assert (mean <= most).all()
    assert (least < most).any()


def test_radii_are_told_apart_in_words(found):
    told = {
        name: named(found, f"influence: {name}")["long_name"] for name in ("radius", "radius_50", "radius_90")
    }
    assert told["radius"].startswith("root mean square distance")
    assert "holds 50 %" in told["radius_50"]
    assert "holds 90 %" in told["radius_90"]


def test_channels_are_said_to_have_no_order(found):
    assert named(found, "max_channel")["y"] == "max_channel (index, no order)"
    assert named(found, "max_channel")["unit"] == "index"


def test_fidelity_is_a_probability_of_each_label(found):
    lines = named(found, "fidelity: probability")["lines"]
    assert len(lines) == 10
    assert sum(line["series"]["value"]["values"][0] for line in lines) == pytest.approx(1, abs=1e-6)


def test_what_is_not_computed_says_how_it_is(tall):
    lacking = named(measures(fp.open(tall), asked(seed=9, label=1)), "step_ssim")
    assert lacking["missing"] is True
    assert lacking["command"] == f"flowprofile ensure {tall} --seeds 9:10 --labels 1"
    assert "lines" not in lacking
    assert named(measures(fp.open(tall), asked(seed=7)), "step_ssim")["missing"] is False


def test_what_is_never_measured_is_told_without_a_command(tree):
    clean = named(measures(tree, asked(label=2)), "clean_ssim")
    assert (clean["why"], clean["command"]) == (
        "It is not measured of the clean run, only of other interventions.",
        "",
    )
    later = str(tree["intervention"].values[1])
    assert named(measures(tree, asked(label=1, intervention=later)), "clean_ssim")["missing"] is False
    itself = measures(tree, asked(label=2, intervention=later))
    assert {m["command"] for m in itself["measures"]} == {""}
    assert "switched to 2 is of label 2" in itself["measures"][0]["why"]


def test_curves_are_thinned_and_never_averaged(tree, monkeypatch):
    monkeypatch.setattr(curves, "POINTS", 5)
    monkeypatch.setattr(curves, "LEAST_POINTS", 5)
    measure = named(measures(tree, asked()), "step_ssim")
    node = tree["measures/step_ssim"]["value"].sel(intervention="none", label=0, seed=0)
    assert len(measure["times"]) <= 5
    assert measure["times"][-1] == 0
    got = measure["lines"][0]["series"]["value"]["values"]
    np.testing.assert_allclose(got, node.sel(time=measure["times"]), rtol=1e-6)
    assert measure["note"] == f"{len(measure['times'])} of 20 states are drawn, none is averaged"


@pytest.mark.parametrize("count", [1, 2, 5, 6, 999, 1000, 1001, 2500])
def test_thinning_keeps_both_ends_and_the_bound(count):
    times = list(range(count))[::-1]
    shown = thinned(times, 1000)
    assert len(shown) <= 1000
    assert (shown[0], shown[-1]) == (times[0], times[-1])
    assert shown == times or len(shown) > 400


def test_statistics_are_over_computed_seeds_and_quick(tall):
    tree = fp.open(tall)
    before = time.perf_counter()
    found = measures(tree, asked())
    assert time.perf_counter() - before < 1
    measure = named(found, "step_ssim")
    assert measure["n"] == 8
    node = tree["measures/step_ssim"]["value"].sel(intervention="none", label=0, seed=range(8))
    np.testing.assert_allclose(series(found, "step_ssim", "mean"), node.astype(float).mean("seed"), rtol=1e-6)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """Five seeds have every fourth state, and two of them all."""
    into = tmp_path_factory.mktemp("grown") / "store"
    for seeds, keep in (("0:5", "::4"), ("0:2", "::1")):
        running.run(pipeline(seeds=seeds, trajectory={}, step_ssim={"use": "ssim", "keep": keep}), into=into)
    return fp.open(into)


@pytest.mark.parametrize(("seed", "states", "n"), [(0, 40, 2), (4, 10, 5)])
def test_a_seed_counts_where_it_has_every_state_that_is_drawn(grown, seed, states, n):
    measure = named(measures(grown, asked(seed=seed)), "step_ssim")
    assert (measure["states"], measure["absent"], measure["n"]) == (states, 40 - states, n)
    got = measure["lines"][0]["series"]["mean"]["values"]
    node = grown["measures/step_ssim"]["value"].sel(intervention="none", label=0, seed=range(n))
    np.testing.assert_allclose(got, node.sel(time=measure["times"]).astype(float).mean("seed"), rtol=1e-6)


def test_a_number_below_0_is_none():
    cells = ("intervention", "label", "seed", "time"), np.array([3, -1, -2]).reshape(1, 1, 1, 3)
    data = xr.Dataset({"channel": cells}, {"time": [2, 1, 0]})
    values = Curve("max_channel", "channel", data).cells({})["value"].values
    np.testing.assert_array_equal(values.ravel(), [3, np.nan, np.nan])


def test_of_many_seeds_the_first_are_taken_and_it_is_said(tree, monkeypatch):
    monkeypatch.setattr(curves, "SEEDS", 4)
    measure = named(measures(tree, asked()), "step_ssim")
    assert (measure["n"], measure["note"]) == (4, "the first 4 of 6 computed seeds")
    node = tree["measures/step_ssim"]["value"].sel(intervention="none", label=0).astype(float)
    got = np.array(measure["lines"][0]["series"]["mean"]["values"])
    np.testing.assert_allclose(got, node.sel(seed=slice(0, 3)).mean("seed"), rtol=1e-6)
    assert not np.allclose(got, node.mean("seed"), rtol=1e-6)


def test_what_does_not_exist_is_refused_with_the_nearest(tree):
    with pytest.raises(StoreError, match="no measure 'step_sim'") as refused:
        measures(tree, asked(measure="step_sim"))
    assert "step_ssim" in refused.value.remedy


def test_as_csv_every_number_has_its_name(found):
    lines = curves_csv(found).splitlines()
    assert lines[0] == "measure,line,unit,t,series,value"
    row = next(line for line in lines if line.startswith("step_ssim,,1,0,value,"))
    assert float(row.rpartition(",")[2]) == series(found, "step_ssim", "value")[-1]
