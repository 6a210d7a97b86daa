"""What is taken of a layer's output before anything is copied: a channel's number instead of a megabyte.

What is kept as a number is summed by halving, in float32 (float64 for float64): elementwise additions of the same
pairs, so a lane's bits depend neither on the other lanes nor on the number of threads. The strongest channel is an
index: torch's own sum over each channel's pixels finds it at a fifth of the cost, and no gradient flows through it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from flowprofile.errors import DefinitionError, NonFiniteError, nearest

Statistic: TypeAlias = Literal["sum", "abs", "max", "mean_top"]
STATISTICS: Final = get_args(Statistic)
NO_CHANNEL: Final = -1
"""Stands where a lane holds a NaN or an infinity, or its mask selects nothing: there is no strongest channel."""


@torch.no_grad()
def max_channel(
    a: Tensor, *, weights: Tensor | None = None, statistic: str = "sum", q: float = 0.1
) -> Tensor:
    """The strongest channel c* of every lane (METHODS: argmax_c sum_yx a), int64[lane]; see `strengths`.

    Of equal channels the lowest wins. A lane with any NaN or infinity in it has -1, as has one whose mask is empty.
    """
    return strongest([strengths(a, weights=weights, statistic=statistic, q=q)])[:, 0]


def strengths(a: Tensor, *, weights: Tensor | None = None, statistic: str = "sum", q: float = 0.1) -> Tensor:
    """How strong each channel is, [lane channel]; with a NaN or an infinity in lanes that have no strongest channel.

    Parameters
    ----------
    a
        A layer's output, [lane channel y x].
    weights
        Area shares of a mask on the layer's grid, [y x] or [lane y x] in 0..1; None looks everywhere.
    statistic, q
        'sum' and 'abs' add the values or magnitudes times their shares; 'max' and 'mean_top' look at the pixels with
        any share: the largest value, or the mean of the largest ceil(q n) of the n values.
    """
    if statistic not in STATISTICS or not 0.0 < q <= 1.0:
        raise DefinitionError(
            f"There is no statistic {statistic!r} with q = {q!r}.",
            consequence="No channel can be called the strongest.",
            remedy=f"{nearest(statistic, STATISTICS)}; 0 < q <= 1",
        )
    values, shares = _wide(a), None if weights is None else _shares(a, weights)
    if statistic in ("sum", "abs"):
        values = values.abs() if statistic == "abs" else values
        # A single NaN or infinity makes the sum non-finite anyway; looking for one costs eight times as much.
        scores = (values if shares is None else values * shares).sum((2, 3))
    else:
        chosen = _selected(values, shares).flatten(2)
        scores = chosen.amax(-1) if statistic == "max" else _mean_top(chosen, shares, q)
        scores = scores.where(
            torch.isfinite(values.amin((2, 3))) & torch.isfinite(values.amax((2, 3))), torch.nan
        )
    return scores if shares is None else scores.where((shares > 0).any(-1).any(-1), torch.nan)


def strongest(scores: Sequence[Tensor]) -> Tensor:
    """The index of the largest of each layer's scores[lane channel], int64[lane layer]; -1 where one is not finite.

    All layers are copied from the device at once, and NumPy compares so few numbers for a fifth of what torch takes.
    """
    flat = torch.cat([each.detach() for each in scores], 1).cpu().numpy()
    edges = np.cumsum([0, *(each.shape[1] for each in scores)])
    sound = np.logical_and.reduceat(np.isfinite(flat), edges[:-1], axis=1)
    best = [flat[:, start:stop].argmax(1) for start, stop in pairwise(edges.tolist())]
    return torch.from_numpy(np.where(sound, np.stack(best, 1), NO_CHANNEL))


def channel_sum(a: Tensor) -> Tensor:
    """The sum over channels, [lane channel y x] -> [lane y x]."""
    return _halved(_wide(a), 1)


def pooled(a: Tensor) -> Tensor:
    """The spatial mean of every channel, [lane channel y x] -> [lane channel]."""
    return _halved(_wide(a).flatten(-2), -1) / (a.shape[-2] * a.shape[-1])


def attention_map(layers: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Sum over layers and channels of the outputs [lane channel y x] resized to the image, [lane y x].

    The resize is bilinear with align_corners=False; it is linear, so the channels are added before it.
    """
    if not layers:
        raise DefinitionError(
            "An attention map of no layers.",
            consequence="There is nothing to add up.",
            remedy="name at least one layer",
        )
    total = None
    for a in layers:
        resized = functional.interpolate(channel_sum(a)[:, None], size, mode="bilinear", align_corners=False)
        total = resized[:, 0] if total is None else total + resized[:, 0]
    assert total is not None
    return total


def cast(a: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy in another float type; a finite number that the type cannot hold is refused, never made an infinity."""
    narrow = a.to(dtype, copy=True)
    if torch.finfo(dtype).max < torch.finfo(a.dtype).max and bool(
        (torch.isfinite(a) & ~torch.isfinite(narrow)).any()
    ):
        raise NonFiniteError(
            f"A layer's output does not fit {str(dtype).removeprefix('torch.')!r}.",
            consequence="It would be stored as an infinity.",
            remedy="store it as 'float32'",
            evidence=f"largest magnitude {a[torch.isfinite(a)].abs().max().item():.6g}, limit {torch.finfo(dtype).max}",
        )
    return narrow


def _halved(values: Tensor, dim: int) -> Tensor:
    """The sum along one dimension, which goes; the order of addition is a function of its length alone."""
    length = values.shape[dim]
    while length > 1:
        half = length // 2
        low = values.narrow(dim, 0, half) + values.narrow(dim, length - half, half)
        # An odd length leaves one in the middle.
        values = torch.cat((low, values.narrow(dim, half, 1)), dim) if length % 2 else low
        length -= half
    return values.select(dim, 0)


def _wide(a: Tensor) -> Tensor:
    return a if a.dtype == torch.float64 else a.float()


def _shares(a: Tensor, weights: Tensor) -> Tensor:
    """Weights as [lane or 1, 1, y, x]; a mask of another grid is refused."""
    if weights.shape not in (a.shape[-2:], (a.shape[0], *a.shape[-2:])):
        raise DefinitionError(
            f"A mask of shape {list(weights.shape)} does not lie on a layer of shape {list(a.shape)}.",
            consequence="It would weigh other pixels than it shows.",
            remedy="resample it to the layer's grid: [y x], or [lane y x]",
        )
    return weights.to(a.device, _wide(a).dtype).reshape(-1, 1, *a.shape[-2:])


def _selected(values: Tensor, shares: Tensor | None) -> Tensor:
    """Values where a mask has any share, -inf elsewhere."""
    return values if shares is None else torch.where(shares > 0, values, -torch.inf)


def _mean_top(chosen: Tensor, shares: Tensor | None, q: float) -> Tensor:
    """Mean of the largest ceil(q n) of each lane's n selected values, [lane channel]."""
    pixels = chosen.shape[-1]
    everywhere = torch.full((1, 1, 1), pixels, device=chosen.device)
    counts = everywhere if shares is None else (shares > 0).flatten(2).sum(-1, keepdim=True)
    wanted = (counts.double() * q).ceil().clamp(min=1.0).long()
    # The number of candidates is that of the whole grid, so that the order of addition is the same in any company.
    top = chosen.topk(max(1, math.ceil(q * pixels)), dim=-1).values
    ranks = torch.arange(top.shape[-1], device=top.device)
    return _halved(torch.where(ranks < wanted, top, 0.0), -1) / wanted[..., 0]
