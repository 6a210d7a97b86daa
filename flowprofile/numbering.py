"""The number of a process among those that share a machine: by it a process takes one of the machine's devices.

It is kept in the environment, so that whoever begins processes in another way (two parts of a job array on one node)
can say it too.
"""

import os
from typing import Final

VARIABLE: Final = "FLOWPROFILE_DEVICE_NUMBER"


def one_of_several(number: int) -> None:
    """Tell this process its number, from 0."""
    os.environ[VARIABLE] = str(number)


def number() -> int:
    """This process's number; 0 where nobody said one, or what was said is none."""
    told = os.environ.get(VARIABLE, "0")
    return int(told) if told.isdecimal() else 0
