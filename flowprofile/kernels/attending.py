"""Attention probabilities, worked out again from queries and keys that were seen in passing.

The network's own kernel fuses them away and is left as it is: its output has not a bit changed, and only the steps at
which somebody wants to look pay for the probabilities.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from flowprofile.models.sites import Attends, JointlyAttends, RotarilyAttends
from flowprofile.objects.probes import Attention

THETA: Final = 10_000.0
"""The slowest pair of features turns by one radian in so many places."""


def probabilities(attends: Attends, q: Tensor, k: Tensor) -> Tensor:
    """softmax(scale q k) of every head, [lane head query key]; q and k are [lane token feature]."""
    heads = [one.reshape(*one.shape[:2], attends.heads, -1).transpose(1, 2) for one in (q, k)]
    return torch.softmax(heads[0] @ heads[1].transpose(2, 3) * attends.scale, dim=-1)


def attended(probe: Attention, parts: Sequence[Tensor]) -> Tensor:
    """What a probe takes of the queries and keys of its modules: [lane token y x], or [lane head token y x].

    Lanes are worked out one by one: the probabilities of a large picture are many times the size of what is kept.
    """
    taken = iter(parts)
    modules = [(one, [next(taken) for _ in one.layers]) for one in probe.attends]
    return torch.stack([
        _mean([_maps(probe, one, [part[lane] for part in given]) for one, given in modules])
        for lane in range(len(parts[0]))
    ])  # fmt: skip


def _maps(probe: Attention, attends: Attends, given: Sequence[Tensor]) -> Tensor:
    """[token y x] or [head token y x] of one lane."""
    if isinstance(attends, JointlyAttends):
        (y, x), found = attends.grid, _joint(attends, given)
    else:
        q, k = given
        _, y, x = q.shape
        # q lies on its grid, k too if it is the picture's.
        keys = k if attends.cross else k.flatten(1).T
        found = probabilities(attends, q.flatten(1).T[None], keys[None])[0]
    found = found if probe.heads else found.mean(0)
    maps: Tensor = found.transpose(-1, -2).reshape(*found.shape[:-2], -1, y, x)
    if probe.size is None or probe.size == (y, x):
        return maps
    # Weights of a bilinear mean add up to one, so that the tokens of a place still do.
    maps = functional.interpolate(maps[None], size=probe.size, mode="bilinear", align_corners=False)[0]
    return maps


def _joint(attends: JointlyAttends, given: Sequence[Tensor]) -> Tensor:
    """[head query key] of one lane: of the picture's places, to the picture and to the text behind it."""
    q, *keys = (_by_head(attends, source, part) for source, part in zip(attends.sources, given, strict=True))
    if isinstance(attends, RotarilyAttends):
        q, keys = _turned(attends, q, keys)
    found = torch.softmax(q @ torch.cat(keys, dim=1).transpose(1, 2) * attends.scale, dim=-1)
    return found[:, :, keys[0].shape[1] :] if attends.words else found


def _turned(attends: RotarilyAttends, q: Tensor, keys: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Queries and keys of the picture turned by their places, and the text's keys."""
    places = attends.grid[0] * attends.grid[1]
    if len(keys) == 1:
        text = q.shape[1] - places
        q, keys = q[:, text:], [keys[0][:, text:], keys[0][:, :text]]
    angles = _angles(attends.grid, attends.widths)
    cos, sin = (part.to(q) for part in (angles.cos(), angles.sin()))

    def turn(one: Tensor) -> Tensor:
        real, imaginary = one.reshape(*one.shape[:-1], -1, 2).unbind(-1)
        return torch.stack([real * cos - imaginary * sin, imaginary * cos + real * sin], dim=-1).flatten(-2)

    return turn(q), [turn(keys[0]), keys[1]]


def _angles(grid: tuple[int, int], widths: Sequence[int]) -> Tensor:
    """By how much each pair of features is turned at each place, [place pair] in radians."""
    y, x = (
        index.flatten() for index in torch.meshgrid(*(torch.arange(side) for side in grid), indexing="ij")
    )
    found = [
        at.double()[:, None] * THETA ** -(torch.arange(0, width, 2).double() / width)
        for at, width in zip((torch.zeros_like(y), y, x), widths, strict=True)
    ]
    return torch.cat(found, dim=1)


def _by_head(attends: JointlyAttends, source: str, given: Tensor) -> Tensor:
    """Queries or keys as [head token feature]; a picture's projections lie on their grid, [feature y x]."""
    if isinstance(attends, RotarilyAttends):
        return given.transpose(0, 1)
    if source.startswith("norm_"):
        return given
    tokens = given if given.ndim == 2 else given.flatten(1).T
    return tokens.reshape(len(tokens), attends.heads, -1).transpose(0, 1)


def _mean(maps: Sequence[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(0)
