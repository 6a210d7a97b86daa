"""A disk that tells what it is asked, and fails where it is told to.

The functions of the operating system through which a store in a folder is written are wrapped, so that what is seen
are the operations of the real writer, in its order. One wrapper records them for a model of power loss; the other
lets one of them fail.
"""

import builtins
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
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
    before: Callable[[Call], object],
    after: Callable[[Call, object], None] = lambda call, _: None,
) -> Iterator[None]:
    """Tell every call below a folder, or of the folder itself, before it is made and after it was.

    What `before` returns is returned instead of making the call, if it is anything.
    """
    real = {name: getattr(os, name) for name in (*NAMED, *HANDLED)}
    watch = _Watch(str(root), before, after)
    for name, function in real.items():
        setattr(os, name, watch.named(function) if name in NAMED else watch.handled(function))
    places.open = watch.opened(builtins.open)
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)
        del places.open


@dataclass
class _Watch:
    """Functions in the place of the real ones."""

    root: str
    before: Callable[[Call], object]
    after: Callable[[Call, object], None]
    paths: dict[int, str] = field(default_factory=dict)
    """Open files by number."""

    def told(self, call: Call, make: Callable[[], object]) -> object:
        """Make a call, told before and after."""
        if not f"{call.path}/".startswith(f"{self.root}/"):
            return make()
        instead = self.before(call)
        result = make() if instead is None else instead
        self.after(call, result)
        return result

    def named(self, real: Callable[..., object]) -> Callable[..., object]:
        """For a function that is given names."""
        name = real.__name__

        @wraps(real)
        def call(*args: object, **options: object) -> object:
            if options.get("dir_fd") is not None:
                return real(*args, **options)
            path = os.fspath(args[NAMED[name]])
            result = self.told(Call(name, path, args), lambda: real(*args, **options))
            if name == "open":
                self.paths[result] = path
            return result

        return call

    def handled(self, real: Callable[..., object]) -> Callable[..., object]:
        """For a function that is given the number of an open file."""

        @wraps(real)
        def call(*args: object) -> object:
            path = self.paths.get(args[0], "")
            if real.__name__ == "close":
                self.paths.pop(args[0], None)
            return self.told(Call(real.__name__, path, args), lambda: real(*args))

        return call

    def opened(self, real: Callable[..., object]) -> Callable[..., object]:
        """For the `open` a place reads with."""
        return lambda path, *args, **options: self.told(
            Call("read", os.fspath(path), ()), lambda: real(path, *args, **options)
        )


def writes(call: Call) -> bool:
    """Whether a call puts something on the disk."""
    if call.name == "open":
        return bool(call.args[1] & (os.O_WRONLY | os.O_RDWR))
    if call.name == "mkdir":
        return not Path(call.path).exists()
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
    short: bool = False
    """Whether that one wrote less than it was given, rather than failing."""

    def __call__(self, call: Call) -> int | None:
        """Fail, if it is time; a full disk takes what still fits before it refuses."""
        if not self.of(call):
            return None
        self.seen += 1
        if self.seen - 1 != self.at and not (self.forever and self.seen - 1 > self.at):
            return None
        self.fired += 1
        self.call = self.call or call
        if self.number == errno.ENOSPC and self.fired == 1 and call.name in ("write", "pwrite"):
            handle, data, *start = call.args
            self.short = True
            return getattr(os, call.name).__wrapped__(handle, bytes(data)[: len(data) // 2], *start)
        raise OSError(self.number, os.strerror(self.number), *((call.path,) if call.name in NAMED else ()))


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
