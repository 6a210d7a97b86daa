"""Every declared measure: the same finding, to the last bit, however the sweep was cut."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.measures import between, images, influence, layers, masked
from flowprofile.measures.base import Measure, tally
from flowprofile.time.noise import noise

SAMPLES = 12
PIXELS = [(1, 2), (7, 0)]
MASK = noise(5, 5, (8, 8)) > 0.0


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return noise(seed, 3, (SAMPLES, *shape))


PAIR = (drawn(2, 3, 8, 8), drawn(2, 3, 8, 8, seed=1))
LABELS = (drawn(3, 2, 1, 8, 8),)
DECLARED: list[tuple[Measure, tuple[np.ndarray, ...]]] = [
    *((layers.mean_distance(normalise=n), PAIR) for n in ("none", "minmax", "relative")),
    *((between.mean_distance(normalise=n), LABELS) for n in ("none", "minmax", "relative")),
    (between.mean_ssim(data_range=2.0), LABELS),
    (between.mean_psnr(data_range=2.0), LABELS),
    (between.MSE, LABELS),
    (between.L1, LABELS),
    *((measure, (*PAIR, MASK)) for measure in (masked.INSIDE, masked.OUTSIDE, masked.SELECTIVITY)),
    *((influence.pooled_radius(weight=w), (drawn(2, 8, 8), PIXELS)) for w in ("squared", "absolute")),
]


def cut(arrays: tuple, chosen: list[int]) -> tuple:
    """These samples only; what belongs to all of them (a mask, the pixels) stays whole."""
    return tuple(a[chosen] if len(a) == SAMPLES else a for a in arrays)


@pytest.mark.parametrize(("measure", "arrays"), DECLARED)
@given(data=st.data())
def test_every_cut_gives_the_same_bits(measure, arrays, data):
    order = data.draw(st.permutations(range(SAMPLES)))
    ends = sorted(data.draw(st.sets(st.integers(1, SAMPLES - 1), max_size=4)))
    parts = [list(order[a:b]) for a, b in zip([0, *ends], [*ends, SAMPLES], strict=True)]
    whole = tally(measure.statistics, arrays, range(SAMPLES))
    pieces = [tally(measure.statistics, cut(arrays, part), part) for part in parts]
    for statistic in measure.statistics:
        merged = reduce(lambda one, other: one + other, (piece[statistic] for piece in pieces)).total()
        assert merged.n == SAMPLES
        assert merged.mean.tobytes() == whole[statistic].total().mean.tobytes()
        assert merged.m2.tobytes() == whole[statistic].total().m2.tobytes()


@pytest.mark.parametrize(("measure", "arrays"), DECLARED)
def test_its_finding_is_that_of_plain_means(measure, arrays):
    totals = {s: forest.total() for s, forest in tally(measure.statistics, arrays, range(SAMPLES)).items()}
    means = [statistic(*arrays).mean(axis=0) for statistic in measure.statistics]
    got = measure(totals)
    assert got == pytest.approx(measure.of_means(*means), rel=1e-12, abs=1e-14)
    assert np.isfinite(got[got != np.inf]).all()


def test_psnr_shares_the_error_and_is_not_the_mean_of_psnrs():
    assert between.mean_psnr(data_range=2.0).statistics == between.MSE.statistics
    totals = {s: f.total() for s, f in tally(between.MSE.statistics, LABELS, range(SAMPLES)).items()}
    got = between.mean_psnr(data_range=2.0)(totals)[0, 1]
    assert got == pytest.approx(images.psnr_of_mse(between.mse(LABELS[0]).mean(0)[0, 1], data_range=2.0))
    assert (got < between.psnr(LABELS[0], data_range=2.0).mean(0)[0, 1]).all()
