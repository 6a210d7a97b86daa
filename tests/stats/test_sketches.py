"""Quantiles from sketches: within their error, small, and the same bits however the samples are cut."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats import sketches
from flowprofile.stats.sketches import Sketches, room, sketch

DRAWN = {
    "normal": lambda rng, size: rng.standard_normal(size),
    "skewed": lambda rng, size: rng.lognormal(0, 2, size),
    "rectified": lambda rng, size: np.maximum(0, rng.standard_normal(size)),
    "rising": lambda rng, size: np.sort(rng.standard_normal(size)),
}
SIZES = {
    "one each": [1] * 4096,
    "pictures": [4096] * 64,
    "ragged": [3, 20_000, 11, 500] * 8,
    "one": [300_000],
}


def samples(drawn, sizes, seed=0):
    rng = np.random.default_rng(seed)
    values = DRAWN[drawn](rng, sum(sizes))
    return np.split(values, np.cumsum(sizes)[:-1])


def rank_errors(parts, rank):
    """Errors of rank over the whole range, where ties count as one step."""
    values = np.sort(np.concatenate(parts))
    at = values[np.linspace(0, len(values) - 1, 199).astype(int)]
    return rank(at) - np.searchsorted(values, at, side="right") / len(values)


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("sizes", SIZES)
def test_ranks_are_within_the_stated_error(drawn, sizes):
    parts = samples(drawn, SIZES[sizes])
    found = sketch(parts, range(len(parts))).total()
    assert np.abs(rank_errors(parts, found.rank)).max() <= 0.015
    assert found.rank_error() <= 0.015
    assert found.n == sum(SIZES[sizes])


def quantiles_averaged(parts):
    """The obvious way to merge: quantiles of each part, averaged."""
    shares = np.linspace(0, 1, 201)
    quantiles = np.mean([np.quantile(part, shares) for part in parts], axis=0)
    return lambda at: np.interp(at, quantiles, shares)


def as_many_drawn(parts):
    """The obvious way to forget: keep as many values as a sketch does, drawn at random."""
    kept = np.sort(np.random.default_rng(1).choice(np.concatenate(parts), room(200, 6)))
    return lambda at: np.searchsorted(kept, at, side="right") / len(kept)


@pytest.mark.parametrize("wrong", [quantiles_averaged, as_many_drawn])
def test_the_obvious_ways_are_not(wrong):
    parts = samples("rising", SIZES["pictures"])
    assert np.abs(rank_errors(parts, wrong(parts))).max() > 0.015


def errors_by_key():
    """[key, rank] errors of the same values, and what a rank errs by at most in 19 of 20."""
    parts = samples("normal", [100] * 64)
    found = [sketch(parts, range(64), k=50, key=key).total() for key in range(150)]
    return np.array([rank_errors(parts, one.rank) for one in found]), found[0].rank_error(probability=0.05)


def leaning(errors):
    """Largest mean error of a rank, in standard errors, all ranks taken to spread alike."""
    return np.abs(errors.mean(axis=0)).max() / (errors.std(axis=0).max() / np.sqrt(len(errors)) + 1e-12)


def test_the_stated_probability_is_kept_and_errors_lean_to_no_side():
    errors, bound = errors_by_key()
    assert (np.abs(errors) > bound).mean() <= 0.05
    assert errors.std() > bound / 10
    assert leaning(errors) < 4.5


def test_without_coins_errors_lean(monkeypatch):
    """Always keeping the even ones errs to one side, each time a little more."""
    monkeypatch.setattr(sketches, "_coins", lambda *name: iter(lambda: 0, None))
    assert leaning(errors_by_key()[0]) > 4.5


def same(one, other):
    assert [level.tobytes() for level in one.levels] == [level.tobytes() for level in other.levels]
    assert (one.n, one.least, one.greatest, one.error2) == (
        other.n,
        other.least,
        other.greatest,
        other.error2,
    )


@settings(max_examples=20)
@given(st.data())
def test_every_cut_and_every_order_of_arrival_gives_the_same_bits(data):
    parts = samples("normal", [300] * 21, seed=2)
    order = data.draw(st.permutations(range(21)))
    cuts = sorted(data.draw(st.sets(st.integers(1, 20), max_size=5)))
    made = [
        sketch([parts[p] for p in chunk], chunk, k=30)
        for chunk in (list(c) for c in np.split(np.array(order), cuts))
    ]
    merged = reduce(Sketches.__add__, data.draw(st.permutations(made)), Sketches())
    same(merged.total(), sketch(parts, range(21), k=30).total())


def test_merging_associates_through_the_tree_and_not_without_it():
    parts = samples("normal", [700] * 3, seed=3)
    a, b, c = (sketch([part], [position], k=30) for position, part in enumerate(parts))
    same(((a + b) + c).total(), (a + (b + c)).total())
    x, y, z = (part.total() for part in (a, b, c))
    left, right = (x + y) + z, x + (y + z)
    assert [level.tobytes() for level in left.levels] != [level.tobytes() for level in right.levels]


def test_a_sketch_is_small_and_every_value_is_counted_once():
    parts = samples("normal", [1] * 3000)
    for upto in (1, 10, 600, 1000, 3000):
        found = sketch(parts[:upto], range(upto)).total()
        assert found.kept <= room(found.k, len(found.levels)) < 3 * 200 + 9 * len(found.levels)
        assert sum(len(level) * 2**h for h, level in enumerate(found.levels)) == found.n == upto
    for k in (8, 20, 1000):
        assert sketch(samples("normal", [100_000]), [0], k=k).total().kept < 3 * k + 9 * 20


def test_few_values_are_kept_exactly():
    values = np.random.default_rng(4).standard_normal(190)
    found = sketch(values.reshape(10, 19, 1), range(10)).total()
    assert found.rank_error() == 0
    shares = np.linspace(0, 1, 101)
    assert found.quantile(shares) == pytest.approx(np.quantile(values, shares, method="inverted_cdf"))
    assert found.rank([values.min() - 1, np.sort(values)[94], values.max()]).tolist() == [0, 0.5, 1]


def test_the_ends_are_exact_and_quantiles_invert_ranks():
    parts = samples("skewed", [5000] * 10)
    found = sketch(parts, range(10)).total()
    values = np.concatenate(parts)
    assert found.quantile([0, 1]).tolist() == [values.min(), values.max()]
    shares = np.linspace(0.01, 0.99, 50)
    ranks = np.searchsorted(np.sort(values), found.quantile(shares), side="right") / values.size
    assert ranks == pytest.approx(shares, abs=0.015)
    assert (np.diff(found.quantile(shares)) >= 0).all()


def test_more_memory_is_less_error():
    parts = samples("normal", [2000] * 30)
    errors = [sketch(parts, range(30), k=k).total().rank_error() for k in (25, 100, 400)]
    assert errors[0] > 2.5 * errors[1] > 6 * errors[2]


def test_bad_input_is_refused():
    one = sketch([[1.0, 2.0]], [3])
    with pytest.raises(DefinitionError, match="position 3 is tallied twice"):
        one + one
    with pytest.raises(DefinitionError, match="different kinds"):
        one + sketch([[1.0]], [2], k=100)
    with pytest.raises(NonFiniteError, match="position 7 hold nan at value 2"):
        sketch([[0.0, 1.0, np.nan]], [7])
    with pytest.raises(DefinitionError, match="no values"):
        sketch([[]], [0])
    with pytest.raises(DefinitionError, match="more positions"):
        sketch([[1.0]], [0, 1])
    with pytest.raises(DefinitionError, match="more samples"):
        sketch([[1.0], [2.0]], [0])
    with pytest.raises(DefinitionError, match="k is 7"):
        sketch([[1.0]], [0], k=7)
    with pytest.raises(DefinitionError, match="Nothing"):
        Sketches().total()
    with pytest.raises(DefinitionError, match=r"1\.5"):
        one.total().quantile([0.5, 1.5])
    with pytest.raises(DefinitionError, match="negative"):
        sketch([[1.0]], [-1])
