"""Everything else fsspec reaches, and what is weaker there.

An object is written beside its place and moved into it. Where the server renames over what is there (sftp) that is
atomic; elsewhere the old object is removed first, so a reader may miss it for a moment and a crash there loses it,
which `verify` reports and a new run mends. Nothing is forced to disk. A lock is an object that was put where there was
none: it does not end with its process, so what a crash leaves behind has to be removed by a person, and a refusal says
which object that is. What a web server shows is only read, and listed by its own pages.
"""

import posixpath
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from flowprofile.errors import BusyError, FlowProfileError, StoreError
from flowprofile.store.addresses import without_secrets
from flowprofile.store.places import EMBRYO, TEMPORARY, checked

if TYPE_CHECKING:
    from flowprofile.store.places import Claim

READ_ONLY: Final = ("http", "https")
"""Schemes that nothing is written to."""
FOREIGN: Final = ("sftp", "hdfs", "webhdfs", "smb", *READ_ONLY)
"""Schemes that go through fsspec."""
REPLACES: Final = ("sftp", "file")
"""Schemes whose rename replaces what is there; the others' fails."""
PATIENCE: Final = 120.0
"""Seconds somebody waits for a lock that another holds."""
POLL: Final = 0.05


class ForeignPlace:
    """A folder that fsspec reaches."""

    near = False

    def __init__(
        self, url: str, options: Mapping[str, str] | None = None, patience: float = PATIENCE
    ) -> None:
        self.url = url.rstrip("/")
        self.options = dict(options or {})
        self.patience = patience
        without_secrets(self.url, self.options)
        self.scheme = self.url.partition("://")[0]
        self._opened: tuple[Any, str] | None = None
        self._made: set[str] = set()
        """Folders that are known to be there."""
        self._parts = self.scheme not in READ_ONLY
        """Whether the server is known to send parts of objects: a web server may send the whole instead."""

    def __reduce__(self) -> tuple[object, ...]:
        return ForeignPlace, (self.url, self.options, self.patience)

    def __repr__(self) -> str:
        return f"ForeignPlace({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForeignPlace) and (other.url, other.options) == (self.url, self.options)

    def __hash__(self) -> int:
        return hash(self.url)

    def exists(self) -> bool:
        return any(key.removeprefix("ledger/").partition("/")[0] not in EMBRYO for key in self._find(""))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        with self._told(key):
            files, path = self._path(key)
            try:
                if not start and stop is None:
                    return bytes(files.cat_file(path))
                return self._part(files, path, start, stop)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None

    def size(self, key: str) -> int | None:
        with self._told(key):
            files, path = self._path(key)
            try:
                return int(files.size(path))
            except (FileNotFoundError, NotADirectoryError, TypeError):
                return None

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        with self._told(key):
            files, path = self._path(key)
            temporary = self._temporary(files, path, data)
            if self.scheme not in REPLACES and files.exists(path):
                files.rm_file(path)
            files.mv(temporary, path)

    def create(self, key: str, data: bytes) -> bool:
        with self._told(key):
            files, path = self._path(key)
            temporary = self._temporary(files, path, data)
            try:
                _move_new(files, self.scheme, temporary, path)
            except OSError:
                if not files.exists(path):
                    raise
            # Some servers say nothing when they refuse to rename; the object that did not move tells.
            moved = not files.exists(temporary)
            if not moved:
                files.rm_file(temporary)
            return moved

    def sure(self) -> None:
        """A lock is a file that stays until it is removed."""

    def delete(self, key: str) -> None:
        with self._told(key):
            self._writable()
            files, path = self._path(key)
            try:
                files.rm_file(path)
            except FileNotFoundError:
                return

    def list(self, prefix: str) -> Iterator[str]:
        yield from self._find(f"{checked(prefix)}/")

    def modified(self, folder: str) -> tuple[int, int] | None:
        return None

    def fsync(self, keys: Iterable[str]) -> None:
        for key in keys:
            checked(key)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        until = time.monotonic() + self.patience
        while isinstance(claim := self.claim(key, uuid.uuid4().hex.encode()), bytes):
            if time.monotonic() > until:
                raise BusyError(
                    f"{key!r} in {self.url} has been held by another process for {self.patience:.0f} s.",
                    consequence="Two processes would write the same object.",
                    remedy=f"wait for it to end; if no process of yours works there, remove {self.url}/{key}",
                )
            time.sleep(POLL)
        try:
            yield
        finally:
            claim.release()

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        if self.create(key, content):
            return _Mark(self, key)
        held = self.read(key) or b"somebody"
        return held + f" (if that process is gone, remove {self.url}/{key})".encode()

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(
            f"{self.url}/{checked(prefix)}", storage_options=self.options, read_only=True
        )

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
        return files, f"{root.rstrip('/')}/{checked(key)}"

    def _part(self, files: Any, path: str, start: int, stop: int | None) -> bytes:
        if not self._parts and (files.size(path) or 0) > 1:
            self._parts = len(files.cat_file(path, start=0, end=1)) == 1
        if not self._parts:
            return bytes(files.cat_file(path)[start:stop])
        try:
            return bytes(files.cat_file(path, start=start, end=stop))
        except Exception as error:
            if getattr(error, "status", None) == 416:
                return b""
            raise

    def _temporary(self, files: Any, path: str, data: bytes) -> str:
        self._writable()
        _, temporary = self._path(f"{TEMPORARY}/{uuid.uuid4().hex}")
        for folder in {posixpath.dirname(path), posixpath.dirname(temporary)} - self._made:
            files.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        files.pipe_file(temporary, data)
        return temporary

    def _find(self, prefix: str) -> Sequence[str]:
        with self._told(prefix or "*"):
            files, root = self._files()
            base = f"{root.rstrip('/')}/"
            try:
                found = files.find(f"{base}{prefix}".rstrip("/"))
            except FileNotFoundError:
                return []
            plain = map(unquote, found) if self.scheme in READ_ONLY else iter(found)
            keys = (f"/{name.lstrip('/')}".partition(f"/{base.lstrip('/')}")[2] for name in plain)
            return sorted(key for key in keys if key and key.startswith(prefix))

    def _writable(self) -> None:
        if self.scheme in READ_ONLY:
            raise StoreError(
                f"{self.url} can only be read.",
                consequence="A web server takes no objects.",
                remedy="write to the folder or the bucket that it shows",
            )

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """Whatever the library for this scheme raises, as a refusal."""
        try:
            yield
        except FlowProfileError:
            raise
        except Exception as error:
            raise StoreError(
                f"{self.url} could not be read or written.",
                consequence="The command stopped there; every committed region is safe.",
                remedy="look at the address, your rights there and the network, and give the same command again",
                evidence=f"{key}: {type(error).__name__}: {str(error)[:300]}",
            ) from error


def _move_new(files: Any, scheme: str, temporary: str, path: str) -> None:
    """Move an object to where there is none; where there is one, nothing moves."""
    if scheme == "file":
        files.link(temporary, path)
        files.rm_file(temporary)
    elif scheme == "sftp":
        files.ftp.rename(temporary, path)  # unlike `mv`, which replaces
    else:
        files.mv(temporary, path)


@dataclass(frozen=True)
class _Mark:
    """A planner's mark."""

    place: ForeignPlace
    key: str

    def release(self) -> None:
        self.place.delete(self.key)

    def held(self) -> None:
        """It is held until it is removed."""
