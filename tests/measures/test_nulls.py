"""The chain that needs no network: exact, and already showing what the thesis' curves show."""

import math

import numpy as np
import pytest
import torch

from flowprofile.datasets.faces import faces
from flowprofile.errors import DefinitionError
from flowprofile.measures import between
from flowprofile.measures.nulls import PointDenoiser, gaussian_fit, gaussian_rows, label_gap, posterior_chain
from flowprofile.measures.windows import Running
from flowprofile.models.closed_forms import GAUSSIAN8
from flowprofile.models.mixture import build
from flowprofile.time.noise import noise, noise_batch
from flowprofile.time.rules import coefficients, rule, x0_from_eps
from flowprofile.time.schedule import linear
from flowprofile.time.steps import full, respaced

LINEAR = linear()


def picture(count: int = 1, shape: tuple[int, ...] = (3, 8, 8)) -> np.ndarray:
    return (0.5 + 0.2 * noise(99, 0, (count, *shape))).astype(np.float32)


def test_each_transition_is_the_posterior_of_ho_et_al():
    """Eq. 7: mean sqrt(abar_t) beta / (1 - abar_{t+1}) x0 + sqrt(alpha) (1 - abar_t) / (1 - abar_{t+1}) x."""
    x0 = picture(2)
    states = list(posterior_chain(x0, [4, 5], schedule=LINEAR, grid=full(1000)))
    assert states[0][1].tobytes() == noise_batch([4, 5], 1000, (3, 8, 8)).tobytes()
    for (t_from, before), (t, after) in zip(states[::97], states[1::97], strict=False):
        beta, a, b = LINEAR.beta(t), LINEAR.alpha_bar(t_from), LINEAR.alpha_bar(t)
        mean = math.sqrt(b) * beta / (1 - a) * x0 + math.sqrt(1 - beta) * (1 - b) / (1 - a) * before
        wanted = mean + math.sqrt(LINEAR.posterior_variance(t)) * noise_batch([4, 5], t, (3, 8, 8))
        assert after == pytest.approx(wanted, abs=2e-6)


@pytest.mark.parametrize("t", [999, 500, 100, 10])
def test_states_have_the_forward_process_s_mean_and_spread(t: int):
    x0 = np.full((1, 3, 64, 64), 0.5, dtype=np.float32)
    x = next(x for s, x in posterior_chain(x0, [0], schedule=LINEAR, grid=full(1000)) if s == t)
    n = x.size
    assert x.mean() == pytest.approx(
        math.sqrt(LINEAR.alpha_bar(t)) * 0.5, abs=4 * LINEAR.noise(t) / math.sqrt(n)
    )
    assert x.std() == pytest.approx(LINEAR.noise(t), rel=4 / math.sqrt(2 * n))


def test_it_ends_in_the_image():
    x0 = picture(3)
    for grid in (full(1000), respaced(1000, 20)):
        *_, (t, last) = posterior_chain(x0, [1, 2, 3], schedule=LINEAR, grid=grid)
        assert t == 0
        assert last == pytest.approx(x0, abs=1e-6)


def test_the_predicted_image_is_the_image_at_every_step():
    x0 = picture()
    for t, x in posterior_chain(x0, [1], schedule=LINEAR, grid=respaced(1000, 10)):
        if t:
            eps = PointDenoiser(x0, LINEAR)(x, t)
            assert x0_from_eps(x, eps, schedule=LINEAR, t=t) == pytest.approx(x0, abs=1e-4)


@pytest.mark.parametrize("step", [rule("ddpm"), rule("ddim", eta=0.5)])
def test_a_case_has_the_same_bits_alone_and_resumed(step):
    x0, grid = picture(3), respaced(1000, 30)
    whole = list(posterior_chain(x0, [7, 8, 9], schedule=LINEAR, grid=grid, rule=step))
    alone = list(posterior_chain(x0[1:2], [8], schedule=LINEAR, grid=grid, rule=step))
    assert [x[1].tobytes() for _, x in whole] == [x[0].tobytes() for _, x in alone]
    resumed = list(posterior_chain(x0, [7, 8, 9], schedule=LINEAR, grid=grid, rule=step, start=whole[12]))
    assert [x.tobytes() for _, x in resumed] == [x.tobytes() for _, x in whole[13:]]


def test_step_ssim_of_a_constant_image_has_the_thesis_maximum_and_dip():
    """METHODS 7: no network, and yet a maximum at t = 230-255, a dip of .959-.961 at t = 7-11, .972 at the end."""
    x0 = np.full((2, 3, 64, 64), 0.5, dtype=np.float32)
    running = Running(x0.shape, data_range=2.0)
    curve = {t: running.push(x) for t, x in posterior_chain(x0, [0, 1], schedule=LINEAR, grid=full(1000))}
    ssim = np.array([curve[t] for t in range(1000)])
    assert ((ssim[50:].argmax(axis=0) + 50 >= 200) & (ssim[50:].argmax(axis=0) + 50 <= 290)).all()
    assert (ssim.argmax(axis=0) >= 200).all()
    assert (ssim[:50].min(axis=0) < 0.97).all()
    assert (ssim[:50].argmin(axis=0) <= 20).all()
    assert ssim[0] == pytest.approx(0.972, abs=0.004)


def test_images_without_a_seed_of_their_own_are_refused():
    with pytest.raises(DefinitionError, match="one image per seed"):
        next(posterior_chain(picture(2), [1], schedule=LINEAR, grid=full(1000)))


SPARSE = (1000, 800, 600, 500, 400, 300, 200, 100, 0)


def two_people(seed: int) -> np.ndarray:
    """The states of two fixed faces under one noise, [label time channel y x]."""
    x0 = faces(0, [2 * seed, 2 * seed + 1], size=64).images
    chain = posterior_chain(x0, [seed, seed], schedule=LINEAR, grid=SPARSE)
    return np.stack([x for _, x in chain], axis=1)


@pytest.mark.parametrize("pair", [0, 5, 7, 13, 15, 22])
def test_between_label_ssim_of_two_fixed_images_has_the_thesis_fall_and_plateau(pair: int):
    """METHODS 7: no network; .968-.991 at t = 800, flat .64-.74 over 500..100, then .20.

    64x64 faces, R = 2. Over 24 pairs of people .94-.99 at t = 800, a plateau at .50-.94 that varies by at most .13
    within a pair, and an end at .06-.66, at least .09 below it: the shape is the noise's, the level the images'.
    """
    curve = between.ssim(two_people(pair), data_range=2.0)[0, 1]
    at_800, flat, end = curve[1], curve[3:8], curve[8]
    assert curve[0] == pytest.approx(1.0, abs=1e-15)
    assert 0.93 < at_800 < 0.995
    assert np.ptp(flat) < 0.13
    assert at_800 > flat.max() + 0.1
    assert end < flat.min() - 0.3
    if pair == 13:
        assert at_800 == pytest.approx(0.968, abs=0.002)
        assert ((flat > 0.62) & (flat < 0.74)).all()
        assert end == pytest.approx(0.20, abs=0.01)


def test_between_label_errors_follow_from_the_gap_alone():
    """d_t = share(t) d_0, so MSE, L1 and PSNR between two fixed images need no chain."""
    states, gap = two_people(0), label_gap(schedule=LINEAR, grid=SPARSE)
    share = np.array([gap[t] for t in SPARSE])
    mse, l1 = between.mse(states)[0, 1], between.l1(states)[0, 1]
    assert mse == pytest.approx(share**2 * mse[-1], rel=1e-5)
    assert l1 == pytest.approx(share * l1[-1], rel=1e-5)
    psnr = between.psnr(states, data_range=1.0)[0, 1]
    assert psnr[1:] == pytest.approx(psnr[-1] - 20 * np.log10(share[1:]), abs=1e-4)
    assert psnr[0] == math.inf


@pytest.mark.parametrize("grid", [full(1000), respaced(1000, 20)])
def test_the_gap_is_the_forward_process_s_less_what_the_common_start_takes(grid):
    gap, last = label_gap(schedule=LINEAR, grid=grid), LINEAR.alpha_bar(1000)
    for t in grid:
        abar = LINEAR.alpha_bar(t)
        start = last / math.sqrt(abar) * (1 - abar) / (1 - last)
        assert gap[t] == pytest.approx(math.sqrt(abar) - start, abs=1e-12)
    assert gap[800] == pytest.approx(0.0391, rel=0.03)
    assert gap[0] == pytest.approx(1.0, abs=1e-12)


def test_the_gap_of_another_rule_is_that_of_its_own_chain():
    step, x0 = rule("ddim", eta=0.3), picture(2)
    grid = respaced(1000, 12)
    chain = posterior_chain(x0, [3, 3], schedule=LINEAR, grid=grid, rule=step)
    for (t, x), share in zip(chain, label_gap(schedule=LINEAR, grid=grid, rule=step).values(), strict=True):
        assert x[1] - x[0] == pytest.approx(share * (x0[1] - x0[0]), abs=2e-6), t


@pytest.mark.parametrize("t", [999, 300, 10, 0])
def test_gaussian_rows_are_the_rows_of_the_exact_denoiser(t: int):
    """Against a dense inverse, and against the closed-form model's own Jacobian."""
    abar, c = LINEAR.alpha_bar(t + 1), coefficients(rule("ddpm"), schedule=LINEAR, t_from=t + 1, t_to=t)
    pixels = [(0, 0), (3, 5), (7, 2)]
    flat = [8 * y + x for y, x in pixels]
    rows = gaussian_rows(
        pixels, (8, 8), length_scale=1.5, sd=0.25, alpha_bar=abar, factors=(c.x, c.eps), channels=3
    )
    x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    model = build(GAUSSIAN8).jacobian(x, torch.tensor([t]), torch.tensor([0]))[0].numpy()
    wanted = c.x * np.eye(64) + c.eps * model
    assert rows.reshape(3, 64) == pytest.approx(3 * wanted[flat], abs=1e-9)
    y, x = (axis.ravel() for axis in np.indices((4, 6)))
    distance = np.abs(y[:, None] - y) + np.abs(x[:, None] - x)
    covariance = 0.3**2 * np.exp(-distance / 5.0)
    inverse = np.linalg.inv(abar * covariance + (1 - abar) * np.eye(24))
    alone = gaussian_rows(
        [(2, 1)],
        (4, 6),
        length_scale=5.0,
        sd=0.3,
        alpha_bar=abar,
        factors=(0.0, c.eps),
        correlation="exponential",
    )
    assert alone.ravel() == pytest.approx(c.eps * math.sqrt(1 - abar) * inverse[13], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("correlation", "power"), [("exponential", 1), ("rbf", 2)])
def test_a_gaussian_is_found_again_from_its_images(correlation: str, power: int):
    """Drawn from the covariance that `gaussian_rows` assumes; the other form's length would be another."""
    distance = np.abs(np.subtract.outer(np.arange(16), np.arange(16))) / 5.0
    factor = np.linalg.cholesky(np.exp(-(distance**power) / power) + 1e-9 * np.eye(16))
    white = np.random.default_rng(0).normal(size=(3000, 2, 16, 16))
    images = 0.7 + 0.3 * factor @ white @ factor.T
    sd, length = gaussian_fit(images, correlation=correlation, lags=4)
    assert (sd, length) == pytest.approx((0.3, 5.0), rel=0.03)
    other = gaussian_fit(images, correlation={"rbf": "exponential", "exponential": "rbf"}[correlation])
    assert other[1] != pytest.approx(5.0, rel=0.1)
    with pytest.raises(DefinitionError, match="do not vary together"):
        gaussian_fit(np.ones((4, 1, 8, 8)))


@pytest.mark.parametrize(
    "wrong", [{"correlation": "exponent"}, {"length_scale": 0.0}, {"sd": -1.0}, {"alpha_bar": 1.0}]
)
def test_a_gaussian_that_is_none_is_refused(wrong):
    known = {"length_scale": 2.0, "sd": 0.2, "alpha_bar": 0.5, "factors": (1.0, -0.1)}
    with pytest.raises(DefinitionError, match="No Gaussian has"):
        gaussian_rows([(0, 0)], (4, 4), **(known | wrong))
