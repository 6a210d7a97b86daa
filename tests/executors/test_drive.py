"""The window over workers, on workers that are made up: every task is done once or named, whatever they do."""

from contextlib import suppress
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError, StoreError
from flowprofile.flow.events import Quarantined, TaskDone
from flowprofile.flow.executors.drive import AHEAD, CHANCES, drive
from flowprofile.flow.executors.orders import Done, Failed


@dataclass
class Scripted:
    """Workers whose tasks fail as often as the script says."""

    script: dict[int, tuple[int, bool]]
    """Task to how often it fails, and whether it is refused for good."""
    workers: int = 2
    here: bool = True
    beside: int = 0
    seconds: float = 0.1
    done: list[int] = field(default_factory=list)
    asked: list[tuple[tuple[int, ...], bool]] = field(default_factory=list)
    waiting: list[tuple[int, ...]] = field(default_factory=list)
    most: int = 0
    closed: bool = False
    failures: dict[int, int] = field(default_factory=dict)

    def start(self, order):
        """Nothing to do."""

    def submit(self, numbers, *, again):
        self.asked.append((numbers, again))
        self.waiting.append(numbers)
        self.most = max(self.most, len(self.waiting))

    def results(self):
        numbers = self.waiting.pop()
        for number in numbers:
            times, final = self.script.get(number, (0, False))
            if self.failures.get(number, 0) < times:
                self.failures[number] = self.failures.get(number, 0) + 1
                error = DefinitionError("refused") if final else None
                return [Failed(numbers, error, f"{number} failed")]
        self.done += numbers
        return [Done(numbers, self.seconds * len(numbers), (), ())]

    def close(self):
        self.closed = True


SCRIPTS = st.dictionaries(st.integers(0, 40), st.tuples(st.integers(0, CHANCES + 1), st.booleans()))


@given(SCRIPTS, st.integers(1, 5), st.sampled_from([0.001, 0.5, 3.0]))
def test_every_task_is_done_once_or_set_aside(script, workers, seconds):
    executor, events = Scripted(script, workers=workers, seconds=seconds), []
    lost = drive(executor, None, range(41), events.append)
    hopeless = {n for n, (times, final) in script.items() if times and (final or times >= CHANCES)}
    assert sorted([*executor.done, *(each.numbers[0] for each in lost)]) == list(range(41))
    assert len(lost) == sum(isinstance(event, Quarantined) for event in events)
    # A task that is refused in company gets another chance alone, and may then do better than its script says.
    assert {each.numbers[0] for each in lost} <= hopeless
    assert {n for n in hopeless if script[n][0] > CHANCES} <= {each.numbers[0] for each in lost}
    assert executor.most <= workers * AHEAD
    assert executor.closed
    assert sum(isinstance(event, TaskDone) for event in events) <= 41


def test_short_tasks_are_handed_over_together_and_long_ones_alone():
    short, long = Scripted({}, seconds=0.01), Scripted({}, seconds=3.0)
    for executor in (short, long):
        drive(executor, None, range(400), lambda event: None)
    assert max(len(numbers) for numbers, _ in short.asked) > 20
    assert max(len(numbers) for numbers, _ in long.asked) == 1
    assert len(short.asked[-1][0]) == 1  # nobody waits for the last group


def test_who_comes_after_a_lost_worker_is_told():
    executor = Scripted({3: (1, False)})
    drive(executor, None, range(6), lambda event: None)
    assert [(numbers, again) for numbers, again in executor.asked if again] == [((3,), True)]


def test_workers_are_let_go_whatever_happens():
    executor = Scripted({})
    executor.submit = lambda numbers, *, again: (_ for _ in ()).throw(StoreError("gone"))
    with suppress(StoreError):
        drive(executor, None, range(3), lambda event: None)
    assert executor.closed
