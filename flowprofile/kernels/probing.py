"""A denoiser that is watched and acted upon: one network call, its edits before, its probes within.

Fused and replayed calls go through the same lines: a call has lanes, each a case on its way into a state, padded to
the canonical batch. What is asked for is reduced inside the hooks, where the tensor is, and copied once.
"""

import operator
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Final, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import allow_mutation_on_saved_tensors

from flowprofile.cases import Case
from flowprofile.conditioning.guidance import COND
from flowprofile.conditioning.interventions import Difference, Intervention
from flowprofile.errors import DefinitionError
from flowprofile.kernels.acting import Acts, Lane, Results
from flowprofile.kernels.attending import attended
from flowprofile.models import reductions
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import Denoiser, halves, joined
from flowprofile.models.taps import Prepared, Tap, prepared, tapping
from flowprofile.objects.masks import resampled
from flowprofile.objects.probes import (
    Activation,
    Attention,
    AttentionMap,
    ChannelSum,
    Halves,
    MaxChannel,
    Pooled,
    PredictedImage,
    Probe,
    Single,
)
from flowprofile.time.rules import x0_from_eps
from flowprofile.time.sample import pad
from flowprofile.time.schedule import Levels

Eps = Callable[[Tensor], Tensor]
"""eps of x[row channel y x], everything else being fixed."""
Shown: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a probe took of a call, [lane ...]; of a strongest channel, how strong each is: one [lane channel], or
[lane half channel], a layer."""
TOGETHER: Final = 8
"""Calls whose strongest channels are found at once: one comparison costs as much as the sums it compares."""


@dataclass
class Watched:
    """A denoiser with probes and interventions; called like any other."""

    denoiser: Denoiser
    probes: Mapping[str, Probe]
    interventions: Mapping[str, Intervention]
    schedule: Levels
    batch: int
    device: torch.device
    """Where the denoiser computes."""
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Masks of ablations by name, bool[y x]."""
    vectors: Mapping[tuple[str, Difference], np.ndarray] = field(default_factory=dict)
    """Differences of group means by layer, [channel]."""
    in_place: bool = False
    """Write edits into the layers' outputs, as published code does (`compat.Compat.in_place`)."""
    shown: dict[str, Shown] = field(default_factory=dict)
    """What the latest call showed, by probe."""
    _parts: dict[tuple[str, str], dict[int, Tensor]] = field(default_factory=dict)
    """What was taken of each layer, by probe and half and by the layer's place in it, until all layers have fired."""
    _tried: bool = field(init=False)
    """Whether the device has been tried; a CPU need not be."""
    _prepared: dict[tuple[tuple[str, ...], str, int], Prepared | None] = field(default_factory=dict)
    """Taps by probes, half and number of lanes."""

    def __post_init__(self) -> None:
        self._tried = self.device.type == "cpu"

    @property
    def card(self) -> ModelCard:
        """What the model is."""
        return self.denoiser.card

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """eps of the denoiser alone, neither watched nor acted upon; x, index, label and eps are the host's."""
        given = [rows.to(self.device) for rows in (x, index, label)]
        if not self._tried:
            self._try(*given)
        return self.denoiser(*given).cpu()

    def _try(self, x: Tensor, index: Tensor, label: Tensor) -> None:
        """Once on a device: whether the bits of a row depend on its place there. Of a CPU it is known that they do not."""
        self._tried = True
        with torch.no_grad():
            eps = self.denoiser(x, index, label)
            turned = self.denoiser(*(torch.roll(rows, 1, 0) for rows in (x, index, label)))
        in_any_place(eps.cpu(), torch.roll(turned, -1, 0).cpu(), self.device)

    @contextmanager
    def acting(self, lanes: Sequence[Lane], given: Results, *, rows: int) -> Iterator[Eps]:
        """eps as a function of x[row channel y x] alone: the lanes' states, labels and interventions are in force.

        Rows beyond the lanes are the first lane's again. Gradients flow through the edits.
        """
        with self._in_force(lanes, given, rows=rows) as (index, label):
            yield lambda x: self.denoiser(x, index, label)

    @contextmanager
    def _in_force(
        self, lanes: Sequence[Lane], given: Results, *, rows: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Index and label of every row, while the lanes' edits are in force."""
        acts = Acts(self.interventions, lanes, given, self.masks, self.vectors, self.device)
        index, label = self._said(lanes, acts.labels(), rows=rows)
        with torch.no_grad():
            edits = acts.edits(self.denoiser, rows=rows, batch=self.batch)
        with (
            # What is overwritten may be the input of another layer, which that layer's gradient still needs.
            allow_mutation_on_saved_tensors() if edits and self.in_place else nullcontext(),
            tapping(self.denoiser, edits=edits, in_place=self.in_place) if edits else nullcontext(),
        ):
            yield index, label

    def _said(self, lanes: Sequence[Lane], labels: Sequence[int], *, rows: int) -> tuple[Tensor, Tensor]:
        """Index and label of so many rows, on the device."""
        index = torch.tensor([lane.t_from - 1 for lane in lanes], dtype=torch.int64)
        label = torch.tensor(labels, dtype=torch.int64)
        return pad(index, rows).to(self.device), pad(label, rows).to(self.device)

    def ask(self, lanes: Sequence[Lane], x: Tensor, asked: Iterable[str], given: Results) -> Tensor:
        """eps of x[row channel y x], whose first rows are the lanes; keeps in `shown` what was asked for.

        x and eps are the host's; what is shown stays on the device. Lanes may mix cases and states: a row's bits depend
        on nothing but its own lane. The halves of a guided step are two calls, each with listeners of its own.
        """
        x = pad(x, self.batch).to(self.device)
        self.shown, self._parts = {}, {}
        names = tuple(sorted(asked))
        if not self._tried:
            self._try(x, *self._said(lanes, [lane.case.label for lane in lanes], rows=self.batch))
        with self._in_force(lanes, given, rows=self.batch) as (index, label), torch.no_grad():
            eps = {}
            for half, call in halves(self.denoiser).items():
                taps = self._listeners(names, half, len(lanes))
                # The taps come after the edits: they see what the rest of the network gets.
                with tapping(self.denoiser, taps) if taps is not None else nullcontext():
                    eps[half] = call(x, index, label)
            whole = joined(self.denoiser, eps)
        for name in names:
            probe = self.probes[name]
            if isinstance(probe, Halves):
                each = [self._found(name, probe.of, half, lanes, x, eps[half]) for half in probe.names]
                self.shown[name] = _side_by_side(each)
            else:
                self.shown[name] = self._found(name, probe, COND, lanes, x, whole)
        return whole.cpu()

    def _listeners(self, names: tuple[str, ...], half: str, lanes: int) -> Prepared | None:
        """Taps that do with each layer's output, while it exists, what these probes want of a half; found once.

        None where they look at no layer: a closed form has none.
        """
        at = names, half, lanes
        if at not in self._prepared:
            takers = self._consumers(names, half, lanes)
            taps = [Tap(layer, reduce=_fan_out(each)) for layer, each in takers.items()]
            self._prepared[at] = prepared(self.denoiser, taps) if taps else None
        return self._prepared[at]

    def _consumers(
        self, names: Sequence[str], half: str, lanes: int
    ) -> dict[str, list[Callable[[Tensor], None]]]:
        """Per layer, what is done with its output while it exists."""
        found: dict[str, list[Callable[[Tensor], None]]] = {}
        for name in names:
            probe = self.probes[name]
            single, wanted = (probe.of, probe.names) if isinstance(probe, Halves) else (probe, (COND,))
            if half in wanted:
                for number, layer in enumerate(single.layers):
                    take = partial(self._take, (name, half), single, number, lanes)
                    found.setdefault(layer, []).append(take)
        return found

    def _take(self, of: tuple[str, str], probe: Single, number: int, lanes: int, a: Tensor) -> None:
        """Reduce one layer's output on the spot; of a layer that fires several times the last firing counts."""
        self._parts.setdefault(of, {})[number] = reduced(probe, a[:lanes])

    def _found(
        self, name: str, probe: Single, half: str, lanes: Sequence[Lane], x: Tensor, eps: Tensor
    ) -> Shown:
        """What a probe took of one half, whose eps is given, [lane ...]."""
        parts = self._parts.get((name, half), {})
        silent = next((layer for number, layer in enumerate(probe.layers) if number not in parts), None)
        if silent is not None:
            raise _silent(silent, lanes)
        match probe:
            case PredictedImage():
                rows = [
                    x0_from_eps(x[row], eps[row], schedule=self.schedule, t=lane.t_from)
                    for row, lane in enumerate(lanes)
                ]
                return torch.stack(rows)
            case MaxChannel():
                return tuple(parts[number] for number in range(len(parts)))
            case Attention():
                return attended(probe, [parts[number] for number in range(len(parts))])
            case _:
                return reduce(operator.add, (parts[number] for number in range(len(parts))))


def in_any_place(eps: Tensor, turned: Tensor, device: torch.device) -> None:
    """Warn if rows have other bits in other places of a batch; both are [row channel y x], row by row the same."""
    if torch.equal(eps, turned):
        return
    apart = float((eps.double() - turned.double()).abs().max())
    warnings.warn(
        f"On {device.type!r} the last bits of a row depend on its place in the batch: they differ by {apart:.2g}, the"
        f" largest value being {float(eps.abs().max()):.2g}. A case computed again in another order may differ in them.",
        RuntimeWarning,
        stacklevel=2,
    )


def _side_by_side(each: Sequence[Shown]) -> Shown:
    """What several halves showed as one, [lane half ...]."""
    if isinstance(each[0], tuple):
        return tuple(torch.stack(layer, 1) for layer in zip(*each, strict=True))
    return torch.stack([one for one in each if isinstance(one, Tensor)], 1)


def _silent(layer: str, lanes: Sequence[Lane]) -> DefinitionError:
    return DefinitionError(
        f"The layer {layer!r} did not run on the way into t = {lanes[0].t} ({lanes[0].case}).",
        consequence="There is nothing to store of it there.",
        remedy="look at it only at states at which it runs (keep), or leave it out",
    )


def reduced(probe: Single, a: Tensor) -> Tensor:
    """What a probe takes of one of its layers, a[lane channel y x]; of a strongest channel, how strong each is."""
    match probe:
        case Activation(dtype=dtype):
            return a.detach().to(getattr(torch, dtype), copy=True)
        case Pooled():
            return reductions.pooled(a)
        case ChannelSum():
            return reductions.channel_sum(a)
        case Attention():
            return a.detach().clone()
        case AttentionMap(size=size):
            return reductions.attention_map([a], size)
        case MaxChannel(statistic=statistic, q=q, mask=mask):
            weights = None
            if mask is not None and mask.array is not None:
                weights = torch.from_numpy(resampled(mask.array, (a.shape[-2], a.shape[-1]))).to(a.device)
            return reductions.strengths(a, weights=weights, statistic=statistic, q=q)
        case _:
            raise AssertionError(probe)


def _fan_out(takers: Sequence[Callable[[Tensor], None]]) -> Callable[[Tensor], None]:
    def take(a: Tensor) -> None:
        for taker in takers:
            taker(a)

    return take


@dataclass
class Gathered:
    """Outputs of many calls, put together as [case, time, ...]."""

    cases: tuple[Case, ...]
    times: Mapping[str, tuple[int, ...]]
    """Per probe: the states it is wanted at, descending."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    """What has its place already; see `settled`."""
    _waiting: dict[str, list[tuple[Sequence[Lane], tuple[Tensor, ...]]]] = field(default_factory=dict)

    def take(self, lanes: Sequence[Lane], shown: Mapping[str, Shown]) -> None:
        """Put each lane's row where it belongs."""
        for name, values in shown.items():
            if isinstance(values, Tensor):
                self._put(name, lanes, values.cpu().numpy())
                continue
            waiting = self._waiting.setdefault(name, [])
            waiting.append((lanes, values))
            if len(waiting) == TOGETHER:
                self._compare(name)

    def settled(self) -> Mapping[str, np.ndarray]:
        """All that was taken, [case, time, ...] by probe."""
        for name in self._waiting:
            self._compare(name)
        return self.arrays

    def _compare(self, name: str) -> None:
        """Find the strongest channels of the calls that wait for it."""
        waiting, self._waiting[name] = self._waiting[name], []
        if not waiting:
            return
        layers = [torch.cat(scores) for scores in zip(*(scores for _, scores in waiting), strict=True)]
        lead = layers[0].shape[:-1]
        found = reductions.strongest([scores.flatten(0, -2) for scores in layers]).numpy()
        found = found.reshape(*lead, len(layers))
        start = 0
        for lanes, _ in waiting:
            self._put(name, lanes, found[start : start + len(lanes)])
            start += len(lanes)

    def _put(self, name: str, lanes: Sequence[Lane], plain: np.ndarray) -> None:
        where = {t: at for at, t in enumerate(self.times[name])}
        if name not in self.arrays:
            self.arrays[name] = np.empty((len(self.cases), len(where), *plain.shape[1:]), plain.dtype)
        if tuple(lane.case for lane in lanes) == self.cases and len({lane.t for lane in lanes}) == 1:
            if lanes[0].t in where:
                self.arrays[name][:, where[lanes[0].t]] = plain
            return
        rows = {case: row for row, case in enumerate(self.cases)}
        for row, lane in enumerate(lanes):
            if lane.t in where:
                self.arrays[name][rows[lane.case], where[lane.t]] = plain[row]
