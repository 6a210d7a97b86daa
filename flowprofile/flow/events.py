"""What a run says while it works.

Events are values handed to one listener. A progress bar, a log and a test that kills the process at a named
moment all listen to the same thing; nothing in the engine prints.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from flowprofile.store.phases import Phase


@dataclass(frozen=True)
class Planned:
    """The work is known and about to begin."""

    forwards: int
    """Network evaluations of real cases to come (one case, one step)."""
    tasks: int
    """Batches of cases to come."""


@dataclass(frozen=True)
class Advanced:
    """A chain has taken some steps."""

    stage: str
    steps: int
    """Steps taken, each for a whole batch."""
    seconds: float
    forwards: int
    """Real cases times steps since the last such event."""
    padding: int
    """Lanes computed beside them only to keep the batch shape."""
    t: int
    """The state that was reached."""


@dataclass(frozen=True)
class Asked:
    """The network was asked beside the sampler's steps: replayed, or by a stage of its own."""

    stage: str
    forwards: int
    """Evaluations of real cases."""
    seconds: float
    t: int
    """The last state it was asked about."""


@dataclass(frozen=True)
class Noticed:
    """Something a person should know, although the run goes on."""

    text: str


@dataclass(frozen=True)
class Computed:
    """A pointwise stage has computed some results."""

    stage: str
    cells: int
    """Cases times states."""
    seconds: float


@dataclass(frozen=True)
class Committed:
    """A region is in the store and acknowledged."""

    group: str
    region: str
    cells: int
    """Cases times steps in the region."""
    bytes: int


@dataclass(frozen=True)
class TaskDone:
    """All stages of one batch of cases are in the store."""

    index: int
    tasks: int


@dataclass(frozen=True)
class Quarantined:
    """A task is set aside, so that the others can be carried out."""

    number: int
    told: str
    """What became of it, the last time."""


Event: TypeAlias = (
    Planned | Advanced | Asked | Noticed | Computed | Committed | TaskDone | Quarantined | Phase
)
Listen: TypeAlias = Callable[[Event], None]


def silence(event: Event) -> None:
    """The listener that hears nothing."""
