"""What workers of a comparison may do with a stretch of seeds; importable where they are."""

import os
import signal

from flowprofile.comparing.tallying import Forests
from flowprofile.errors import DefinitionError
from flowprofile.measures.base import Forest


def leaf(part):
    return Forests(value=Forest.of([float(seed) ** 1.5 for seed in part], part))


def once_lost(marker, part):
    """Dies on the first attempt at a stretch."""
    if not (marker / str(part[0])).exists():
        (marker / str(part[0])).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return leaf(part)


def refused(part):
    raise DefinitionError("Refused here.", remedy="ask otherwise")


def always_lost(part):
    raise OSError("gone")


class Unread:
    """Can be sent, and cannot be read where it was asked for."""

    def __init__(self, asking):
        self.asking = asking

    def __reduce__(self):
        return _read, (self.asking,)


def _read(asking):
    if os.getpid() == asking:
        raise ValueError("lost on its way")
    return Unread(asking)


def unread(asking, part):
    return Unread(asking)


class UnreadOrder:
    """An order whose work is refused in words that nobody can read."""

    key = "unread"

    def __init__(self, asking):
        self.asking = asking

    def open(self):
        return self

    def __call__(self, numbers, listen, *, again):
        raise UnreadRefusal(self.asking)


class UnreadRefusal(DefinitionError):
    """Gets lost on its way."""

    def __init__(self, asking):
        super().__init__("Refused.")
        self.asking = asking

    def __reduce__(self):
        return _read, (self.asking,)
