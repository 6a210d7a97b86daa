"""The U-Net of the thesis, with the module names its checkpoints and its figures use.

Layout after The Annotated Diffusion Model (Rogge and Rasul, 2022): ConvNeXt blocks, linear attention, three up
levels for four down levels. The names are addresses in stored profiles, so they are a public interface. At the
defaults: 57,649,863 parameters and 290 named modules. The options (label codes, full_skip) serve new models only.
"""

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn

from flowprofile.models.layers import UNetConfig


class SinusoidalEmbedding(nn.Module):
    """sin and cos of the network index at geometric frequencies from 1 to 1/10000."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, time: Tensor) -> Tensor:
        half = self.dim // 2
        steps = torch.arange(half, device=time.device, dtype=torch.float32)
        angles = time[:, None].float() * torch.exp(steps * (-math.log(10000.0) / (half - 1)))[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)


class ConvNeXtBlock(nn.Module):
    """net(ds_conv(x) + mlp(time)) + res_conv(x); `ds_conv` is depthwise, not down-sampling."""

    def __init__(self, into: int, out: int, *, time_dim: int | None = None) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.GELU(), nn.Linear(time_dim, into)) if time_dim else None
        self.ds_conv = nn.Conv2d(into, into, 7, padding=3, groups=into)
        self.net = nn.Sequential(
            nn.GroupNorm(1, into),
            nn.Conv2d(into, 2 * out, 3, padding=1),
            nn.GELU(),
            nn.GroupNorm(1, 2 * out),
            nn.Conv2d(2 * out, out, 3, padding=1),
        )
        self.res_conv: nn.Module = nn.Conv2d(into, out, 1) if into != out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        h = self.ds_conv(x)
        if self.mlp is not None and time is not None:
            h = h + self.mlp(time)[:, :, None, None]
        out: Tensor = self.net(h) + self.res_conv(x)
        return out


class LinearAttention(nn.Module):
    """Attention in linear cost: q softmax over features, k softmax over positions; no position-by-position matrix."""

    def __init__(self, dim: int, *, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = head_dim
        self.to_qkv = nn.Conv2d(dim, 3 * heads * head_dim, 1, bias=False)
        self.to_out = nn.Sequential(nn.Conv2d(heads * head_dim, dim, 1), nn.GroupNorm(1, dim))

    def forward(self, x: Tensor) -> Tensor:
        case, _, height, width = x.shape
        parts = self.to_qkv(x).reshape(case, 3, self.heads, self.head_dim, height * width)
        q, k, v = parts.unbind(1)
        q = q.softmax(dim=-2) * self.head_dim**-0.5
        context = k.softmax(dim=-1) @ v.transpose(-1, -2)
        mixed = context.transpose(-1, -2) @ q
        out: Tensor = self.to_out(mixed.reshape(case, self.heads * self.head_dim, height, width))
        return out


class PreNorm(nn.Module):
    """fn(norm(x))."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn
        self.norm = nn.GroupNorm(1, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(self.norm(x))
        return out


class Residual(nn.Module):
    """fn(x) + x; a tap on `fn` sees the branch before the sum."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fn(x) + x
        return out


def label_code(label: Tensor, config: UNetConfig) -> Tensor:
    """Label numbers as vectors: the raw number, -1/+1 for each bit, or one-hot; the null label is all zeros.

    One decimal channel is not learned at a small budget, scaled or not; bits and one-hot are.
    """
    if config.label_code == "decimal":
        code = label[:, None].float()[:, : config.label_width]
    elif config.label_code == "bits":
        shifts = torch.arange(config.label_width - 1, -1, -1, device=label.device)
        code = ((label[:, None] >> shifts) & 1).float() * 2.0 - 1.0
    else:
        code = (label[:, None] == torch.arange(config.label_width, device=label.device)).float()
    return code if config.null_label is None else code * (label != config.null_label)[:, None].float()


def _attention(config: UNetConfig, dim: int) -> Residual:
    return Residual(PreNorm(dim, LinearAttention(dim, heads=config.heads, head_dim=config.head_dim)))


def _level(config: UNetConfig, into: int, out: int, resample: nn.Module) -> nn.ModuleList:
    blocks = [ConvNeXtBlock(width, out, time_dim=config.time_dim) for width in (into, out)]
    return nn.ModuleList([*blocks, _attention(config, out), resample])


def _levels(levels: nn.ModuleList) -> list[nn.ModuleList]:
    return cast("list[nn.ModuleList]", list(levels))


def _blocks(level: nn.ModuleList, x: Tensor, emb: Tensor) -> Tensor:
    out: Tensor = level[2](level[1](level[0](x, emb), emb))
    return out


class UNet(nn.Module):
    """The network; `forward(x, time, label)` gives what its card says it predicts."""

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        config = config or UNetConfig()
        self.config = config
        widths, time_dim = config.widths, config.time_dim
        self.init_conv = nn.Conv2d(config.channels + config.label_width, config.init_dim, 7, padding=3)
        self.time_mlp = nn.Sequential(
            SinusoidalEmbedding(config.dim),
            nn.Linear(config.dim, time_dim),
            nn.GELU(),
            nn.Linear(time_dim, time_dim),
        )
        if config.label_embedding:
            self.label_mlp = nn.Linear(config.label_width, time_dim)
        pairs = list(itertools.pairwise(widths))
        self.downs = nn.ModuleList(
            _level(
                config, into, out, nn.Conv2d(out, out, 4, 2, 1) if depth < len(pairs) - 1 else nn.Identity()
            )
            for depth, (into, out) in enumerate(pairs)
        )
        self.mid_block1 = ConvNeXtBlock(widths[-1], widths[-1], time_dim=time_dim)
        self.mid_attn = _attention(config, widths[-1])
        self.mid_block2 = ConvNeXtBlock(widths[-1], widths[-1], time_dim=time_dim)
        self.ups = nn.ModuleList(
            _level(config, 2 * out, into, nn.ConvTranspose2d(into, into, 4, 2, 1))
            for into, out in reversed(pairs[1:])
        )
        last = 2 * widths[1] if config.full_skip else widths[1]
        self.final_conv = nn.Sequential(
            ConvNeXtBlock(last, widths[1]), nn.Conv2d(widths[1], config.channels, 1)
        )

    def forward(self, x: Tensor, time: Tensor, label: Tensor) -> Tensor:
        code = label_code(label, self.config)
        emb = self.time_mlp(time)
        if self.config.label_embedding:
            emb = emb + self.label_mlp(code)
        planes = code[:, :, None, None].expand(-1, -1, x.shape[2], x.shape[3])
        x = self.init_conv(torch.cat((x, planes), dim=1))
        skips = []
        for level in _levels(self.downs):
            x = _blocks(level, x, emb)
            skips.append(x)
            x = level[3](x)
        x = self.mid_block2(self.mid_attn(self.mid_block1(x, emb)), emb)
        for level in _levels(self.ups):
            x = level[3](_blocks(level, torch.cat((x, skips.pop()), dim=1), emb))
        if self.config.full_skip:
            x = torch.cat((x, skips.pop()), dim=1)
        out: Tensor = self.final_conv(x)
        return out
