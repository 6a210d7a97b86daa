"""The layer distance against plain linear algebra, and the same bits in every cut."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError
from flowprofile.measures import layers
from flowprofile.time.noise import noise

NORMALISE = ("none", "minmax", "relative")


def shown(cases: int, time: int, size: tuple[int, ...] = (6, 5, 7), seed: int = 0) -> np.ndarray:
    """What a layer shows, changing a little at a time, [case time ...] float32."""
    return (3.0 + noise(seed, 1, (cases, time, *size)).cumsum(axis=1)).astype(np.float32)


def slowly(one: np.ndarray, other: np.ndarray, normalise: str) -> float:
    """The definition, a pair at a time, with sums that are exact."""
    a, b = (array.astype(np.float64).ravel() for array in (one, other))
    if normalise == "minmax":
        a, b = ((v - v.min()) / np.ptp(v) if np.ptp(v) else 0.0 * v for v in (a, b))
    found = math.sqrt(math.fsum((a - b) ** 2))
    if normalise == "relative":
        scale = math.sqrt(math.fsum(a**2) + math.fsum(b**2))
        return found / scale if scale else 0.0
    return found


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("size", [(1, 1, 1), (6, 5, 7), (9, 11), (70, 16, 16)])
def test_it_is_the_frobenius_norm_of_the_difference(normalise, size):
    a = shown(2, 3, size)
    wanted = [[slowly(row[k + 1], row[k], normalise) for k in range(2)] for row in a]
    assert layers.consecutive(a, normalise=normalise) == pytest.approx(np.array(wanted), rel=1e-13, abs=1e-15)
    assert layers.distance(a[:, 1:], a[:, :-1], normalise=normalise) == pytest.approx(
        np.array(wanted), rel=1e-13, abs=1e-15
    )


def test_two_matrices_by_hand():
    a, b = np.array([[[3.0, 0.0]]]), np.array([[[0.0, 4.0]]])
    assert layers.distance(a, b).tolist() == [[5.0]]
    assert layers.distance(a, b, normalise="relative").tolist() == [[1.0]]
    assert layers.distance(a, b, normalise="minmax").tolist() == [[pytest.approx(math.sqrt(2))]]
    assert layers.distance(a, -a, normalise="relative").tolist() == [[pytest.approx(math.sqrt(2))]]


@given(st.data())
def test_a_value_has_the_same_bits_in_every_cut(data):
    cases, time = data.draw(st.integers(1, 9)), data.draw(st.integers(2, 6))
    size = data.draw(st.sampled_from([(3,), (9, 11), (6, 5, 7), (8, 32, 16)]))
    normalise = data.draw(st.sampled_from(NORMALISE))
    a = shown(cases, time, size, seed=data.draw(st.integers(0, 99)))
    whole = layers.consecutive(a, normalise=normalise)
    row, start = data.draw(st.integers(0, cases - 1)), data.draw(st.integers(0, time - 2))
    stop = data.draw(st.integers(start + 2, time))
    part = layers.consecutive(a[row : row + 1, start:stop].copy(), normalise=normalise)
    assert part.tobytes() == whole[row : row + 1, start : stop - 1].tobytes()
    pairs = layers.distance(a[:, :-1], a[:, 1:], normalise=normalise)
    assert pairs.tobytes() == whole.tobytes()


@pytest.mark.parametrize("block", [1, 500, 10**9])
@pytest.mark.parametrize("normalise", NORMALISE)
def test_the_cache_block_does_not_change_a_bit(block, normalise, monkeypatch):
    a = shown(7, 3)
    whole = layers.consecutive(a, normalise=normalise)
    monkeypatch.setattr(layers, "_BLOCK", block)
    assert layers.consecutive(a, normalise=normalise).tobytes() == whole.tobytes()


@pytest.mark.parametrize("normalise", NORMALISE)
def test_equal_arrays_are_at_exactly_zero(normalise):
    a = shown(3, 4)
    assert layers.distance(a, a, normalise=normalise).tolist() == [[0.0] * 4] * 3
    assert layers.distance(0 * a, 0 * a, normalise=normalise).tolist() == [[0.0] * 4] * 3


def test_scaling_to_0_and_1_forgets_scale_and_offset_and_a_constant_becomes_zero():
    """The thesis' code does this without saying so: a layer that only grows seems not to move."""
    a = shown(1, 1)
    assert layers.distance(a, 5 * a + 2, normalise="minmax") == pytest.approx(0.0, abs=1e-4)
    assert layers.distance(a, 5 * a + 2)[0, 0] > 100
    constant = np.full_like(a, 7.0)
    assert layers.distance(constant, 3 * constant, normalise="minmax").tolist() == [[0.0]]
    assert layers.distance(a, constant, normalise="minmax")[0, 0] == pytest.approx(
        slowly(a, constant, "minmax")
    )


def test_the_relative_distance_forgets_a_common_scale_and_is_bounded():
    a, b = shown(4, 2, seed=1), shown(4, 2, seed=2) - 4.0
    relative = layers.distance(a, b, normalise="relative")
    scaled = layers.distance(64.0 * a, 64.0 * b, normalise="relative")
    assert scaled.tobytes() == relative.tobytes()
    assert (relative <= math.sqrt(2)).all()


def test_gradients_of_any_size_lose_no_digits():
    a = shown(1, 2).astype(np.float64)
    for factor in (2.0**-120, 2.0**120):
        assert layers.consecutive(a * factor) / factor == layers.consecutive(a)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("normalise", NORMALISE)
def test_a_number_that_is_none_spoils_its_pairs_and_no_other(wrong, normalise):
    a = shown(3, 4)
    clean = layers.consecutive(a, normalise=normalise)
    a[1, 2, 3, 0, 6] = wrong
    got = layers.consecutive(a, normalise=normalise)
    spoilt = np.zeros((3, 3), dtype=bool)
    spoilt[1, 1:] = True
    assert np.isnan(got[spoilt]).all()
    assert got[~spoilt].tobytes() == clean[~spoilt].tobytes()
    constant = np.full((1, 2, 3, 3), wrong)
    assert np.isnan(layers.consecutive(constant, normalise=normalise)).all()


def test_leading_axes_are_kept_and_time_is_the_last_of_them():
    a = shown(6, 4).reshape(2, 3, 4, 6, 5, 7)
    assert layers.consecutive(a, lead=3).shape == (2, 3, 3)
    assert layers.distance(a, a, lead=3).shape == (2, 3, 4)
    assert layers.consecutive(a[0, 0], lead=1).shape == (3,)
    assert layers.consecutive(a[:, 0, :1]).shape == (2, 0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: layers.distance(a, a, normalise="min-max"), "did you mean 'minmax'"),
        (lambda a: layers.distance(a, a[:, :2]), "not of one kind"),
        (lambda a: layers.distance(a[0, 0, 0, 0], a[0, 0, 0, 0]), "nothing to compare"),
        (lambda a: layers.consecutive(a[..., :0]), "nothing to compare"),
        (lambda a: layers.consecutive(a, lead=0), "nothing to compare"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(DefinitionError, match=says):
        call(shown(2, 3))
