"""What travels between a coordinator and its workers: an order, numbers of tasks, and what became of them."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol, TypeAlias

from flowprofile.errors import FlowProfileError
from flowprofile.flow.events import Advanced, Asked, Committed, Computed, Event, Listen, Noticed


class Order(Protocol):
    """Everything a worker needs, as plain values that can be sent anywhere."""

    @property
    def key(self) -> str:
        """Orders of one key open the same work."""

    def open(self) -> "Work":
        """Get ready in this process: the definition assembled, the store opened, the model not yet loaded."""


class Work(Protocol):
    """An order that has been opened."""

    def __call__(self, numbers: tuple[int, ...], listen: Listen, *, again: bool) -> None:
        """Carry out whatever the store lacks of these tasks; `again` says that somebody began them before."""


@dataclass(frozen=True)
class Done:
    """What became of some tasks."""

    numbers: tuple[int, ...]
    seconds: float
    committed: tuple[Committed, ...]
    """The regions that exist now and did not before."""
    told: tuple[Event, ...]
    """What else was said, one sum per stage."""


@dataclass(frozen=True)
class Failed:
    """Tasks that were not carried out."""

    numbers: tuple[int, ...]
    error: FlowProfileError | None
    """What was refused; None where the worker was lost."""
    told: str
    """What is known of it."""


Result: TypeAlias = Done | Failed

_opened: dict[str, Work] = {}
_turn = threading.Lock()


def carried_out(order: Order, numbers: tuple[int, ...], *, again: bool) -> Result:
    """Carry tasks out in this process, one call at a time; an order is opened once, and so is its model."""
    heard = Heard()
    began = perf_counter()
    with _turn:
        try:
            if order.key not in _opened:
                _opened.clear()
                _opened[order.key] = order.open()
            _opened[order.key](numbers, heard, again=again)
        except FlowProfileError as error:
            return Failed(numbers, error, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, it is told to the coordinator, by name
            return Failed(numbers, None, f"{type(error).__name__}: {error}")
    return Done(numbers, perf_counter() - began, tuple(heard.committed), tuple(heard.told()))


class Heard:
    """A listener that keeps what a coordinator should know."""

    def __init__(self) -> None:
        self.committed: list[Committed] = []
        self._noticed: list[Noticed] = []
        self._sums: dict[tuple[type, str], Advanced | Asked | Computed] = {}

    def __call__(self, event: Event) -> None:
        """Take note."""
        match event:
            case Committed():
                self.committed.append(event)
            case Noticed():
                self._noticed.append(event)
            case Advanced() | Asked() | Computed():
                before = self._sums.get((type(event), event.stage))
                self._sums[type(event), event.stage] = event if before is None else _sum(before, event)
            case _:
                pass

    def told(self) -> list[Event]:
        """Sums per stage, and notices."""
        return [*self._sums.values(), *self._noticed]


def _sum(one: Advanced | Asked | Computed, other: Advanced | Asked | Computed) -> Advanced | Asked | Computed:
    match one, other:
        case Advanced(), Advanced():
            return replace(
                other,
                steps=one.steps + other.steps,
                seconds=one.seconds + other.seconds,
                forwards=one.forwards + other.forwards,
                padding=one.padding + other.padding,
            )
        case Asked(), Asked():
            return replace(other, forwards=one.forwards + other.forwards, seconds=one.seconds + other.seconds)
        case Computed(), Computed():
            return replace(other, cells=one.cells + other.cells, seconds=one.seconds + other.seconds)
    raise AssertionError((one, other))


Submit: TypeAlias = Callable[[tuple[int, ...], bool], None]


class Executor(Protocol):
    """Workers that are given tasks and hand back results, in any order."""

    @property
    def workers(self) -> int:
        """How many tasks are carried out at once, as far as is known now."""

    @property
    def here(self) -> bool:
        """Whether the workers share this machine's memory."""

    @property
    def beside(self) -> int:
        """Bytes a worker has in memory besides what a plan says of a process."""

    def start(self, order: Order) -> None:
        """Get workers ready.

        Raises
        ------
        FlowProfileError
            If they could not do the work, or not with the same bits.
        """

    def submit(self, numbers: tuple[int, ...], *, again: bool) -> None:
        """Hand tasks over."""

    def results(self) -> Iterable[Result]:
        """Wait for results; those that are there."""

    def close(self) -> None:
        """Let the workers go; what they were doing is left as a kill would leave it."""
