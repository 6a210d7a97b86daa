"""Each rule against an implementation that is not ours, and against the formulas it stands for."""

import math

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import coefficients, ddim, ddpm, eps_from_x0, parameters, rule, x0_from_eps
from flowprofile.time.schedule import linear
from flowprofile.time.steps import full, respaced

LINEAR = linear()
BETAS = np.array(LINEAR.betas)


def arrays(count: int = 3) -> list[torch.Tensor]:
    return [torch.from_numpy(noise_batch([1, 2], k, (3, 8, 8))) for k in range(count)]


def exact(scheduler):
    """Diffusers keeps alpha-bar in float32, where 1 - alpha-bar has lost four digits near the image."""
    scheduler.betas = torch.from_numpy(BETAS)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)
    scheduler.one = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def hand_over(z: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give diffusers our noise where it asks for its own."""
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: z)


@pytest.mark.parametrize("i", [0, 1, 17, 500, 999])
@pytest.mark.parametrize(("variance", "theirs"), [("posterior", "fixed_small"), ("beta", "fixed_large")])
def test_ddpm_is_the_ancestral_step_of_diffusers(i: int, variance, theirs, monkeypatch):
    x, eps, z = arrays()
    hand_over(z, monkeypatch)
    scheduler = exact(DDPMScheduler(trained_betas=BETAS, variance_type=theirs, clip_sample=False))
    wanted = scheduler.step(eps, i, x).prev_sample
    got = ddpm(x, eps, z, schedule=LINEAR, t_from=i + 1, t_to=i, variance=variance)
    assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [1000, 50, 7])
def test_respaced_ddpm_is_that_of_diffusers(steps: int, monkeypatch):
    """Its timestep i is our state i + 1, and the state before its first is our 0."""
    x, eps, z = arrays()
    hand_over(z, monkeypatch)
    grid = respaced(1000, steps)
    scheduler = exact(DDPMScheduler(trained_betas=BETAS, clip_sample=False))
    scheduler.set_timesteps(timesteps=[t - 1 for t in grid[:-1]])
    for k in (0, steps // 2, steps - 1):
        wanted = scheduler.step(eps, grid[k] - 1, x).prev_sample
        got = ddpm(x, eps, z, schedule=LINEAR, t_from=grid[k], t_to=grid[k + 1])
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1000, 50])
def test_ddim_is_that_of_diffusers(eta: float, steps: int):
    x, eps, z = arrays()
    scheduler = exact(DDIMScheduler(trained_betas=BETAS, clip_sample=False, set_alpha_to_one=True))
    scheduler.set_timesteps(steps)
    stride = 1000 // steps
    for t_from in (1000, 500, stride):
        # Its previous timestep is the timestep less the stride; ours are states, one higher.
        wanted = scheduler.step(eps, t_from - 1, x, eta=eta, variance_noise=z).prev_sample
        got = ddim(x, eps, z, schedule=LINEAR, t_from=t_from, t_to=t_from - stride, eta=eta)
        assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_ddim_with_eta_one_is_ddpm():
    x, eps, z = (a.double() for a in arrays())
    for t_from, t_to in ((1000, 999), (600, 400), (2, 1), (1, 0)):
        one = ddim(x, eps, z, schedule=LINEAR, t_from=t_from, t_to=t_to, eta=1.0)
        assert torch.allclose(
            one, ddpm(x, eps, z, schedule=LINEAR, t_from=t_from, t_to=t_to), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_the_last_step_ignores_the_noise(name: str):
    x, eps, z = arrays()
    step = rule(name)
    one = step(x, eps, z, schedule=LINEAR, t_from=1, t_to=0)
    assert torch.equal(one, step(x, eps, -z, schedule=LINEAR, t_from=1, t_to=0))


@given(st.integers(1, 1000), st.data())
def test_with_the_true_eps_ddpm_is_the_exact_posterior(t_from: int, data):
    """Ho et al. 2020, Eq. 7: mean and variance of q(x_to | x_from, x_0), for respaced pairs as well."""
    t_to = data.draw(st.integers(0, t_from - 1))
    a, b = LINEAR.alpha_bar(t_from), LINEAR.alpha_bar(t_to)
    alpha, x, x0, z = a / b, 0.7, 0.4, 1.3
    mean = (math.sqrt(b) * (1 - alpha) * x0 + math.sqrt(alpha) * (1 - b) * x) / (1 - a)
    deviation = math.sqrt((1 - alpha) * (1 - b) / (1 - a))
    eps = eps_from_x0(x, x0, schedule=LINEAR, t=t_from)
    got = ddpm(x, eps, z, schedule=LINEAR, t_from=t_from, t_to=t_to)
    assert got == pytest.approx(mean + deviation * z, rel=1e-9)


@given(st.integers(1, 1000))
def test_x0_and_eps_are_each_other_s_inverse(t: int):
    x, x0 = 1.25, 0.5
    eps = eps_from_x0(x, x0, schedule=LINEAR, t=t)
    assert x0_from_eps(x, eps, schedule=LINEAR, t=t) == pytest.approx(x0, rel=1e-10)


@pytest.mark.parametrize("options", [("ddpm", {}), ("ddpm", {"variance": "beta"}), ("ddim", {"eta": 0.5})])
def test_coefficients_are_the_whole_rule(options):
    step = rule(options[0], **options[1])
    x, eps, z = (a.double() for a in arrays())
    c = coefficients(step, schedule=LINEAR, t_from=300, t_to=299)
    wanted = step(x, eps, z, schedule=LINEAR, t_from=300, t_to=299)
    assert torch.allclose(c.x * x + c.eps * eps + c.z * z, wanted, rtol=1e-12, atol=1e-12)


def test_the_factor_of_ddpm_s_jacobian_is_the_one_of_the_paper():
    """J = (1 / sqrt(alpha)) (I - beta / sqrt(1 - abar) d eps / d x)."""
    c = coefficients(ddpm, schedule=LINEAR, t_from=301, t_to=300)
    beta, abar = LINEAR.beta(300), LINEAR.alpha_bar(301)
    assert c.x == pytest.approx(1 / math.sqrt(1 - beta), rel=1e-12)
    assert c.eps == pytest.approx(-beta / math.sqrt(1 - abar) / math.sqrt(1 - beta), rel=1e-10)


def test_numpy_and_torch_give_the_same_bits():
    tensors = arrays()
    for step in (rule("ddpm"), rule("ddim", eta=0.5)):
        for t in full(1000)[1::111]:
            in_torch = step(*tensors, schedule=LINEAR, t_from=t + 1, t_to=t)
            in_numpy = step(*(a.numpy() for a in tensors), schedule=LINEAR, t_from=t + 1, t_to=t)
            assert in_numpy.dtype == np.float32
            assert in_torch.numpy().tobytes() == in_numpy.tobytes()


def test_parameters_are_read_from_the_function():
    assert parameters("ddpm") == {"variance": "posterior"}
    assert parameters("ddim") == {"eta": 0.0}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: rule("dpm"), "'ddpm'"),
        (lambda: rule("ddim", etta=1.0), "'eta'"),
        (lambda: rule("ddim", eta=2.0), "not between 0 and 1"),
        (lambda: rule("ddim", eta="1"), "not between 0 and 1"),
        (lambda: rule("ddpm", variance="learned"), '"posterior" or "beta"'),
        (lambda: ddpm(0.0, 0.0, 0.0, schedule=LINEAR, t_from=5, t_to=5), "t_from > t_to"),
        (lambda: eps_from_x0(0.0, 0.0, schedule=LINEAR, t=0), "t >= 1"),
    ],
)
def test_refusals(wrong, says: str):
    with pytest.raises(DefinitionError, match=says):
        wrong()
