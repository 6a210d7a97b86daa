"""Fast SSIM against skimage and against the definition, in every cut, and loud about what is not a number."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from flowprofile.errors import DefinitionError
from flowprofile.measures import images, windows
from flowprofile.time.noise import noise


def film(rows: int, time: int, size: tuple[int, int, int] = (3, 16, 18), seed: int = 0) -> np.ndarray:
    """Frames that change a little at a time, [row time channel y x] float32."""
    steps = noise(seed, 1, (rows, time, *size)) * 0.2
    return (0.5 + steps.cumsum(axis=1)).astype(np.float32)


def skimage(one: np.ndarray, other: np.ndarray, window: int, data_range: float) -> float:
    return structural_similarity(
        one.astype(np.float64),
        other.astype(np.float64),
        win_size=window,
        data_range=data_range,
        channel_axis=0,
    )


@pytest.mark.parametrize("window", [3, 5, 7, 11, 13, 15])
@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_consecutive_frames_agree_with_skimage(window: int, data_range: float):
    frames = film(2, 4)
    got = windows.consecutive(frames, window=window, data_range=data_range)
    wanted = [[skimage(row[k], row[k + 1], window, data_range) for k in range(3)] for row in frames]
    assert got.dtype == np.float64
    assert got == pytest.approx(np.array(wanted), rel=1e-10)


@pytest.mark.parametrize("size", [(1, 7, 7), (1, 16, 16), (3, 32, 32), (3, 7, 40), (4, 9, 8)])
def test_any_shape_agrees_with_skimage_and_with_the_definition(size):
    frames = film(1, 2, size)[0]
    wanted = skimage(frames[0], frames[1], 7, 2.0)
    assert windows.consecutive(frames, data_range=2.0)[0] == pytest.approx(wanted, rel=1e-10)
    assert images.ssim(frames[0], frames[1], data_range=2.0) == pytest.approx(wanted, rel=1e-10)


def test_a_reference_and_pairs_agree_with_the_definition():
    frames = film(3, 4)
    last = frames[:, -1]
    wanted = np.stack([images.ssim(frames[:, k], last, data_range=1.0) for k in range(4)], axis=1)
    assert windows.to_reference(frames, last, data_range=1.0) == pytest.approx(wanted, rel=1e-10)
    assert windows.to_reference(frames, last, data_range=1.0)[:, -1] == pytest.approx(1.0, abs=1e-15)
    pairs = list(combinations(range(4), 2))
    wanted = np.stack([images.ssim(frames[:, a], frames[:, b], data_range=1.0) for a, b in pairs], axis=1)
    assert windows.between(frames, pairs, data_range=1.0) == pytest.approx(wanted, rel=1e-10)


@given(st.data())
def test_a_value_has_the_same_bits_in_every_cut(data):
    """A store filled region by region must equal one filled at once."""
    rows, time = data.draw(st.integers(1, 9)), data.draw(st.integers(2, 6))
    frames = film(rows, time, (3, 16, 16), seed=data.draw(st.integers(0, 99)))
    whole = windows.consecutive(frames, data_range=2.0)
    row = data.draw(st.integers(0, rows - 1))
    start = data.draw(st.integers(0, time - 2))
    stop = data.draw(st.integers(start + 2, time))
    part = windows.consecutive(frames[row : row + 1, start:stop].copy(), data_range=2.0)
    assert part.tobytes() == whole[row : row + 1, start : stop - 1].tobytes()
    alone = windows.to_reference(frames[row, start:stop], frames[row, 0], data_range=2.0)
    every = windows.to_reference(frames, frames[:, 0], data_range=2.0)
    assert alone.tobytes() == every[row, start:stop].tobytes()


@pytest.mark.parametrize("block", [1, 4000, 10**9])
def test_the_cache_block_does_not_change_a_bit(block: int, monkeypatch):
    frames = film(7, 3, (3, 32, 32))
    whole = windows.consecutive(frames, data_range=2.0)
    monkeypatch.setattr(windows, "_BLOCK", block)
    assert windows.consecutive(frames, data_range=2.0).tobytes() == whole.tobytes()


def test_running_gives_what_consecutive_gives():
    frames = film(9, 5, (3, 32, 32))
    running = windows.Running((9, 3, 32, 32), data_range=2.0)
    values = [running.push(frames[:, k]) for k in range(5)]
    assert values[0] is None
    assert np.stack(values[1:], axis=1).tobytes() == windows.consecutive(frames, data_range=2.0).tobytes()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (15, 15), (7, 3), (15, 0)])
def test_a_pixel_that_is_not_a_number_spoils_its_pairs_and_no_other(wrong: float, place: tuple[int, int]):
    frames = film(3, 4, (3, 16, 16))
    clean = windows.consecutive(frames, data_range=2.0)
    frames[1, 2, 1, *place] = wrong
    got = windows.consecutive(frames, data_range=2.0)
    spoilt = np.zeros((3, 3), dtype=bool)
    spoilt[1, 1:] = True
    assert np.isnan(got[spoilt]).all()
    assert got[~spoilt].tobytes() == clean[~spoilt].tobytes()
    for measure in (images.mse, images.l1, lambda a, b: images.psnr(a, b, data_range=1.0)):
        assert np.isnan(measure(frames[1, 1], frames[1, 2]))
        assert np.isfinite(measure(frames[0, 1], frames[0, 2]))
    assert np.isnan(images.ssim(frames[1, 1], frames[1, 2], data_range=2.0))


def test_leading_axes_are_kept():
    frames = film(6, 3).reshape(2, 3, 3, 3, 16, 18)
    assert windows.consecutive(frames, data_range=2.0).shape == (2, 3, 2)
    assert windows.to_reference(frames, frames[:, :, 0], data_range=2.0).shape == (2, 3, 3)
    assert windows.between(frames, [(0, 2)], data_range=2.0).shape == (2, 3, 1)
    assert windows.consecutive(frames[:, :, :1], data_range=2.0).shape == (2, 3, 0)


def test_all_pairs_of_sixteen_labels_filter_a_quarter_of_the_planes(monkeypatch):
    filtered = []
    original = windows.Windows._sum_windows

    def counting(self, plane, out):
        filtered.append(1)
        original(self, plane, out)

    monkeypatch.setattr(windows.Windows, "_sum_windows", counting)
    pairs = list(combinations(range(16), 2))
    windows.between(film(1, 16, (1, 8, 8)), pairs, data_range=2.0)
    assert 5 * len(pairs) / len(filtered) >= 3.5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"window": 6, "data_range": 1.0}, "odd window from 3 to 15; the usual one is 7"),
        ({"window": 17, "data_range": 1.0}, "odd window from 3 to 15; the usual one is 7"),
        ({"window": 1, "data_range": 1.0}, "odd window"),
        ({"data_range": 0.0}, "state it"),
        ({"data_range": float("nan")}, "state it"),
    ],
)
def test_refusals(options, says: str):
    with pytest.raises(DefinitionError, match=says):
        windows.consecutive(film(1, 2), **options)


def test_frames_and_references_that_do_not_belong_together_are_refused():
    with pytest.raises(DefinitionError, match="without the time axis"):
        windows.to_reference(film(2, 3), film(3, 3)[:, 0], data_range=1.0)
