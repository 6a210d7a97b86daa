"""Gradients the thesis' way, as the baseline: one backward pass per pixel, through weights that ask for gradients.

Written from METHODS (4 and 6), defects included, each by its own name: they are what the kernels are compared with,
and what they must not reproduce.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from flowprofile.models.unet import UNet


@dataclass(frozen=True)
class Defects:
    """What the thesis' code does and its text does not say."""

    label_plane: bool = False
    """The gradient of the label's plane is added to those of the colours."""
    by_value: bool = False
    """A pixel whose value in x_t is exactly 0 is taken for a masked one and skipped."""
    strokes: bool = False
    """The mask is a drawing of 0..255, and scales the gradients."""


NONE = Defects()


@dataclass(frozen=True)
class Step:
    """One step x_t = c_x x + c_eps eps(x) + added of one sample."""

    network: UNet
    x: Tensor
    """State before the step, [channel y x]."""
    index: int
    label: int
    factors: tuple[float, float]
    """c_x and c_eps."""
    added: Tensor | float = 0.0
    """Noise of the step, already scaled."""

    def image(self, x: Tensor) -> Tensor:
        """x_t of x[1 channel y x]."""
        eps = self.network(x, torch.tensor([self.index]), torch.tensor([self.label]))
        c_x, c_eps = self.factors
        image: Tensor = c_x * x + c_eps * eps + self.added
        return image


def volume(step: Step, mask: Tensor, *, defects: Defects = NONE) -> Tensor:
    """Rows of d x_t / d x of the mask's pixels, summed over the input's colours, [pixel y x]."""
    x = step.x[None].clone().requires_grad_()
    with _asking(step.network), _planes(step.network, len(step.x)) as planes:
        chosen, places = _chosen(step.image(x)[0], mask, defects)
        rows = []
        for y, x_ in places:
            x.grad = planes[0].grad = None
            # torch declares no types for it.
            chosen[y, x_].backward(retain_graph=True)  # type: ignore[no-untyped-call]
            row = _gradient(x)[0].sum(0)
            if defects.label_plane:
                row = row + _gradient(planes[0])[0, len(step.x) :].sum(0)
            rows.append(row.clone())
    return torch.stack(rows) if rows else torch.empty(0, *step.x.shape[1:])


def layer_gradients(
    step: Step, mask: Tensor, layers: Sequence[str], *, defects: Defects = NONE
) -> dict[str, Tensor]:
    """Gradients at layers' outputs, added up over one backward pass per pixel, [1 channel y x] by layer."""
    kept: dict[str, Tensor] = {}

    def keep(name: str, out: Tensor) -> Tensor:
        kept[name] = out.clone()
        kept[name].retain_grad()
        return kept[name].clone()

    hooks = [
        step.network.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: keep(name, out)
        )
        for name in layers
    ]
    try:
        with _asking(step.network):
            chosen, places = _chosen(step.image(step.x[None].clone())[0], mask, defects)
            for y, x in places:
                chosen[y, x].backward(retain_graph=True)  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    return {name: _gradient(kept[name]).clone() for name in layers}


def _chosen(image: Tensor, mask: Tensor, defects: Defects) -> tuple[Tensor, list[tuple[int, int]]]:
    """x_t summed over colours, under the mask, [y x]; and the pixels that get a backward pass."""
    strokes = mask.to(image.dtype) if defects.strokes else (mask > 0).to(image.dtype)
    chosen = image.sum(0) * strokes
    wanted = chosen != 0 if defects.by_value else mask > 0
    return chosen, [(int(y), int(x)) for y, x in wanted.nonzero()]


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


@contextmanager
def _asking(network: UNet) -> Iterator[None]:
    """The weights ask for gradients, as they do after training, and every backward pass adds to theirs."""
    asked = [parameter.requires_grad for parameter in network.parameters()]
    network.requires_grad_(requires_grad=True)
    try:
        yield
    finally:
        for parameter, before in zip(network.parameters(), asked, strict=True):
            parameter.requires_grad_(before)
            parameter.grad = None


@contextmanager
def _planes(network: UNet, colours: int) -> Iterator[list[Tensor]]:
    """What enters the first layer, colours and then the label's planes, with its gradient kept."""
    found: list[Tensor] = []

    def note(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        (entered,) = given
        entered.retain_grad()
        found[:] = [entered]

    hook = network.init_conv.register_forward_pre_hook(note)
    try:
        yield found
    finally:
        hook.remove()


def channels(network: UNet, layers: Sequence[str], sampled: Callable[[], None]) -> dict[str, list[Tensor]]:
    """The strongest channel of every step by layer, from one whole run of the sampler for each layer."""
    found: dict[str, list[Tensor]] = {}
    for name in layers:
        kept: list[Tensor] = []
        hook = network.get_submodule(name).register_forward_hook(
            lambda module, given, out, kept=kept: kept.append(out.clone())
        )
        try:
            sampled()
        finally:
            hook.remove()
        found[name] = [activation.sum((2, 3)).argmax(1) for activation in kept]
    return found
