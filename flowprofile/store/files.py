"""What a folder's place asks of the system: files written and read whole, folders walked and forced to disk."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def discard(temporary: str) -> None:
    """Remove what could not be finished; where the disk refuses that too, it is debris that `gc` removes."""
    with suppress(OSError):
        os.unlink(temporary)  # noqa: PTH108 - half the cost of Path.unlink


def name_in(error: BaseException, path: str) -> None:
    """Name the file in an error: the system does not, where it was given the number of an open one."""
    if isinstance(error, OSError) and error.filename is None:
        error.filename = path


def listed(folder: Path) -> set[str]:
    """Names in a folder; none where it is not there."""
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def read_all(handle: int, count: int | None) -> bytes:
    """So many bytes from where an open file is, or all there are."""
    remaining = os.fstat(handle).st_size if count is None else count
    data = os.read(handle, remaining)
    if len(data) == remaining:
        return data
    pieces = [data]
    while pieces[-1] and sum(map(len, pieces)) < remaining:
        pieces.append(os.read(handle, remaining - sum(map(len, pieces))))
    return b"".join(pieces)


def write_all(handle: int, data: bytes) -> None:
    """All of the bytes; a disk that is nearly full takes some of them and says so only by their number."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def walk(folder: str, prefix: str) -> Iterator[str]:
    """Files below a folder behind a prefix, sorted within each folder."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, is_folder in found:
        if is_folder:
            yield from walk(f"{folder}/{name}", f"{prefix}/{name}")
        else:
            yield f"{prefix}/{name}"


def fsync_folder(folder: Path) -> None:
    """Force the names in a folder to disk."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, PermissionError):
        return  # a parent above the store that we may not open was not made by us
    try:
        os.fsync(handle)
    except OSError as error:
        name_in(error, str(folder))
        raise
    finally:
        os.close(handle)
