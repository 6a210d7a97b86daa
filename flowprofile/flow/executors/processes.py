"""Processes beside this one, each with one model and one thread.

A worker that dies is replaced; one whose coordinator dies ends itself within a second.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Final

from flowprofile.flow.executors.orders import Failed, Order, Result, carried_out
from flowprofile.numbering import one_of_several

WATCH: Final = 1.0
"""Seconds between two looks at whether the coordinator is still there."""


@dataclass
class _Worker:
    """One process, and what it was given."""

    process: SpawnProcess
    line: Connection
    given: tuple[int, ...] | None = None


@dataclass
class Processes:
    """As many processes as asked for, on this machine."""

    workers: int
    here: bool = True
    beside: int = 0
    _order: Order | None = None
    _pool: list[_Worker] = field(default_factory=list)
    _queue: list[tuple[tuple[int, ...], bool]] = field(default_factory=list)

    def start(self, order: Order) -> None:
        """Begin the processes; each opens the order when it gets its first task."""
        self._order = order
        self._pool = [self._begun(number) for number in range(self.workers)]

    def submit(self, numbers: tuple[int, ...], *, again: bool) -> None:
        """Give tasks to whoever is free, or keep them for who will be."""
        self._queue.append((numbers, again))
        self._hand_out()

    def results(self) -> Iterable[Result]:
        """What has come back, waiting for the first; a process that has died is replaced."""
        ready = wait([end for worker in self._pool for end in (worker.line, worker.process.sentinel)])
        for number, worker in enumerate(self._pool):
            if worker.line not in ready and worker.process.sentinel not in ready:
                continue
            result = _received(worker)
            if result is None:
                self._pool[number] = self._begun(number)
                worker.process.join()
                if worker.given is not None:
                    yield Failed(worker.given, None, f"its process ended with {worker.process.exitcode}")
                continue
            worker.given = None
            yield result
        self._hand_out()

    def close(self) -> None:
        """End the processes at once; an interrupted commit is what a killed one would be."""
        for worker in self._pool:
            worker.process.terminate()
        for worker in self._pool:
            worker.process.join(timeout=10)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.line.close()
        self._pool.clear()
        self._queue.clear()

    def pids(self) -> list[int]:
        """The processes, for a test that kills them."""
        return [worker.process.pid for worker in self._pool if worker.process.pid is not None]

    def _begun(self, number: int) -> _Worker:
        context: SpawnContext = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._order, os.getpid(), number), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, mine)

    def _hand_out(self) -> None:
        for worker in self._pool:
            if worker.given is None and self._queue and worker.process.is_alive():
                numbers, again = self._queue[0]
                try:
                    worker.line.send((numbers, again))
                except OSError:  # it died just now; its sentinel says so
                    continue
                worker.given = self._queue.pop(0)[0]


def _received(worker: _Worker) -> Result | None:
    """What a worker sent; None where it is gone."""
    try:
        result: Result | None = worker.line.recv() if worker.line.poll() else None
    except (EOFError, OSError):  # it died; its sentinel says so too
        return None
    return result


def _serve(line: Any, order: Order, coordinator: int, number: int) -> None:
    """A worker's life."""
    one_of_several(number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator decides what an interrupt means
    threading.Thread(target=_end_with, args=(coordinator,), daemon=True).start()
    while True:
        try:
            numbers, again = line.recv()
        except (EOFError, OSError):
            return
        line.send(carried_out(order, numbers, again=again))


def _end_with(coordinator: int) -> None:
    while os.getppid() == coordinator:
        time.sleep(WATCH)
    os._exit(1)
