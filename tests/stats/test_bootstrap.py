"""Standard errors from parts, with the same bits however the seeds are cut."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.measures.base import Forest
from flowprofile.stats.bootstrap import Resampled, bootstrap, poisson_weights, resampled

SEEDS = 64
CUTS = [[64], [1, 20, 43], [16, 16, 16, 16]]


def chunks(values, sizes):
    """(values, seeds) of consecutive chunks."""
    ends = np.cumsum(sizes)
    return [(values[end - size : end], range(end - size, end)) for size, end in zip(sizes, ends, strict=True)]


def merged(values, sizes, part):
    first, *others = [part(rows, seeds) for rows, seeds in chunks(values, sizes)]
    return sum(others, first)


def chunk_weighted(rows, seeds, replicates=200):
    """The obvious way: every worker draws the weights of its chunk from a generator of its own."""
    weights = np.random.default_rng(seeds[0]).poisson(1.0, (len(rows), replicates))
    weights = np.concatenate([np.ones((len(rows), 1)), weights], axis=1)[..., None]
    return Resampled(
        0, replicates, (), Forest.of(weights * np.stack([rows * 0 + 1, rows], -1)[:, None], seeds)
    )


def bits(part, values):
    return {merged(values, sizes, part).means.tobytes() for sizes in CUTS}


def test_every_cut_gives_the_same_bits_and_weights_of_chunks_do_not():
    values = np.random.default_rng(1).standard_normal(SEEDS) / 3
    assert len(bits(lambda rows, seeds: resampled(rows, seeds, replicates=200), values)) == 1
    assert len(bits(chunk_weighted, values)) == len(CUTS)


@settings(max_examples=10)
@given(st.permutations(range(20)), st.integers(1, 19))
def test_every_order_of_arrival_gives_the_same_bits(order, cut):
    values = np.random.default_rng(2).standard_normal((20, 3)) / 3
    whole = resampled(values, range(20), replicates=100)
    parts = [resampled(values[part], part, replicates=100) for part in (order[:cut], order[cut:])]
    assert (parts[1] + parts[0]).means.tobytes() == whole.means.tobytes()


def test_weights_are_poisson_and_each_has_a_name():
    weights = poisson_weights(range(200), 2000, key=3)
    counts = np.bincount(weights.ravel(), minlength=8)[:8]
    expected = stats.poisson.pmf(np.arange(8), 1) * weights.size
    assert counts == pytest.approx(expected, abs=5 * np.sqrt(expected.max()))
    assert abs(np.corrcoef(weights[:, :50].T)[np.triu_indices(50, 1)].mean()) < 0.01
    assert (poisson_weights([17], 100, key=3)[0] == weights[17, :100]).all()
    assert (poisson_weights([17], 100, key=4)[0] != weights[17, :100]).any()


def test_weights_are_these_for_ever():
    assert poisson_weights([0, 2**63], 12, key=0).tolist() == [
        [0, 2, 1, 0, 1, 0, 2, 1, 1, 0, 1, 1],
        [1, 2, 0, 0, 2, 3, 0, 5, 1, 4, 3, 0],
    ]


def test_the_standard_error_is_the_analytic_one_and_of_unpaired_labels_it_is_not():
    values = np.random.default_rng(4).exponential(size=(200, 2)) + np.random.default_rng(5).normal(
        0, 3, (200, 1)
    )
    found = bootstrap(resampled(values, range(200), replicates=4000))
    assert found.standard_error == pytest.approx(stats.sem(values), rel=0.05)
    assert found.estimate == pytest.approx(values.mean(axis=0))
    parts = resampled(values, range(200), replicates=4000)
    apart = bootstrap(parts, of_means=lambda means: means[:, 0] - means[:, 1]).standard_error
    assert apart == pytest.approx(stats.sem(values[:, 0] - values[:, 1]), rel=0.05)
    assert np.hypot(*found.standard_error) != pytest.approx(float(apart), rel=0.05)


def test_intervals_hold_the_mean_about_as_often_as_promised():
    rng = np.random.default_rng(6)
    values = rng.standard_normal((50, 600))
    found = bootstrap(resampled(values, range(50), replicates=500))
    assert 0.91 <= np.mean((found.lower <= 0) & (found.upper >= 0)) <= 0.97


def test_a_function_of_means_has_an_error_too():
    values = np.random.default_rng(7).standard_normal(400)
    found = bootstrap(resampled(values**2, range(400)), of_means=np.sqrt)
    assert found.estimate == pytest.approx(np.sqrt(np.mean(values**2)))
    assert found.standard_error == pytest.approx(1 / np.sqrt(800), rel=0.15)
    assert found.lower < found.estimate < found.upper


def test_moments_far_from_zero_are_right_to_1e_8_and_sums_of_squares_are_not():
    values = 1e8 + np.random.default_rng(8).standard_normal(4096)
    exact = [Fraction(float(v)) for v in values]
    mean = sum(exact) / len(exact)
    variance = float(sum((v - mean) ** 2 for v in exact) / (len(exact) - 1))
    total = sum(
        (Forest.of(rows, seeds) for rows, seeds in chunks(values, [1000, 96, 3000])), Forest()
    ).total()
    assert total.mean == pytest.approx(float(mean), rel=1e-15)
    assert total.variance == pytest.approx(variance, rel=1e-8)
    n = len(values)
    assert (np.square(values).sum() - values.sum() ** 2 / n) / (n - 1) != pytest.approx(variance, rel=1e-8)
    found = bootstrap(resampled(values, range(4096), replicates=2000))
    assert found.standard_error == pytest.approx(np.sqrt(variance / n), rel=0.05)


def test_bad_input_is_refused():
    values = np.zeros((12, 2))
    parts = resampled(values, range(12), replicates=100)
    with pytest.raises(DefinitionError, match="tallied twice"):
        parts + parts
    for other in ({"key": 1, "replicates": 100}, {"replicates": 101}):
        with pytest.raises(DefinitionError, match="different bootstraps"):
            parts + resampled(values, range(12, 24), **other)
    with pytest.raises(DefinitionError, match="9 seed"):
        bootstrap(resampled(values[:9], range(9), replicates=100))
    with pytest.raises(DefinitionError, match="replicates"):
        resampled(values, range(12), replicates=99)
    for rows, seeds in [
        (values, range(11)),
        (np.zeros(()), []),
        (np.zeros((0, 2)), []),
        (np.zeros((2, 0)), [0, 1]),
    ]:
        with pytest.raises(DefinitionError, match="shape"):
            resampled(rows, seeds)
    with pytest.raises(DefinitionError, match="no random numbers"):
        resampled(values[:1], [-1])
    with pytest.raises(DefinitionError, match="alpha"):
        bootstrap(parts, alpha=0)
    with pytest.raises(NonFiniteError, match="estimates"):
        bootstrap(parts, of_means=lambda means: means * np.nan)
    values[3, 1] = np.nan
    with pytest.raises(NonFiniteError, match="row 3"):
        resampled(values, range(12))
