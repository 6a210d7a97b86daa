"""One calling form for every model: noisy images, network indices and labels in, eps out.

Samplers, gradients and probes are written once against this form. What a network really predicts (eps, v or x0)
is a fact of its card and is translated here, so a hook on the last layer of a v-network sees v, not eps.
"""

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowprofile.conditioning.guidance import COND, HALVES, UNCOND, guided
from flowprofile.errors import ModelError
from flowprofile.models.card import ModelCard
from flowprofile.models.sites import Place
from flowprofile.time.schedule import schedule
from flowprofile.time.visited import Visited

Asked: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""eps of x[case channel y x], index[case] and label[case]."""


class Denoiser(Protocol):
    """A model that estimates the noise in a batch of states."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""
        ...

    @property
    def module(self) -> nn.Module | None:
        """The network whose layers can be tapped; None for a formula."""
        ...

    @property
    def places(self) -> Mapping[str, Place]:
        """Where the picture is, of layers that do not simply put one out."""
        ...

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """eps of x[case channel y x] float32, at network index i = t - 1 [case] int64, for label [case] int64.

        Of a flow-matching network it is the velocity eps - x_0.
        """
        ...


class NetworkDenoiser:
    """A network and its card; puts out eps whatever the network predicts, but for a flow-matching one.

    That puts out its velocity eps - x_0: in pure noise, sigma = 1, eps is the state itself and holds nothing of the
    image, so neither a step nor the predicted image could be had from it. `Levels.says` tells all who read it. Where a sampler wants it, a variance follows behind eps.

    v is sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans and Ho, 2022), so eps = sqrt(1 - abar) x + sqrt(abar) v.
    """

    def __init__(self, module: nn.Module, card: ModelCard) -> None:
        bars = _bars(card)
        self.card = card
        self.module: nn.Module | None = module
        self.places: Mapping[str, Place] = {}
        self._network = module
        # A state t of a flow-matching network is sigma = t / T, and t is what it is told.
        self._told: Tensor | None = torch.arange(1.0, card.steps + 1) if card.prediction == "flow" else None
        self._scales = torch.ones(card.steps)
        self._varied = False
        self._signal = torch.from_numpy(np.sqrt(bars).astype(np.float32))
        self._noise = torch.from_numpy(np.sqrt(1.0 - bars).astype(np.float32))

    def visiting(self, visited: Visited) -> Self:
        """The same network, told the times that a sampler has of its own, and shown its states in its own scale."""
        found = copy.copy(self)
        bars = np.full(visited.T, np.nan)
        told, scales = np.zeros(visited.T), np.ones(visited.T)
        for place, t in enumerate(visited.states[:-1]):
            bars[t - 1] = visited.alpha_bar(t)
            told[t - 1], scales[t - 1] = visited.timesteps[place], visited.scales[place]
        whole = self.card.prediction != "flow" and bool((told == np.floor(told)).all())
        found._told = torch.from_numpy(told.astype(np.int64 if whole else np.float32))
        found._varied = visited.says == "eps and variance"
        found._scales = torch.from_numpy(scales.astype(np.float32))
        found._signal = torch.from_numpy(np.sqrt(bars).astype(np.float32))
        found._noise = torch.from_numpy(np.sqrt(1.0 - bars).astype(np.float32))
        return found

    def on(self, device: torch.device) -> Self:
        """A copy of the network on a device; this one stays where it is."""
        assert self.module is not None
        found = copy.copy(self)
        found.module = found._network = _copied(self.module, device)
        found._told = None if self._told is None else self._told.to(device)
        found._scales, found._signal, found._noise = (
            table.to(device) for table in (self._scales, self._signal, self._noise)
        )
        return found

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        told = index
        if self._told is not None:
            x = x * self._scales.to(x.device)[index].view(-1, 1, 1, 1)
            told = self._told.to(x.device)[index]
        whole = self._predicted(x, told, label)
        said = self._said(whole[:, : x.shape[1]], x, index)
        return torch.cat([said, whole[:, x.shape[1] :]], dim=1) if self._varied else said

    def _said(self, out: Tensor, x: Tensor, index: Tensor) -> Tensor:
        """What the denoiser says, of what the network predicts."""
        if self.card.prediction in ("eps", "flow"):
            return out
        signal = self._signal.to(x.device)[index].view(-1, 1, 1, 1)
        noise = self._noise.to(x.device)[index].view(-1, 1, 1, 1)
        if self.card.prediction == "v":
            return noise * x + signal * out
        return (x - signal * out) / noise

    def _predicted(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """What the network itself puts out; behind it may stand a learned variance."""
        out: Tensor = self._network(x, index, label)
        return out


def _bars(card: ModelCard) -> NDArray[np.float64]:
    """alpha_bar of the states 1 .. T."""
    if card.prediction == "flow":
        sigma = np.arange(1, card.steps + 1) / card.steps
        return np.asarray((1.0 - sigma) ** 2 / ((1.0 - sigma) ** 2 + sigma**2))
    times = schedule(card.schedule, card.steps)
    return np.array([times.alpha_bar(i + 1) for i in range(card.steps)], dtype=np.float64)


class Guided:
    """Classifier-free guidance around a denoiser that was trained with a null label.

    Two calls, unconditional first: batch size and interventions are those of the plain model, and a tap that keeps
    the latest activation keeps the conditional one. Scale 1 is the plain model at twice the cost.
    """

    def __init__(self, denoiser: Denoiser, scale: float) -> None:
        if denoiser.card.null_label is None:
            raise ModelError(
                f"{denoiser.card.name!r} has no null label.",
                consequence="There is no unconditional prediction to guide away from; label 0 is a real label.",
                remedy="use a model trained with label dropout, such as 'digits', or guidance_scale = 1",
            )
        self.card = denoiser.card
        self.module = denoiser.module
        self.places = denoiser.places
        self.scale = scale
        self._denoiser = denoiser
        self._null = denoiser.card.null_label

    def on(self, device: torch.device) -> "Guided":
        """The same around a copy of the denoiser on a device."""
        return Guided(placed(self._denoiser, device), self.scale)

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        return self.joined({name: self.half(name, x, index, label) for name in HALVES})

    def half(self, name: str, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """eps of one of the two calls by itself: of the null label, or of the labels."""
        return self._denoiser(x, index, torch.full_like(label, self._null) if name == UNCOND else label)

    def joined(self, halves: Mapping[str, Tensor]) -> Tensor:
        """The guided eps of what the halves gave."""
        colours, conditional = self.card.shape[0], halves[COND]
        eps: Tensor = guided(conditional[:, :colours], halves[UNCOND][:, :colours], self.scale)
        # A learned variance is that of the conditional half.
        return eps if conditional.shape[1] == colours else torch.cat([eps, conditional[:, colours:]], dim=1)


def placed(denoiser: Denoiser, device: torch.device) -> Denoiser:
    """The denoiser on a device: a copy of its network, or itself where it is there already, or has no network.

    Raises
    ------
    ModelError
        For a denoiser of somebody's own class that has no `on`.
    """
    if denoiser.module is None or device.type == "cpu":
        return denoiser
    if not isinstance(denoiser, NetworkDenoiser | Guided):
        raise ModelError(
            f"{denoiser.card.name!r} is a {type(denoiser).__name__}, and only its maker knows what it holds.",
            consequence=f"It cannot be moved to {device.type!r}.",
            remedy='derive its class from flowprofile.models.denoiser.NetworkDenoiser, or leave device = "cpu"',
        )
    return denoiser.on(device)


def _copied(module: nn.Module, device: torch.device) -> nn.Module:
    """A copy whose weights are on a device; there is no second one of them on the host meanwhile."""
    there: dict[int, Any] = {}
    for weight in module.parameters():
        there[id(weight)] = nn.Parameter(weight.detach().to(device), requires_grad=weight.requires_grad)
    for buffer in module.buffers():
        there[id(buffer)] = buffer.detach().to(device)
    return copy.deepcopy(module, there)


def halves(denoiser: Denoiser) -> Mapping[str, Asked]:
    """The calls that one step makes, by name and in their order: of a model without guidance the label's alone."""
    if isinstance(denoiser, Guided):
        return {name: partial(denoiser.half, name) for name in HALVES}
    return {COND: denoiser}


def joined(denoiser: Denoiser, found: Mapping[str, Tensor]) -> Tensor:
    """What the denoiser itself would have given, from what its `halves` gave."""
    return denoiser.joined(found) if isinstance(denoiser, Guided) else found[COND]
