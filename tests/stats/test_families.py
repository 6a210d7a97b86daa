"""Looking at many hypotheses costs what the correction says, and not correcting costs far more."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.families import benjamini_hochberg, family, hedges, single_step, step_down

SEEDS, HYPOTHESES, FAMILIES = 20, 60, 400


def correlated(rng, families=FAMILIES, hypotheses=HYPOTHESES):
    """[family, seed, hypothesis] differences whose hypotheses hang together, as layers of one network do."""
    own = rng.standard_normal((families, SEEDS, hypotheses))
    return 0.7 * rng.standard_normal((families, SEEDS, 1)) + 0.7 * own


@pytest.fixture(scope="module")
def null_families():
    drawn = correlated(np.random.default_rng(1))
    return [family(d, key=k, draws=500) for k, d in enumerate(drawn)]


def errs(p):
    return np.mean([np.min(values) <= 0.05 for values in p])


def test_a_family_errs_as_often_as_promised(null_families):
    assert 0.02 <= errs([f.p_familywise for f in null_families]) <= 0.08


def test_uncorrected_a_family_errs_far_more_often(null_families):
    assert errs([f.p for f in null_families]) > 0.3


def test_p_values_are_uniform_and_those_of_cells_taken_for_seeds_are_not(null_families):
    assert stats.kstest([f.p[0] for f in null_families], "uniform").pvalue > 0.01
    drawn = correlated(np.random.default_rng(1))
    pooled = stats.ttest_1samp(drawn.reshape(FAMILIES, -1), 0, axis=1).pvalue
    assert stats.kstest(pooled, "uniform").pvalue < 1e-6


def test_p_values_are_uniform_for_differences_with_heavy_tails():
    """Exact for any symmetric distribution; a t test is not."""
    rng = np.random.default_rng(2)
    heavy = rng.standard_t(1.2, (SEEDS, 1500))
    assert stats.kstest(family(heavy, draws=1000).p, "uniform").pvalue > 0.01
    assert stats.kstest(stats.ttest_1samp(heavy, 0).pvalue, "uniform").pvalue < 0.01


def test_the_share_of_false_findings_is_as_promised_and_uncorrected_it_is_not():
    rng = np.random.default_rng(3)
    drawn = correlated(rng, families=200, hypotheses=100)
    drawn[..., :20] += 0.9
    found = [family(d, draws=1000) for d in drawn]

    def false_share(p):
        return np.mean([(values[20:] <= 0.05).sum() / max(1, (values <= 0.05).sum()) for values in p])

    assert false_share([f.q for f in found]) <= 0.07
    assert false_share([f.p for f in found]) > 0.07
    assert np.mean([(f.q[:20] <= 0.05).mean() for f in found]) > 0.8


def test_step_down_claims_what_single_step_claims_and_more():
    d = np.random.default_rng(4).standard_normal((SEEDS, 30))
    d[:, :15] += np.linspace(0.5, 1.5, 15)
    down = family(d, correction=step_down)
    single = family(d, correction=single_step)
    assert (down.p_familywise <= single.p_familywise).all()
    assert (down.p_familywise <= 0.05).sum() > (single.p_familywise <= 0.05).sum()
    assert (down.p <= down.p_familywise).all()
    assert (down.correction, single.correction) == ("step_down", "single_step")


def test_few_seeds_are_enumerated_and_agree_with_scipy():
    d = np.random.default_rng(5).normal(0.4, 1, (8, 3))
    f = family(d)
    assert f.exact
    assert f.draws == 128
    for h in range(3):
        wanted = stats.permutation_test(
            (d[:, h], np.zeros(8)),
            lambda x, y, axis: np.abs((x - y).mean(axis)),
            permutation_type="samples",
            vectorized=True,
            alternative="greater",
            n_resamples=np.inf,
        )
        assert f.p[h] == pytest.approx(wanted.pvalue)


def test_statistics_and_effects_are_those_of_scipy():
    d = np.random.default_rng(6).normal(0.4, 1, (SEEDS, 2, 5))
    f = family(d)
    assert not f.exact
    assert f.t == pytest.approx(stats.ttest_1samp(d, 0).statistic)
    assert f.effect == pytest.approx(hedges(SEEDS - 1) * d.mean(axis=0) / d.std(axis=0, ddof=1))
    assert f.q == pytest.approx(stats.false_discovery_control(f.p.ravel()).reshape(2, 5))
    assert all(part.shape == (2, 5) for part in (f.p, f.p_familywise, f.q))


def test_effects_are_unbiased_with_the_correction_and_too_large_without():
    d = np.random.default_rng(7).normal(0.5, 1, (6, 20_000))
    effect = family(d, draws=100).effect
    assert effect.mean() == pytest.approx(0.5, abs=0.015)
    assert effect.mean() / hedges(5) > 0.55


@given(st.integers(0, 1000), st.floats(1e-200, 1e200))
def test_unit_and_order_of_hypotheses_do_not_matter(seed, unit):
    rng = np.random.default_rng(seed)
    d, order = rng.standard_normal((7, 12)), rng.permutation(12)
    one, other = family(d), family(unit * d[:, order])
    assert (other.p == one.p[order]).all()
    assert (other.p_familywise == one.p_familywise[order]).all()


def test_a_key_names_its_flips():
    d = np.random.default_rng(8).normal(0.3, 1, (SEEDS, 4))
    assert (family(d, key=1).p == family(d, key=1).p).all()
    assert (family(d, key=1).p != family(d, key=2).p).any()


def test_nothing_and_certainty():
    d = np.zeros((SEEDS, 2))
    d[:, 1] = 0.1
    f = family(d)
    assert f.t.tolist() == [0, np.inf]
    assert f.effect.tolist() == [0, np.inf]
    assert f.p[0] == f.p_familywise[0] == 1
    assert f.p_familywise[1] <= 0.001


def test_bad_input_is_refused():
    d = np.zeros((SEEDS, 3, 4))
    d[7, 2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"nan at seed 7, hypothesis 2, then \[1\]"):
        family(d)
    with pytest.raises(DefinitionError, match="5 seed"):
        family(np.zeros((5, 3)))
    for shape in [(SEEDS,), (SEEDS, 0)]:
        with pytest.raises(DefinitionError, match="shape"):
            family(np.zeros(shape))
    with pytest.raises(DefinitionError, match="rearrangements"):
        family(np.zeros((SEEDS, 3)), draws=10)
    with pytest.raises(DefinitionError, match="key -1"):
        family(np.zeros((SEEDS, 3)), key=-1)
    with pytest.raises(NonFiniteError, match="nan at"):
        benjamini_hochberg([0.1, np.nan])
    for p in ([], [1.5]):
        with pytest.raises(DefinitionError, match="p "):
            benjamini_hochberg(p)
