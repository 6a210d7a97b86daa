"""How fast this machine was last time, so that a plan can say how long the next run takes.

A rate is a measurement, kept per model and numerics class in the user's cache folder. It decides nothing and may
be deleted at any time.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowprofile.flow.events import Advanced, Asked, Computed, Event
from flowprofile.flow.stage import Stage

Rates = Mapping[str, float]
"""Seconds per network evaluation or closed-form step for a chain, per cell for any other stage; by stage kind. Where
cells of one kind differ in how often they go through the network, per passage, under ``KIND/pass``."""


@dataclass
class Watch:
    """A listener that adds up the time each stage takes."""

    seconds: dict[str, float] = field(default_factory=dict)
    units: dict[str, int] = field(default_factory=dict)

    def __call__(self, event: Event) -> None:
        """Take note of the event, if it carries a time."""
        match event:
            case Advanced(stage=stage, steps=steps, seconds=seconds):
                self._add(stage, event.forwards + event.padding or steps, seconds)
            case Asked(stage=stage, forwards=count, seconds=seconds):
                self._add(stage, count, seconds)
            case Computed(stage=stage, cells=count, seconds=seconds):
                self._add(stage, count, seconds)
            case _:
                return

    def _add(self, stage: str, count: int, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        self.units[stage] = self.units.get(stage, 0) + count

    def rates(self) -> dict[str, float]:
        """Seconds per unit, of the stages that did anything."""
        return {stage: self.seconds[stage] / count for stage, count in self.units.items() if count}


def passes(stage: Stage) -> int:
    """How often a cell goes through the network: forwards once, and backwards for each pixel or probe of its own.

    One backward pass that all cells of a kind have is part of the kind's rate.
    """
    pixels, probes = stage.params.get("pixels"), stage.params.get("probes")
    if not stage.asks:
        return 1
    if isinstance(pixels, list):
        return 1 + len(pixels)
    return 1 + probes if isinstance(probes, int) else 1


def told(stages: Mapping[str, Stage], measured: Rates) -> dict[str, float]:
    """What is remembered of the seconds per unit that stages took, by name."""
    return {_unit(stages[name]): rate / passes(stages[name]) for name, rate in measured.items()}


def seconds(stage: Stage, units: int, known: Rates) -> float | None:
    """Seconds that so many units of a stage take; None if nothing of its kind was timed here."""
    rate = known.get(_unit(stage))
    return None if rate is None else rate * units * passes(stage)


def _unit(stage: Stage) -> str:
    return stage.kind if passes(stage) == 1 else f"{stage.kind}/pass"


def remembered(identity: str) -> Rates:
    """The rates measured for an identity; empty if there are none or they cannot be read."""
    try:
        values = json.loads(_file(identity).read_text("utf-8"))
        return {str(stage): float(rate) for stage, rate in values.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def remember(identity: str, rates: Rates) -> None:
    """Keep the rates; a cache that cannot be written is done without."""
    if not rates:
        return
    path = _file(identity)
    merged = {**remembered(identity), **rates}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(merged, file, sort_keys=True)
        Path(file.name).replace(path)
    except OSError:
        return


def _file(identity: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "flowprofile" / "rates" / f"{identity}.json"
