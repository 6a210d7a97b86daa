"""What interventions do to a layer's output, lane by lane and out of place.

Lanes of one network call may belong to different cases. A lane is changed by its own parts only, keeps every bit
where it has none, and never writes into the tensor it is given: autograd may still need it, and where a layer is an
Identity it is the layer's input too. The parts of a lane are applied in one canonical order; what does not commute
at one site was refused when the intervention was made. A layer that fires several times in one forward is edited at
every firing, and a patch puts the donor's own output of the same firing there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import torch
from torch import Tensor

from flowprofile.conditioning.composing import composed
from flowprofile.conditioning.interventions import (
    WHOLE,
    Ablation,
    Difference,
    Intervention,
    OwnChannel,
    Part,
    Patch,
    Steer,
    Switch,
)
from flowprofile.conditioning.parts import layers_of
from flowprofile.errors import DefinitionError, NonFiniteError, nearest
from flowprofile.models.reductions import pooled

Edit: TypeAlias = Callable[[Tensor], Tensor]
"""A layer's output [lane channel y x] to a new one of the same shape."""
OwnSite: TypeAlias = tuple[str, OwnChannel]
"""A layer, and what of it is read off each sample's own clean run."""

_RANK: Final = (Patch, Ablation, Steer)


@dataclass(frozen=True)
class Lane:
    """One row of a network call: the parts in force on it, and what other runs say they need."""

    parts: tuple[Part, ...] = ()
    """Those active in this step."""
    channels: Mapping[OwnSite, int] = field(default_factory=dict)
    """The channel each own channel has turned out to be."""
    donor: Mapping[tuple[str, int], Tensor] = field(default_factory=dict)
    """By layer and firing, [channel y x]: the donor's output at the same step; firings count from 0 in a forward."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, [y x] in 0..1 on any grid."""
    vectors: Mapping[tuple[str, Difference], Tensor] = field(default_factory=dict)
    """By layer and difference, [channel]: what the difference of means has turned out to be."""


class SiteEdit:
    """The edit of one layer's output, and which firing of the layer in the present forward it is at."""

    def __init__(self, layer: str, lanes: tuple[Lane, ...], parts: Mapping[int, Sequence[Part]]) -> None:
        self.layer, self.lanes, self.parts = layer, lanes, parts
        self._call = 0

    def begin(self) -> None:
        """A forward begins."""
        self._call = 0

    def __call__(self, a: Tensor) -> Tensor:
        call, self._call = self._call, self._call + 1
        if len(self.lanes) > len(a):
            raise DefinitionError(
                f"{len(self.lanes)} lanes for the {len(a)} rows of {self.layer!r}.",
                consequence="Some case would go without its intervention.",
                remedy="give at most one lane per row of the network call",
            )
        rows = []
        for number, chosen in self.parts.items():
            row = a[number]
            for part in chosen:
                row = _applied(part, (self.layer, call), self.lanes[number], row)
            rows.append(row)
        return a.index_copy(0, torch.tensor(list(self.parts)).to(a.device), torch.stack(rows))


def edits(lanes: Sequence[Lane]) -> dict[str, SiteEdit]:
    """By layer, the edit of its output, whose first rows are the lanes; rows behind them are padding and kept."""
    sites: dict[str, dict[int, list[Part]]] = {}
    for row, lane in enumerate(lanes):
        for part in sorted(lane.parts, key=_canonical):
            for layer in layers_of(part):
                sites.setdefault(layer, {}).setdefault(row, []).append(part)
    return {layer: SiteEdit(layer, tuple(lanes), parts) for layer, parts in sites.items()}


def everywhere(done: Part | Intervention | Iterable[Part | Intervention]) -> dict[str, Edit]:
    """By layer, the edit that applies the parts to every row of a call, whatever its step.

    Parts that do not go together are refused as in an `Intervention`, and so is a part that one call alone cannot
    carry out: a switch, a span, and what needs another run or a mask.
    """
    parts = composed(_parts(done))
    for part in parts:
        _needs_no_run(part)
    lane = Lane(parts)
    return {layer: partial(_edit_all, layer, lane) for layer in edits([lane])}


def _parts(done: object) -> list[Part]:
    given = list(done) if isinstance(done, Iterable) and not isinstance(done, str) else [done]
    parts: list[Part] = []
    for one in given:
        if not isinstance(one, Part | Intervention):
            raise DefinitionError(
                f"{one!r} is not something that can be done to a layer.",
                consequence="There is nothing to attach.",
                remedy='give parts or interventions: interventions=[fp.Ablation("mid_attn.fn", (3,))]',
            )
        parts += one.parts if isinstance(one, Intervention) else [one]
    return parts


def _needs_no_run(part: Part) -> None:
    """Refuse what a single call of the network, whose step nobody names, cannot carry out."""
    if isinstance(part, Switch):
        fact, remedy = "does not edit a layer", "call the network with the new label instead"
    elif part.span != WHOLE:
        fact = "has a span, and a call of the network has no state t"
        remedy = "leave the span out, and enter the `with` for the calls that it should change"
    elif isinstance(part, Patch):
        fact = "reads a donor's run"
        remedy = "tap the donor's call first, and put what was seen in its place: edits={layer: function}"
    elif isinstance(part, Ablation) and isinstance(part.channels, OwnChannel):
        fact, remedy = "reads the sample's clean run", "name the channels"
    elif isinstance(part, Steer) and isinstance(part.vector, Difference):
        fact, remedy = "reads the means of other runs", "give the direction's numbers"
    elif isinstance(part, Ablation) and part.mask is not None:
        fact, remedy = f"names the mask {part.mask!r}, which holds no pixels", "edits={layer: function}"
    else:
        return
    raise DefinitionError(
        f"{str(part)!r} {fact}.",
        consequence="It cannot be carried out on one call alone.",
        remedy=f"{remedy}; whole runs take it as it is, under `interventions` of a Pipeline",
    )


def _edit_all(layer: str, lane: Lane, a: Tensor) -> Tensor:
    return edits([lane] * len(a))[layer](a)


def _applied(part: Part, site: tuple[str, int], lane: Lane, row: Tensor) -> Tensor:
    """One part on one lane, [channel y x], at one firing of a layer."""
    match part:
        case Ablation():
            return _ablated(part, lane, row)
        case Patch():
            return _patched(site, lane, row)
        case Steer():
            return row + part.scale * _vector(part, lane, row)[:, None, None]
        case _:
            raise AssertionError(part)


def _ablated(part: Ablation, lane: Lane, row: Tensor) -> Tensor:
    channels = torch.tensor(_channels(part, lane, len(row))).to(row.device)
    old = row[channels]
    if part.mode == "zero":
        new = torch.zeros_like(old)
    elif part.mode == "mean":
        new = pooled(old).to(row.dtype)[:, None, None].expand_as(old)
    else:
        new = old * part.factor
    if part.mask is not None:
        new = _blended(old, new, _mask(part, part.mask, lane, row))
    return row.index_copy(0, channels, new)


def _blended(old: Tensor, new: Tensor, share: Tensor) -> Tensor:
    """New where the mask is 1, the very bits of old where it is 0, a mixture on its edge."""
    mixed = share * new + (1.0 - share) * old
    return torch.where(share <= 0.0, old, torch.where(share >= 1.0, new, mixed))


def _patched(site: tuple[str, int], lane: Lane, row: Tensor) -> Tensor:
    layer, call = site
    donor = lane.donor.get(site)
    if donor is None or donor.shape != row.shape:
        shape = "nothing" if donor is None else f"shape {list(donor.shape)}"
        firings = sum(known == layer for known, _ in lane.donor)
        raise DefinitionError(
            f"The donor of {layer!r} gives {shape} for firing {call}, where {list(row.shape)} is wanted.",
            consequence="There is nothing to put in the place of the layer's output.",
            remedy="patch layers that fire as often in the donor's step as in the patched one",
            evidence=f"the layer fired {firings} times in the donor's step",
        )
    return donor.to(row.device, row.dtype)


def _vector(part: Steer, lane: Lane, row: Tensor) -> Tensor:
    found: Tensor | None
    if isinstance(part.vector, Difference):
        found = lane.vectors.get((part.layer, part.vector))
    else:
        found = torch.tensor(part.vector)
    if found is None or found.shape != row.shape[:1]:
        length = "no numbers" if found is None else f"{found.numel()} numbers"
        raise DefinitionError(
            f"A direction of {length} for the {len(row)} channels of {part.layer!r}.",
            consequence="It points nowhere in that layer.",
            remedy=f"give one number for each of the {len(row)} channels, or the means that a difference was made of",
        )
    return found.to(row.device, row.dtype)


def _channels(part: Ablation, lane: Lane, bound: int) -> list[int]:
    """The channels of a layer, within its bound and each once."""
    if isinstance(part.channels, OwnChannel):
        own = lane.channels.get((part.layer, part.channels))
        if own is None:
            raise DefinitionError(
                f"The own channel of {part.layer!r} at t = {part.channels.time} is not known.",
                consequence="It is read off the sample's clean run, which was not given.",
                remedy="run the clean case first, or name the channels",
            )
        if own < 0:
            raise NonFiniteError(
                f"{part.layer!r} has no strongest channel at t = {part.channels.time}.",
                consequence="There is no channel to ablate.",
                remedy="look for the NaN or infinity in the clean run, or for an empty mask",
            )
        wanted = [own]
    else:
        wanted = sorted(set(part.channels))
    for channel in wanted:
        if not 0 <= channel < bound:
            raise DefinitionError(
                f"{part.layer!r} has {bound} channels, and no channel {channel}.",
                consequence="There is nothing to ablate.",
                remedy=f"name channels from 0 to {bound - 1}",
            )
    return wanted


def _mask(part: Ablation, name: str, lane: Lane, row: Tensor) -> Tensor:
    if name not in lane.masks:
        raise DefinitionError(
            f"The mask {name!r} of an ablation of {part.layer!r} was not given.",
            consequence="There is no saying which pixels are meant.",
            remedy=nearest(name, lane.masks) if lane.masks else "hand it to the lane",
        )
    return _resampled(lane.masks[name], (row.shape[-2], row.shape[-1])).to(row.device, row.dtype)


def _resampled(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Area shares of a mask [y x] on another grid; on its own grid its own values."""
    if tuple(mask.shape) == size:
        return mask
    rows, columns = (_overlaps(old, new).to(mask.device) for old, new in zip(mask.shape, size, strict=True))
    return (rows @ mask.double() @ columns.T).float()


def _overlaps(old: int, new: int) -> Tensor:
    """Share of every old cell in every new one, [new old]; rows add up to 1."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    cells = torch.arange(old, dtype=torch.float64)
    high = torch.minimum(edges[1:, None], cells + 1.0)
    low = torch.maximum(edges[:-1, None], cells)
    return (high - low).clamp(min=0.0) * new / old


def _canonical(part: Part) -> tuple[int, str]:
    """Same parts, same order, whoever wrote them down: a product of factors has last bits."""
    return (_RANK.index(type(part)) if type(part) in _RANK else -1, repr(part))
