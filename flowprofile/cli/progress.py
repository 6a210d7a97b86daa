"""Progress of a run in the terminal: how far, how fast, how long still."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from flowprofile.flow.events import (
    Advanced,
    Asked,
    Committed,
    Event,
    Listen,
    Noticed,
    Planned,
    Quarantined,
    TaskDone,
)
from flowprofile.interruption import heeding

EVERY: Final = 30.0
"""Seconds between two lines in a log."""


class _Rate(TextColumn):
    """Forwards per second since the start."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: object) -> Text:
        """The rate, once it is known."""
        speed = getattr(task, "finished_speed", None) or getattr(task, "speed", None)
        return Text(f"{speed:,.0f}/s" if speed else "")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Listen]:
    """A listener that draws a bar on stderr; in a log file it writes a line now and then instead."""
    console = Console(stderr=True)
    if quiet:
        yield heeding(_ignore)
        return
    if not console.is_terminal:
        yield heeding(_Log())
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), _Rate(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        row = bar.add_task("planning", total=None)
        regions = 0

        def listen(event: Event) -> None:
            nonlocal regions
            match event:
                case Planned(forwards=forwards, tasks=tasks):
                    words = "sampling" if forwards else "measuring"
                    bar.update(row, description=words, total=forwards or tasks)
                case Advanced(forwards=forwards, t=t) if forwards:
                    bar.update(row, advance=forwards, description=f"sampling, t = {t}")
                case Asked(stage=stage, forwards=forwards, t=t):
                    bar.update(row, advance=forwards, description=f"{stage}, t = {t}")
                case Noticed() | Quarantined():
                    bar.console.print(_said(event), style="yellow", highlight=False)
                case Committed():
                    regions += 1
                case TaskDone(index=index, tasks=tasks):
                    bar.update(row, description=f"batch {index} of {tasks} done, {regions} regions stored")
                case _:
                    pass

        yield heeding(listen)


class _Log:
    """A line of progress every half minute, for the log of a batch job."""

    def __init__(self) -> None:
        self.total = self.done = self.regions = 0
        self.began = self.said = perf_counter()

    def __call__(self, event: Event) -> None:
        """Take note, and speak if it has been long enough."""
        match event:
            case Planned(forwards=forwards):
                self.total, self.began = forwards, perf_counter()
            case Advanced(forwards=forwards) | Asked(forwards=forwards):
                self.done += forwards
            case Noticed() | Quarantined():
                print(_said(event), file=sys.stderr, flush=True)
            case Committed():
                self.regions += 1
            case _:
                pass
        now = perf_counter()
        if now - self.said >= EVERY and self.done:
            self.said = now
            rate = self.done / (now - self.began)
            print(
                f"{self.done:,} of {self.total:,} forwards, {rate:,.0f}/s, {self.regions:,} regions stored, "
                f"{max(0, self.total - self.done) / rate:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )


def _said(event: Noticed | Quarantined) -> str:
    if isinstance(event, Quarantined):
        return f"task {event.number} is set aside: {event.told}"
    return f"note: {event.text}"


def _ignore(event: Event) -> None:
    """Say nothing."""
