"""Two conditions on the same seeds: differences are found, seeds are not taken for one, and bias is stated."""

import numpy as np
import pytest
from scipy import stats

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.distributions import debiased_cka, frechet, mmd, sliced_wasserstein

SEEDS, FEATURES, RUNS = 24, 8, 200


def paired(rng, *, shift=0.0, runs=RUNS, seeds=SEEDS):
    """[run, seed, feature] twice: a strong effect of the seed in both, and a shift in the second."""
    seed = 5 * rng.standard_normal((runs, seeds, FEATURES))
    a = seed + rng.standard_normal(seed.shape)
    return a, seed + rng.standard_normal(seed.shape) + shift


def gram(samples):
    squared = np.square(samples[:, None] - samples).sum(axis=-1)
    return np.exp(-squared / (2 * np.median(squared[np.triu_indices(len(samples), 1)])))


def unpaired_p(a, b, rng, draws=200):
    """The obvious way: shuffle all samples, as if no two of them shared a seed."""
    n, k = len(a), gram(np.concatenate([a, b]))
    np.fill_diagonal(k, 0)
    side = np.repeat([1.0, -1.0], n)
    sides = np.stack([side, *(rng.permutation(side) for _ in range(draws - 1))])
    # Within pairs weigh 1 / (n (n - 1)), pairs across 1 / n^2.
    same = (((1 + sides) @ k) * (1 + sides) + ((1 - sides) @ k) * (1 - sides)).sum(axis=1) / 4
    values = same / (n * (n - 1)) - (k.sum() - same) / n**2
    return np.mean(values >= values[0] - 1e-12)


def rejects(a, b, test):
    return np.mean([test(*pair) <= 0.05 for pair in zip(a, b, strict=True)])


def swapped_p(a, b):
    return mmd(a, b, draws=400).p


def test_mmd_rejects_equals_as_often_as_promised():
    assert rejects(*paired(np.random.default_rng(1)), swapped_p) <= 0.09


def test_mmd_finds_a_shift_that_seeds_hide_and_shuffling_all_samples_does_not():
    rng = np.random.default_rng(2)
    a, b = paired(rng, shift=0.6)
    assert rejects(a, b, swapped_p) >= 0.9
    assert rejects(a, b, lambda x, y: unpaired_p(x, y, rng)) < 0.1


def test_mmd_finds_more_than_means():
    """Same mean, other shape; a test of means sees nothing."""
    rng = np.random.default_rng(3)
    a = rng.standard_normal((100, 40, 2))
    b = 3 * rng.standard_normal(a.shape)
    assert rejects(a, b, swapped_p) >= 0.9
    assert np.mean(stats.ttest_rel(a[..., 0], b[..., 0], axis=1).pvalue <= 0.05) < 0.2


def test_mmd_is_unbiased_and_the_plain_one_is_not():
    a, b = paired(np.random.default_rng(4))
    values = np.array([mmd(*pair, draws=100).mmd2 for pair in zip(a, b, strict=True)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(RUNS)
    plain = []
    for x, y in zip(a, b, strict=True):
        k = gram(np.concatenate([x, y]))
        plain.append(k[:SEEDS, :SEEDS].mean() + k[SEEDS:, SEEDS:].mean() - 2 * k[:SEEDS, SEEDS:].mean())
    assert abs(np.mean(plain)) > 3 * np.std(plain) / np.sqrt(RUNS)


def test_mmd_is_the_sum_of_lemma_6():
    a, b = (part[0] for part in paired(np.random.default_rng(5), runs=1))
    found = mmd(a, b)

    def k(x, y):
        return np.exp(-np.square(x - y).sum() / (2 * found.bandwidth**2))

    pairs = [(i, j) for i in range(SEEDS) for j in range(SEEDS) if i != j]
    wanted = sum(k(a[i], a[j]) + k(b[i], b[j]) - k(a[i], b[j]) - k(a[j], b[i]) for i, j in pairs)
    assert found.mmd2 == pytest.approx(wanted / len(pairs))
    pooled = np.concatenate([a, b])
    apart = [np.linalg.norm(pooled[i] - pooled[j]) for i, j in np.ndindex(48, 48) if i % 24 < j % 24]
    assert found.bandwidth == pytest.approx(np.median(apart))


@pytest.mark.parametrize("distance", [mmd, sliced_wasserstein, frechet])
def test_p_values_do_not_depend_on_where_zero_is_or_what_swaps_give(distance):
    a, b = (part[0] for part in paired(np.random.default_rng(6), runs=1, shift=0.3, seeds=9))
    one = distance(a, b)
    assert one.exact
    assert one.draws == 256
    assert distance(b, a).p == distance(a + 1e6, b + 1e6).p == one.p
    same = distance(a, a.copy())
    assert same.p == 1.0


def biased_cka(a, b):
    ours, theirs = a - a.mean(axis=0), b - b.mean(axis=0)
    grams = ours @ ours.T, theirs @ theirs.T
    return (grams[0] * grams[1]).sum() / np.sqrt((grams[0] ** 2).sum() * (grams[1] ** 2).sum())


def test_independent_noise_is_not_similar_and_plain_cka_says_it_is():
    a, b = np.random.default_rng(7).standard_normal((2, 30, 2000))
    assert abs(debiased_cka(a, b)) < 0.1
    assert biased_cka(a, b) > 0.9


def test_the_same_geometry_is_similarity_1():
    rng = np.random.default_rng(8)
    a = rng.standard_normal((30, 12))
    turn = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    assert debiased_cka(a, a) == pytest.approx(1)
    assert debiased_cka(a, 1e-3 * a @ turn + 5) == pytest.approx(1)
    assert debiased_cka(a, 1e200 * a) == pytest.approx(1)


def test_cka_is_the_formula_of_song_et_al():
    a, b = np.random.default_rng(9).standard_normal((2, 10, 4))
    b[:, 0] += a[:, 0]

    def hsic(k, other):
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        n = len(k)
        return (
            np.trace(k @ other)
            + k.sum() * other.sum() / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (k @ other).sum()
        ) / (n * (n - 3))

    k, other = a @ a.T, b @ b.T
    wanted = hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))
    assert debiased_cka(a, b) == pytest.approx(wanted)


@pytest.mark.parametrize("distance", [sliced_wasserstein, frechet])
def test_distances_state_their_bias(distance):
    rng = np.random.default_rng(10)
    null = [distance(*rng.standard_normal((2, SEEDS, 40)), key=k, draws=100) for k in range(60)]
    excess, values = np.array([(d.excess, d.value) for d in null]).T
    assert abs(excess.mean()) < 0.03 * values.mean()
    assert values.min() > 5 * values.std()
    assert stats.kstest([d.p for d in null], "uniform").pvalue > 0.01


@pytest.mark.parametrize("distance", [sliced_wasserstein, frechet])
def test_distances_find_a_shift_that_seeds_hide(distance):
    a, b = paired(np.random.default_rng(11), shift=0.8, runs=40)
    found = [distance(*pair, draws=200) for pair in zip(a, b, strict=True)]
    assert np.mean([d.p <= 0.05 for d in found]) >= 0.9
    assert np.mean([d.excess > 0 for d in found]) >= 0.9


def test_distances_are_those_of_their_formulas():
    rng = np.random.default_rng(12)
    a, b = rng.standard_normal((400, 3)), rng.standard_normal((400, 3)) @ np.diag([1, 2, 3]) + [1, 0, 0]
    means, first, second = b.mean(axis=0) - a.mean(axis=0), np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    wanted = means @ means + np.trace(first) + np.trace(second) - 2 * root
    assert frechet(a, b, draws=100).value == pytest.approx(wanted)
    line = sliced_wasserstein(a[:, :1], b[:, 1:2], draws=100)
    gap = np.sort(a[:, 0]) - np.sort(b[:, 1])
    assert line.value == pytest.approx(np.sqrt((gap**2).mean()))


def test_a_frechet_distance_of_more_features_than_it_keeps_is_the_same():
    """Beyond twice as many features as seeds, it is worked out in the space the samples span."""
    rng = np.random.default_rng(13)
    few = rng.standard_normal((2, 8, 5)) + np.array([0, 0.5])[:, None, None]
    turn = np.linalg.qr(rng.standard_normal((50, 50)))[0][:5]
    one, many = frechet(*few), frechet(*(few @ turn))
    assert (many.value, many.bias, many.p) == pytest.approx((one.value, one.bias, one.p))


def test_bad_input_is_refused():
    a = np.random.default_rng(14).standard_normal((8, 3))
    broken = a.copy()
    broken[6, 2] = np.nan
    for compare in (mmd, debiased_cka, sliced_wasserstein, frechet):
        with pytest.raises(NonFiniteError, match="b hold nan at seed 6, feature 2"):
            compare(a, broken)
        with pytest.raises(DefinitionError, match="3 seed"):
            compare(a[:3], a[:3])
        with pytest.raises(DefinitionError, match="shape"):
            compare(a[0], a[0])
        with pytest.raises(DefinitionError, match="shapes"):
            compare(a, a[:7])
    with pytest.raises(DefinitionError, match="do not vary"):
        debiased_cka(a, np.ones((8, 3)))
    with pytest.raises(DefinitionError, match="the same"):
        mmd(np.zeros((8, 3)), np.zeros((8, 3)))
    with pytest.raises(DefinitionError, match="directions"):
        sliced_wasserstein(a, a, directions=0)
