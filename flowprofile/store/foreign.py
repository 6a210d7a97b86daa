"""Everything else fsspec reaches.

What is weaker there is said: an object is written beside its place and moved into it, which is atomic only where the
server's rename is; nobody can be kept out by a lock that outlives a lost connection, so whoever plans leaves a mark
that a person must remove after a crash, and regions that share objects may be written by one process only.
"""

import posixpath
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flowprofile.errors import StoreError
from flowprofile.store.places import EMBRYO, TEMPORARY, checked

if TYPE_CHECKING:
    from flowprofile.store.places import Claim

FOREIGN: Final = ("sftp", "hdfs", "webhdfs", "smb")
"""Schemes that go through fsspec."""
_TURN = threading.Lock()


class ForeignPlace:
    """A folder that fsspec reaches."""

    near = False

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self.options = dict(options or {})
        if urlsplit(self.url).password:
            raise StoreError(
                "The address of a store may not hold a password.",
                consequence="Addresses are printed, logged and sent to workers.",
                remedy="use a key, an agent, or the environment of the provider",
            )
        self._opened: tuple[Any, str] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return ForeignPlace, (self.url, self.options)

    def __repr__(self) -> str:
        return f"ForeignPlace({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForeignPlace) and (other.url, other.options) == (self.url, self.options)

    def __hash__(self) -> int:
        return hash(self.url)

    def _files(self) -> tuple[Any, str]:
        if self._opened is None:
            import fsspec

            try:
                self._opened = fsspec.core.url_to_fs(self.url, **self.options)
            except (ImportError, ValueError, OSError) as error:
                raise StoreError(
                    f"{self.url!r} cannot be reached.",
                    consequence="Nothing of it is read or written.",
                    remedy="install what fsspec asks for, and look at the address",
                    evidence=f"{type(error).__name__}: {error}",
                ) from error
        return self._opened

    def _path(self, key: str) -> tuple[Any, str]:
        files, root = self._files()
        return files, f"{root}/{checked(key)}"

    def exists(self) -> bool:
        return any(key.removeprefix("ledger/").partition("/")[0] not in EMBRYO for key in self._find(""))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        files, path = self._path(key)
        try:
            data: bytes = files.cat_file(path, start=start or None, end=stop)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        return data

    def size(self, key: str) -> int | None:
        files, path = self._path(key)
        try:
            return int(files.size(path))
        except (FileNotFoundError, NotADirectoryError, TypeError):
            return None

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        files, path = self._path(key)
        _, temporary = self._path(f"{TEMPORARY}/{uuid.uuid4().hex}")
        for folder in {posixpath.dirname(path), posixpath.dirname(temporary)}:
            files.makedirs(folder, exist_ok=True)
        files.pipe_file(temporary, data)
        files.mv(temporary, path)

    def delete(self, key: str) -> None:
        files, path = self._path(key)
        try:
            files.rm_file(path)
        except FileNotFoundError:
            return

    def list(self, prefix: str) -> Iterator[str]:
        yield from self._find(f"{checked(prefix)}/")

    def _find(self, prefix: str) -> Sequence[str]:
        files, root = self._files()
        try:
            found = files.find(f"{root}/{prefix}".rstrip("/"))
        except FileNotFoundError:
            return []
        return sorted(name.split(f"{root.strip('/')}/", 1)[1] for name in found)

    def modified(self, folder: str) -> int | None:
        return None

    def fsync(self, keys: Iterable[str]) -> None:
        for key in keys:
            checked(key)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        with _TURN:
            yield

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        held = self.read(key)
        if held:
            return held + f" (if that process is gone, remove {self.url}/{key})".encode()
        self.write(key, content)
        return _Mark(self, key)

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(
            f"{self.url}/{checked(prefix)}", storage_options=self.options, read_only=True
        )


@dataclass(frozen=True)
class _Mark:
    """A planner's mark."""

    place: ForeignPlace
    key: str

    def release(self) -> None:
        self.place.delete(self.key)

    def held(self) -> None:
        """It is held until it is removed."""
