"""The one indexing of beta and alpha-bar, against the papers' numbers."""

import math

import numpy as np
import pytest

from flowprofile.errors import DefinitionError
from flowprofile.time.schedule import Schedule, cosine, linear, schedule


@pytest.mark.parametrize("times", [linear(), cosine(), linear(20)], ids=lambda s: f"{s.name}-{s.T}")
def test_alpha_bar_is_the_product_of_what_each_transition_leaves(times: Schedule):
    assert times.alpha_bar(0) == 1.0
    for i in range(times.T):
        assert times.alpha_bar(i + 1) == pytest.approx(times.alpha_bar(i) * (1 - times.beta(i)), rel=1e-14)


def test_linear_has_the_ends_and_the_level_of_the_paper():
    times = linear()
    assert (times.beta(0), times.beta(999)) == (1e-4, 0.02)
    # METHODS: divergence at t = 800 is sqrt(alpha_bar(800)) = .039.
    assert math.sqrt(times.alpha_bar(800)) == pytest.approx(0.039, abs=5e-4)


def test_cosine_follows_nichol_and_dhariwal_until_the_cap():
    times = cosine()
    t = np.arange(0, 990)
    wanted = np.cos((t / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    assert [times.alpha_bar(int(s)) for s in t] == pytest.approx(wanted, rel=1e-9)
    assert max(times.betas) == 0.999


def test_the_last_step_adds_no_noise():
    times = linear()
    assert times.posterior_variance(0) == 0.0
    i = 500
    abar, before = times.alpha_bar(i + 1), times.alpha_bar(i)
    assert times.posterior_variance(i) == pytest.approx(times.beta(i) * (1 - before) / (1 - abar), rel=1e-15)


def test_equal_names_are_equal_values_and_hash_alike():
    assert schedule("linear", 100) == linear(100)
    assert len({linear(100), linear(100), linear(101), cosine(100)}) == 3
    assert len(repr(linear())) < 60


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: schedule("linaer", 10), "linear"),
        (lambda: schedule("linear", 0), "T >= 1"),
        (lambda: linear(10).alpha_bar(11), "0 .. 10"),
        (lambda: linear(10).alpha_bar(-1), "0 .. 10"),
        (lambda: linear(10).beta(10), "0 .. 9"),
        (lambda: Schedule("mine", (0.1, 1.0)), "0 < beta < 1"),
        (lambda: Schedule("mine", (0.1, float("nan"))), "0 < beta < 1"),
    ],
)
def test_refusals_name_what_is_allowed(wrong, says):
    with pytest.raises(DefinitionError, match=says.replace(".", r"\.")):
        wrong()
