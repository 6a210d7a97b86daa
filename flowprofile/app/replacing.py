"""A folder that is made beside its place and put there when it is whole.

An export takes a minute, and may be killed within it. The kernel gives up what a dead process has locked, so that
the next export into the same place can tell what was left behind from what another is writing at this moment.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

LOCK: Final = "lock"
NEW: Final = "new"
OLD: Final = "old"
RANDOM: Final = "[a-z0-9_]{8}"
"""What `tempfile` puts behind a prefix."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A new folder, which has the target's name when the block ends well; an earlier one goes only then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear(target)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
        scratch = Path(name)
        folder = scratch / NEW
        with (scratch / LOCK).open("w") as lock:
            _locked(lock)
            folder.mkdir()
            yield folder
            if target.exists():
                target.rename(scratch / OLD)
            folder.rename(target)


def _clear(target: Path) -> None:
    """Remove what killed exports of this target left; one that was killed between two names gives the old one back."""
    ours = re.compile(rf"\.{re.escape(target.name)}-{RANDOM}")
    for scratch in [path for path in target.parent.iterdir() if ours.fullmatch(path.name)]:
        if not _abandoned(scratch):
            continue
        if (scratch / OLD).is_dir() and not target.exists():
            (scratch / OLD).rename(target)
        shutil.rmtree(scratch, ignore_errors=True)


def _abandoned(scratch: Path) -> bool:
    """Whether a folder is of an export that runs no more, and of nothing else."""
    if not (scratch / LOCK).is_file() or {path.name for path in scratch.iterdir()} - {LOCK, NEW, OLD}:
        return False
    with (scratch / LOCK).open("r+") as lock:
        return _locked(lock)


def _locked(lock: IO[str]) -> bool:
    """Hold a file as long as this process has it open; whether nobody else does. Without such locks nobody knows."""
    if os.name != "posix":
        return False
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
