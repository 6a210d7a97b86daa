"""Who is killed, and at which moment, counted over all processes of a run.

The workers are the real ones, only forked instead of begun anew: the libraries are imported once, and a run with two
workers costs a tenth of a second.
"""

import multiprocessing
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from flowprofile.flow.events import Committed
from flowprofile.flow.executors import orders, processes
from flowprofile.store.phases import Phase
from flowprofile.store.places import LocalPlace

ALONE, WORKER, COORDINATOR, BOTH = "alone", "worker", "coordinator", "both"


@dataclass
class Blow:
    """Strikes once, at the n-th moment of a phase, in whichever process it comes."""

    who: str
    phase: str
    nth: int
    folder: Path
    """Where the processes count together."""
    torn: bool = False
    """Whether it strikes in the middle of the write that follows, and not before it."""
    coordinator: int = 0
    due: bool = False
    counter: tuple[int, int] = (0, 0)

    @property
    def struck(self) -> bool:
        """Whether anybody was killed."""
        return (self.folder / "struck").exists()

    def __call__(self, event: object) -> None:
        """Hear an event, and strike if it is time."""
        if isinstance(event, Phase) and event.name == self.phase and self._number() == self.nth:
            if self.torn:
                self.due = True
            else:
                self.strike()

    def _number(self) -> int:
        """How many moments there were, this one included: every process appends to one file, through a handle of its own."""
        if self.counter[0] != os.getpid():
            self.counter = (
                os.getpid(),
                os.open(self.folder / "moments", os.O_WRONLY | os.O_APPEND | os.O_CREAT),
            )
        os.write(self.counter[1], b".")
        return os.lseek(self.counter[1], 0, os.SEEK_CUR)

    def strike(self) -> None:
        """kill -9."""
        (self.folder / "struck").touch()
        if self.who in (COORDINATOR, BOTH):
            os.kill(self.coordinator, signal.SIGKILL)
        if self.who != COORDINATOR:
            os.kill(os.getpid(), signal.SIGKILL)


def armed(blow: Blow, line: int):
    """Make this process a coordinator that the blow may strike, or whose workers it may; returns its executor.

    Whatever is committed anywhere is written to `line`.
    """
    blow.coordinator = os.getpid()
    hears, serve, context = orders.Heard.__call__, processes._serve, multiprocessing.get_context

    def heard(self, event):
        tell(line, event)
        blow(event)
        hears(self, event)

    def served(*args):
        for handle in Path(
            "/proc/self/fd"
        ).iterdir():  # a worker that was begun anew would not hold the store
            if handle.exists() and str(handle.readlink()).endswith("planner.lock"):
                os.close(int(handle.name))
        serve(*args)

    orders.Heard.__call__ = heard
    processes._serve = served
    multiprocessing.get_context = lambda method: context("fork")
    if blow.torn:
        LocalPlace.write = lambda place, key, data, *, durable=False: _in_place(blow, place, key, data)
    return None if blow.who == ALONE else processes.Processes(2)


def tell(line: int, event: object) -> None:
    """Say that a region is acknowledged."""
    if isinstance(event, Committed):
        os.write(line, f"{event.group}/{event.region}\n".encode())


def _in_place(blow: Blow, place: LocalPlace, key: str, data: bytes) -> None:
    """A writer that is not atomic, and is killed half way."""
    path = place.root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=0) as file:
        file.write(data[: len(data) // 2])
        if blow.due:
            blow.strike()
        file.write(data[len(data) // 2 :])
