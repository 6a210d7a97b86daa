"""Models whose denoiser is a formula: the ground truth that no trained network can be.

For a Gaussian mixture, q(x_t) is a Gaussian mixture again, so eps, its Jacobian, the log density and the posterior
weights p(component | x_t) are all exact. Whether a gradient volume, a divergence curve or a label switch is
measured rightly can therefore be decided without training, and without trusting the measure.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from flowprofile.errors import ModelError
from flowprofile.models.card import ModelCard
from flowprofile.models.closed_forms import GAUSSIAN8, MIXTURE16
from flowprofile.models.sites import Place
from flowprofile.time.noise import noise
from flowprofile.time.schedule import schedule

MOST_NUMBERS: Final = 1 << 25
"""Numbers that a closed form's templates or covariance may have."""


class GaussianMixtureDenoiser:
    """Components N(template_k, sd^2 I) with weights that depend on the label.

    At state t component k is N(sqrt(abar) template_k, v I) with v = abar sd^2 + 1 - abar. Everything below follows
    from log q(x_t) = logsumexp_k (log w_k - |x - m_k|^2 / 2v) + const and eps = -sqrt(1 - abar) grad log q.
    Cost per case: 2 K D multiplications for K components of D pixels.
    """

    module: nn.Module | None = None
    places: Mapping[str, Place] = MappingProxyType({})

    def __init__(self, templates: Tensor, weights: Tensor, sd: float, card: ModelCard) -> None:
        """templates[component channel y x]; weights[label component], rows sum to one."""
        self.card = card
        self.templates = templates.to(torch.float32)
        """Means of the components, [component channel y x]."""
        self.weights = weights.to(torch.float64)
        """p(component | label), [label component]."""
        self.sd = sd
        """Standard deviation of each pixel within a component."""
        self._flat = self.templates.flatten(1)
        self._log_weights = self.weights.log()
        self._alpha_bar = _alpha_bars(card)

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """The exact eps: sqrt(1 - abar) / v (x - sqrt(abar) sum_k p(k | x_t) template_k)."""
        signal, spread, scale = self._levels(index, x)
        share = self._responsibility(x, signal, spread, label)
        mean = (share @ self._flat.to(x)).view_as(x)
        return _over(scale / spread) * (x - _over(signal) * mean)

    def posterior(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """p(component | x_t, t, label), [case component]; differentiable."""
        signal, spread, _ = self._levels(index, x)
        return self._responsibility(x, signal, spread, label)

    def log_density(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """log q(x_t | label) of every case, in nats."""
        signal, spread, _ = self._levels(index, x)
        means = signal[:, None, None] * self._flat.to(x)
        distance = (x.flatten(1)[:, None] - means).square().sum(-1)
        terms = self._log_weights.to(x)[label] - distance / (2 * spread[:, None])
        density: Tensor = torch.logsumexp(terms, 1) - 0.5 * x[0].numel() * torch.log(2 * math.pi * spread)
        return density

    def jacobian(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """d eps / d x of every case, [case pixel pixel] with pixel = channel * y * x.

        scale / v (I - abar / v Cov), where Cov is the covariance of the templates under p(component | x_t).
        """
        signal, spread, scale = self._levels(index, x)
        share = self._responsibility(x, signal, spread, label)
        flat = self._flat.to(x)
        centred = flat[None] - (share @ flat)[:, None]
        covariance = torch.einsum("nk,nkp,nkq->npq", share, centred, centred)
        identity = torch.eye(flat.shape[1], dtype=x.dtype, device=x.device)
        inner = identity - (signal.square() / spread)[:, None, None] * covariance
        result: Tensor = (scale / spread)[:, None, None] * inner
        return result

    def _levels(self, index: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """sqrt(abar), v and sqrt(1 - abar) of the state each case is in, t = index + 1."""
        abar = self._alpha_bar.to(x.device)[index + 1]
        spread = abar * self.sd**2 + (1 - abar)
        return abar.sqrt().to(x.dtype), spread.to(x.dtype), (1 - abar).sqrt().to(x.dtype)

    def _responsibility(self, x: Tensor, signal: Tensor, spread: Tensor, label: Tensor) -> Tensor:
        """Softmax over components; |x|^2 is common to all of them and left out, so float32 keeps its digits."""
        flat = self._flat.to(x)
        overlap = x.flatten(1) @ flat.T * signal[:, None]
        energy = 0.5 * signal.square()[:, None] * flat.square().sum(1)
        return torch.softmax(self._log_weights.to(x)[label] + (overlap - energy) / spread[:, None], 1)


class GaussianDenoiser:
    """One Gaussian N(mean, covariance): eps is linear in x, and its Jacobian is the same matrix everywhere."""

    module: nn.Module | None = None
    places: Mapping[str, Place] = MappingProxyType({})

    def __init__(self, mean: Tensor, covariance: Tensor, card: ModelCard) -> None:
        """mean[channel y x]; covariance[pixel pixel], positive semi-definite."""
        self.card = card
        self.mean = mean.to(torch.float64)
        """Mean image, [channel y x]."""
        self.covariance = covariance.to(torch.float64)
        """Covariance of the flattened pixels, [pixel pixel]."""
        values, vectors = torch.linalg.eigh(self.covariance)
        self._values: Tensor = values
        self._vectors: Tensor = vectors
        self._alpha_bar = _alpha_bars(card)

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """The exact eps: sqrt(1 - abar) (abar C + (1 - abar) I)^-1 (x - sqrt(abar) mean); the label plays no part."""
        abar = self._alpha_bar.to(x.device)[index + 1]
        centred = x.flatten(1) - abar.sqrt().to(x.dtype)[:, None] * self.mean.flatten().to(x)
        vectors = self._vectors.to(x)
        return ((centred @ vectors * self._gain(abar).to(x.dtype)) @ vectors.T).view_as(x)

    def jacobian(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """d eps / d x, [case pixel pixel]: sqrt(1 - abar) (abar C + (1 - abar) I)^-1, the same for every x."""
        gain = self._gain(self._alpha_bar.to(x.device)[index + 1]).to(x.dtype)
        vectors = self._vectors.to(x)
        return torch.einsum("pa,na,qa->npq", vectors, gain, vectors)

    def log_density(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """log q(x_t) of every case, in nats."""
        abar = self._alpha_bar.to(x.device)[index + 1].to(x.dtype)
        centred = (x.flatten(1) - abar.sqrt()[:, None] * self.mean.flatten().to(x)) @ self._vectors.to(x)
        spread = abar[:, None] * self._values.to(x) + (1 - abar)[:, None]
        return -0.5 * (centred.square() / spread + torch.log(2 * math.pi * spread)).sum(1)

    def _gain(self, abar: Tensor) -> Tensor:
        values = self._values.to(abar.device)
        return (1 - abar).sqrt()[:, None] / (abar[:, None] * values + (1 - abar)[:, None])


def build(card: ModelCard) -> GaussianMixtureDenoiser | GaussianDenoiser:
    """The closed form that a card of architecture "mixture" or "gaussian" describes."""
    pixels, templates = math.prod(card.shape), card.config.get("templates", 1)
    if pixels * (pixels if card.architecture == "gaussian" else templates) > MOST_NUMBERS:
        raise ModelError(
            f"The closed form {card.name!r} of {pixels:,} pixels is too large.",
            consequence=f"Its covariance or templates would have more than {MOST_NUMBERS:,} numbers.",
            remedy="give a smaller shape, or fewer templates",
        )
    if card.architecture == "mixture":
        return _mixture(card)
    if card.architecture == "gaussian":
        return _gaussian(card)
    raise ModelError(
        f"The model {card.name!r} has architecture {card.architecture!r}, which is no closed form.",
        consequence="There is no formula for its eps.",
        remedy="use a card of architecture 'mixture' or 'gaussian'",
    )


def smooth_templates(
    count: int, shape: tuple[int, int, int], seed: int
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Random images in [0, 1] whose pixels vary over about a quarter of the side, [component channel y x].

    White noise is low-passed in space; each image is then stretched to [0.1, 0.9], so that templates differ in
    pattern and not in contrast.
    """
    white = noise(seed, 0, (count, *shape), purpose="template").astype(np.float64)
    smooth = np.einsum("yv,kcvu,xu->kcyx", _blur(shape[1]), white, _blur(shape[2]))
    low = smooth.min(axis=(1, 2, 3), keepdims=True)
    high = smooth.max(axis=(1, 2, 3), keepdims=True)
    stretched: np.ndarray[Any, np.dtype[np.float32]] = 0.1 + 0.8 * (smooth - low) / (high - low)
    return stretched.astype(np.float32)


def _blur(size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A Gaussian filter of width size / 8 along one axis, as a matrix."""
    place = np.arange(size)
    return np.exp(-0.5 * ((place[:, None] - place) / (size / 8)) ** 2)


def _mixture(card: ModelCard) -> GaussianMixtureDenoiser:
    config = _complete(card, MIXTURE16.config)
    templates, groups = int(config["templates"]), int(config["groups"])
    if templates % groups or groups != card.labels.count or len(config["weights"]) != 2 or groups != 2:
        raise ModelError(
            f"The mixture {card.name!r} has {templates} templates, {groups} groups, {card.labels.count} labels.",
            consequence="A label would not say how likely each template is.",
            remedy="use two groups of equally many templates, one label per group, and two weights",
        )
    own, other = (float(weight) / (templates // groups) for weight in config["weights"])
    group = torch.arange(templates) // (templates // groups)
    weights = torch.full((groups, templates), other, dtype=torch.float64)
    weights[group[None] == torch.arange(groups)[:, None]] = own
    images = torch.from_numpy(smooth_templates(templates, card.shape, int(config["template_seed"])))
    return GaussianMixtureDenoiser(images, weights, float(config["sd"]), card)


def _gaussian(card: ModelCard) -> GaussianDenoiser:
    """Constant mean; covariance sd^2 exp(-distance^2 / 2 length_scale^2) within a channel, none between."""
    config = _complete(card, GAUSSIAN8.config)
    channels, height, width = card.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack([y.flatten(), x.flatten()], 1).to(torch.float64)
    squared = (place[:, None] - place).square().sum(-1)
    within = float(config["sd"]) ** 2 * torch.exp(-squared / (2 * float(config["length_scale"]) ** 2))
    covariance = torch.kron(torch.eye(channels, dtype=torch.float64), within)
    return GaussianDenoiser(torch.full(card.shape, float(config["mean"])), covariance, card)


def _complete(card: ModelCard, example: Mapping[str, Any]) -> Mapping[str, Any]:
    if set(card.config) != set(example) or card.shape[1:] != (card.config.get("size"),) * 2:
        raise ModelError(
            f"The configuration of {card.name!r} does not describe a {card.architecture}.",
            consequence="Its formula would miss a number.",
            remedy=f"give exactly {sorted(example)}, with size equal to y and x of the shape",
            evidence=f"config {dict(card.config)!r}, shape {card.shape!r}",
        )
    return card.config


def _alpha_bars(card: ModelCard) -> Tensor:
    times = schedule(card.schedule, card.steps)
    return torch.tensor([times.alpha_bar(t) for t in range(times.T + 1)], dtype=torch.float64)


def _over(values: Tensor) -> Tensor:
    """[case] numbers, ready to multiply [case channel y x]."""
    return values[:, None, None, None]
