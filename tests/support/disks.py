"""A disk that tells what it is asked, and fails where it is told to.

The functions of the operating system through which a store in a folder is written are wrapped, so that what is seen
are the operations of the real writer, in its order. One wrapper records them for a model of power loss; the other
lets one of them fail.
"""

import builtins
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from flowprofile.store import places

NAMED = {"open": 0, "replace": 1, "rename": 1, "link": 1, "unlink": 0, "remove": 0, "mkdir": 0, "rmdir": 0}
"""Functions that are given names, and which of their arguments is the one that comes or goes."""
HANDLED = ("write", "pwrite", "ftruncate", "fsync", "read", "close")
"""Functions that are given the number of an open file."""


@dataclass(frozen=True)
class Call:
    """One call, told before it is made."""

    name: str
    path: str
    """The file or folder it is about, also where the call has only a number."""
    args: tuple[object, ...]


@contextmanager
def watched(
    root: str | Path,
    before: Callable[[Call], None],
    after: Callable[[Call, object], None] = lambda call, _: None,
) -> Iterator[None]:
    """Tell every call below a folder, or of the folder itself, before it is made and after it was."""
    real = {name: getattr(os, name) for name in (*NAMED, *HANDLED)}
    real_open, paths = builtins.open, {}

    def told(name: str, path: str, args: tuple[object, ...], make: Callable[[], object]) -> object:
        if not f"{path}/".startswith(f"{root}/"):
            return make()
        call = Call(name, path, args)
        before(call)
        result = make()
        after(call, result)
        return result

    def named(name: str) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if options.get("dir_fd") is not None:
                return real[name](*args, **options)
            path = os.fspath(args[NAMED[name]])
            result = told(name, path, args, lambda: real[name](*args, **options))
            if name == "open":
                paths[result] = path
            return result

        return call

    def handled(name: str) -> Callable[..., object]:
        def call(handle: int, *args: object) -> object:
            path = paths.get(handle, "")
            try:
                return told(name, path, (handle, *args), lambda: real[name](handle, *args))
            finally:
                if name == "close":
                    paths.pop(handle, None)

        return call

    def opened(path: object, *args: object, **options: object) -> object:
        return told("read", os.fspath(path), (), lambda: real_open(path, *args, **options))

    for name in real:
        setattr(os, name, named(name) if name in NAMED else handled(name))
    places.open = opened
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        with suppress(AttributeError):
            del places.open


def writes(call: Call) -> bool:
    """Whether a call puts something on the disk."""
    if call.name == "open":
        return bool(call.args[1] & (os.O_WRONLY | os.O_RDWR))
    return call.name not in ("read", "close", "fsync")


def takes_space(call: Call) -> bool:
    """Whether a call may find the disk full."""
    return writes(call) and call.name not in ("unlink", "remove", "rmdir", "ftruncate")


def opens(call: Call) -> bool:
    """Whether a call may find no free number for another open file."""
    return call.name == "open" or (call.name == "read" and not call.args)


@dataclass
class Failing:
    """Lets the n-th call of a kind, and with `forever` every later one, end in an error of the system."""

    number: int
    of: Callable[[Call], bool]
    at: int
    forever: bool = False
    seen: int = 0
    fired: int = 0
    call: Call | None = None
    """The first that failed."""

    def __call__(self, call: Call) -> None:
        if not self.of(call):
            return
        self.seen += 1
        if self.seen - 1 == self.at or (self.forever and self.seen - 1 > self.at):
            self.fired += 1
            self.call = self.call or call
            if call.name == "write":  # a full disk takes what still fits
                os.pwrite(call.args[0], bytes(call.args[1])[: len(call.args[1]) // 2], 0)
            raise OSError(
                self.number, os.strerror(self.number), *((call.path,) if call.name in NAMED else ())
            )


Inode = int


@dataclass
class Recorded:
    """The operations of a writer, in order, and marks between them."""

    root: Path
    operations: list[tuple[object, ...]] = field(default_factory=list)
    marks: list[tuple[int, object]] = field(default_factory=list)
    """What had been acknowledged when so many operations were done."""
    _inodes: dict[str, Inode] = field(default_factory=dict)
    _handles: dict[int, tuple[str, Inode | None]] = field(default_factory=dict)
    _next: int = 0

    def mark(self, what: object) -> None:
        """Say that something is acknowledged from now on."""
        self.marks.append((len(self.operations), what))

    def __call__(self, call: Call, result: object) -> None:
        """Take a call down that has been made."""
        if call.name == "open":
            self._open(call, int(result))
        elif call.name in ("write", "pwrite", "ftruncate", "fsync") and call.args[0] in self._handles:
            self._through(call, result)
        elif call.name in ("replace", "rename"):
            source = os.fspath(call.args[0])
            self._inodes[call.path] = self._inodes.pop(source)
            self.operations.append(("rename", source, call.path))
        elif call.name == "link":
            self._inodes[call.path] = self._inodes[os.fspath(call.args[0])]
            self.operations.append(("link", call.path, self._inodes[call.path]))
        elif call.name in ("unlink", "remove"):
            self._inodes.pop(call.path, None)
            self.operations.append(("unlink", call.path))
        elif call.name == "mkdir":
            self.operations.append(("mkdir", call.path))

    def _open(self, call: Call, handle: int) -> None:
        if Path(call.path).is_dir():
            self._handles[handle] = (call.path, None)
            return
        if call.path not in self._inodes:
            self._next += 1
            self._inodes[call.path] = self._next
            self.operations.append(("link", call.path, self._next))
        self._handles[handle] = (call.path, self._inodes[call.path])

    def _through(self, call: Call, result: object) -> None:
        path, inode = self._handles[call.args[0]]
        if call.name == "fsync":
            self.operations.append(("sync folder", path) if inode is None else ("sync", inode))
        elif call.name == "write":
            self.operations.append(("write", inode, bytes(call.args[1])[: int(result)]))
        elif call.name == "ftruncate":
            self.operations.append(("cut", inode))
        else:
            self.operations.append(("write", inode, bytes(call.args[1])))
