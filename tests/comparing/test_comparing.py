"""Two conditions, compared: the numbers are those one would work out by hand, however they were had."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from compared_stores import given, sampled

import flowprofile as fp
from flowprofile.comparing import sides, verb
from flowprofile.comparing.choosing import Asked, source_of
from flowprofile.comparing.states import States
from flowprofile.comparing.tallying import ROOM, forests
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.measures import images
from flowprofile.measures.base import Forest
from flowprofile.stats.bounds import mean_bounds
from flowprofile.stats.onset import onset

TWO = {"label": (0, 1)}
SWITCHED = {"intervention": ("none", "later")}


def asked(url, between, **how):
    """The source that answers a question."""
    run = sides.held(url, None, None)
    question = sides.question((run,), between, label=how.pop("label", None), intervention=None)
    return source_of(question, Asked(**{"measure": "ssim", **how}))


def by_hand(url, one, other, name="measures/label_ssim"):
    """1 - SSIM of a pair of labels and of its null, [seed, time]."""
    node = fp.open(url)[name].sel(label=one, other_label=other).isel(intervention=0)
    return 1 - node["value"].values.astype(float), 1 - node["null"].values.astype(float)


def test_the_numbers_are_those_of_the_stored_curves(whole):
    value, null = by_hand(whole, 0, 1)
    found = fp.compare(whole, between=TWO)
    bounds = mean_bounds(value, alpha=0.025)
    np.testing.assert_allclose(found["value"], bounds.mean, rtol=1e-12)
    np.testing.assert_allclose(found["lower"], bounds.lower, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found["upper"], bounds.upper, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found["null"], null.mean(0), rtol=1e-12)
    assert (found["n"] == 6).all()
    assert found["time"].values.tolist() == sorted(found["time"].values.tolist(), reverse=True)
    assert found.attrs["source"] == "measures/label_ssim"
    over = fp.compare(whole, between=TWO, excess=True)
    paired = mean_bounds(value - null, alpha=0.025)
    np.testing.assert_allclose(over["excess"], paired.mean, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(over["upper"], paired.upper, rtol=1e-9, atol=1e-15)
    # The interval of unpaired seeds is another one: what value and null share would not cancel.
    apart = mean_bounds(value, alpha=0.025).upper - null.mean(0)
    assert not np.allclose(over["upper"], apart, rtol=1e-3)


def test_onsets_are_those_of_the_curves_said_as_states(whole):
    value, _ = by_hand(whole, 0, 1)
    found = fp.compare(whole, between=TWO, delta=[0.2, 0.1])
    wanted = onset(value, [0.1, 0.2])
    times = found["time"].values
    assert found["delta"].values.tolist() == [0.1, 0.2]
    for at in range(2):
        for name, step in (
            ("onset", wanted.estimate),
            ("onset_lower", wanted.upper),
            ("onset_upper", wanted.lower),
        ):
            assert found[name].values[at] == times[step[at]]
    assert (found["onset_lower"] <= found["onset"]).all()
    assert (found["onset"] <= found["onset_upper"]).all()
    assert found["claimed"].all()


def test_a_known_onset_is_claimed_and_the_null_takes_it_away(tmp_path):
    rng = np.random.default_rng(1)
    step = np.arange(40)
    noise = rng.normal(0, 0.01, (12, 40))
    parted = 0.4 * (step >= 25) + noise
    url = given(tmp_path / "store", 1 - parted, 1 - parted + rng.normal(0, 0.001, (12, 40)))
    claimed = fp.compare(url, between=TWO, delta=[0.1])
    assert bool(claimed["claimed"].item())
    assert (
        claimed["onset_lower"].item() == claimed["onset"].item() == claimed["onset_upper"].item() == 39 - 25
    )
    assert claimed["null_onset"].item() == 39 - 25
    over = fp.compare(url, between=TWO, delta=[0.1], excess=True)
    assert not over["claimed"].item()
    assert np.isnan([over["onset"].item(), over["onset_lower"].item(), over["onset_upper"].item()]).all()


def test_without_a_null_there_is_no_excess(tmp_path):
    url = given(tmp_path / "store", np.full((4, 10), 0.5))
    found = fp.compare(url, between=TWO)
    assert np.isnan(found["null"]).all()
    assert np.isnan(found["excess"]).all()
    with pytest.raises(DefinitionError, match="no null"):
        fp.compare(url, between=TWO, excess=True)


def test_states_give_the_bits_of_the_stored_measure_and_of_its_null(whole):
    for between, labels in (("labels", None), (SWITCHED, [0, 1])):
        stored = asked(whole, between, label=labels)
        computed = States(stored.question, "ssim", 7, 1.0, stored.times)
        span = stored.question.groups[0].held.tree.attrs["model"]["pixel_range"]
        computed = replace(computed, data_range=float(span[1] - span[0]))
        for ours, theirs in zip(computed.values([1, 4, 5]), stored.values([1, 4, 5]), strict=True):
            assert ours.tobytes() == theirs.tobytes()
    # Another range of the data gives other bits: the comparison above could fail.
    other = replace(computed, data_range=computed.data_range * 2)
    assert not np.array_equal(other.values([1])[0], stored.values([1])[0])


def test_what_is_not_stored_is_computed_from_the_states(whole):
    x = fp.open(whole)["trajectory"]["x_t"].isel(intervention=0)
    for kind, measure in (("mse", images.mse), ("l1", images.l1)):
        found = fp.compare(whole, between=TWO, measure=kind, delta=[0.001])
        wanted = measure(x.sel(label=0).values, x.sel(label=1).values).mean(0)
        np.testing.assert_allclose(found["value"], wanted, rtol=1e-6)
        assert found.attrs["source"] == "the stored states of both"
        assert found.attrs["quantity"] == kind
    five = fp.compare(whole, between=TWO, window=5)
    assert five.attrs["source"] == "the stored states of both"
    assert not np.allclose(five["value"], fp.compare(whole, between=TWO)["value"], rtol=1e-3)


@pytest.mark.parametrize("between", ["labels", SWITCHED])
def test_not_a_bit_depends_on_how_many_seeds_are_read_at_once(whole, between):
    source = asked(whole, between, label=[0, 1])
    whole_, single = (forests(source, range(6), room=room).tallied() for room in (ROOM, 1))
    for name in ("value", "null", "excess"):
        one, other = getattr(whole_, name), getattr(single, name)
        assert (one.n, one.mean.tobytes(), one.m2.tobytes()) == (
            other.n,
            other.mean.tobytes(),
            other.m2.tobytes(),
        )
    # Tallies that are added up part by part, as they come, do depend on it.
    values = source.values(range(6))[0]
    folded = Forest.of(values[:3], range(3)).total() + Forest.of(values[3:], range(3, 6)).total()
    assert folded.m2.tobytes() != whole_.value.m2.tobytes()


def test_all_pairs_are_each_pair(whole):
    every = fp.compare(whole, between="labels")
    pairs = list(zip(every["label"].values.tolist(), every["other_label"].values.tolist(), strict=True))
    assert pairs == [(0, 1), (0, 2), (1, 2)]
    for at, pair in enumerate(pairs):
        one = fp.compare(whole, between={"label": pair})
        xr.testing.assert_equal(every.isel(pair=at).drop_vars(["label", "other_label"]), one)
    two = fp.compare(whole, between="labels", label=[1, 2])
    assert two.sizes["pair"] == 1


def test_the_seed_is_the_unit_when_labels_are_averaged(whole):
    found = fp.compare(whole, between=SWITCHED, label=[0, 1])
    node = fp.open(whole)["measures/clean_ssim"].isel(intervention=1).sel(label=[0, 1])
    value = (1 - node["value"].astype(float)).mean("label").values
    bounds = mean_bounds(value, alpha=0.025)
    assert (found["n"] == 6).all()
    np.testing.assert_allclose(found["upper"], bounds.upper, rtol=1e-9, atol=1e-15)
    # Twelve samples taken for twelve seeds give another interval, of samples that share their noise by twos.
    twice = mean_bounds((1 - node["value"].astype(float)).values.reshape(12, -1), alpha=0.025)
    assert not np.allclose(found["upper"], twice.upper, rtol=1e-3)


def test_clean_may_stand_on_either_side(whole):
    there = fp.compare(whole, between=SWITCHED)
    back = fp.compare(whole, between={"intervention": SWITCHED["intervention"][::-1]})
    xr.testing.assert_equal(there, back)


def test_labels_that_were_never_sampled_under_an_intervention_are_left_out(whole):
    # Switching to label 2 leaves label 2's own samples as they are.
    found, named = fp.compare(whole, between=SWITCHED), fp.compare(whole, between=SWITCHED, label=[0, 1])
    assert found.attrs["recipe"] == named.attrs["recipe"]


def test_a_curve_of_each_case_is_subtracted(whole):
    found = fp.compare(whole, between=TWO, measure="step_ssim")
    node = fp.open(whole)["measures/step_ssim"]["value"].isel(intervention=0).astype(float)
    wanted = (1 - node.sel(label=1)) - (1 - node.sel(label=0))
    np.testing.assert_allclose(found["value"], wanted.mean("seed"), rtol=1e-9, atol=1e-15)
    assert "second minus first" in found.attrs["quantity"]


def test_two_stores_are_paired_by_the_seeds_both_hold(whole, tmp_path):
    other = sampled(
        tmp_path / "other", seeds="2:8", labels=(1, 0), sampler={"rule": "ddim"}, stages={"trajectory": {}}
    )
    found = fp.compare(whole, other, label=0)
    assert found.attrs["seeds"] == "2:6"
    first, second = (
        fp.open(url)["trajectory"]["x_t"].isel(intervention=0).sel(label=0, seed=[2, 3, 4, 5])
        for url in (whole, other)
    )
    low, high = fp.open(whole).attrs["model"]["pixel_range"]
    wanted = 1 - images.ssim(first.values, second.values, data_range=high - low)
    np.testing.assert_allclose(found["value"], wanted.mean(0), atol=1e-6)
    assert (found["n"] == 4).all()
    # Different samplers towards different images: so is the null, and it ends where the value does.
    assert found["null"].values[-1] == pytest.approx(found["value"].values[-1], abs=1e-6)
    assert not np.allclose(found["null"], found["value"], rtol=1e-3)


def test_states_can_be_chosen(whole):
    found = fp.compare(whole, between=TWO, time=slice(800, 200))
    assert (found["time"].max(), found["time"].min()) == (800, 200)
    assert fp.compare(whole, between=TWO, seed=[0, 3, 5]).attrs["seeds"] == "0, 3, 5"


def refusals():
    return [
        ({"between": {"label": (1, 1)}}, DefinitionError, "compared with itself"),
        ({"between": {"label": (0, 9)}}, StoreError, "ensure .* --labels 9"),
        ({"between": {"label": (0, 1, 2)}}, DefinitionError, "not two"),
        ({"between": {"seed": (0, 1)}}, DefinitionError, "Only labels and interventions"),
        ({"between": "label"}, DefinitionError, "all pairs"),
        ({}, DefinitionError, "two values of one axis"),
        ({"between": TWO, "measure": "ssmi"}, DefinitionError, "did you mean 'ssim'"),
        ({"between": TWO, "measure": "clean_ssim"}, DefinitionError, "says nothing about this"),
        ({"between": TWO, "seed": [0, 1]}, DefinitionError, "that both sides hold"),
        ({"between": TWO, "seed": [0, 1, 99]}, StoreError, "Seed 99"),
        ({"between": TWO, "label": [0]}, DefinitionError, "in `between` only"),
        ({"between": TWO, "delta": [0.01]}, DefinitionError, "not admissible"),
        ({"between": TWO, "alpha": 0.7}, DefinitionError, "alpha"),
        ({"between": TWO, "time": [7]}, StoreError, "no state"),
        ({"between": {"intervention": ("none", "lather")}}, StoreError, "did you mean 'later'"),
    ]


@pytest.mark.parametrize(("arguments", "kind", "told"), refusals())
def test_a_refusal_names_what_is_wrong_and_what_to_do(whole, arguments, kind, told):
    with pytest.raises(kind, match=told):
        fp.compare(whole, **arguments)


def test_a_store_is_not_compared_with_itself(whole):
    with pytest.raises(DefinitionError, match="with itself"):
        fp.compare(whole, whole)
    with pytest.raises(DefinitionError, match="leave `between` out"):
        fp.compare(whole, whole, between=TWO)


def test_what_is_not_there_is_refused_with_the_command_that_computes_it(tmp_path):
    url = sampled(tmp_path / "store", stages={"step_ssim": {"use": "ssim"}})
    with pytest.raises(
        StoreError, match=r"--set stages.label_ssim.use=ssim --set stages.label_ssim.between=labels"
    ):
        fp.compare(url, between=TWO)


def test_several_stored_measures_of_a_kind_must_be_named(tmp_path):
    stages = {f"w{n}": {"use": "ssim", "between": "labels", "window": n} for n in (5, 7)}
    url = sampled(tmp_path / "store", stages=stages)
    with pytest.raises(DefinitionError, match="'w5', 'w7'"):
        fp.compare(url, between=TWO)
    named, chosen = fp.compare(url, between=TWO, measure="w5"), fp.compare(url, between=TWO, window=5)
    xr.testing.assert_identical(named, chosen)


def test_missing_cells_are_named(held):
    from pathlib import Path

    folder = next(Path(held).glob("ledger/receipts/*/measures~label_ssim@*"))
    gone = min(folder.rglob("*.json"))
    gone.unlink()
    with pytest.raises(
        StoreError, match=r"cells of measures/label_ssim are missing.*(.|\n)*rerun"
    ) as refusal:
        fp.compare(held, between=TWO)
    assert "first seed 0, t = 1000" in refusal.value.evidence


def test_ranges_say_every_seed():
    assert verb.ranges([]) == ""
    assert verb.ranges([3]) == "3"
