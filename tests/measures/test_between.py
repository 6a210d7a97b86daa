"""All pairs of labels: the right pairs, symmetric, and none of them aware of the others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from flowprofile.errors import DefinitionError
from flowprofile.measures import between, layers
from flowprofile.time.noise import noise

MEASURES = {
    "ssim": lambda frames: between.ssim(frames, data_range=2.0),
    "mse": between.mse,
    "l1": between.l1,
    "none": lambda frames: between.distance(frames),
    "minmax": lambda frames: between.distance(frames, normalise="minmax"),
    "relative": lambda frames: between.distance(frames, normalise="relative"),
}
SAME = {"ssim": 1.0}


def states(labels: int, time: int, size: tuple[int, int, int] = (3, 9, 8), seed: int = 0) -> np.ndarray:
    """Labels that leave one x_T, [label time channel y x] float32."""
    common = noise(seed, 1, (1, time, *size))
    own = noise(seed, 2, (labels, time, *size)) * np.linspace(0.0, 1.0, time)[:, None, None, None]
    return (0.5 + 0.2 * (common + own)).astype(np.float32)


def slowly(name: str, a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    if name == "ssim":
        return structural_similarity(a, b, data_range=2.0, channel_axis=0)
    if name == "mse":
        return mean_squared_error(a, b)
    if name == "l1":
        return np.abs(a - b).mean()
    if name == "minmax":
        a, b = (a - a.min()) / np.ptp(a), (b - b.min()) / np.ptp(b)
    scale = np.hypot(np.linalg.norm(a), np.linalg.norm(b)) if name == "relative" else 1.0
    return np.linalg.norm(a - b) / scale


@pytest.mark.parametrize("name", MEASURES)
def test_every_pair_is_the_definition_of_that_pair(name):
    frames = states(3, 2)
    got = MEASURES[name](frames)
    wanted = [
        [[slowly(name, frames[i, t], frames[j, t]) for t in range(2)] for j in range(3)] for i in range(3)
    ]
    assert got.dtype == np.float64
    assert got == pytest.approx(np.array(wanted), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_symmetric_with_an_exact_diagonal(name):
    got = MEASURES[name](states(4, 3))
    assert got.tobytes() == got.swapaxes(0, 1).copy().tobytes()
    assert (got[range(4), range(4)] == SAME.get(name, 0.0)).all()
    # All labels share x_T: the first state tells them apart in nothing.
    assert got[..., 0] == pytest.approx(SAME.get(name, 0.0), abs=1e-15)


@given(st.data())
def test_a_value_knows_neither_the_other_labels_nor_the_cut_of_time(data):
    """A label added later must find the values that are stored already."""
    name = data.draw(st.sampled_from(list(MEASURES)))
    labels, time = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 5))
    frames = states(labels, time, (2, 8, 8), seed=data.draw(st.integers(0, 99)))
    whole = MEASURES[name](frames)
    chosen = data.draw(st.lists(st.integers(0, labels - 1), min_size=1, max_size=labels, unique=True))
    start = data.draw(st.integers(0, time - 1))
    stop = data.draw(st.integers(start + 1, time))
    part = MEASURES[name](frames[chosen, start:stop].copy())
    assert part.tobytes() == whole[np.ix_(chosen, chosen)][..., start:stop].copy().tobytes()


def test_distances_are_those_of_layers_bit_for_bit():
    frames = states(3, 4)
    for normalise in ("none", "minmax", "relative"):
        got = between.distance(frames, normalise=normalise)
        for one in range(3):
            alone = layers.distance(frames[[one] * 3], frames, normalise=normalise)
            assert got[one].tobytes() == alone.tobytes()


@pytest.mark.parametrize("block", [1, 500])
def test_the_cache_block_does_not_change_a_bit(block: int, monkeypatch):
    frames = states(3, 5)
    # First in pieces: a piece left out must not find the right values in memory that was just freed.
    with monkeypatch.context() as small:
        small.setattr(layers, "_BLOCK", block)
        pieces = between.distance(frames, normalise="relative")
    assert pieces.tobytes() == between.distance(frames, normalise="relative").tobytes()


def test_seeds_stand_before_labels_and_maps_have_no_channel():
    seeds = np.stack([states(3, 2, seed=k) for k in range(4)])
    for name in ("ssim", "mse", "l1"):
        got = MEASURES[name](seeds)
        assert got.shape == (4, 3, 3, 2)
        assert got[2].tobytes() == MEASURES[name](seeds[2]).tobytes()
    distances = between.distance(seeds, lead=3)
    assert distances[2].tobytes() == between.distance(seeds[2]).tobytes()
    maps = between.distance(seeds[:, :, :, 0], lead=3)
    assert maps.shape == (4, 3, 3, 2)
    assert maps[3].tobytes() == between.distance(seeds[3, :, :, 0]).tobytes()


def test_psnr_is_that_of_skimage_and_infinite_where_nothing_differs():
    frames = states(2, 3)
    got = between.psnr(frames, data_range=1.0)
    assert np.isinf(got[..., 0]).all()
    assert np.isinf(got[[0, 1], [0, 1]]).all()
    a, b = frames[:, 2].astype(np.float64)
    assert got[0, 1, 2] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), rel=1e-12)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
@pytest.mark.parametrize("name", MEASURES)
def test_a_lost_number_spoils_its_label_at_its_time_and_nothing_else(name, wrong):
    frames = states(3, 3)
    clean = MEASURES[name](frames)
    frames[1, 2, 0, 4, 4] = wrong
    got = MEASURES[name](frames)
    spoilt = np.zeros((3, 3, 3), dtype=bool)
    spoilt[1, :, 2] = spoilt[:, 1, 2] = True
    assert np.isnan(got[spoilt]).all()
    assert got[~spoilt].tobytes() == clean[~spoilt].tobytes()


def test_close_labels_keep_their_digits():
    """||a||^2 + ||b||^2 - 2 <a, b> gives 0 or worse here; a direct difference is right."""
    a = 1000.0 + noise(0, 1, (1, 1, 3, 8, 8)).astype(np.float64)
    step = 1e-6 * noise(0, 2, a.shape)
    pair = np.concatenate([a, a + step])
    wanted = np.linalg.norm(pair[1] - pair[0])
    assert between.distance(pair)[0, 1, 0] == pytest.approx(wanted, rel=1e-12)
    squares = (pair**2).sum((2, 3, 4))[:, 0]
    gram = squares[0] + squares[1] - 2 * (pair[0] * pair[1]).sum()
    assert abs(gram - wanted**2) > 0.5 * wanted**2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: between.mse(a[0]), "no labels over time"),
        (lambda a: between.ssim(a[0], data_range=1.0), "no labels over time"),
        (lambda a: between.ssim(a, data_range=0.0), "state it"),
        (lambda a: between.distance(a, lead=1), "a label and a time"),
        (lambda a: between.distance(a, normalise="sum"), "no normalisation 'sum'"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(DefinitionError, match=says):
        call(states(2, 2))
