"""Runs as processes of their own: started, listened to by as many as like, and stopped.

What a run has said is kept from its first line, so that a page which comes later, or again, hears the same.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import flowprofile
from flowprofile.errors import BusyError, StoreError

ENDS: Final = ("done", "stopped", "refused", "failed")
"""Events after which there are no more."""
HEARTBEAT: Final = 15.0
"""Seconds of silence after which a listener is told that nobody has left."""
PATIENCE: Final = 10.0
"""Seconds that a run has to stop in when the server ends."""
LINE: Final = 1 << 20
"""Bytes that one line of a run may have."""
TAIL: Final = 2000
"""Bytes kept of what a run wrote beside its lines; the end of a traceback says why it failed."""


@dataclass(eq=False)
class Job:
    """One run."""

    id: str
    definition: Mapping[str, Any]
    told: Mapping[str, Any]
    """What was said of it before it began: its plan, and where its results can be seen."""
    process: asyncio.subprocess.Process = field(repr=False)
    began: float = field(default_factory=time.time)
    events: list[dict[str, Any]] = field(default_factory=list)
    stopping: bool = False
    heard: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def ended(self) -> bool:
        """Whether its last event has been said."""
        return bool(self.events) and self.events[-1]["event"] in ENDS

    def state(self) -> dict[str, Any]:
        """All about it in plain values, but for the single events."""
        latest = {event["event"]: event for event in self.events}
        end = self.events[-1] if self.ended else None
        return {
            "id": self.id,
            "state": end["event"] if end is not None else "stopping" if self.stopping else "running",
            "began": self.began,
            "definition": self.definition,
            **self.told,
            "planned": latest.get("planned"),
            "progress": latest.get("progress"),
            "end": end,
        }

    def add(self, event: dict[str, Any]) -> None:
        """Note an event and wake everybody who listens."""
        self.events.append(event)
        heard, self.heard = self.heard, asyncio.Event()
        heard.set()

    async def follow(self, first: int = 0) -> AsyncIterator[tuple[int, dict[str, Any]] | None]:
        """Every event from the `first` on with its number, as it is said, to the end; None after a long silence."""
        number = first
        while True:
            while number < len(self.events):
                yield number, self.events[number]
                number += 1
            if self.ended:
                return
            try:
                await asyncio.wait_for(self.heard.wait(), HEARTBEAT)
            except TimeoutError:
                yield None

    def stop(self) -> None:
        """Ask it to stop; it ends cleanly, and what it has committed stays."""
        if not self.ended and not self.stopping and self.process.returncode is None:
            self.stopping = True
            self.process.terminate()


class Jobs:
    """The runs of one store since the server started, one at a time; lives in the server's event loop."""

    def __init__(self, url: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.storage_options = dict(storage_options or {})
        self.all: dict[str, Job] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    @property
    def running(self) -> Job | None:
        """The one that is not at its end."""
        return next((job for job in self.all.values() if not job.ended), None)

    async def start(self, definition: Mapping[str, Any], told: Mapping[str, Any]) -> Job:
        """Run a definition in a process of its own.

        Raises
        ------
        BusyError
            While another one runs: a store has one planner.
        StoreError
            For a store in memory, which no other process sees.
        """
        if self.url.startswith("memory://"):
            raise StoreError(
                f"{self.url!r} is in the memory of this process.",
                consequence="A run is a process of its own and would not see it.",
                remedy="open a store in a folder or a bucket",
            )
        async with self._starting:
            if self.running is not None:
                raise BusyError(
                    f"Run {self.running.id} of this store is not at its end.",
                    consequence="A store has one planner at a time; nothing was started.",
                    remedy="wait for it or cancel it; what it has stored by then is kept",
                )
            job = Job(str(len(self.all) + 1), definition, told, await _begun(self._order(definition)))
            self.all[job.id] = job
        reading = asyncio.create_task(listen(job))
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return job

    def _order(self, definition: Mapping[str, Any]) -> bytes:
        order = {"into": self.url, "storage_options": self.storage_options, "definition": definition}
        return json.dumps(order).encode() + b"\n"

    async def close(self) -> None:
        """Stop what runs, and wait until it has; nothing that was committed is lost."""
        for job in self.all.values():
            job.stop()
        if not self._reading:
            return
        _, left = await asyncio.wait(self._reading, timeout=PATIENCE)
        for job in self.all.values():
            if left and job.process.returncode is None:
                job.process.kill()
        await asyncio.gather(*left)


async def _begun(order: bytes) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    here = str(Path(flowprofile.__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    # -P: a file of the working folder must not be imported in place of a library.
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "flowprofile.app.child",
        stdin=pipe, stdout=pipe, stderr=pipe, limit=LINE, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(order)
    await process.stdin.drain()
    return process


async def listen(job: Job) -> None:
    """Note what a run says until it has ended, and how it ended if it could not say so itself."""
    beside = asyncio.create_task(_tail(job.process))
    assert job.process.stdout is not None
    broken = ""
    try:
        async for line in job.process.stdout:
            job.add(_event(line))
    except ValueError as error:  # no JSON, or a line that does not end
        broken = str(error)
        if job.process.returncode is None:
            job.process.kill()  # what it committed is safe, and what it says can no longer be trusted
        while await job.process.stdout.read(LINE):  # a pipe that is not read to its end is never closed
            pass
    code = await job.process.wait()
    evidence = "\n".join(filter(None, [broken, (await beside).decode(errors="replace").strip()]))
    if not job.ended:
        job.add({
            "event": "failed",
            "fact": "The run said something that is no event, and was ended." if broken
            else f"The run ended with exit code {code} and without a word.",
            "consequence": "What it had committed by then is stored.",
            "remedy": "start it again: only what is missing is computed",
            "evidence": evidence,
        })  # fmt: skip


def _event(line: bytes) -> dict[str, Any]:
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError(f"{line[:200]!r} is no event")
    return event


async def _tail(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    kept = b""
    while chunk := await process.stderr.read(4096):
        kept = (kept + chunk)[-TAIL:]
    return kept
