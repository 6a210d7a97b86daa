"""What a kept comparison may hold: the codecs and types that ours are written with, and no more bytes than it says.

A store may come from a stranger, and its seal with it. Before a library opens what lies there, every array is looked
at: its types and codecs are on a list, it is one chunk, and the chunk unpacks to the size of the array.
"""

import json
from collections.abc import Mapping
from math import prod
from typing import Any, Final

import numpy as np

from flowprofile.store.promise import DTYPES

CODECS: Final = frozenset({"bytes", "vlen-utf8", "zstd", "crc32c"})
TYPES: Final = frozenset({*DTYPES, "uint16", "uint32", "uint64"})
MOST: Final = 64 << 20
"""Bytes of one array."""
_FRAME: Final = b"\x28\xb5\x2f\xfd"


def admitted(objects: Mapping[str, bytes]) -> None:
    """Refuse what no comparison of ours is.

    Raises
    ------
    ValueError
        Naming what is not.
    """
    try:
        root = json.loads(objects["zarr.json"])
        arrays = root["consolidated_metadata"]["metadata"]
        for name, array in arrays.items():
            _array(name, array, objects)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}"[:200]) from error


def _array(name: str, array: Mapping[str, Any], objects: Mapping[str, bytes]) -> None:
    foreign = {codec["name"] for codec in array["codecs"]} - CODECS
    if (
        foreign
        or array.get("storage_transformers")
        or (array["node_type"], array["zarr_format"]) != ("array", 3)
    ):
        raise ValueError(f"{name}: no array of Zarr v3, or the codecs {sorted(foreign)}")
    shape, item = array["shape"], _itemsize(array["data_type"])
    if not all(type(n) is int and n >= 0 for n in shape) or prod(shape) * (item or 1) > MOST:
        raise ValueError(f"{name}: the shape {shape}")
    if array["chunk_grid"]["configuration"]["chunk_shape"] != shape or not prod(shape):
        raise ValueError(f"{name}: more chunks than one")
    chunk = objects["/".join((name, "c", *("0" for _ in shape)))]
    size = frame_size(chunk)
    if size is None or size > MOST or (item and size != prod(shape) * item):
        raise ValueError(f"{name}: a chunk that unpacks to {size} bytes")
    if not item and _count(chunk, size) != prod(shape):
        raise ValueError(f"{name}: a chunk of another number of texts")


def _itemsize(kind: Any) -> int:
    """Bytes of a value; 0 of a text, which has no fixed length."""
    if isinstance(kind, Mapping) and kind["name"] == "fixed_length_utf32":
        return int(kind["configuration"]["length_bytes"])
    if kind == "string":
        return 0
    if kind not in TYPES:
        raise ValueError(f"the type {kind}")
    return int(np.dtype(kind).itemsize)


def frame_size(data: bytes) -> int | None:
    """How many bytes a zstd frame says it unpacks to; None where it does not say, or is none."""
    if data[:4] != _FRAME or len(data) < 6:
        return None
    flags = data[4]
    single = flags >> 5 & 1
    width = (single, 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(data[start : start + width], "little") + (256 if width == 2 else 0)
    return size if width else None


def _count(chunk: bytes, size: int) -> int:
    """How many texts an unpacked chunk says it holds."""
    from numcodecs.zstd import decompress  # type: ignore[import-untyped]  # numcodecs ships no types

    plain = bytearray(size)
    try:
        decompress(chunk[:-4], plain)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return int.from_bytes(plain[:4], "little")
