"""The plain definitions, by hand and against skimage."""

import numpy as np
import pytest
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from flowprofile.errors import DefinitionError
from flowprofile.measures import images
from flowprofile.measures.ordered import ordered_mean, ordered_sum
from flowprofile.time.noise import noise


def pair() -> tuple[np.ndarray, np.ndarray]:
    return noise(0, 1, (4, 3, 9, 11)), noise(0, 2, (4, 3, 9, 11))


def test_errors_agree_with_skimage():
    a, b = (image.astype(np.float64) for image in pair())
    wanted = [mean_squared_error(x, y) for x, y in zip(a, b, strict=True)]
    assert images.mse(a, b) == pytest.approx(wanted, rel=1e-12)
    assert images.l1(a, b) == pytest.approx(np.abs(a - b).mean((1, 2, 3)), rel=1e-12)
    decibels = [peak_signal_noise_ratio(x, y, data_range=2.0) for x, y in zip(a, b, strict=True)]
    assert images.psnr(a, b, data_range=2.0) == pytest.approx(decibels, rel=1e-12)


def test_identical_images_have_no_error_and_infinite_psnr():
    a, _ = pair()
    assert images.mse(a, a).tolist() == [0.0] * 4
    assert images.psnr(a, a, data_range=1.0).tolist() == [np.inf] * 4
    assert images.ssim(a, a, data_range=1.0) == pytest.approx(1.0)


def test_a_value_has_the_same_bits_alone_and_in_a_batch():
    a, b = pair()
    for measure in (images.mse, images.l1):
        assert measure(a, b)[2].tobytes() == measure(a[2], b[2]).tobytes()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 64, 1000, 1023])
def test_the_ordered_sum_adds_everything_once(length: int):
    values = np.arange(2.0 * length).reshape(2, length)
    assert ordered_sum(values.copy()).tolist() == values.sum(axis=1).tolist()
    assert ordered_mean(values.copy()) == pytest.approx(values.mean(axis=1))


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan")])
def test_a_range_must_be_stated(wrong: float):
    a, b = pair()
    for measure in (images.psnr, images.ssim):
        with pytest.raises(DefinitionError, match="state it"):
            measure(a, b, data_range=wrong)


@pytest.mark.parametrize(
    ("side", "told"),
    [(8, "from 3 to 7; the usual"), (7, "to 7; the usual"), (6, "from 3 to 5$"), (2, "use mse$")],
)
def test_a_window_that_is_told_fits(side, told):
    with pytest.raises(DefinitionError, match=told):
        images.window_fits(4, (side, side + 1))


def test_a_window_that_does_not_fit_is_refused():
    a, b = pair()
    with pytest.raises(DefinitionError, match="odd window from 3 to 9"):
        images.ssim(a, b, window=11, data_range=1.0)
