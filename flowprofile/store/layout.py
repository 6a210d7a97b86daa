"""How arrays are cut into objects, and objects into what a reader fetches.

Large arrays (a state, an activation) get one case per shard, so growth never rewrites a case; small ones (a
measure) get one chunk per tile of seeds over the whole time axis, so a sweep is not a million files. Both are
C-contiguous runs of memory, which is what makes writing them as fast as the disk.
"""

import math
import os
import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flowprofile.errors import DefinitionError, nearest

Codec = Literal["none", "zstd", "blosc"]
Durability = Literal["fsync", "none"]
_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True)
class StoreLayout:
    """Where and how a store is laid out; the values of a ``stores/*.toml``."""

    url: str | None = None
    """Default place; the caller's own wins."""
    chunk: str = "128 KiB"
    """What one fetch reads of a large array."""
    shard: str = "4 MiB"
    """Size of one object of a large array."""
    small: str = "64 KiB"
    """An array of which one case over all times is at most this is small: one chunk per tile of seeds."""
    times: int | None = None
    """At most so many times in an inner chunk of a large array; as many as `chunk` has room for, when None."""
    codec: Codec = "none"
    """``none``, ``zstd`` or ``blosc``, all lossless and ending in crc32c. Of states ``zstd`` saves 8 %, ``blosc``
    (zstd behind a bitshuffle, which puts equal exponents side by side) 14 % at about the same cost."""
    durability: Durability = "fsync"
    """``fsync`` forces objects, folders, then the receipt to disk; ``none`` leaves that to the system."""

    def __post_init__(self) -> None:
        for name in ("chunk", "shard", "small"):
            size(getattr(self, name), name)
        for name, known in (("codec", ("none", "zstd", "blosc")), ("durability", ("fsync", "none"))):
            if getattr(self, name) not in known:
                raise DefinitionError(
                    f"The store layout's {name} is {getattr(self, name)!r}.",
                    consequence="Only codecs every Zarr v3 reader knows, and known durabilities, are written.",
                    remedy=f"use one of {', '.join(map(repr, known))}",
                )
        if self.times is not None and (type(self.times) is not int or self.times < 1):
            raise DefinitionError(
                f"The store layout's times is {self.times!r}, which is not a number of states.",
                consequence="It limits how many states of a large array are fetched together.",
                remedy="write a whole number from 1, or leave it out to let chunk decide",
            )

    @property
    def durable(self) -> bool:
        return self.durability == "fsync"


def size(text: str, name: str = "size") -> int:
    """Bytes of ``"128 KiB"``.

    >>> size("128 KiB")
    131072
    """
    match = re.fullmatch(r"\s*(\d+)\s*(B|KiB|MiB|GiB)\s*", str(text))
    if match is None or int(match[1]) < 1:
        raise DefinitionError(
            f"The store layout's {name} is {text!r}, which is not a size.",
            remedy=f'write a whole number and one of {", ".join(_UNITS)}, for instance "128 KiB"',
        )
    return int(match[1]) * _UNITS[match[2]]


def layout(name: str | os.PathLike[str] = "local") -> StoreLayout:
    """The layout of a shipped or own ``stores/NAME.toml``, or of a file.

    Looked for in the working folder's ``stores/``, then in each folder of ``$FLOWPROFILE_PATH`` (and its
    ``stores/``), then among the shipped ones.
    """
    path = find(os.fspath(name))
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{path.name} is not TOML: {error}.", evidence=str(path)) from error
    known = [field.name for field in fields(StoreLayout)]
    for key in values:
        if key not in known:
            raise DefinitionError(
                f"{path.name} has the unknown key {key!r}.", remedy=nearest(key, known), evidence=str(path)
            )
    return StoreLayout(**values)


def names() -> list[str]:
    """The layouts that can be named: the shipped ones and one's own."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.toml")})


def find(name: str) -> Path:
    """The file of a layout.

    Raises
    ------
    DefinitionError
        If there is none of this name.
    """
    if name.endswith(".toml"):
        candidates = [Path(name)]
    else:
        candidates = [folder / f"{name}.toml" for folder in _folders()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise DefinitionError(f"There is no store layout {name!r}.", remedy=nearest(name, names()))


def _folders() -> list[Path]:
    package = Path(__file__).resolve().parents[1]
    extra = [Path(part) for part in os.environ.get("FLOWPROFILE_PATH", "").split(os.pathsep) if part]
    own = [folder for path in extra for folder in (path / "stores", path)]
    return [Path("stores"), *own, package / "shipped" / "stores", package.parent / "stores"]


@dataclass(frozen=True)
class Form:
    """How one variable is cut: into objects, and those into inner chunks. All shapes include the case axes."""

    dtype: str
    chunk: tuple[int, ...]
    """Shape of one object; the first axis behind time may be longer than the array's, up to whole inner chunks."""
    inner: tuple[int, ...] | None
    """Shape of one inner chunk of a shard, None where an object is one chunk."""
    codec: Codec

    @property
    def fill(self) -> Any:
        """What a cell that was never written reads as."""
        return fill(self.dtype)

    @property
    def inners(self) -> int:
        """How many inner chunks an object has."""
        return 1 if self.inner is None else math.prod(self.chunk) // math.prod(self.inner)

    @property
    def inner_times(self) -> int:
        """How many times an inner chunk has."""
        return self.chunk[3] if self.inner is None else self.inner[3]


def fill(dtype: str) -> Any:
    """NaN for floats, -2 for signed integers (-1 is a non-finite result), 0 for the rest."""
    kind = np.dtype(dtype).kind
    return np.dtype(dtype).type({"f": np.nan, "i": -2}.get(kind, 0))


def form(layout: StoreLayout, *, dtype: str, tail: tuple[int, ...], capacity: int | None, tile: int) -> Form:
    """The form of a variable.

    Parameters
    ----------
    tail
        Lengths of the axes behind time.
    capacity
        Length of the whole time grid, None for a variable without time.
    tile
        Seeds of a tile.
    """
    step = math.prod(tail) * np.dtype(dtype).itemsize
    times = () if capacity is None else (capacity,)
    if step * (capacity or 1) <= size(layout.small):
        return Form(dtype, (1, 1, tile, *times, *tail), None, layout.codec)
    if capacity is None:
        return Form(dtype, (1, 1, 1, *tail), None, layout.codec)
    target = size(layout.chunk)
    inner_times = min(capacity, max(1, target // step), layout.times or capacity)
    # Equal inner chunks: 100 states by at most 85 would fill 170, the last 70 of them with nothing.
    inner_times = math.ceil(capacity / math.ceil(capacity / inner_times))
    shard_times = _balanced(capacity, inner_times, max(1, size(layout.shard) // step))
    if step <= 2 * target or not tail:
        return Form(dtype, (1, 1, 1, shard_times, *tail), (1, 1, 1, inner_times, *tail), layout.codec)
    rows = _rows(tail[0], step, target)
    padded = math.ceil(tail[0] / rows) * rows
    shard, inner = (1, 1, 1, shard_times, padded, *tail[1:]), (1, 1, 1, inner_times, rows, *tail[1:])
    return Form(dtype, shard, inner, layout.codec)


def _balanced(capacity: int, inner: int, most: int) -> int:
    """Times per shard: a multiple of `inner`, at most about `most`, so that all shards are about equal."""
    shards = math.ceil(capacity / max(inner, most // inner * inner))
    return math.ceil(capacity / shards / inner) * inner


def _rows(length: int, step: int, target: int) -> int:
    """How many places of the first tail axis an inner chunk of one step has.

    At most the target and at least half of it, a divisor if there is one; otherwise (a mask may have 67 pixels) the
    number that leaves the least of the last chunk empty.
    """
    most = max(1, target // (step // length))
    return min(range(math.ceil(most / 2), most + 1), key=lambda n: (math.ceil(length / n) * n, -n))
