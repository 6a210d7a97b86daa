"""MSE, L1 and PSNR of tensors where they are, in float64, with the bits of `flowprofile.measures.images`."""

import torch
from torch import Tensor

from flowprofile.measures.ordered import ordered_mean


@torch.no_grad()
def mse(one: Tensor, other: Tensor) -> Tensor:
    """Mean squared difference: [... channel y x] -> [...] float64; NaN where an image is not finite."""
    difference = one.double() - other.double()
    return _mean(difference * difference)


@torch.no_grad()
def l1(one: Tensor, other: Tensor) -> Tensor:
    """Mean absolute difference: [... channel y x] -> [...] float64; NaN where an image is not finite."""
    return _mean((one.double() - other.double()).abs())


def psnr(one: Tensor, other: Tensor, *, data_range: float) -> Tensor:
    """10 log10(data_range^2 / mse) in decibels; infinite for identical images."""
    return -10.0 * torch.log10(mse(one, other) / data_range**2)


def _mean(values: Tensor) -> Tensor:
    lead = values.shape[:-3]
    means: Tensor = ordered_mean(values.flatten(-3).reshape(lead.numel(), -1), lib=torch).reshape(lead)
    return torch.where(torch.isfinite(means), means, torch.nan)
