"""One run in a process of its own: an order on standard input, one JSON line per event on standard output.

A process can be stopped at any moment without the server noticing more than an end, and the server answers while the
run computes. What was committed by then is in the store, and the same order goes on from there.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final, TextIO

from flowprofile.errors import FlowProfileError
from flowprofile.flow.events import (
    Advanced,
    Asked,
    Committed,
    Computed,
    Event,
    Noticed,
    Planned,
    Quarantined,
    TaskDone,
)
from flowprofile.interruption import heeding, interrupt
from flowprofile.store.phases import Phase

OFTEN: Final = 0.2
"""Seconds between two lines about how far a young run is."""
SHARE: Final = 1 / 1000
"""The same as a share of an old run's age, so that a run of days has told no more than some thousand lines."""

Say = Callable[[dict[str, Any]], None]


@dataclass
class Told:
    """Listens to a run; everything that is only progress is added up and said now and then."""

    say: Say
    clock: Callable[[], float] = perf_counter
    forwards: int = 0
    padding: int = 0
    cells: int = 0
    regions: int = 0
    bytes: int = 0
    planned: int = 0
    tasks: int = 0
    stage: str = ""
    t: int | None = None
    began: float = field(init=False)
    last: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.last = self.clock()

    def __call__(self, event: Event) -> None:
        """Take note of an event, and say what it is time to say."""
        match event:
            case Planned(forwards=forwards, tasks=tasks):
                # A sweep that is steered by its own means has two plans, one after the other.
                self.planned, self.tasks = self.planned + forwards, self.tasks + tasks
                self.say({"event": "planned", "forwards": self.planned, "tasks": self.tasks})
            case Noticed(text=text):
                self.say({"event": "noticed", "text": text})
            case Quarantined(number=number, told=told):
                self.say({"event": "noticed", "text": f"task {number} is set aside: {told}"})
            case TaskDone(index=index, tasks=tasks):
                self.say({"event": "task", "index": index, "tasks": tasks})
            case Phase():
                pass
            case _:
                self._add(event)
                now = self.clock()
                if now - self.last >= max(OFTEN, (now - self.began) * SHARE):
                    self.progress()

    def progress(self) -> None:
        """Say how far the run is."""
        self.last = self.clock()
        counts = {name: getattr(self, name) for name in ("forwards", "padding", "cells", "regions", "bytes")}
        seconds = round(self.last - self.began, 3)
        self.say({"event": "progress", **counts, "stage": self.stage, "t": self.t, "seconds": seconds})

    def _add(self, event: Event) -> None:
        match event:
            case Advanced(stage=stage, forwards=forwards, padding=padding, t=t):
                self.forwards, self.padding = self.forwards + forwards, self.padding + padding
                self.stage, self.t = stage, t
            case Asked(stage=stage, forwards=forwards, t=t):
                self.forwards, self.stage, self.t = self.forwards + forwards, stage, t
            case Computed(stage=stage, cells=cells):
                self.cells, self.stage = self.cells + cells, stage
            case Committed(bytes=size):
                self.regions, self.bytes = self.regions + 1, self.bytes + size
            case _:
                pass


def main() -> int:
    """Carry out the order; how it ended is the last line, and the exit code that the command line would have."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, _once)
    out = _apart()
    say = _sayer(out)
    try:
        order = json.loads(sys.stdin.readline())
        threading.Thread(target=_orphaned, daemon=True).start()
        say({"event": "done", **_carried_out(order, Told(say))})
    except FlowProfileError as error:
        told = {name: getattr(error, name) for name in ("fact", "consequence", "remedy", "evidence")}
        say({"event": "refused", **told})
        return error.exit_code
    except KeyboardInterrupt:
        say({"event": "stopped"})
        return 130
    return 0


def _once(signum: int, frame: object) -> None:
    """Stop at the first signal; a second one, from a terminal and a server at once, must not disturb the end."""
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, signal.SIG_IGN)
    interrupt(signum, frame)


def _carried_out(order: dict[str, Any], told: Told) -> dict[str, Any]:
    from flowprofile.definitions import Text, pipeline
    from flowprofile.running import run

    wanted = pipeline(order["definition"], Text("the form", ""))
    outcome = run(wanted, into=order["into"], storage_options=order["storage_options"], listen=heeding(told))
    told.progress()
    return {**vars(outcome), "warnings": dict(outcome.warnings)}


def _apart() -> TextIO:
    """Standard output for our lines alone: what a library prints goes where its warnings go."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _sayer(out: TextIO) -> Say:
    def say(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=out, flush=True)

    return say


def _orphaned() -> None:
    """Stop when whoever gave the order is gone: its end of our input closes then, however it ended."""
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
