"""Attention probabilities, worked out again from queries and keys that were seen in passing.

The network's own kernel fuses them away and is left as it is: its output has not a bit changed, and only the steps at
which somebody wants to look pay for the probabilities.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from flowprofile.models.sites import Attends, JointlyAttends
from flowprofile.objects.probes import Attention


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
    found = torch.softmax(q @ torch.cat(keys, dim=1).transpose(1, 2) * attends.scale, dim=-1)
    return found[:, :, keys[0].shape[1] :] if attends.words else found


def _by_head(attends: JointlyAttends, source: str, given: Tensor) -> Tensor:
    """Queries or keys as [head token feature]; a picture's projections lie on their grid, [feature y x]."""
    if source.startswith("norm_"):
        return given
    tokens = given if given.ndim == 2 else given.flatten(1).T
    return tokens.reshape(len(tokens), attends.heads, -1).transpose(0, 1)


def _mean(maps: Sequence[Tensor]) -> Tensor:
    return maps[0] if len(maps) == 1 else torch.stack(list(maps)).mean(0)
