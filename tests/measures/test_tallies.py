"""Tallies: right, and the same bits however the work was cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError
from flowprofile.measures import images
from flowprofile.measures.base import NOTHING, Forest, Measure, Statistic, Tally, tally
from flowprofile.time.noise import noise


def rows(count: int) -> np.ndarray:
    """Values of all sizes with every bit in use: where sums and differences are exact, any order would do."""
    return noise(count, 3, (count, 50)).astype(np.float64) * np.pi + 1 / 3


@given(st.integers(1, 60))
def test_mean_and_variance_are_those_of_all_values(count: int):
    values = rows(count)
    total = Forest.of(values, range(count)).total()
    assert total.n == count
    assert total.mean == pytest.approx(values.mean(axis=0), rel=1e-11, abs=1e-13)
    if count > 1:
        assert total.variance == pytest.approx(values.var(axis=0, ddof=1), rel=1e-9)
        assert total.standard_error == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(count), rel=1e-9)
    else:
        assert np.isnan(total.variance).all()
        assert np.isnan(total.standard_error).all()


@given(st.data())
def test_every_cut_and_every_order_of_arrival_gives_the_same_bits(data):
    dense = st.lists(st.integers(0, 40), unique=True, min_size=20, max_size=40)
    sparse = st.lists(st.integers(0, 2**63 - 1), unique=True, min_size=1, max_size=10)
    positions = data.draw(dense | sparse)
    values = rows(len(positions))
    whole = Forest.of(values, positions)
    order = data.draw(st.permutations(range(len(positions))))
    parts, at = [], 0
    while at < len(order):
        size = data.draw(st.integers(1, len(order) - at))
        chosen = order[at : at + size]
        parts.append(Forest.of(values[chosen], [positions[k] for k in chosen]))
        at += size
    merged = Forest()
    while parts:
        merged = merged + parts.pop(data.draw(st.integers(0, len(parts) - 1)))
    assert merged.nodes.keys() == whole.nodes.keys()
    for name in ("mean", "m2"):
        assert getattr(merged.total(), name).tobytes() == getattr(whole.total(), name).tobytes()


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_adding_tallies_is_associative_and_commutative_up_to_rounding(a: int, b: int, c: int):
    one, two, three = (Forest.of(rows(n) + k, range(n)).total() for k, n in enumerate((a, b, c)))
    left, right, turned = (one + two) + three, one + (two + three), three + (two + one)
    for other in (right, turned):
        assert other.n == left.n
        assert other.mean == pytest.approx(left.mean, rel=1e-11, abs=1e-13)
        assert other.m2 == pytest.approx(left.m2, rel=1e-9, abs=1e-9)


def test_nothing_changes_nothing():
    one = Tally.one([1.0, 2.0])
    assert (one + NOTHING) is one
    assert (NOTHING + one) is one
    assert Forest().total().n == 0


def test_complete_blocks_are_kept_as_one_node():
    assert set(Forest.of(rows(11), range(11)).nodes) == {(3, 0), (1, 4), (0, 10)}
    assert len(Forest.of(rows(16), range(16)).nodes) == 1


def test_a_missing_number_is_loud():
    values = rows(4)
    values[2, 1] = np.nan
    total = Forest.of(values, range(4)).total()
    assert np.isnan(total.mean).tolist() == [k == 1 for k in range(50)]
    assert np.isnan(total.m2).tolist() == [k == 1 for k in range(50)]


def test_a_sample_cannot_count_twice():
    forest = Forest.of(rows(4), range(4))
    with pytest.raises(DefinitionError, match="position 2 is tallied twice"):
        forest + Forest.of(rows(1), [2])
    with pytest.raises(DefinitionError, match="tallied twice"):
        Forest.of(rows(2), [5, 5])
    with pytest.raises(DefinitionError, match="negative"):
        Forest.of(rows(1), [-1])


def test_a_measure_is_a_function_of_means_and_shares_its_statistics():
    a, b = noise(0, 1, (6, 1, 8, 8)), noise(0, 2, (6, 1, 8, 8))
    error = Statistic.of(images.mse)
    psnr = Measure("psnr", (error,), lambda mean: images.psnr_of_mse(mean, data_range=1.0))
    mse = Measure("mse", (Statistic.of(images.mse),))
    forests = tally([*psnr.statistics, *mse.statistics], (a, b), range(6))
    assert list(forests) == [error]
    totals = {statistic: forest.total() for statistic, forest in forests.items()}
    mean = images.mse(a, b).mean()
    assert mse(totals) == pytest.approx(mean)
    assert psnr(totals) == pytest.approx(-10 * np.log10(mean))
    assert psnr(totals) != pytest.approx(images.psnr(a, b, data_range=1.0).mean(), rel=1e-9)


def test_statistics_are_the_same_exactly_if_function_and_options_are():
    """weatherbenchX kept the identity by hand and merged two different statistics silently."""
    one = Statistic.of(images.ssim, window=7, data_range=1.0)
    assert one == Statistic.of(images.ssim, data_range=1.0, window=7)
    assert one != Statistic.of(images.ssim, window=7, data_range=2.0)
    assert one != Statistic.of(images.mse)
    assert len({one, Statistic.of(images.ssim, data_range=1.0, window=7)}) == 1
