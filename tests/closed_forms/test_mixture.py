"""The closed forms against an independent log density, and as a model that can be sampled."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from flowprofile.cases import Case
from flowprofile.errors import ModelError
from flowprofile.models.closed_forms import GAUSSIAN8, MIXTURE16
from flowprofile.models.mixture import build, smooth_templates
from flowprofile.time.noise import noise
from flowprofile.time.rules import coefficients, ddpm
from flowprofile.time.sample import sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import full, respaced

LINEAR = linear()
MIXTURE = build(MIXTURE16)
GAUSSIAN = build(GAUSSIAN8)


def log_density(x: np.ndarray, t: int, label: int) -> float:
    """log q(x_t | label) in float64, written from the definition and not from the model's code."""
    abar, sd = LINEAR.alpha_bar(t), MIXTURE16.config["sd"]
    templates = MIXTURE.templates.numpy().astype(np.float64).reshape(8, -1)
    weights = np.array([0.95, 0.05])[[abs(k // 4 - label) for k in range(8)]] / 4
    spread = abar * sd**2 + 1 - abar
    squares = ((x.ravel() - math.sqrt(abar) * templates) ** 2).sum(axis=1)
    return logsumexp(np.log(weights) - squares / (2 * spread)) - x.size / 2 * math.log(2 * math.pi * spread)


def states(t: int, count: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """States that lie between two templates, where the posterior is undecided for as long as it can be."""
    abar = LINEAR.alpha_bar(t)
    middle = (MIXTURE.templates[0] + MIXTURE.templates[5]) / 2
    z = torch.from_numpy(noise(3, t, (count, 1, 16, 16)))
    return (math.sqrt(abar) * middle + math.sqrt(1 - abar) * z).to(dtype)


TIMES = [1, 30, 200, 500, 800, 1000]


def at(t: int, count: int) -> torch.Tensor:
    return torch.full((count,), t - 1)


@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("label", [0, 1])
def test_eps_is_the_gradient_of_the_log_density(t: int, label: int):
    x = states(t)
    labels = torch.full((2,), label)
    eps = MIXTURE(x, at(t, 2), labels)
    h = 1e-5 * LINEAR.noise(t)
    for case, (y, z) in [(0, (3, 4)), (1, (15, 0)), (0, (8, 8))]:
        step = np.zeros((1, 16, 16))
        step[0, y, z] = h
        image = x[case].numpy()
        slope = (log_density(image + step, t, label) - log_density(image - step, t, label)) / (2 * h)
        assert eps[case, 0, y, z].item() == pytest.approx(-LINEAR.noise(t) * slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("t", TIMES)
def test_log_density_is_the_definition(t: int):
    x = states(t)
    got = MIXTURE.log_density(x, at(t, 2), torch.tensor([0, 1]))
    assert got.tolist() == pytest.approx([log_density(x[k].numpy(), t, k) for k in (0, 1)], rel=1e-12)


@pytest.mark.parametrize("t", TIMES)
def test_posterior_weights_are_bayes_rule(t: int):
    x, abar = states(t), LINEAR.alpha_bar(t)
    templates = MIXTURE.templates.double().reshape(8, -1)
    spread = abar * MIXTURE.sd**2 + 1 - abar
    for label in (0, 1):
        likelihood = -((x[0].flatten() - math.sqrt(abar) * templates) ** 2).sum(1) / (2 * spread)
        wanted = torch.softmax(likelihood + MIXTURE.weights[label].log(), 0)
        got = MIXTURE.posterior(x[:1], at(t, 1), torch.tensor([label]))[0]
        assert got.tolist() == pytest.approx(wanted.tolist(), rel=1e-9, abs=1e-12)
        assert got.sum().item() == pytest.approx(1)


@pytest.mark.parametrize(("denoiser", "t"), [(MIXTURE, t) for t in TIMES] + [(GAUSSIAN, t) for t in TIMES])
def test_the_jacobian_is_that_of_automatic_differentiation(denoiser, t: int):
    shape = denoiser.card.shape
    x = torch.from_numpy(noise(1, t, (1, *shape))).double() if denoiser is GAUSSIAN else states(t, 1)
    label = torch.zeros(1, dtype=torch.int64)
    size = math.prod(shape)
    wanted = torch.autograd.functional.jacobian(lambda v: denoiser(v, at(t, 1), label), x).view(size, size)
    got = denoiser.jacobian(x, at(t, 1), label)[0]
    assert torch.allclose(got, wanted, rtol=1e-8, atol=1e-8 * wanted.abs().max().item())


@pytest.mark.parametrize("t", TIMES)
def test_the_gaussian_is_its_own_formula(t: int):
    abar = LINEAR.alpha_bar(t)
    x = torch.from_numpy(noise(1, t, (2, 1, 8, 8))).double()
    label = torch.zeros(2, dtype=torch.int64)
    total = abar * GAUSSIAN.covariance + (1 - abar) * torch.eye(64, dtype=torch.float64)
    centred = (x - math.sqrt(abar) * GAUSSIAN.mean).flatten(1)
    wanted = LINEAR.noise(t) * torch.linalg.solve(total, centred.T).T
    assert torch.allclose(GAUSSIAN(x, at(t, 2), label).flatten(1), wanted, rtol=1e-9, atol=1e-9)
    density = stats.multivariate_normal(math.sqrt(abar) * GAUSSIAN.mean.flatten().numpy(), total.numpy())
    got = GAUSSIAN.log_density(x, at(t, 2), label)
    assert got.tolist() == pytest.approx(density.logpdf(x.flatten(1).numpy()).tolist(), rel=1e-8)


def test_float32_states_lose_nothing_that_matters():
    for t in TIMES:
        exact = MIXTURE(states(t), at(t, 2), torch.tensor([0, 1]))
        single = MIXTURE(states(t, dtype=torch.float32), at(t, 2), torch.tensor([0, 1]))
        assert single.dtype == torch.float32
        assert torch.allclose(single.double(), exact, rtol=1e-3, atol=1e-3)


def one_draw(seeds, t: int, shape):
    """Noise of a whole batch in one draw, named by its first seed: the cost is then the sampler's own."""
    return noise(seeds[0], t, (len(seeds), *shape))


def sampled_sd(sd: float, grid: tuple[int, ...]) -> float:
    """What DDPM makes of a component of this spread: within one, every step is linear, so variances just add up.

    With the posterior variance the sampler is too narrow: .0263 for a spread of .03 in 1000 steps.
    """
    variance = 1.0
    for t_from, t_to in pairwise(grid):
        abar = LINEAR.alpha_bar(t_from)
        slope = LINEAR.noise(t_from) / (abar * sd**2 + 1 - abar)
        c = coefficients(ddpm, schedule=LINEAR, t_from=t_from, t_to=t_to)
        variance = (c.x + c.eps * slope) ** 2 * variance + c.z**2
    return math.sqrt(variance)


@pytest.mark.parametrize("steps", [200, pytest.param(1000, marks=pytest.mark.nightly)])
def test_sampling_the_mixture_ends_in_its_templates_as_often_as_their_weights_say(steps: int):
    grid = respaced(1000, steps)
    cases = [Case(seed, seed % 2) for seed in range(2000)]
    ends = []
    for at_once in (cases[k : k + 500] for k in range(0, 2000, 500)):
        options = {"schedule": LINEAR, "grid": grid, "noise": one_draw, "batch": 500}
        *_, last = sample(MIXTURE, at_once, **options)
        ends.append(last.x)
    x = torch.cat(ends)
    distances = torch.cdist(x.flatten(1), MIXTURE.templates.flatten(1))
    nearest, which = distances.min(dim=1)
    assert nearest.max() <= 4 * MIXTURE.sd * math.sqrt(256)
    spread = (x - MIXTURE.templates[which]).std().item()
    assert spread == pytest.approx(sampled_sd(MIXTURE.sd, grid), rel=0.01)
    assert sampled_sd(MIXTURE.sd, full(1000)) == pytest.approx(0.0263, abs=1e-4)
    for label in (0, 1):
        counts = np.bincount(which[label::2].numpy(), minlength=8)
        assert stats.chisquare(counts, 1000 * MIXTURE.weights[label].numpy()).pvalue > 0.001


def test_sampling_the_gaussian_gives_its_mean_and_covariance():
    cases = [Case(seed, 0) for seed in range(1000)]
    *_, last = sample(GAUSSIAN, cases, schedule=LINEAR, grid=respaced(1000, 250), noise=one_draw, batch=1000)
    x = last.x.flatten(1).double()
    # Along the principal axes the samples are independent; respacing costs a few per cent of variance.
    along = (x - 0.5) @ torch.linalg.eigh(GAUSSIAN.covariance).eigenvectors[:, -8:]
    wanted = torch.linalg.eigvalsh(GAUSSIAN.covariance)[-8:]
    assert torch.allclose(along.var(dim=0), wanted, rtol=0.2)
    assert along.mean(dim=0).abs().max() < 4 * (wanted.max() / 1000).sqrt()


def test_the_card_decides_the_model_and_nothing_else_does():
    assert torch.equal(build(MIXTURE16).templates, MIXTURE.templates)
    assert MIXTURE.weights.sum(dim=1).tolist() == pytest.approx([1, 1], abs=1e-15)
    assert MIXTURE.weights[0, :4].sum().item() == pytest.approx(0.95, abs=1e-15)
    other = replace(MIXTURE16, config={**MIXTURE16.config, "template_seed": 1})
    assert not torch.equal(build(other).templates, MIXTURE.templates)
    assert build(GAUSSIAN8).module is None


def test_templates_are_smooth_and_far_apart():
    templates = smooth_templates(8, (1, 16, 16), 0)
    assert templates.min() == pytest.approx(0.1, abs=1e-6)
    assert templates.max() == pytest.approx(0.9, abs=1e-6)
    assert np.abs(np.diff(templates, axis=-1)).max() < 0.25
    flat = templates.reshape(8, -1)
    apart = np.linalg.norm(flat[:, None] - flat, axis=-1) + 100 * np.eye(8)
    assert apart.min() > 4 * 0.03 * 16


def test_any_size_works():
    card = replace(MIXTURE16, shape=(3, 32, 32), config={**MIXTURE16.config, "size": 32, "templates": 4})
    *_, last = sample(
        build(card), [Case(0, 0), Case(0, 1)], schedule=LINEAR, grid=respaced(1000, 50), batch=2
    )
    assert last.x.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (replace(MIXTURE16, config={"size": 16}), "give exactly"),
        (replace(MIXTURE16, shape=(1, 8, 8)), "size equal to y and x"),
        (replace(MIXTURE16, config={**MIXTURE16.config, "templates": 7}), "two groups"),
        (replace(MIXTURE16, architecture="unet"), "no closed form"),
    ],
)
def test_cards_that_describe_no_closed_form_are_refused(card, says: str):
    with pytest.raises(ModelError, match=says):
        build(card)
