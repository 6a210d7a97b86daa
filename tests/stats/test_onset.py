"""An onset is claimed as often as promised, and the ways it is usually read off a plot are not."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.measures.base import Forest, Tally
from flowprofile.stats.bounds import (
    mean_bounds,
    moments,
    p_above,
    seeds_for_level,
    share_bounds,
    tally_bounds,
)
from flowprofile.stats.curves import NEVER, excess
from flowprofile.stats.kink import kinks
from flowprofile.stats.onset import onset, onset_difference, onset_of_bounds, seed_onsets, smallest_delta

STEPS, SEEDS, RUNS, DELTA = 100, 30, 400, 0.2
RISE = 0.6 / (1 + np.exp(-(np.arange(STEPS) - 45.5) / 6))
PLANTED = int(np.argmax(RISE > DELTA))


def first_significant(curves, delta):
    """The obvious way: the first step at which a t test over seeds has p < .05."""
    significant = p_above(curves, delta) < 0.05
    return int(significant.argmax()) if significant.any() else NEVER


def covers(intervals, truth):
    """Share of intervals (lower, upper) that hold the truth; an upper end of NEVER is open."""
    return np.mean([lower <= truth and (upper == NEVER or truth <= upper) for lower, upper in intervals])


@pytest.fixture(scope="module")
def planted(smooth_noise):
    return RISE + 0.1 * smooth_noise(np.random.default_rng(1), (RUNS, SEEDS, STEPS))


@pytest.fixture(scope="module")
def found(planted):
    return [onset(curves, [DELTA]) for curves in planted]


def test_the_interval_holds_a_planted_crossing_and_is_narrow(found):
    intervals = [(o.lower[0], o.upper[0]) for o in found]
    assert covers(intervals, PLANTED) >= 0.92
    assert all(o.claimed[0] for o in found)
    assert np.quantile([upper - lower for lower, upper in intervals], 0.95) <= 5


@pytest.mark.parametrize("wrong", ["from the estimate to the upper end", "about the first p < .05"])
def test_the_obvious_intervals_miss_it(planted, found, wrong):
    if wrong == "about the first p < .05":
        firsts = [first_significant(curves, DELTA) for curves in planted]
        intervals = [(first - 1, first + 1) for first in firsts]
    else:
        intervals = [(o.estimate[0], o.upper[0]) for o in found]
    assert covers(intervals, PLANTED) < 0.92


def test_the_interval_holds_for_skewed_seeds_too():
    """Dissimilarities are not normal: here each seed's curve has an exponential height."""
    heights = np.random.default_rng(11).exponential(size=(RUNS, SEEDS, 1))
    found = [onset(curves, [DELTA]) for curves in RISE * heights]
    assert covers([(o.lower[0], o.upper[0]) for o in found], PLANTED) >= 0.92


@pytest.mark.parametrize("begins", [0, 50])
def test_at_the_boundary_nothing_is_claimed_but_the_first_significant_step_is(smooth_noise, begins):
    """The mean comes up to delta and stays exactly there: no onset, however many steps are looked at."""
    mean = DELTA * np.minimum(1, np.arange(STEPS) / max(begins, 1)) if begins else np.full(STEPS, DELTA)
    null = mean + 0.1 * smooth_noise(np.random.default_rng(2), (RUNS, SEEDS, STEPS))
    assert np.mean([onset(curves, [DELTA]).claimed[0] for curves in null]) <= 0.04
    assert np.mean([first_significant(curves, DELTA) != NEVER for curves in null]) >= 0.10


def test_equal_labels_have_no_onset_no_kink_and_no_trouble():
    zeros = np.zeros((SEEDS, STEPS))
    nothing = onset(zeros, [0.05, 0.1])
    assert not nothing.claimed.any()
    assert nothing.estimate.tolist() == nothing.lower.tolist() == nothing.upper.tolist() == [NEVER, NEVER]
    assert (seed_onsets(zeros, [0.05]).onset == NEVER).all()
    bent = kinks(zeros)
    assert (bent.step == NEVER).all()
    assert all(np.isfinite(part).all() for part in (bent.before, bent.after, bent.gain))


@given(st.integers(0, 10_000), st.integers(3, 8), st.integers(1, 12))
def test_the_estimate_lies_in_its_interval_and_thresholds_are_in_order(seed, seeds, steps):
    curves = np.random.default_rng(seed).normal(0.2, 0.3, (seeds, steps)) + np.linspace(0, 1, steps)
    deltas = np.array([0.05, 0.2, 0.5, 0.9])
    o = onset(curves, deltas)
    held = o.claimed
    assert (o.lower[held] <= o.estimate[held]).all()
    assert (o.estimate[held] <= o.upper[held]).all()
    for part in (o.estimate, o.lower, o.upper):
        later = np.where(part == NEVER, steps, part)
        assert (np.diff(later) >= 0).all()


def test_where_all_seeds_agree_the_interval_is_the_step():
    """.1 has no exact mean of 30 in floating point; its bounds are .1 all the same, and .1 is not above .1."""
    curves = np.tile([0.0, 0.1, 0.1, 0.3], (SEEDS, 1))
    bounds = mean_bounds(curves, alpha=0.025)
    for part in (bounds.mean, bounds.lower, bounds.upper):
        assert part.tolist() == [0.0, 0.1, 0.1, 0.3]
    o = onset(curves, [0.05, 0.1, 0.3])
    assert o.estimate.tolist() == o.lower.tolist() == o.upper.tolist() == [1, 3, NEVER]
    assert curves.mean(axis=0)[1] > 0.1


def test_the_onset_is_of_what_lasts():
    """A mean that rises, falls back and rises again begins the second time."""
    curves = np.tile([0.0, 0.5, 0.0, 0.5, 0.5], (3, 1)) + np.array([[-0.001], [0.0], [0.001]])
    assert onset(curves, [0.2]).estimate.tolist() == [3]
    assert seed_onsets(curves, [0.2]).onset.tolist() == [[3, 3, 3]]


def test_thresholds_below_the_floor_or_the_baseline_are_refused():
    curves = np.tile(RISE, (5, 1))
    baseline = np.concatenate([np.zeros((2, 99)), np.full((2, 1), 0.3)], axis=1)
    with pytest.raises(DefinitionError, match=r"at least 0\.05"):
        onset(curves, [0.04, 0.2])
    assert onset(curves, [0.04], floor=0.01).claimed.all()
    assert smallest_delta(None) == 0.05
    assert smallest_delta(np.zeros((3, 4))) == 0.05
    assert smallest_delta(np.linspace(0, 1, 101)[None]) == 0.99
    assert smallest_delta(baseline) == 0.3
    with pytest.raises(DefinitionError, match=r"at least 0\.3"):
        onset(curves, [0.2], baseline=baseline)
    assert onset(curves, [0.3], baseline=baseline).claimed.all()


def test_the_onset_of_a_tally_is_the_onset_of_its_curves(planted):
    curves = planted[0]
    tallied = Forest.of(curves, range(SEEDS)).total()
    got = onset_of_bounds(tally_bounds(tallied, alpha=0.025), [0.1, 0.2])
    wanted = onset(curves, [0.1, 0.2])
    for name in ("estimate", "lower", "upper"):
        assert getattr(got, name).tolist() == getattr(wanted, name).tolist()
    assert got.alpha == wanted.alpha == 0.05


def test_an_excess_is_paired_by_seed():
    """What a seed shares with its null cancels, and its onset is that of what is left."""
    own = np.random.default_rng(3).normal(0, 5, (SEEDS, 1))
    assert onset(excess(RISE + own, np.broadcast_to(own, (SEEDS, STEPS))), [DELTA]).estimate[0] == PLANTED
    with pytest.raises(DefinitionError, match="paired by seed"):
        excess(np.zeros((4, 5)), np.zeros((5, 5)))


def test_t_bounds_err_as_often_as_they_say_and_normal_ones_more_often():
    values = np.random.default_rng(4).standard_normal((5, 4000))
    bounds = mean_bounds(values, alpha=0.05)
    assert np.mean(bounds.lower > 0) == pytest.approx(0.05, abs=0.012)
    assert np.mean(bounds.upper < 0) == pytest.approx(0.05, abs=0.012)
    mean, m2 = moments(values)
    assert np.mean(mean - 1.645 * np.sqrt(m2 / 20) > 0) > 0.062


def test_p_values_of_the_mean_are_uniform_and_normal_ones_are_not():
    values = 0.3 + np.random.default_rng(5).standard_normal((5, 4000))
    assert stats.kstest(p_above(values, 0.3), "uniform").pvalue > 0.01
    mean, m2 = moments(values)
    assert stats.kstest(stats.norm.sf((mean - 0.3) / np.sqrt(m2 / 20)), "uniform").pvalue < 0.01
    wanted = stats.ttest_1samp(values, 0.3, alternative="greater").pvalue
    assert p_above(values, 0.3) == pytest.approx(wanted)


def test_share_bounds_are_those_of_clopper_and_pearson():
    ones = np.arange(11)
    outcomes = np.arange(10)[:, None] < ones
    bounds = share_bounds(outcomes, alpha=0.025)
    for k in ones:
        exact = stats.binomtest(int(k), 10).proportion_ci(0.95, method="exact")
        assert (bounds.lower[k], bounds.upper[k]) == pytest.approx((exact.low, exact.high))
    n = seeds_for_level(0.05, alpha=0.025)
    assert share_bounds(np.zeros((n, 1)), alpha=0.025).upper[0] <= 0.05
    assert share_bounds(np.zeros((n - 1, 1)), alpha=0.025).upper[0] > 0.05


def test_each_seed_has_an_onset_of_its_own():
    curves = np.array([[0.0, 0.3, 0.3, 0.3], [0.0, 0.3, 0.0, 0.3], [0.3, 0.3, 0.3, 0.0]])
    own = seed_onsets(curves, [0.1, 0.5])
    assert own.onset.tolist() == [[1, 3, NEVER], [NEVER] * 3]
    assert own.never.tolist() == [1, 3]
    assert own.share[0] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3])
    assert own.quantile(1 / 3).tolist() == [1, NEVER]
    assert own.quantile(2 / 3).tolist() == [3, NEVER]
    assert own.quantile(0.9).tolist() == [NEVER, NEVER]


def shifted(by, seeds=12, jitter=0.0):
    """Curves that step from 0 to 1 at 20 plus the seed's number plus a shift."""
    starts = 20 + np.arange(seeds) + by + np.round(jitter * np.random.default_rng(6).standard_normal(seeds))
    return np.where(np.arange(STEPS) >= starts[:, None], 1.0, 0.0)


def test_a_shift_of_the_onset_is_found_in_pairs_and_lost_without_them():
    first, second = seed_onsets(shifted(0), [0.5]), seed_onsets(shifted(2, jitter=0.7), [0.5])
    moved = onset_difference(first, second)
    assert moved.n.tolist() == [12]
    assert 0 < moved.lower[0] < 2 < moved.upper[0] < 3
    unpaired = stats.ttest_ind(second.onset[0], first.onset[0]).confidence_interval(0.95)
    assert unpaired.low < 0


def test_a_difference_says_who_was_dropped():
    first, second = shifted(0), shifted(3)
    first[0] = second[0] = second[1] = first[2] = first[3] = 0.0
    moved = onset_difference(seed_onsets(first, [0.5, 1.0]), seed_onsets(second, [0.5, 1.0]))
    assert moved.n.tolist() == [8, 0]
    assert (moved.never_both[0], moved.never_second[0], moved.never_first[0]) == (1, 1, 2)
    assert (moved.mean[0], moved.lower[0], moved.upper[0]) == (3.0, 3.0, 3.0)
    assert np.isnan([moved.mean[1], moved.lower[1], moved.upper[1]]).all()
    with pytest.raises(DefinitionError, match="thresholds"):
        onset_difference(seed_onsets(first, [0.5]), seed_onsets(second, [0.6]))


def brute_kink(curve):
    """Least squares with the design matrix written out, one kink at a time."""
    k = np.arange(len(curve))
    fits = []
    for kink in range(1, len(curve) - 1):
        design = np.stack([np.ones(len(k)), k, np.maximum(0, k - kink)], axis=1)
        weights = np.linalg.lstsq(design, curve, rcond=None)[0]
        fits.append((np.square(curve - design @ weights).sum(), kink, weights[1], weights[1] + weights[2]))
    return min(fits)


def test_kinks_are_the_least_squares_of_every_break():
    curves = np.random.default_rng(7).standard_normal((20, 17)).cumsum(axis=1)
    got = kinks(curves)
    for i, curve in enumerate(curves):
        left, kink, before, after = brute_kink(curve)
        assert got.step[i] == kink
        assert (got.before[i], got.after[i]) == pytest.approx((before, after))
        line = np.polyfit(np.arange(17), curve, 1)
        straight = np.square(curve - np.polyval(line, np.arange(17))).sum()
        assert got.gain[i] == pytest.approx(1 - left / straight)


def test_a_kink_is_where_it_was_planted_and_a_line_has_none():
    k = np.arange(STEPS)
    bent = kinks(np.stack([0.1 + 0.02 * np.maximum(0, k - 37), 3 + 0.1 * k, np.full(STEPS, 0.1)]))
    assert bent.step.tolist() == [37, NEVER, NEVER]
    assert bent.gain.tolist() == pytest.approx([1, 0, 0])
    assert bent.before == pytest.approx([0, 0.1, 0], abs=1e-12)
    assert bent.after == pytest.approx([0.02, 0.1, 0], abs=1e-12)


def test_what_is_no_set_of_curves_is_refused_by_name():
    curves = np.zeros((4, 6))
    curves[2, 5] = np.nan
    with pytest.raises(NonFiniteError, match="seed 2, step 5"):
        onset(curves, [0.1])
    with pytest.raises(NonFiniteError, match="step 5"):
        tally_bounds(Tally(4, curves.mean(axis=0), curves.var(axis=0)), alpha=0.05)
    with pytest.raises(DefinitionError, match="2 seed"):
        onset(np.zeros((2, 6)), [0.1])
    with pytest.raises(DefinitionError, match="2 seed"):
        tally_bounds(Tally(2, np.zeros(6), np.zeros(6)), alpha=0.05)
    for shape in [(6,), (3, 4, 5), (4, 0)]:
        with pytest.raises(DefinitionError, match="shape"):
            onset(np.zeros(shape), [0.1])
    for deltas in (0.1, [], [np.nan], [np.inf]):
        with pytest.raises(DefinitionError, match="threshold"):
            onset(np.zeros((3, 6)), deltas)
    for alpha in (0, 0.5, np.nan):
        with pytest.raises(DefinitionError, match="alpha"):
            onset(np.zeros((3, 6)), [0.1], alpha=alpha)
    with pytest.raises(DefinitionError, match="4 steps"):
        kinks(np.zeros((3, 4)))
    with pytest.raises(DefinitionError, match="0 or 1"):
        share_bounds(np.full((3, 4), 0.5), alpha=0.05)


def test_more_seeds_narrow_the_interval(planted):
    pooled = planted[:16].reshape(-1, STEPS)
    widths = [float(o.upper[0] - o.lower[0]) for o in (onset(pooled[:n], [DELTA]) for n in (5, 30, 480))]
    assert all(more <= fewer for fewer, more in pairwise(widths))
    assert widths[0] > widths[-1]
