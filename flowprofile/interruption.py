"""Ctrl-C and SIGTERM, so that neither is ever lost.

Python swallows an exception that is raised while an object is being finalised, a KeyboardInterrupt too: a run would go
on as if nobody had asked it to stop. So the wish is remembered, and whoever listens to a run looks at it.
"""

from collections.abc import Callable
from typing import NoReturn, TypeVar

Event = TypeVar("Event")

_asked = False


def interrupt(signum: int, frame: object) -> NoReturn:
    """The handler of both signals."""
    global _asked
    _asked = True
    raise KeyboardInterrupt


def forget() -> None:
    """A new command begins."""
    global _asked
    _asked = False


def heeding(listen: Callable[[Event], None]) -> Callable[[Event], None]:
    """The listener, which stops a run that was asked to stop and did not."""

    def heard(event: Event) -> None:
        if _asked:
            raise KeyboardInterrupt
        listen(event)

    return heard
