"""The verbs of a place, over a local folder and over a dictionary.

A write is whole or it did not happen: locally a temporary file is renamed into place, and the temporary files live
in `ledger/tmp`, so that a kill never leaves anything between the arrays. Keys are resolved here, once, under the
root; nothing above can reach outside.
"""

import fcntl
import os
import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flowprofile.errors import StoreError
from flowprofile.store.files import discard, fsync_folder, listed, name_in, read_all, walk, write_all
from flowprofile.store.links import opened, within

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

TEMPORARY = "ledger/tmp"
EMBRYO = {"tmp", "planner.lock"}
"""All that a ledger holds before the first object of a store is written."""


class Place(Protocol):
    """What a store needs of wherever it lives."""

    @property
    def url(self) -> str:
        """The address, as a user would write it."""
        ...

    @property
    def near(self) -> bool:
        """Whether a read costs microseconds, and no money."""
        ...

    def exists(self) -> bool:
        """Whether anything is there besides what a writer leaves that dies before its first object."""
        ...

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        """The bytes of an object or of a range of it (shorter where it ends earlier); None where there is none."""
        ...

    def size(self, key: str) -> int | None:
        """The size of an object, None where there is none."""
        ...

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        """Put a whole object, atomically; `durable` forces its bytes to disk before it becomes visible."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Put a whole object where there is none: whether it was put, by this very call. It never replaces one."""
        ...

    def sure(self) -> None:
        """Nothing, if the lock this thread works under (its own, else the planner's) is held still; asked, not reckoned.

        It comes before whatever writes over what somebody else may have written meanwhile.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object if it is there."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of all objects below a prefix, sorted within each folder."""
        ...

    def modified(self, folder: str) -> tuple[int, int] | None:
        """When a folder or file last changed, in ns: its own time, which a copy may set back, and the file system's.

        None where it is not there, or there is no such thing as a folder.
        """
        ...

    def fsync(self, keys: Iterable[str]) -> None:
        """Force the names of these objects to disk: the folders they are in, and the names of all of these."""
        ...

    def lock(self, key: str) -> "AbstractContextManager[None]":
        """Hold a lock by name against every thread and process; waits."""
        ...

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        """Take a lock that lasts, or get the content its holder left."""
        ...

    def zarr(self, prefix: str = "profile.zarr") -> object:
        """A zarr-python store over the same bytes, unsealed, for other readers."""
        ...


class Claim(Protocol):
    """A lock that is held until it is released."""

    def release(self) -> None:
        """Give it back."""
        ...

    def held(self) -> None:
        """Nothing, if it is still held; a `BusyError` if somebody else has taken it over meanwhile."""
        ...


def checked(key: str) -> str:
    """The key itself, if it stays under the root."""
    parts = key.split("/")
    if not key or "\0" in key or "\\" in key or any(part in ("", ".", "..") for part in parts):
        raise StoreError(
            f"{key!r} is not a key of a store.",
            consequence="It would be resolved outside the store's folder.",
            remedy="use plain relative names without '..', empty parts, backslashes or NUL",
        )
    return key


class LocalPlace:
    """A folder."""

    near = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self._linked: set[Path] = set()
        """Folders whose own name is known to be on disk."""
        self._inside: set[str] = set()
        """Folders that are known to be no link out of the store."""

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.root,)

    def __repr__(self) -> str:
        return f"LocalPlace({str(self.root)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalPlace) and other.root == self.root

    def __hash__(self) -> int:
        return hash(self.root)

    @property
    def url(self) -> str:
        return str(self.root)

    def exists(self) -> bool:
        if not self.root.is_dir():
            return False
        names = {entry.name for entry in self.root.iterdir()}
        return bool(names - {"ledger"}) or bool(listed(self.root / "ledger") - EMBRYO)

    def _path(self, key: str) -> str:
        folder = checked(key).rpartition("/")[0]
        if folder not in self._inside:
            within(self.root, f"{self.root}/{folder}")
            self._inside.add(folder)
        return f"{self.root}/{key}"

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        try:
            handle = opened(self.root, self._path(key))
            try:
                if start:
                    os.lseek(handle, start, os.SEEK_SET)
                return read_all(handle, None if stop is None else stop - start)
            finally:
                os.close(handle)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            name_in(error, self._path(key))
            raise

    def size(self, key: str) -> int | None:
        try:
            return os.stat(self._path(key)).st_size  # noqa: PTH116 - half the cost of Path.stat
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        target = self._path(key)
        temporary = self._temporary(data, durable=durable)
        try:
            try:
                os.replace(temporary, target)  # noqa: PTH105 - half the cost of Path.replace
            except FileNotFoundError:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(temporary).replace(target)
        except BaseException:
            discard(temporary)
            raise

    def create(self, key: str, data: bytes) -> bool:
        target = Path(self._path(key))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(self._temporary(data, durable=True))
        try:
            target.hardlink_to(temporary)  # a rename would replace what is there
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        return True

    def _temporary(self, data: bytes, *, durable: bool) -> str:
        """A new file with these bytes, outside of what anybody reads."""
        temporary = self._path(f"{TEMPORARY}/{os.getpid()}-{uuid.uuid4().hex}")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:
            Path(temporary).parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(handle, data)
            if durable:
                os.fsync(handle)
        except BaseException as error:
            os.close(handle)
            discard(temporary)
            name_in(error, temporary)
            raise
        os.close(handle)
        return temporary

    def sure(self) -> None:
        """A lock of a file lasts as long as its process."""

    def delete(self, key: str) -> None:
        Path(self._path(key)).unlink(missing_ok=True)

    def list(self, prefix: str) -> Iterator[str]:
        yield from walk(within(self.root, self._path(prefix)), prefix)

    def modified(self, folder: str) -> tuple[int, int] | None:
        try:
            seen = os.stat(self._path(folder))  # noqa: PTH116 - half the cost of Path.stat
            return seen.st_mtime_ns, seen.st_ctime_ns
        except (FileNotFoundError, NotADirectoryError):
            return None

    def fsync(self, keys: Iterable[str]) -> None:
        folders = {(self.root / checked(key)).parent for key in keys}
        for folder in folders:
            fsync_folder(folder)
        for folder in folders:
            self._link(folder)

    def _link(self, folder: Path) -> None:
        """Force a folder's own name to disk, and those of all above it, since a new store may lie in new folders.

        Once, since we never remove one.
        """
        while folder not in self._linked and folder != folder.parent:
            try:
                fsync_folder(folder.parent)
            except OSError:
                if folder not in self.root.parents:
                    raise
                # High above the store another file system may begin, one that cannot do it.
            self._linked.add(folder)
            folder = folder.parent

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        handle = self._open_lock(key)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        handle = self._open_lock(key)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            seen = os.pread(handle, 65536, 0)
            os.close(handle)
            return seen
        try:
            os.ftruncate(handle, 0)
            os.pwrite(handle, content, 0)
        except BaseException as error:
            os.close(handle)  # or this process would hold the lock, and refuse itself the next time
            name_in(error, self._path(key))
            raise
        return _FileClaim(handle)

    def _open_lock(self, key: str) -> int:
        path = Path(within(self.root, self._path(key)))
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from zarr.storage import LocalStore

        return LocalStore(self.root / checked(prefix), read_only=True)


class _FileClaim:
    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        with suppress(OSError):  # a name left behind misleads nobody: it is read only while the lock is held
            os.ftruncate(self._handle, 0)
        os.close(self._handle)

    def held(self) -> None:
        """A file's lock lasts as long as its process."""


_OBJECTS: dict[str, dict[str, bytes]] = {}
_LOCKS: dict[tuple[str, str], threading.Lock] = {}
_HOLDERS: dict[tuple[str, str], bytes] = {}
_GUARD = threading.Lock()


class MemoryPlace:
    """A dictionary of this process, shared by everyone who says its name."""

    near = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._objects = _OBJECTS.setdefault(name, {})

    def __repr__(self) -> str:
        return f"MemoryPlace({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryPlace) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[object, ...]:
        return MemoryPlace, (self.name,)

    @property
    def url(self) -> str:
        return f"memory://{self.name}"

    def exists(self) -> bool:
        return bool(self._objects)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        data = self._objects.get(checked(key))
        return data if data is None or (not start and stop is None) else data[start:stop]

    def size(self, key: str) -> int | None:
        data = self._objects.get(checked(key))
        return None if data is None else len(data)

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        self._objects[checked(key)] = bytes(data)

    def create(self, key: str, data: bytes) -> bool:
        with _GUARD:
            if checked(key) in self._objects:
                return False
            self._objects[key] = bytes(data)
            return True

    def sure(self) -> None:
        """A lock of a dictionary lasts as long as its process."""

    def delete(self, key: str) -> None:
        self._objects.pop(checked(key), None)

    def list(self, prefix: str) -> Iterator[str]:
        start = checked(prefix) + "/"
        yield from sorted(key for key in tuple(self._objects) if key.startswith(start))

    def modified(self, folder: str) -> tuple[int, int] | None:
        return None

    def fsync(self, keys: Iterable[str]) -> None:
        for key in keys:
            checked(key)

    def forget(self) -> None:
        """Let everything go that is here; the next to say its name finds it empty."""
        _OBJECTS.pop(self.name, None)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        with _GUARD:
            lock = _LOCKS.setdefault((self.name, key), threading.Lock())
        with lock:
            yield

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        with _GUARD:
            if (self.name, key) in _HOLDERS:
                return _HOLDERS[self.name, key]
            _HOLDERS[self.name, key] = content
        return _MemoryClaim((self.name, key))

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from zarr.core.buffer import default_buffer_prototype
        from zarr.storage import MemoryStore

        wrap = default_buffer_prototype().buffer.from_bytes
        start = checked(prefix) + "/"
        return MemoryStore(
            {key.removeprefix(start): wrap(self._objects[key]) for key in self.list(prefix)}, read_only=True
        )


class _MemoryClaim:
    def __init__(self, name: tuple[str, str]) -> None:
        self._name = name

    def release(self) -> None:
        with _GUARD:
            _HOLDERS.pop(self._name, None)

    def held(self) -> None:
        """It is held until it is released."""
