"""Blocks on their way to the browser: half floats that come back, states that are missing, bounds."""

import numpy as np
import pytest
import xarray as xr
from half_floats import unpacked
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import flowprofile as fp
from flowprofile.app import blocks
from flowprofile.app.asked import query
from flowprofile.app.blocks import Picture, block, limits, packed
from flowprofile.app.panels import panel, pictures
from flowprofile.app.views import picture_view
from flowprofile.errors import StoreError


def asked(**changes):
    pairs = {"node": "predicted_x0", "variable": "x0_hat", "times": [10], **changes}
    return query(
        (name, str(each))
        for name, value in pairs.items()
        for each in (value if isinstance(value, list) else [value])
    )


@pytest.fixture(scope="module")
def tree(small):
    return fp.open(small)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
        # Where a network ran before, denormal numbers are flushed, of which there are none in a store.
        elements=st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False),
    )
)
def test_half_floats_come_back_with_three_digits_whatever_their_size(values):
    head, found = unpacked(packed(values, {"times": list(range(len(values))), "shape": values.shape[1:]}))
    assert np.isfinite(found).all()
    scales = np.array(head["scales"]).reshape(-1, 1, 1)
    for scale, state in zip(head["scales"], found, strict=True):
        largest = np.abs(state).max() / scale
        assert largest == 0 or scale == 2.0**-120 or 2.0**14 < largest <= 65504
    # Eleven bits of the value, or of the smallest half float that is not denormal.
    tolerance = np.maximum(np.abs(values) * 2.0**-11, scales * 2.0**-24)
    assert (np.abs(found - values) <= tolerance * 1.001).all()


def test_small_values_beside_a_large_one_keep_their_digits():
    """Energies of a gradient: a pixel's own is ten, the others are below what a half float can say by itself."""
    values = np.array([[[10.0, 3.3e-8, 4.4e-7]]], np.float32)
    _, found = unpacked(packed(values, {"times": [0], "shape": [1, 3]}))
    np.testing.assert_allclose(found, values, rtol=2e-2)


def test_what_is_not_a_number_stays_none():
    values = np.array([[[np.nan, 1.0], [np.nan, -2.0]]], np.float32)
    _, found = unpacked(packed(values, {"times": [0], "shape": [2, 2]}))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


def test_a_block_is_what_is_stored_at_the_states_asked_for_in_their_order(tree):
    times = tree["predicted_x0"]["time"].values[[3, 1]].tolist()
    head, found = unpacked(block(tree, asked(label=1, seed=1, times=times)))
    wanted = tree["predicted_x0"]["x0_hat"].sel(intervention="none", label=1, seed=1, time=times).values
    assert (head["times"], head["missing"]) == (times, {})
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_states_that_are_not_there_are_said_to_be_missing_and_hold_no_number(tall):
    tree = fp.open(tall)
    times = tree["trajectory"]["time"].values[-2:].tolist()
    head, found = unpacked(block(tree, asked(node="trajectory", variable="x_t", seed=9000, times=times)))
    assert head["missing"] == {str(t): 1 for t in times}
    assert np.isnan(found).all()


def test_a_block_that_is_too_large_travels_channel_by_channel(tree, monkeypatch):
    monkeypatch.setattr(blocks, "MOST", 100)
    monkeypatch.setattr(blocks, "PLANES", 0)
    t = int(tree["predicted_x0"]["time"][0])
    with pytest.raises(StoreError, match="name a channel"):
        block(tree, asked(times=[t]))
    head, found = unpacked(block(tree, asked(times=[t], channel=0)))
    assert head["channel"] == 0
    assert found.shape[1] == 1
    with pytest.raises(StoreError, match="no channel 7"):
        block(tree, asked(times=[t], channel=7))


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"node": "nothing"}, "no object"),
        ({"variable": "status"}, "no picture"),
        ({"times": [11]}, "keeps no state 11"),
        ({"times": []}, "No state is asked for"),
        ({"label": 9}, "no label 9"),
        ({"seed": "x"}, "The seed is"),
    ],
)
def test_a_block_that_is_none_is_refused_by_name(tree, changes, fact):
    with pytest.raises(StoreError, match=fact):
        block(tree, asked(**changes))


def test_limits_are_of_every_channel_over_all_states(tree):
    found = limits(tree, asked(label=0, seed=0))
    values = tree["predicted_x0"]["x0_hat"].sel(intervention="none", label=0, seed=0)
    assert found["states"] == values.sizes["time"]
    np.testing.assert_allclose(found["low"], values.min(["time", "y", "x"]).values)
    np.testing.assert_allclose(found["high"], values.max(["time", "y", "x"]).values)


def test_a_pixels_own_entry_does_not_set_the_scale_of_its_row():
    rows = xr.DataArray(
        np.zeros((1, 1, 1, 1, 2, 2, 2)),
        dims=("intervention", "label", "seed", "time", "pixel", "y", "x"),
        coords={
            "intervention": ["none"], "label": [0], "seed": [0], "time": [5], "y": [0, 1], "x": [0, 1],
            "pixel_y": ("pixel", [0, 1]), "pixel_x": ("pixel", [1, 0]),
        },
    )  # fmt: skip
    rows[..., 0, 0, 1] = 9.0
    rows[..., 0, 1, 1] = 2.0
    rows[..., 1, 1, 0] = 9.0
    where = blocks.Where("none", 0, 0)
    assert blocks._extent(Picture("volume", "gradient", rows), where, [5]) == {"low": [0, 0], "high": [2, 0]}


def test_the_json_of_a_view_says_all_that_moving_does_not_change(small, tree):
    (picture,) = pictures(tree)["predicted_x0"]
    told = panel("run", tree, picture, blocks.Where("none", 1, 0))
    assert told["times"] == tree["predicted_x0"]["time"].values.tolist()
    assert told["shape"] == list(picture.shape)
    view = picture_view("activations", str(small), "run", tree, query([("label", "1")]))
    assert view["panels"] == []
    assert view["missing"].startswith(f"flowprofile rerun {small} --set ")
