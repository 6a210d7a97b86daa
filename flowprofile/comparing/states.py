"""Curves computed from stored states, where no measure of them is stored: no network is asked.

Values are rounded to float32, as a stored measure's are, so that they are the same bits. The null is the chain that
knows its image, of both sides and with the same noise, walked state by state: memory does not grow with the steps.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Final, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from flowprofile.axes import CHANNEL, SEED, TIME, X, Y
from flowprofile.comparing.sides import Group, Held, Question
from flowprofile.comparing.stored import (
    Flags,
    Values,
    along_time,
    averaged,
    cells,
    common,
    difference,
    quantity,
    status_of,
    told,
    worst,
)
from flowprofile.errors import DefinitionError
from flowprofile.measures import images, windows
from flowprofile.measures.nulls import posterior_chain
from flowprofile.time.noise import SCHEME
from flowprofile.time.rules import RULES, rule
from flowprofile.time.schedule import SCHEDULES, schedule
from flowprofile.time.steps import respaced

STATES: Final = "trajectory"
Frames = NDArray[np.float32]
Pairwise = Callable[[Frames, Sequence[tuple[int, int]]], Values]
"""From frames[... member channel y x] and pairs of members to values [... pair]."""
_OF_SAMPLER: Final = ("rule", "steps", "guidance_scale")
"""What a sampler's attributes say besides the parameters of its rule."""
_BLOCK: Final = 32 * 2**20
"""Bytes of states that are read at once."""
_TOGETHER: Final = 128
"""States of a seed that are rather read at once than fewer."""


def _ssim(frames: Frames, pairs: Sequence[tuple[int, int]], *, window: int, data_range: float) -> Values:
    return np.asarray(windows.between(frames, pairs, window=window, data_range=data_range))


def _pointwise(
    error: Callable[[Any, Any], Values], frames: Frames, pairs: Sequence[tuple[int, int]]
) -> Values:
    return np.stack(
        [error(frames[..., one, :, :, :], frames[..., other, :, :, :]) for one, other in pairs], axis=-1
    )


MEASURES: Final = ("ssim", "mse", "l1")
"""What can be computed from two states alone."""


def pairwise(kind: str, *, window: int, data_range: float) -> Pairwise:
    """A measure as a function of frames and pairs."""
    if kind == "ssim":
        return partial(_ssim, window=window, data_range=data_range)
    return partial(_pointwise, {"mse": images.mse, "l1": images.l1}[kind])


@dataclass(frozen=True)
class States:
    """A measure of the states of both sides, computed here."""

    question: Question
    kind: str
    window: int
    data_range: float
    times: tuple[int, ...]

    @property
    def recipe(self) -> Mapping[str, Any]:
        states = [told(group.held, _states_of(group.held)) for group in self.question.groups]
        options = {"window": self.window, "data_range": self.data_range} if self.kind == "ssim" else {}
        return {"states": states, "measure": self.kind, "options": options}

    @property
    def said(self) -> str:
        return "the stored states of both"

    @property
    def quantity(self) -> str:
        return quantity(self.kind)

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        return common([group.held.values(SEED) for group in self.question.groups])

    @cached_property
    def has_null(self) -> bool:
        return all(_null_known(group.held) for group in self.question.groups)

    @property
    def weight(self) -> int:
        member = int(np.prod([_states_of(self.question.groups[0].held).sizes[d] for d in (CHANNEL, Y, X)]))
        members = sum(len(group.labels) for group in self.question.groups)
        # Few seeds with many states each: neighbouring states share an object, seeds do not.
        together = min(len(self.times), _TOGETHER)
        return len(self.times) * len(self.question.pairs) * 32 + 4 * member * members * together

    def status(self, seeds: Sequence[int]) -> Flags:
        # The null needs the finished images, whichever states are compared.
        times = self.times if not self.has_null or 0 in self.times else (*self.times, 0)
        each = [
            status_of(_states_of(group.held), group, group.labels, seeds, times)
            for group in self.question.groups
        ]
        found = worst(np.concatenate(each))
        if len(times) > len(self.times):
            found = np.where(found[:, -1:] == 1, 1, found[:, :-1]).astype(np.int8)
        return found

    def values(self, seeds: Sequence[int]) -> tuple[Values, Values | None]:
        value = self._along((frames for _, frames in self._stored(seeds)), seeds)
        return value, self._along(self._known(seeds), seeds) if self.has_null else None

    def at(self, times: Sequence[int]) -> Self:
        return replace(self, times=tuple(times))

    def coords(self) -> dict[str, xr.Variable]:
        return along_time(_states_of(self.question.groups[0].held), self.times)

    def _along(self, walk: Iterator[Frames], seeds: Sequence[int]) -> Values:
        """The measure of frames[seed, time, member, ...], block by block, as [seed, pair, time]."""
        measure = pairwise(self.kind, window=self.window, data_range=self.data_range)
        found = np.empty((len(seeds), len(self.question.pairs), len(self.times)))
        at = 0
        for frames in walk:
            # As a stored value would be: computed in float64, rounded once.
            values = measure(frames, self.question.pairs).astype(np.float32).astype(np.float64)
            found[:, :, at : at + values.shape[1]] = np.moveaxis(values, 1, 2)
            at += values.shape[1]
        return averaged(difference(found, self.kind), self.question)

    def _stored(self, seeds: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Frames]]:
        """Stored states and their frames[seed, time, member, channel, y, x], a few states at a time."""
        shape = [_states_of(self.question.groups[0].held).sizes[d] for d in (CHANNEL, Y, X)]
        members = sum(len(group.labels) for group in self.question.groups)
        width = max(1, _BLOCK // (4 * int(np.prod(shape)) * members * len(seeds)))
        for first in range(0, len(self.times), width):
            times = self.times[first : first + width]
            sides = [_frames(group, seeds, times) for group in self.question.groups]
            yield times, np.concatenate(sides, axis=2)

    def _known(self, seeds: Sequence[int]) -> Iterator[Frames]:
        """Frames[seed, 1, member, channel, y, x] of the chains that know their images, state by state."""
        chains = [_chain(group, seeds, self.times) for group in self.question.groups]
        for frames in zip(*chains, strict=True):
            yield np.concatenate(frames, axis=1)[:, None]


def data_range_of(question: Question, asked: float | None) -> float:
    """White minus black: as asked, or the width of the pixel range that both sides share."""
    if asked is not None:
        if not 0 < asked < float("inf"):
            raise DefinitionError(
                f"data_range is {asked!r}.",
                consequence="SSIM's constants are relative to it.",
                remedy="give white minus black, 2.0 for pixels in [-1, 1]",
            )
        return float(asked)
    ranges = [tuple(group.held.tree.attrs["model"]["pixel_range"]) for group in question.groups]
    if len(set(ranges)) > 1:
        raise DefinitionError(
            f"The models' pixels have the ranges {ranges[0]} and {ranges[1]}.",
            consequence="SSIM's constants would fit one of them only.",
            remedy="say which one is meant: data_range=2.0",
        )
    low, high = ranges[0]
    return float(high - low)


def refuse_unlike(question: Question) -> None:
    """Refuse states of different shapes, or of different noise: nothing would be shared but a number."""
    shapes = [tuple(_states_of(group.held).sizes[d] for d in (CHANNEL, Y, X)) for group in question.groups]
    if len(set(shapes)) > 1:
        raise DefinitionError(
            f"The images are {shapes[0]} and {shapes[1]} in (channel, y, x).",
            consequence="There are no pixels to compare.",
            remedy="compare models of one shape",
        )
    schemes = [str(_states_of(group.held).attrs.get("noise")) for group in question.groups]
    if len(set(schemes)) > 1:
        raise DefinitionError(
            f"The noise was made as {schemes[0]!r} and as {schemes[1]!r}.",
            consequence="Equal seeds then share no noise, and pairs by seed would mean nothing.",
            remedy="sample both with the same noise",
        )


def _states_of(held: Held) -> xr.Dataset:
    return held.nodes[STATES]


def _frames(group: Group, seeds: Sequence[int], times: Sequence[int]) -> Frames:
    """Frames[seed, time, label, channel, y, x] of one side."""
    found = cells(_states_of(group.held)["x_t"], group, group.labels, seeds, times)
    return np.moveaxis(found, 0, 2)


def _null_known(held: Held) -> bool:
    """Whether the chain that knows its image can be walked: finished images, their noise, schedule and rule by name."""
    data, model = _states_of(held), held.tree.attrs.get("model", {})
    named = model.get("schedule") in SCHEDULES and data.attrs["sampler"]["rule"] in RULES
    return bool(named and data.attrs.get("noise") == SCHEME and 0 in data[TIME].values)


def _chain(group: Group, seeds: Sequence[int], times: Sequence[int]) -> Iterator[Frames]:
    """Frames[seed, label, channel, y, x] of one side's null at some of its states."""
    data, model = _states_of(group.held), group.held.tree.attrs["model"]
    sampler = dict(data.attrs["sampler"])
    final = _frames(group, seeds, [0])[:, 0]
    options = {name: value for name, value in sampler.items() if name not in _OF_SAMPLER}
    walk = posterior_chain(
        final.reshape(-1, *final.shape[2:]),
        [seed for seed in seeds for _ in group.labels],
        schedule=schedule(model["schedule"], model["steps"]),
        grid=respaced(model["steps"], sampler["steps"]),
        rule=rule(sampler["rule"], **options),
    )
    wanted = set(times)
    return (x.reshape(final.shape) for t, x in walk if t in wanted)
