"""Sixteen labels are sixteen, however many seeds each of them has."""

import numpy as np
import pytest
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.crossed import grand_mean, labels_fixed, labels_random, mean_squares

SEEDS, LABELS, RUNS, MEAN = 100, 16, 1500, 3.0


def crossed(rng, *, seed, label, cell, seeds=SEEDS, labels=LABELS):
    """values[seed, label, run] with given standard deviations of seeds, labels and cells."""
    return (
        MEAN
        + seed * rng.standard_normal((seeds, 1, RUNS))
        + label * rng.standard_normal((1, labels, RUNS))
        + cell * rng.standard_normal((seeds, labels, RUNS))
    )


def covers(lower, upper, truth=MEAN):
    return np.mean((lower <= truth) & (truth <= upper))


@pytest.fixture(scope="module")
def varied():
    return crossed(np.random.default_rng(1), seed=0.5, label=1.0, cell=1.0)


def test_intervals_hold_the_mean_of_all_labels_there_could_be(varied):
    found = grand_mean(varied, design=labels_random)
    assert 0.93 <= covers(found.lower, found.upper) <= 0.98
    assert found.design == "labels_random"


@pytest.mark.parametrize("wrong", ["independent cells", "resampled cells", "seeds alone"])
def test_intervals_that_take_labels_for_granted_miss_it(varied, wrong):
    if wrong == "seeds alone":
        found = grand_mean(varied)
        lower, upper = found.lower, found.upper
    elif wrong == "independent cells":
        reach = 1.96 * varied.std(axis=(0, 1), ddof=1) / np.sqrt(SEEDS * LABELS)
        lower, upper = varied.mean(axis=(0, 1)) - reach, varied.mean(axis=(0, 1)) + reach
    else:
        rng = np.random.default_rng(2)
        cells = varied[..., :200].reshape(SEEDS * LABELS, -1)
        weights = rng.multinomial(len(cells), np.full(len(cells), 1 / len(cells)), size=200) / len(cells)
        lower, upper = np.quantile(weights @ cells, [0.025, 0.975], axis=0)
    assert covers(lower, upper) < 0.5


@pytest.mark.parametrize(("seed", "label", "cell"), [(1, 0, 0.2), (0, 0, 1), (0.3, 0.3, 2), (0, 2, 0.5)])
@pytest.mark.parametrize(("seeds", "labels"), [(20, 4), (5, 5)])
def test_coverage_is_never_below_its_promise(seed, label, cell, seeds, labels):
    values = crossed(np.random.default_rng(3), seed=seed, label=label, cell=cell, seeds=seeds, labels=labels)
    found = grand_mean(values, design=labels_random)
    assert covers(found.lower, found.upper) >= 0.935


def test_fixed_labels_are_claimed_as_promised_and_narrowly(varied):
    """The mean of *these* labels, whose own effects are part of what is claimed."""
    rng = np.random.default_rng(4)
    effects = rng.standard_normal((1, LABELS, 1))
    values = effects + 0.5 * rng.standard_normal((30, 1, RUNS)) + rng.standard_normal((30, LABELS, RUNS))
    found = grand_mean(values)
    assert 0.93 <= covers(found.lower, found.upper, effects.mean()) <= 0.98
    assert (found.standard_error < 0.5 * grand_mean(values, design=labels_random).standard_error).all()


def test_fixed_labels_are_a_t_interval_of_the_means_of_seeds():
    values = np.random.default_rng(5).standard_normal((12, 4))
    found = grand_mean(values, alpha=0.1)
    means = values.mean(axis=1)
    wanted = stats.t.interval(0.9, 11, means.mean(), stats.sem(means))
    assert (found.lower, found.upper) == pytest.approx(wanted)
    assert found.degrees == 11


def test_components_are_found_on_average(varied):
    seed, label, cell = (part.mean() for part in grand_mean(varied).components)
    assert (seed, label, cell) == pytest.approx((0.25, 1.0, 1.0), rel=0.05)


def test_the_variance_of_the_mean_is_right_or_too_large(varied):
    true = varied.mean(axis=(0, 1)).var()
    ours, _ = labels_random(mean_squares(varied))
    fixed, _ = labels_fixed(mean_squares(varied))
    assert 0.9 < ours.mean() / true < 1.15
    assert fixed.mean() / true < 0.2


def test_far_from_zero_no_digit_is_lost_and_sums_of_squares_lose_all():
    values = np.random.default_rng(6).standard_normal((SEEDS, LABELS))
    near, far = (
        mean_squares(np.round(values * 2**20) / 2**20),
        mean_squares(np.round(values * 2**20) / 2**20 + 1e8),
    )
    for name in ("seed", "label", "residual"):
        assert getattr(far, name) == pytest.approx(getattr(near, name), rel=1e-8)
    shifted = np.round(values * 2**20) / 2**20 + 1e8
    naive = LABELS * ((shifted.mean(axis=1) ** 2).sum() - SEEDS * shifted.mean() ** 2) / (SEEDS - 1)
    assert naive != pytest.approx(float(near.seed), rel=0.5)


def test_cells_that_agree_have_no_width():
    found = grand_mean(np.full((5, 4), 0.1), design=labels_random)
    assert found.lower == found.mean == found.upper == 0.1


def test_one_label_can_be_claimed_only_for_itself():
    values = np.random.default_rng(7).standard_normal((10, 1))
    assert grand_mean(values).mean == pytest.approx(values.mean())
    with pytest.raises(DefinitionError, match="1 label"):
        grand_mean(values, design=labels_random)


def test_bad_input_is_refused():
    values = np.zeros((4, 5))
    values[1, 3] = np.inf
    with pytest.raises(NonFiniteError, match="inf at seed 1, label 3"):
        grand_mean(values)
    with pytest.raises(DefinitionError, match="2 seed"):
        grand_mean(np.zeros((2, 5)))
    with pytest.raises(DefinitionError, match="shape"):
        grand_mean(np.zeros(5))
    with pytest.raises(DefinitionError, match="alpha"):
        grand_mean(np.zeros((4, 5)), alpha=1)
