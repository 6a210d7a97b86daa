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
