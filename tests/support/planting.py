"""Faults planted in the objects of a store, and what a reader makes of them."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.opening import open as open_profile
from flowprofile.store.encoding import crc32c

Objects = dict[str, bytes]
Fault = tuple[str, str, Callable[[Objects], None]]
FIRST, ALL = Sweep((0, 1, 2), (0, 1)), Sweep((0, 1, 2, 3, 5), (0, 1))
ROOT = "profile.zarr/zarr.json"
TIMES = [12, 10, 8, 6, 4, 2, 0]


def flip(key: str, position: float) -> Callable[[Objects], None]:
    def spoil(objects: Objects) -> None:
        data = bytearray(objects[key])
        data[int(position * (len(data) - 1))] ^= 0x10
        objects[key] = bytes(data)

    return spoil


def forge(key: str, position: float) -> Callable[[Objects], None]:
    """A flip whose crc32c was made to fit: only the ledger can tell."""

    def spoil(objects: Objects) -> None:
        data = bytearray(objects[key][:-4])
        data[int(position * (len(data) - 1))] ^= 0x10
        objects[key] = bytes(data) + crc32c(bytes(data)).to_bytes(4, "little")

    return spoil


def swap(a: str, b: str) -> Callable[[Objects], None]:
    def spoil(objects: Objects) -> None:
        objects[a], objects[b] = objects[b], objects[a]

    return spoil


def put(key: str, data: bytes) -> Callable[[Objects], None]:
    return lambda objects: objects.update({key: data})


def truncate(key: str, fraction: float) -> Callable[[Objects], None]:
    return lambda objects: objects.update({key: objects[key][: int(len(objects[key]) * fraction)]})


def drop(key: str) -> Callable[[Objects], None]:
    return lambda objects: objects.pop(key) and None


def edited(objects: Objects, key: str, old: bytes, new: bytes) -> Callable[[Objects], None]:
    assert old in objects[key], (key, old)
    return put(key, objects[key].replace(old, new, 1))


def kind_of(key: str) -> str:
    if key.startswith("ledger/"):
        return key.split("/")[1]
    if key.endswith("zarr.json"):
        return "metadata"
    return "chunk" if any(f"/{name}/c." in key for name in ("x_t", "value", "count")) else "coordinate"


def faults(old: Objects, now: Objects) -> Iterator[Fault]:
    """Every kind of fault, on every kind of object."""
    for key in sorted(now):
        if kind_of(key) in ("chunk", "coordinate", "receipts", "layouts", "format.json") or key == ROOT:
            yield from faults_of(key, old, now)
    for name in ("x_t", "value", "count"):
        for a, b in pairwise(key for key in sorted(now) if f"/{name}/c." in key):
            yield "chunk", "swap", swap(a, b)
    receipts = [key for key in sorted(now) if kind_of(key) == "receipts"]
    for a, b in zip(receipts, receipts[3:], strict=False):
        yield "receipts", "swap", swap(a, b)
        yield "receipts", "copy", put(b, now[a])
    for a, b in pairwise(key for key in sorted(now) if kind_of(key) == "coordinate"):
        yield "coordinate", "swap", swap(a, b)
    for before, after in ((b'"float32"', b'"uint32"'), (b'"x"', b'"y"'), (b'"NaN"', b"0.0")):
        yield "metadata", "edit", edited(now, ROOT, before, after)


def faults_of(key: str, old: Objects, now: Objects) -> Iterator[Fault]:
    """Faults of one object."""
    kind = kind_of(key)
    binary = kind in ("chunk", "coordinate")
    for position in (0.0, 0.31, 0.62, 1.0) if binary else (0.31, 0.62):
        yield kind, "bit flip", flip(key, position)
    yield kind, "truncation", truncate(key, 0.5)
    yield kind, "deletion", drop(key)
    if binary:
        yield kind, "forged checksum", forge(key, 0.0)
    if key in old and old[key] != now[key] and key != ROOT:
        yield kind, "stale version", put(key, old[key])


def read_all(url: str) -> dict[str, xr.Dataset]:
    tree = open_profile(url)
    return {
        path: tree[path].to_dataset().load()
        for path in ("trajectory", "measures/step_ssim", "measures/count")
    }


def silent(found: dict[str, xr.Dataset], truth: dict[str, xr.Dataset]) -> bool:
    """Whether a finite value is wrong, in data or coordinates."""
    for path, data in found.items():
        if not all(data[c].identical(truth[path][c]) for c in truth[path].coords):
            return True
        for name in data.data_vars:
            if name != "status":
                got, want = data[name].values, truth[path][name].values
                missing = np.isnan(got) if got.dtype.kind == "f" else got == -2
                if (~missing & (got != want)).any():
                    return True
    return False
