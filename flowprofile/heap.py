"""How this process's allocator treats memory that is freed."""

import ctypes
from typing import Final

_MMAP_THRESHOLD: Final = -3
_TRIM_THRESHOLD: Final = -1
"""Numbers of glibc's malloc.h."""


def keep_heap() -> None:
    """Let glibc keep freed memory instead of giving every large array back to the system at once.

    A network's forward takes a fifth less time. Dask starts its workers with the opposite setting, under which
    numpy's passes over large arrays take more than twice as long; a call to `mallopt` overrules it.
    """
    try:
        tune = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    for name, value in ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 2**31 - 1)):
        tune(name, value)
