"""The network that the sampling benchmarks share: the thesis' U-Net, narrow, with random weights."""

from typing import Protocol

import torch
from torch import Tensor, nn

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import NetworkDenoiser
from flowprofile.models.layers import parse_config
from flowprofile.models.unet import UNet


class Network(Protocol):
    """A denoiser, as far as a benchmark is concerned."""

    @property
    def card(self) -> ModelCard:
        """What it is."""
        ...

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """eps."""
        ...


def small(side: int, *, dim: int = 16) -> NetworkDenoiser:
    """A U-Net of width `dim` for 3 x side x side pixels; its weights do not matter for its cost."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = UNet(parse_config({"dim": dim}))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    card = ModelCard(
        "narrow", "unet", {}, (3, side, side), LabelSpace(("bangs", "male", "smile", "lipstick"))
    )
    return NetworkDenoiser(network.eval(), card)
