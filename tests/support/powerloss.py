"""What a disk may hold when the power fails: a model over the recorded operations of a writer.

Nothing is taken for granted but what was forced to disk. A file whose bytes were not forced holds all of them, none,
half, or zeros; a name that was not forced (by forcing its folder) is there, or is still what it was before; each of
them independently of every other. No file system in use is as bad as this.
"""

import random
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from disks import Inode, Recorded

Entry = Inode | str | None
"""What a name stands for: a file, a folder, or nothing."""
FOLDER = "folder"
IGNORED = ("ledger/tmp/", "ledger/locks/", "ledger/planner")
"""States that differ in these alone are one."""


def _whole(data: bytes) -> bytes:
    return data


Content = tuple[Inode, int, int]
"""A file, how many versions of it there were, and which of `TEARS` happened to the last."""
TEARS = (_whole, lambda data: data[: len(data) // 2], lambda data: b"", lambda data: bytes(len(data)))
"""What may have become of bytes that were not forced to disk."""


@dataclass
class Disk:
    """Names and files after some operations: as they are on the disk, and as they were meant."""

    names: dict[str, list[Entry]] = field(default_factory=dict)
    """By path: the entry that was forced to disk, and those that have followed."""
    files: dict[Inode, list[bytes]] = field(default_factory=dict)
    """Likewise the bytes; one entry where they were forced."""

    def apply(self, operation: tuple[object, ...]) -> None:
        """Carry one operation out."""
        match operation:
            case ("link", path, inode):
                self._name(path, inode)
            case ("rename", source, target):
                self._name(target, self.names[source][-1])
                self._name(source, None)
            case ("unlink", path):
                self._name(path, None)
            case ("mkdir", path):
                self._name(path, FOLDER)
            case ("write", inode, data):
                before = self.files.setdefault(inode, [b""])
                before.append(before[-1] + data)
            case ("cut", inode):
                self.files.setdefault(inode, [b""]).append(b"")
            case ("sync", inode):
                self.files[inode] = self.files.get(inode, [b""])[-1:]
            case ("sync folder", folder):
                for path in [path for path in self.names if path.rpartition("/")[0] == folder]:
                    self.names[path] = self.names[path][-1:]

    def _name(self, path: str, entry: Entry) -> None:
        self.names.setdefault(path, [None]).append(entry)

    def state(self, root: str, chosen: dict[str, int], tear: int) -> dict[str, Content]:
        """The objects below a folder, where the names that are not forced stand for the entries that are chosen."""
        entries = {path: versions[chosen.get(path, -1)] for path, versions in self.names.items()}
        found = {}
        for path, entry in entries.items():
            if isinstance(entry, int) and path.startswith(f"{root}/") and _reached(path, entries):
                count = len(self.files.get(entry, [b""]))
                found[path.removeprefix(f"{root}/")] = (entry, count, 0 if count == 1 else tear)
        return found

    def data(self, content: Content) -> bytes:
        """The bytes of a file."""
        inode, _, tear = content
        return TEARS[tear](self.files.get(inode, [b""])[-1])

    def open_names(self) -> list[str]:
        """Names that may stand for several entries; temporary ones are debris whether they are there or not."""
        several = (path for path, versions in self.names.items() if len(set(versions)) > 1)
        return [path for path in several if not any(f"/{part}" in path for part in IGNORED)]

    def torn(self) -> bool:
        """Whether any file that has a name was not forced."""
        named = {versions[-1] for versions in self.names.values()}
        return any(len(versions) > 1 for inode, versions in self.files.items() if inode in named)


def _reached(path: str, entries: dict[str, Entry]) -> bool:
    """Whether every folder above is there; one that no operation made has always been."""
    parent = path.rpartition("/")[0]
    return not parent or (entries.get(parent, FOLDER) == FOLDER and _reached(parent, entries))


def _choices(disk: Disk, pick: random.Random, some: int) -> Iterator[tuple[dict[str, int], int]]:
    """Which of the open names are as they were meant, and what became of torn files."""
    names = disk.open_names()
    last = {path: len(disk.names[path]) - 1 for path in names}
    first = dict.fromkeys(names, 0)
    for tear in range(len(TEARS)) if disk.torn() else (0,):
        yield last, tear
        yield first, tear
    for path in names:
        yield {**last, path: 0}, pick.randrange(len(TEARS))
        yield {**first, path: last[path]}, pick.randrange(len(TEARS))
    for _ in range(some):
        yield {path: pick.randint(0, last[path]) for path in names}, pick.randrange(len(TEARS))


def crashes(
    recorded: Recorded, seed: int, *, some: int, moments: Container[int] | None = None
) -> Iterator[tuple[int, dict[str, bytes], list[object]]]:
    """Every different state a power loss may leave after any operation, or after those of some numbers.

    Told are how many operations there were, the objects, and what had been acknowledged. `some` states per operation
    are drawn besides the extreme ones.
    """
    disk, pick, seen = Disk(), random.Random(seed), set()
    root = str(recorded.root)
    for number, operation in enumerate(recorded.operations, 1):
        disk.apply(operation)
        if moments is not None and number not in moments:
            continue
        acknowledged = [what for after, what in recorded.marks if after <= number]
        for chosen, tear in _choices(disk, pick, some):
            objects = disk.state(root, chosen, tear)
            name = (
                frozenset(item for item in objects.items() if not item[0].startswith(IGNORED)),
                len(acknowledged),
            )
            if name not in seen:
                seen.add(name)
                yield number, {key: disk.data(content) for key, content in objects.items()}, acknowledged


def put(objects: dict[str, bytes], folder: Path) -> None:
    """Make a folder hold these objects."""
    for key, data in objects.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
