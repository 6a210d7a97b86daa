"""What a store is doing, told while it does it.

A kill test must be able to stop a writer between any two of its steps, and a progress bar wants the same moments;
both listen to the phases, so the instants that are tested are the instants that exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

PhaseName = Literal["sampling", "writing", "receipt", "growth", "metadata"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One moment, told just before what it names happens."""

    name: PhaseName
    """``writing``: an object or its intent; ``receipt``: a receipt; ``growth``: a step of growing the axes;
    ``metadata``: one metadata object. ``sampling`` belongs to the engine."""
    detail: str
    """The key, or the name of the step."""


Listen = Callable[[Phase], None]


def silent(phase: Phase) -> None:
    """The listener that does nothing."""
