"""Standing still has to be shown, and a dip has to be one below the null."""

import numpy as np
import pytest
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.curves import NEVER, longest_run
from flowprofile.stats.plateau import dip, equivalence_p, find_dips, plateau, window_slopes

STEPS, SEEDS, WIDTH, MARGIN = 100, 30, 10, 0.005


def rise_stand_rise():
    """Slope .02 up to step 30, none up to 70, .02 again."""
    k = np.arange(STEPS)
    return 0.02 * np.minimum(k, 30) + 0.02 * np.maximum(0, k - 70)


def slope_not_significant(slopes):
    """The obvious way: call a window a plateau where a two-sided t test over seeds finds no slope."""
    return stats.ttest_1samp(slopes, 0.0, axis=0).pvalue > 0.05


def test_a_plateau_is_found_where_it_is(smooth_noise):
    curves = rise_stand_rise() + 0.02 * smooth_noise(np.random.default_rng(1), (SEEDS, STEPS))
    found = plateau(curves, MARGIN, width=WIDTH)
    assert 25 <= found.first <= 32
    assert 68 <= found.last <= 75
    assert found.slope[:15] == pytest.approx(0.02, abs=0.004)
    assert found.slope[35:55] == pytest.approx(0.0, abs=0.004)
    assert found.p_familywise <= 0.05 * len(found.p)


def test_noisy_steep_curves_are_no_plateau_unless_non_significance_counts_as_one(smooth_noise):
    """Slope four times the margin, in noise that hides it."""
    curves = 0.02 * np.arange(STEPS) + 2.0 * smooth_noise(np.random.default_rng(2), (SEEDS, STEPS))
    assert plateau(curves, MARGIN, width=WIDTH).first == NEVER
    assert slope_not_significant(window_slopes(curves, WIDTH)).mean() > 0.5


def test_equivalence_is_claimed_at_the_boundary_as_often_as_promised_and_not_more():
    rng = np.random.default_rng(3)
    for at in (MARGIN, -MARGIN):
        slopes = at + 0.3 * MARGIN * rng.standard_normal((SEEDS, 4000))
        p = equivalence_p(slopes, MARGIN)
        assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.012)
        assert stats.kstest(p, "uniform").pvalue > 0.01
    noisy = MARGIN + 20 * MARGIN * rng.standard_normal((SEEDS, 4000))
    assert np.mean(equivalence_p(noisy, MARGIN) <= 0.05) <= 0.05
    assert np.mean(slope_not_significant(noisy)) > 0.5


def test_inside_the_margin_it_has_power_and_beyond_it_none():
    rng = np.random.default_rng(4)
    spread = 0.5 * MARGIN * rng.standard_normal((SEEDS, 2000))
    assert np.mean(equivalence_p(spread, MARGIN) <= 0.05) > 0.99
    assert np.mean(equivalence_p(1.5 * MARGIN + spread, MARGIN) <= 0.05) < 0.001


def test_slopes_are_least_squares_slopes():
    curves = np.random.default_rng(5).standard_normal((4, 20))
    slopes = window_slopes(curves, 7)
    wanted = [[np.polyfit(np.arange(7), row[w : w + 7], 1)[0] for w in range(14)] for row in curves]
    assert slopes == pytest.approx(np.array(wanted))


def test_curves_without_spread_are_within_the_margin_or_not():
    zeros = plateau(np.zeros((SEEDS, STEPS)), MARGIN, width=WIDTH)
    assert (zeros.first, zeros.last, zeros.p_familywise) == (0, STEPS - 1, 0.0)
    line = plateau(np.tile(0.25 * np.arange(STEPS), (SEEDS, 1)), 0.125, width=WIDTH)
    assert (line.first, line.last, line.p_familywise) == (NEVER, NEVER, 1.0)


def test_a_dip_of_the_null_is_none_of_the_curve(smooth_noise):
    """Both dip at the end, as step SSIM does for any image; only what is below the null counts."""
    rng = np.random.default_rng(6)
    shared = -0.3 * (np.arange(STEPS) > 80) + 0.1 * smooth_noise(rng, (SEEDS, STEPS))
    curves = shared + 0.02 * smooth_noise(rng, (SEEDS, STEPS))
    assert dip(curves, shared, first=85, last=95).p > 0.01
    assert find_dips(curves, shared, width=WIDTH).first == NEVER
    assert dip(curves, np.zeros_like(curves), first=85, last=95).p < 1e-6


def test_a_dip_below_the_null_is_found_where_it_is(smooth_noise):
    rng = np.random.default_rng(7)
    null = smooth_noise(rng, (SEEDS, STEPS))
    curves = (
        null - 0.1 * np.exp(-(((np.arange(STEPS) - 60) / 6) ** 2)) + 0.05 * smooth_noise(rng, (SEEDS, STEPS))
    )
    named = dip(curves, null, first=55, last=65)
    assert named.p < 1e-4
    assert named.mean < 0
    assert 57 <= named.deepest <= 63
    found = find_dips(curves, null, width=5)
    assert 42 <= found.first <= 58
    assert 62 <= found.last <= 78


def test_dips_are_searched_at_the_promised_rate_and_uncorrected_ones_are_not(smooth_noise):
    beyond = smooth_noise(np.random.default_rng(8), (400, 12, STEPS))
    searches = [find_dips(curves, np.zeros_like(curves), width=5) for curves in beyond]
    assert np.mean([s.first != NEVER for s in searches]) <= 0.05
    assert np.mean([s.p.min() <= 0.05 for s in searches]) > 0.2


def test_p_values_of_a_named_dip_are_uniform_and_unpaired_ones_are_not(smooth_noise):
    rng = np.random.default_rng(9)
    null = 3 * rng.standard_normal((1000, 8, 1)) + np.zeros(12)
    curves = null + smooth_noise(rng, (1000, 8, 12))
    p = [dip(a, b, first=2, last=9).p for a, b in zip(curves, null, strict=True)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    ours, theirs = curves[..., 2:10].mean(axis=2), null[..., 2:10].mean(axis=2)
    unpaired = stats.ttest_ind(ours, theirs, axis=1, alternative="less").pvalue
    assert stats.kstest(unpaired, "uniform").pvalue < 0.01


def test_equal_curves_have_no_dip():
    same = np.random.default_rng(10).standard_normal((SEEDS, STEPS))
    assert dip(same, same, first=0, last=5).p == 1.0
    assert find_dips(same, same, width=WIDTH).first == NEVER


@pytest.mark.parametrize(
    ("holds", "wanted"),
    [([], (-1, -1)), ([0, 0], (-1, -1)), ([1, 1], (0, 1)), ([1, 0, 1], (0, 0)), ([0, 1, 1, 0, 1], (1, 2))],
)
def test_the_longest_run_is_the_earliest_of_equals(holds, wanted):
    assert longest_run(np.array(holds, dtype=bool)) == wanted


def test_bad_input_is_refused():
    curves = np.zeros((4, 20))
    for margin in (0, -1, np.nan, np.inf):
        with pytest.raises(DefinitionError, match="margin"):
            plateau(curves, margin, width=5)
    for width in (1, 21):
        with pytest.raises(DefinitionError, match="window"):
            plateau(curves, MARGIN, width=width)
        with pytest.raises(DefinitionError, match="window"):
            find_dips(curves, curves, width=width)
    for first, last in [(-1, 3), (4, 3), (0, 20)]:
        with pytest.raises(DefinitionError, match="window"):
            dip(curves, curves, first=first, last=last)
    with pytest.raises(DefinitionError, match="2 seed"):
        plateau(curves[:2], MARGIN, width=5)
    curves[3, 7] = np.inf
    with pytest.raises(NonFiniteError, match="seed 3, step 7"):
        plateau(curves, MARGIN, width=5)
