"""What can be claimed of outcomes that stop changing, from few seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.bounds import MeanBounds, mean_bounds, share_bounds
from flowprofile.stats.curves import NEVER
from flowprofile.stats.predetermination import falling_mean, predetermination

GROUPS, SEEDS, SWITCHES = 200, 32, 100
CENTRE, SPREAD = 45.0, 6.0
FALL = stats.logistic.sf(np.arange(SWITCHES), CENTRE, SPREAD)
"""Probability that switching still changes the outcome, when a seed is settled at a logistic moment."""


def settled_from(level):
    return int(np.argmax(level >= FALL))


def outcomes(seeds, rng):
    """changed[group, seed, switch]: each seed changes until its own moment, and never after it."""
    moments = rng.logistic(CENTRE, SPREAD, (GROUPS, seeds, 1))
    return moments > np.arange(SWITCHES)


def plug_in(values, *, alpha):
    """The obvious bounds: mean plus or minus z standard errors, whatever the values."""
    reach = stats.norm.isf(alpha) * values.std(axis=0) / np.sqrt(len(values))
    mean = values.mean(axis=0)
    return MeanBounds(len(values), mean, mean - reach, mean + reach, alpha)


def covers(found, truth):
    return np.mean([p.lower <= truth and (p.upper == NEVER or truth <= p.upper) for p in found])


@pytest.mark.parametrize(("seeds", "level"), [(32, 0.05), (32, 0.2), (120, 0.05)])
def test_the_interval_holds_the_moment_of_settling(seeds, level):
    changed = outcomes(seeds, np.random.default_rng(1))
    found = [predetermination(group, level=level) for group in changed]
    assert covers(found, settled_from(level)) >= 0.92
    assert all(p.claimed == (seeds >= p.seeds_needed) for p in found)


@pytest.mark.parametrize("bounds", [plug_in, mean_bounds])
def test_plug_in_bounds_claim_too_early(bounds):
    """None of 32 has no spread at all, so these bounds take it for proof."""
    changed = outcomes(SEEDS, np.random.default_rng(1))
    found = [predetermination(group, bounds=bounds) for group in changed]
    assert covers(found, settled_from(0.05)) < 0.92


def test_the_interval_holds_for_dissimilarities_and_the_estimate_alone_does_not(smooth_noise):
    rng = np.random.default_rng(2)
    curves = 0.8 * FALL + 0.1 * smooth_noise(rng, (GROUPS, SEEDS, SWITCHES))
    truth = int(np.argmax(0.8 * FALL <= 0.1))
    found = [predetermination(group, level=0.1) for group in curves]
    assert covers(found, truth) >= 0.92
    assert all(p.claimed for p in found)
    assert np.mean([p.upper - p.lower for p in found]) < 15
    assert np.mean([abs(p.estimate - truth) <= 1 for p in found]) < 0.92


def test_few_seeds_leave_the_interval_open_and_say_how_many_are_needed():
    changed = outcomes(SEEDS, np.random.default_rng(3))[0]
    few = predetermination(changed)
    assert not few.claimed
    assert few.upper == NEVER
    assert few.seeds_needed == 72
    assert few.lower <= few.estimate
    many = predetermination(np.concatenate(outcomes(SEEDS, np.random.default_rng(3))[:10]))
    assert many.claimed
    assert many.lower <= settled_from(0.05) <= many.upper


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12))
def test_the_falling_mean_is_min_max_of_averages(means):
    y = np.array(means, dtype=np.float64)
    brute = [
        min(max(y[a : b + 1].mean() for b in range(k, len(y))) for a in range(k + 1)) for k in range(len(y))
    ]
    assert falling_mean(y) == pytest.approx(np.array(brute), abs=1e-12)


def test_a_running_minimum_is_not_the_falling_mean():
    """The obvious way to make a curve fall keeps its lowest value so far, and is biased towards early."""
    y = np.array([1.0, 0.2, 0.6, 0.1])
    assert falling_mean(y) == pytest.approx([1.0, 0.4, 0.4, 0.1])
    assert np.minimum.accumulate(y) != pytest.approx(falling_mean(y))


@given(st.integers(0, 10_000), st.integers(3, 90), st.sampled_from([0.05, 0.2, 0.5]))
def test_the_estimate_lies_in_the_interval(seed, seeds, level):
    rng = np.random.default_rng(seed)
    changed = rng.random((seeds, 15)) < np.linspace(0.9, 0.0, 15)
    for values in (changed, changed * rng.random((seeds, 15))):
        p = predetermination(values, level=level)
        if p.claimed:
            assert p.lower <= p.estimate <= p.upper
        elif p.estimate != NEVER:
            assert p.lower <= p.estimate


def test_a_curve_that_is_flat_about_the_level_is_flagged():
    rng = np.random.default_rng(4)
    noise = 0.002 * rng.standard_normal((SEEDS, SWITCHES))
    steep = predetermination(0.8 * FALL + noise, level=0.1)
    assert not steep.flat
    assert steep.early <= steep.estimate <= steep.late
    slow = predetermination(np.linspace(0.2, 0.0, SWITCHES) + noise, level=0.1)
    assert slow.flat
    stuck = predetermination(0.08 + 0.5 * FALL + noise, level=0.1)
    assert stuck.claimed
    assert stuck.late == NEVER
    assert stuck.flat


def test_what_never_settles_and_what_always_was():
    always = predetermination(np.ones((SEEDS, 20)))
    assert (always.estimate, always.lower, always.upper) == (NEVER, NEVER, NEVER)
    nothing = predetermination(np.zeros((SEEDS, 20)), bounds=mean_bounds)
    assert (nothing.estimate, nothing.lower, nothing.upper) == (0, 0, 0)
    assert not predetermination(np.zeros((SEEDS, 20))).claimed
    assert not nothing.flat


def test_bad_input_is_refused():
    values = np.zeros((4, 6))
    values[1, 3] = np.nan
    with pytest.raises(NonFiniteError, match="seed 1, step 3"):
        predetermination(values)
    with pytest.raises(DefinitionError, match="2 seed"):
        predetermination(np.zeros((2, 6), dtype=bool))
    with pytest.raises(DefinitionError, match="0 or 1"):
        predetermination(np.full((4, 6), 0.5), bounds=share_bounds)
    for level in (0, 1, np.nan):
        with pytest.raises(DefinitionError, match="level"):
            predetermination(np.zeros((4, 6)), level=level)
