"""What is done to the model in one run: parts put together under a name that says all of it.

An intervention is part of a case's identity, so its name is computed from its content and from nothing else: two
spellings of one thing have one name, and two things never share one. What it does to tensors is in
`kernels.editing`; here is only what it is, when it is in force, and what it reads of other runs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowprofile.cases import CLEAN, Case
from flowprofile.conditioning.composing import composed
from flowprofile.conditioning.parts import ALWAYS as ALWAYS
from flowprofile.conditioning.parts import WHOLE as WHOLE
from flowprofile.conditioning.parts import Ablation as Ablation
from flowprofile.conditioning.parts import Difference as Difference
from flowprofile.conditioning.parts import Flip as Flip
from flowprofile.conditioning.parts import OwnChannel as OwnChannel
from flowprofile.conditioning.parts import Part as Part
from flowprofile.conditioning.parts import Patch as Patch
from flowprofile.conditioning.parts import Span as Span
from flowprofile.conditioning.parts import Steer as Steer
from flowprofile.conditioning.parts import Switch as Switch
from flowprofile.conditioning.parts import layers_of

Told = str | int | float
"""A value of an auxiliary coordinate."""

NOWHERE: Mapping[str, Told] = {
    "kind": CLEAN,
    "target_layer": "",
    "target_channel": -1,
    "factor": -1.0,
    "t_first": -1,
    "t_last": -1,
    "switch_step": -1,
    "to_label": -1,
    "donor_label": -1,
    "donor_seed": -1,
    "title": CLEAN,
}
"""Auxiliary coordinates of the clean run: what a coordinate says where it says nothing."""


@dataclass(frozen=True)
class Intervention:
    """Everything that is done to the model in one run; without parts it is the clean run.

    Raises DefinitionError for parts that do not go together (`conditioning.composing`).

    >>> Intervention((Switch(600, 7), Ablation("mid_attn.fn", (2,), "scale", 0.50))).name
    'scale(0.5) mid_attn.fn[2] + switch@600->7'
    """

    parts: tuple[Part, ...] = ()
    """In their one order."""
    title: str = field(default="", compare=False)
    """What its author calls it; not part of its identity."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", composed(self.parts))

    @property
    def name(self) -> str:
        """Its value on the intervention axis: equal for equal content, whoever wrote it down in which order."""
        return " + ".join(map(str, self.parts)) or CLEAN

    @property
    def first(self) -> int:
        """The highest state whose step it may change; -1 for none, `ALWAYS` from the beginning."""
        return max((part.span.first for part in self.parts), default=-1)

    @property
    def reads(self) -> tuple[Part, ...]:
        """The parts that read another case's run at the steps they act in."""
        return tuple(
            part
            for part in self.parts
            if isinstance(part, Patch)
            or (isinstance(part, Ablation) and isinstance(part.channels, OwnChannel))
        )

    def donors(self, case: Case) -> tuple[Case, ...]:
        """The clean cases whose activations are patched into this one, each once."""
        return tuple(dict.fromkeys(part.donor(case) for part in self.parts if isinstance(part, Patch)))

    def active(self, t: int) -> tuple[Part, ...]:
        """The parts in force in the step into state t."""
        return tuple(part for part in self.parts if t in part.span)

    def label_at(self, label: int, t: int) -> int:
        """The label with which the network is asked in the step into state t."""
        for part in self.active(t):
            if isinstance(part, Switch):
                return part.label(label)
        return label

    def idle_for(self, label: int) -> tuple[Part, ...]:
        """The parts that change nothing for a label: a switch to it, a patch from the case itself."""
        return tuple(
            part
            for part in self.parts
            if (isinstance(part, Switch) and part.label(label) == label)
            or (isinstance(part, Patch) and part.seed is None and part.label == label)
        )

    def coords(self) -> dict[str, Told]:
        """Auxiliary coordinates by which it is found; of several parts what those agree on that say anything."""
        if not self.parts:
            return dict(NOWHERE)
        told: dict[str, Told] = dict(NOWHERE)
        rows = [_coords(part) for part in self.parts]
        for name in NOWHERE:
            said = {row[name] for row in rows if name in row}
            if len(said) == 1:
                told[name] = said.pop()
        first = -1 if self.first == ALWAYS else self.first
        kind = _kind(self.parts[0]) if len(self.parts) == 1 else "several"
        last = min(part.span.last for part in self.parts)
        return told | {"kind": kind, "t_first": first, "t_last": last, "title": self.title or self.name}


def _kind(part: Part) -> str:
    return part.mode if isinstance(part, Ablation) else type(part).__name__.lower()


def _coords(part: Part) -> dict[str, Told]:
    layers = layers_of(part)
    told: dict[str, Told] = {"target_layer": layers[0] if len(layers) == 1 else ""} if layers else {}
    match part:
        case Ablation(channels=channels, factor=factor, mode=mode):
            one = channels[0] if isinstance(channels, tuple) and len(channels) == 1 else -1
            return {**told, "target_channel": one} | ({"factor": factor} if mode == "scale" else {})
        case Switch(at=at, to=to):
            return {"switch_step": at, "to_label": to if isinstance(to, int) else -1}
        case Patch(label=label, seed=seed):
            return {
                **told,
                "donor_label": -1 if label is None else label,
                "donor_seed": -1 if seed is None else seed,
            }
        case Steer(scale=scale):
            return {**told, "factor": scale}
