"""What several tests of taps share: a way to count hooks, and one fixed call of a U-Net."""

from collections.abc import Callable

import torch
from torch import nn

from flowprofile.models.unet import UNet


def hooks(network: nn.Module) -> int:
    """Hooks of every kind on every module."""
    kept = [value for module in network.modules() for key, value in vars(module).items() if "hooks" in key]
    return sum(len(found) for found in kept if isinstance(found, dict))


def caller(network: UNet, *, side: int = 16, lanes: int = 2) -> Callable[[], torch.Tensor]:
    """A function that makes one and the same call."""
    x = torch.randn(lanes, 3, side, side, generator=torch.Generator().manual_seed(1))
    return lambda: network(x, torch.arange(lanes) + 300, torch.arange(lanes) + 3)


def still(network: nn.Module) -> nn.Module:
    """In evaluation mode, with weights that ask for no gradients."""
    return network.eval().requires_grad_(requires_grad=False)
