"""Whether an intervention fits a model and a sampler, and what it is on the sampler's own states.

A layer has so many channels and no more, a label space so many labels, a run so many steps. What does not fit is
refused here, before a model is loaded, whether it was written in a file or in Python. A sampler with fewer steps
passes through several transitions at once: a step that is named stands for the one that passes through it, so every
spelling of one thing ends as the same value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flowprofile.conditioning.interventions import (
    ALWAYS,
    Ablation,
    Difference,
    Flip,
    Intervention,
    OwnChannel,
    Part,
    Patch,
    Span,
    Steer,
    Switch,
)
from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError, nearest


@dataclass(frozen=True)
class Frame:
    """What an intervention has to fit into."""

    name: str
    """The model's."""
    layers: Mapping[str, int]
    """Channels of every layer that can be named, in the order of the forward pass; none for a formula."""
    labels: LabelSpace
    grid: tuple[int, ...]
    """The states the sampler visits, from T down to 0."""

    @property
    def steps(self) -> tuple[int, ...]:
        """The states that are stepped into."""
        return self.grid[1:]


def fitted(intervention: Intervention, frame: Frame) -> Intervention:
    """The intervention on the sampler's states; DefinitionError with the bound where it does not fit."""
    return Intervention(tuple(_fitted(part, frame) for part in intervention.parts), intervention.title)


def bound(layer: str, frame: Frame) -> int:
    """How many channels a layer has; the nearest names where there is no such layer."""
    if not frame.layers:
        raise DefinitionError(
            f"The model {frame.name!r} has no layers.",
            consequence="It is a formula: there is nothing inside to act upon.",
            remedy="use a network such as 'faces32' or 'digits', or a label switch",
        )
    if layer not in frame.layers:
        raise DefinitionError(
            f"The model {frame.name!r} has no layer {layer!r}.",
            consequence="Nothing would be done.",
            remedy=f"{nearest(layer, frame.layers)}; `flowprofile layers MODEL` lists them all",
        )
    return frame.layers[layer]


def _fitted(part: Part, frame: Frame) -> Part:
    match part:
        case Ablation():
            _without_mask(part)
            channels_fit(part.layer, part.channels, frame)
            return replace(part, span=span(part.span, frame))
        case Switch():
            target_fits(part.to, frame)
            return replace(part, at=step(part.at, frame, "A switch at"))
        case Patch():
            for layer in part.layers:
                bound(layer, frame)
            if part.label is not None:
                frame.labels.parse(part.label)
            return replace(part, span=span(part.span, frame))
        case Steer():
            vector_fits(part.layer, part.vector, frame)
            return replace(part, span=span(part.span, frame))


def _without_mask(part: Ablation) -> None:
    """Refuse a mask of which only the name is there: a value has no place for its pixels, a table has."""
    if part.mask is None:
        return
    raise DefinitionError(
        f"The ablation of {part.layer!r} is confined to the mask {part.mask!r}, which nobody gave.",
        consequence="A value carries a mask's name only, and there is no saying which pixels are meant.",
        remedy=f'write the intervention as a table: {{"kind": "ablate", "layer": {part.layer!r}, "channel": ..., '
        '"mask": a boolean array, a region\'s name or {"rectangle": [y0, x0, y1, x1]}}',
    )


def channels_fit(layer: str, channels: tuple[int, ...] | OwnChannel, frame: Frame) -> None:
    """Refuse channels beyond a layer's bound, and a strongest channel at a state the sampler does not visit."""
    count = bound(layer, frame)
    if isinstance(channels, OwnChannel):
        _visited(channels.time, frame, "There is no activation of which a channel could be the strongest.")
        return
    for channel in channels:
        if channel >= count:
            raise DefinitionError(
                f"{layer!r} has {count} channels, and no channel {channel}.",
                consequence="There is nothing to ablate.",
                remedy=f"use a channel from 0 to {count - 1}; `flowprofile layers MODEL` lists the bounds",
            )


def vector_fits(layer: str, vector: tuple[float, ...] | Difference, frame: Frame) -> None:
    """Refuse a direction of the wrong length, or one of runs or states that are not there."""
    count = bound(layer, frame)
    if isinstance(vector, Difference):
        _visited(vector.time, frame, "There is no activation whose mean could be taken.")
        for label in (*vector.plus, *vector.minus):
            frame.labels.parse(label)
    elif len(vector) != count:
        raise DefinitionError(
            f"A vector of {len(vector)} numbers for the {count} channels of {layer!r}.",
            consequence="It points nowhere in that layer.",
            remedy="give one number for each channel",
        )


def target_fits(to: int | Flip, frame: Frame) -> None:
    """Refuse a label outside the model's label space, and bits that it does not have."""
    if not isinstance(to, Flip):
        frame.labels.parse(to)
    elif to.bits >= 1 << len(frame.labels.attributes):
        raise DefinitionError(
            f"{frame.name!r} has {len(frame.labels.attributes)} attributes, and no bits {to.bits:b} to flip.",
            consequence="There would be no label to switch to.",
            remedy="give the new label itself"
            if not frame.labels.attributes
            else f"the bits stand for {', '.join(frame.labels.attributes)}",
        )


def _visited(t: int, frame: Frame, consequence: str) -> None:
    if t not in frame.steps:
        raise DefinitionError(
            f"The sampler takes no step into t = {t}.",
            consequence=consequence,
            remedy=f"use a state it visits, for instance {_near(t, frame.steps)}",
        )


def _near(t: int, steps: Sequence[int]) -> int:
    return min(steps, key=lambda near: abs(near - t))


def span(given: Span, frame: Frame) -> Span:
    """The steps that pass through some state of a span; `WHOLE` for all of them."""
    highest = frame.grid[0] - 1 if given.first == ALWAYS else given.first
    first = step(highest, frame, "A span from")
    return Span(ALWAYS if first == frame.steps[0] else first, step(given.last, frame, "A span to"))


def step(t: int, frame: Frame, what: str) -> int:
    """The state that is stepped into by the step through t: the first one visited that is not above it."""
    highest = frame.grid[0] - 1
    if not 0 <= t <= highest:
        raise DefinitionError(
            f"{what} t = {t} is outside 0 .. {highest}.",
            consequence="No step of the sampler would be concerned.",
            remedy=f"t counts down from {highest} (the first step, all of the run) to 0 (the last step only)",
        )
    return next(visited for visited in frame.steps if visited <= t)
