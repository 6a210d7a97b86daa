"""Step filters keep what they say, and refuse what would make a doubled, empty or foreign time axis."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError
from flowprofile.time.steps import full, generated, hundredth, kept, respaced, stepped


def test_a_slice_counts_generated_states():
    assert kept("::50", full(1000)) == tuple(range(1000, -1, -50))
    assert kept("0:3", full(1000)) == (1000, 999, 998)
    assert kept("-1:", full(1000)) == (0,)
    assert kept(" : ", full(4)) == full(4)


def test_a_list_is_presented_descending():
    assert kept([0, 200, 1000], full(1000)) == (1000, 200, 0)
    assert kept(5, full(10)) == (5,)


def test_slices_of_a_respaced_grid_keep_original_states():
    assert kept("::2", respaced(1000, 4)) == (1000, 500, 0)


@given(st.integers(1, 1200), st.data())
def test_respaced_states_run_from_noise_to_image_without_a_repeat(T: int, data):
    n = data.draw(st.integers(1, T))
    states = respaced(T, n)
    assert (len(states), states[0], states[-1]) == (n + 1, T, 0)
    assert all(a > b for a, b in itertools.pairwise(states))
    assert max(a - b for a, b in itertools.pairwise(states)) <= -(-T // n)


@given(st.integers(1, 1200), st.data())
def test_exponential_keeps_both_ends_and_exactly_as_many_as_asked(T: int, data):
    n = data.draw(st.integers(2, T + 1))
    states = kept({"exponential": n}, full(T))
    assert (len(states), states[0], states[-1]) == (n, T, 0)
    assert all(a > b for a, b in itertools.pairwise(states))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ([], "keeps no state"),
        ("10:5", "keeps no state"),
        ([1000, 1000], "names 1000 twice"),
        ([1001], "1000 down to 0"),
        ([-1], "1000 down to 0"),
        ([5.0], "5.0 is not one"),
        ([True], "True is not one"),
        (["500"], "'500' is not one"),
        ("::0", "stride 0"),
        ("::-1", "already descending"),
        ("5", "not a slice"),
        (":::", "not a slice"),
        ("a:b", "not a slice"),
        ("", "not a slice"),
        ({"exponential": 1}, "from 2 to 1001"),
        ({"exponential": 2000}, "from 2 to 1001"),
        ({"exponential": "5"}, "from 2 to 1001"),
        ({"exponental": 5}, "exponential = n"),
        ({}, "exponential = n"),
    ],
)
def test_refusals_say_what_to_write(spec, says: str):
    with pytest.raises(DefinitionError, match=says):
        kept(spec, full(1000))


def test_a_slice_that_counts_past_all_states_but_noise_is_refused_and_a_named_one_is_not():
    short = respaced(1000, 20)
    with pytest.raises(DefinitionError, match=r"keeps only t = 1000, which is noise") as refused:
        generated("::100", short)
    assert "counts the states" in refused.value.consequence
    assert '"::2" (t = 1000, 900, ' in refused.value.remedy
    with pytest.raises(DefinitionError, match="which is noise"):
        stepped("::100", short)
    assert generated([1000], short) == generated(1000, short) == (1000,)
    assert generated("::20", short) == (1000, 0)
    assert generated(":1", (0,)) == (0,)


def test_every_hundredth_state_is_the_default_of_what_is_dear_and_never_none():
    assert hundredth(full(1000)) == stepped("::100", full(1000)) == tuple(range(900, -1, -100))
    assert hundredth(respaced(1000, 40)) == (975,)


def test_a_state_between_respaced_ones_is_refused_with_its_neighbours():
    with pytest.raises(DefinitionError, match=r"\[250, 500\]"):
        kept([300], respaced(1000, 4))


@pytest.mark.parametrize("n", [0, -1, 1001])
def test_a_grid_that_would_repeat_a_state_is_refused(n: int):
    with pytest.raises(DefinitionError, match="1 to 1000"):
        respaced(1000, n)
