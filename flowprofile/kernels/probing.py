"""A denoiser that is watched and acted upon: one network call, its edits before, its probes within.

Fused and replayed calls go through the same lines: a call has lanes, each a case on its way into a state, padded to
the canonical batch. What is asked for is reduced inside the hooks, where the tensor is, and copied once.
"""

import operator
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
from flowprofile.conditioning.interventions import Difference, Intervention
from flowprofile.errors import DefinitionError
from flowprofile.kernels.acting import Acts, Lane, Results
from flowprofile.kernels.attending import attended
from flowprofile.models import reductions
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.taps import Prepared, Tap, prepared, tapping
from flowprofile.objects.masks import resampled
from flowprofile.objects.probes import (
    Activation,
    Attention,
    AttentionMap,
    ChannelSum,
    MaxChannel,
    Pooled,
    PredictedImage,
    Probe,
)
from flowprofile.time.rules import x0_from_eps
from flowprofile.time.sample import pad
from flowprofile.time.schedule import Levels

Eps = Callable[[Tensor], Tensor]
"""eps of x[row channel y x], everything else being fixed."""
Shown: TypeAlias = Tensor | tuple[Tensor, ...]
"""What a probe took of a call, [lane ...]; of a strongest channel, how strong each is: one [lane channel] a layer."""
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
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Masks of ablations by name, bool[y x]."""
    vectors: Mapping[tuple[str, Difference], np.ndarray] = field(default_factory=dict)
    """Differences of group means by layer, [channel]."""
    in_place: bool = False
    """Write edits into the layers' outputs, as published code does (`compat.Compat.in_place`)."""
    shown: dict[str, Shown] = field(default_factory=dict)
    """What the latest call showed, by probe."""
    _parts: dict[str, dict[int, Tensor]] = field(default_factory=dict)
    """What was taken of each layer, by probe and place of the layer in it, until all layers have fired."""
    _prepared: dict[tuple[tuple[str, ...], int], Prepared | None] = field(default_factory=dict)
    """Taps by probes and number of lanes."""

    @property
    def card(self) -> ModelCard:
        """What the model is."""
        return self.denoiser.card

    @contextmanager
    def acting(self, lanes: Sequence[Lane], given: Results, *, rows: int) -> Iterator[Eps]:
        """eps as a function of x[row channel y x] alone: the lanes' states, labels and interventions are in force.

        Rows beyond the lanes are the first lane's again. Gradients flow through the edits.
        """
        acts = Acts(self.interventions, lanes, given, self.masks, self.vectors)
        index = pad(torch.tensor([lane.t_from - 1 for lane in lanes], dtype=torch.int64), rows)
        label = pad(torch.tensor(acts.labels(), dtype=torch.int64), rows)
        with torch.no_grad():
            edits = acts.edits(self.denoiser, rows=rows, batch=self.batch)
        with (
            # What is overwritten may be the input of another layer, which that layer's gradient still needs.
            allow_mutation_on_saved_tensors() if edits and self.in_place else nullcontext(),
            tapping(self.denoiser, edits=edits, in_place=self.in_place) if edits else nullcontext(),
        ):
            yield lambda x: self.denoiser(x, index, label)

    def ask(self, lanes: Sequence[Lane], x: Tensor, asked: Iterable[str], given: Results) -> Tensor:
        """eps of x[row channel y x], whose first rows are the lanes; keeps in `shown` what was asked for.

        Lanes may mix cases and states: a row's bits depend on nothing but its own lane.
        """
        x = pad(x, self.batch)
        self.shown, self._parts = {}, {}
        names = sorted(asked)
        taps = self._listeners(tuple(names), len(lanes))
        # The taps come after the edits: they see what the rest of the network gets.
        with (
            self.acting(lanes, given, rows=self.batch) as denoise,
            tapping(self.denoiser, taps) if taps is not None else nullcontext(),
            torch.no_grad(),
        ):
            eps = denoise(x)
        self._finish(names, lanes, x, eps)
        return eps

    def _listeners(self, names: tuple[str, ...], lanes: int) -> Prepared | None:
        """Taps that do with each layer's output, while it exists, what these probes want; found once.

        None where they look at no layer: a closed form has none.
        """
        if (names, lanes) not in self._prepared:
            takers = self._consumers(names, lanes)
            taps = [Tap(layer, reduce=_fan_out(each)) for layer, each in takers.items()]
            self._prepared[names, lanes] = prepared(self.denoiser, taps) if taps else None
        return self._prepared[names, lanes]

    def _consumers(self, names: Sequence[str], lanes: int) -> dict[str, list[Callable[[Tensor], None]]]:
        """Per layer, what is done with its output while it exists."""
        found: dict[str, list[Callable[[Tensor], None]]] = {}
        for name in names:
            probe = self.probes[name]
            for number, layer in enumerate(probe.layers):
                found.setdefault(layer, []).append(partial(self._take, name, probe, number, lanes))
        return found

    def _take(self, name: str, probe: Probe, number: int, lanes: int, a: Tensor) -> None:
        """Reduce one layer's output on the spot; of a layer that fires several times the last firing counts."""
        self._parts.setdefault(name, {})[number] = reduced(probe, a[:lanes])

    def _finish(self, names: Sequence[str], lanes: Sequence[Lane], x: Tensor, eps: Tensor) -> None:
        for name in names:
            probe = self.probes[name]
            parts = self._parts.get(name, {})
            silent = next((layer for number, layer in enumerate(probe.layers) if number not in parts), None)
            if silent is not None:
                raise _silent(silent, lanes)
            if isinstance(probe, MaxChannel):
                self.shown[name] = tuple(parts[number] for number in range(len(parts)))
            elif isinstance(probe, Attention):
                self.shown[name] = attended(probe, [parts[number] for number in range(len(parts))])
            elif parts:
                self.shown[name] = reduce(operator.add, (parts[number] for number in range(len(parts))))
            if isinstance(probe, PredictedImage):
                rows = [
                    x0_from_eps(x[row], eps[row], schedule=self.schedule, t=lane.t_from)
                    for row, lane in enumerate(lanes)
                ]
                self.shown[name] = torch.stack(rows)


def _silent(layer: str, lanes: Sequence[Lane]) -> DefinitionError:
    return DefinitionError(
        f"The layer {layer!r} did not run on the way into t = {lanes[0].t} ({lanes[0].case}).",
        consequence="There is nothing to store of it there.",
        remedy="look at it only at states at which it runs (keep), or leave it out",
    )


def reduced(probe: Probe, a: Tensor) -> Tensor:
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
                self._put(name, lanes, values.numpy())
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
        layers = zip(*(scores for _, scores in waiting), strict=True)
        found = reductions.strongest([torch.cat(scores) for scores in layers]).numpy()
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
