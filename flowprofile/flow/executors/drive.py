"""Driving workers through a plan: a sliding window, second chances, and quarantine.

A worker may be lost at any moment (preempted, out of memory, unplugged): its tasks are given to another, which
finds in the store what the first had finished. A task that is refused, or that loses one worker after the other, is
set aside and named, and everybody else's tasks are carried out all the same.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from flowprofile.flow.events import Listen, Quarantined, TaskDone
from flowprofile.flow.executors.orders import Done, Executor, Failed, Order

AHEAD: Final = 2
"""Groups handed out per worker: one it works at, one it finds when it is done."""
CHANCES: Final = 4
"""How often a task may lose its worker or end in an error of the system."""
LEAST: Final = 2.0
"""Seconds a group of tasks should take, so that handing it over costs nothing beside it."""
RECENT: Final = 32


@dataclass
class _Window:
    """What is waiting, what is out, and how long tasks take."""

    waiting: deque[tuple[int, ...]]
    again: dict[int, int] = field(default_factory=dict)
    """How often a task has failed."""
    out: set[tuple[int, ...]] = field(default_factory=set)
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    """Of one task, lately."""

    def group(self, workers: int) -> tuple[int, ...]:
        """The next tasks to hand out together; one that failed goes alone, and nobody waits for the last group."""
        first = self.waiting.popleft()
        if first[0] in self.again or not self.seconds:
            return first
        fair = max(1, len(self.waiting) // (4 * workers))
        wanted = min(fair, max(1, round(LEAST / max(1e-3, median(self.seconds)))))
        found = [first]
        while len(found) < wanted and self.waiting and self.waiting[0][0] not in self.again:
            found.append(self.waiting.popleft())
        return tuple(number for each in found for number in each)


def drive(executor: Executor, order: Order, numbers: Sequence[int], listen: Listen) -> list[Failed]:
    """Have the tasks carried out; returns those that could not be.

    The executor is closed, whatever happens.
    """
    lost: list[Failed] = []
    done = 0
    try:
        executor.start(order)
        window = _Window(deque((number,) for number in numbers))
        while window.waiting or window.out:
            while window.waiting and len(window.out) < max(1, executor.workers) * AHEAD:
                group = window.group(max(1, executor.workers))
                window.out.add(group)
                executor.submit(group, again=group[0] in window.again)
            for result in executor.results():
                window.out.discard(result.numbers)
                if isinstance(result, Done):
                    window.seconds.append(result.seconds / len(result.numbers))
                    for event in (*result.told, *result.committed):
                        listen(event)
                    done += len(result.numbers)
                    listen(TaskDone(done, len(numbers)))
                    continue
                for failed in _second_chances(window, result):
                    lost.append(failed)
                    listen(Quarantined(failed.numbers[0], failed.told))
    finally:
        executor.close()
    return lost


def _second_chances(window: _Window, failed: Failed) -> list[Failed]:
    """Put the tasks of a failed group back, each on its own; those that have had their chances are set aside."""
    aside = []
    for number in failed.numbers:
        window.again[number] = window.again.get(number, 0) + 1
        alone = len(failed.numbers) == 1
        refused = failed.error is not None and failed.error.final
        if alone and (refused or window.again[number] >= CHANCES):
            aside.append(Failed((number,), failed.error, failed.told))
        else:
            window.waiting.append((number,))
    return aside
