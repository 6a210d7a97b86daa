"""What is said of a stored measure: planted bends, plateaus, dips, switches and layers are found, and nothing else is."""

import json

import numpy as np
import pytest
import xarray as xr

import flowprofile as fp
from flowprofile import estimates, running
from flowprofile.cli import main
from flowprofile.definitions import Pipeline
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.stats.bounds import mean_bounds

SEEDS, TIMES = 24, np.arange(990, -1, -10)
RNG = np.random.default_rng


def node(value, null=None, **coords):
    """A measure [intervention, label, seed, time] around curves [time]."""
    rng, dims = RNG(0), ("intervention", "label", "seed", "time")
    shape = (1, 2, SEEDS, len(TIMES))
    found = {"value": (dims, np.asarray(value) + rng.normal(0, 0.01, shape))}
    if null is not None:
        found["null"] = (dims, np.asarray(null) + rng.normal(0, 0.01, shape))
    axes = {"intervention": ["none"], "label": [6, 7], "seed": np.arange(SEEDS), "time": TIMES}
    return xr.Dataset(found, coords=axes | coords)


BENT = np.where(TIMES > 500, 0.0, (500 - TIMES) / 500)
STILL = np.where(TIMES > 600, (990 - TIMES) / 390, 1.0)
DIPPED = np.where((TIMES <= 300) & (TIMES >= 200), -0.05, 0.0)


def test_a_bend_a_plateau_and_a_dip_are_where_they_were_planted():
    bent = estimates.over_time(node(BENT))
    assert bent["kink"].item() == pytest.approx(500, abs=20)
    assert np.isnan(bent["plateau_first"]), "nobody asked for one"
    assert "null" not in bent
    still = estimates.over_time(node(STILL), margin=0.05)
    assert 560 <= still["plateau_first"].item() <= 620
    assert still["plateau_last"].item() == 0
    assert still["plateau_p"].item() < 0.05
    dipped = estimates.over_time(node(DIPPED, 0 * DIPPED), window=50)
    assert 290 <= dipped["dip_first"].item() <= 350, "the first window that reaches into it"
    assert 150 <= dipped["dip_last"].item() <= 210
    assert dipped["dip"].item() == pytest.approx(-0.04, abs=0.015)
    flat = estimates.over_time(node(0 * DIPPED, 0 * DIPPED), window=50)
    assert np.isnan(flat["dip_first"])


def test_means_are_over_seeds_with_labels_averaged_first():
    data = node(BENT)
    found = estimates.over_time(data, alpha=0.1)
    made = mean_bounds(data["value"].isel(intervention=0).mean("label").values, alpha=0.05)
    np.testing.assert_array_equal(found["lower"], made.lower)
    assert found.attrs["n"] == SEEDS
    samples = data["value"].isel(intervention=0).values.reshape(2 * SEEDS, -1)
    assert not np.allclose(mean_bounds(samples, alpha=0.05).lower, made.lower, rtol=1e-6), (
        "samples are no seeds"
    )


def test_states_that_are_not_evenly_spaced_have_means_and_no_slopes():
    uneven = node(BENT).isel(time=[0, 1, 2, 10, 50, 99])
    found = estimates.over_time(uneven, margin=0.05)
    assert np.isnan([found[name].item() for name in ("kink", "plateau_first", "plateau_p")]).all()
    assert found.sizes["time"] == 6
    assert not found.attrs["windows"]


def switched(changes):
    """SSIM to the clean run of switches at 800, 400, 200: 1 - changes."""
    steps = [-1, 200, 800, 400]
    values = 1.0 - np.array([0.0, changes[200], changes[800], changes[400]])[:, None, None, None]
    values = values + RNG(1).normal(0, 0.005, (4, 1, SEEDS, 1))
    dims = ("intervention", "label", "seed", "time")
    return xr.Dataset(
        {"value": (dims, values)},
        coords={"intervention": ["none", "b", "a", "c"], "label": [6], "seed": np.arange(SEEDS), "time": [0],
                "kind": ("intervention", ["none", *["switch"] * 3]), "switch_step": ("intervention", steps),
                "title": ("intervention", ["none", *["lipstick"] * 3])},
        attrs={"kind": "ssim", "params": {"between": "clean"}},
    )  # fmt: skip


def test_switches_are_settled_from_where_they_no_longer_change_anything():
    found = estimates.settled(switched({800: 0.5, 400: 0.2, 200: 0.01}))
    assert found["switch"].values.tolist() == [800, 400, 200]
    assert [found[name].item() for name in ("estimate", "first", "last")] == [200, 200, 200]
    assert found.attrs["claimed"]
    never = estimates.settled(switched({800: 0.5, 400: 0.4, 200: 0.3}), done="lipstick")
    assert np.isnan(never["estimate"])
    assert not never.attrs["claimed"]
    with pytest.raises(DefinitionError, match="lipstick"):
        estimates.settled(switched({800: 0.5, 400: 0.2, 200: 0.0}), done="smile")
    with pytest.raises(DefinitionError, match="does not compare with the run that was not switched"):
        estimates.settled(switched({800: 0.5, 400: 0.2, 200: 0.0}).assign_attrs(params={"between": "final"}))
    with pytest.raises(DefinitionError, match=r"alpha is 0\.6"):
        estimates.settled(switched({800: 0.5, 400: 0.2, 200: 0.0}), alpha=0.6)
    with pytest.raises(DefinitionError, match="Nothing was switched"):
        estimates.settled(node(BENT))
    with pytest.raises(DefinitionError, match="does not keep t = 0"):
        estimates.settled(switched({800: 0.5, 400: 0.2, 200: 0.0}).assign_coords(time=[10]))


def test_outcomes_are_compared_with_what_the_clean_run_shows():
    data = switched({800: 0, 400: 0, 200: 0})
    predicted = np.full((4, 1, SEEDS, 1), 6)
    predicted[2] = 7
    predicted[3, :, : SEEDS // 2] = 7
    data = data.drop_vars("value").assign(predicted=(data["value"].dims, predicted))
    found = estimates.settled(data)
    assert found["changed"].values.tolist() == [1.0, 0.5, 0.0]
    assert not found.attrs["claimed"], "24 seeds cannot show that fewer than 5 % change"
    assert found["upper"].sel(switch=200) > 0.1, "nor is a share of none surely none"
    two = xr.concat([data, data.assign_coords(label=[7])], "label")
    with pytest.raises(DefinitionError, match="labels 6, 7 were switched"):
        estimates.settled(two)
    xr.testing.assert_equal(estimates.settled(two, label=6), found)
    asked = (two["predicted"] * 0 + 2).where(two["label"] == 6, 0)
    xr.testing.assert_equal(estimates.settled(two.assign(status=asked)), found)
    with pytest.raises(StoreError, match="24 of the switched"):
        estimates.settled(two.assign(status=asked.where(asked["intervention"] != "a", 1)), label=6)


def layered(shift):
    dims = ("intervention", "label", "seed", "time", "layer")
    values = RNG(2).normal(1, 0.1, (1, 2, SEEDS, 5, 3))
    values[:, 1, :, 3, 2] += shift
    axes = {"intervention": ["none"], "label": [6, 7], "seed": np.arange(SEEDS), "time": [4, 3, 2, 1, 0],
            "layer": ["a", "b", "c"]}  # fmt: skip
    return xr.Dataset({"value": (dims, values)}, coords=axes)


def test_the_layer_at_which_labels_differ_is_found_and_no_other():
    found = estimates.by_layer(layered(0.3), (6, 7))
    clear = found["p_familywise"] <= 0.05
    assert clear.sum() == 1
    assert clear.sel(layer="c", time=1)
    assert found["effect"].sel(layer="c", time=1) > 1
    assert estimates.by_layer(layered(0.3), (7, 6))["effect"].sel(layer="c", time=1) < -1
    assert (estimates.by_layer(layered(0.0), (6, 7))["p_familywise"] > 0.05).all()
    with pytest.raises(DefinitionError, match="asked for twice"):
        estimates.by_layer(layered(0.0), (6, 6))
    with pytest.raises(StoreError, match="no label 9"):
        estimates.by_layer(layered(0.0), (6, 9))
    with pytest.raises(DefinitionError, match="not one of layers"):
        estimates.by_layer(node(BENT), (6, 7))
    with pytest.raises(DefinitionError, match="3 layers, and 'd' is none"):
        estimates.over_time(layered(0.0), layer="d")
    with pytest.raises(DefinitionError, match="has no layers, and asked for is its layer 'a'"):
        estimates.over_time(node(BENT), layer="a")
    with pytest.raises(DefinitionError, match="3 layers, and none is named"):
        estimates.over_time(layered(0.0))
    with pytest.raises(DefinitionError, match="radius, and no plain value"):
        estimates.over_time(node(BENT).rename(value="radius"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    url = tmp_path_factory.mktemp("estimates") / "store"
    table = {
        "model": "mixture16", "sampler": {"steps": 20}, "cases": {"seeds": "0:6", "labels": [0]},
        "interventions": {"other": {"kind": "switch", "at": [900, 500, 0], "to": 1}},
        "stages": {"step_mse": {"use": "mse"}, "to_original": {"use": "ssim", "between": "clean", "keep": [0]}},
    }  # fmt: skip
    running.run(Pipeline.model_validate(table), into=url)
    return url


def test_the_command_says_it_in_words_and_in_json(store, capsys):
    def said(*words):
        with pytest.raises(SystemExit) as stop:
            main(["stats", str(store), *words])
        return stop.value.code, capsys.readouterr()

    code, told = said("step_mse", "--margin", "0.001", "--window", "200")
    assert code == 0
    assert "6 seeds" in told.out
    assert "bends most at t" in told.out
    assert "its null" in told.out
    code, told = said("to_original", "--switches")
    assert code == 0
    assert "settled (at most 0.05 changed)" in told.out
    code, told = said("step_mse", "--json")
    found = json.loads(told.out)
    by_hand = estimates.over_time(fp.open(store)["measures/step_mse"].to_dataset())
    assert found["value"] == by_hand["value"].values.tolist()
    assert found["plateau_p"] is None
    code, told = said("step_msee")
    assert code == 3
    assert "step_mse" in told.err
    code, told = said("step_mse", "--between", "six,seven")
    assert code == 2
    code, told = said("step_mse", "--switches", "--between", "0,1")
    assert code == 2
    code, told = said("to_original", "--switches", "--margin", "1")
    assert code == 2
    assert "--margin says nothing" in told.err
    code, told = said("step_mse", "--window", "100000")
    assert "was looked for" in told.out
    assert "below its null" not in told.out


def test_of_several_runs_one_is_to_be_named_as_the_command_spells_it(tmp_path, capsys):
    url, small = tmp_path / "two", {"seeds": "0:3", "labels": [0], "sampler": {"steps": 4}}
    fp.profile("mixture16", into=url, **small)
    fp.profile("gaussian8", into=url, **small)
    for command in (["stats", str(url), "step_ssim"], ["compare", str(url), "--between", "labels"]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        told = capsys.readouterr().err
        assert (stop.value.code, "holds 2 runs" in told, "name one: --run gaussian8" in told) == (
            2,
            True,
            True,
        )
    with pytest.raises(SystemExit) as stop:
        main(["stats", str(url), "step_ssim", "--run", "gaussian8"])
    assert (stop.value.code, "3 seeds" in capsys.readouterr().out) == (0, True)
