"""The chain that needs no network: exact, and already showing what the thesis' curves show."""

import math

import numpy as np
import pytest

from flowprofile.errors import DefinitionError
from flowprofile.measures.nulls import PointDenoiser, posterior_chain
from flowprofile.measures.windows import Running
from flowprofile.time.noise import noise, noise_batch
from flowprofile.time.rules import rule, x0_from_eps
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
        math.sqrt(LINEAR.alpha_bar(t)) * 0.5, abs=4 * LINEAR.sigma(t) / math.sqrt(n)
    )
    assert x.std() == pytest.approx(LINEAR.sigma(t), rel=4 / math.sqrt(2 * n))


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
