"""Bytes of one object, and the seal that tells whether they are still those bytes.

An object is a Zarr v3 chunk ending in crc32c, or a shard of such chunks with its index at the end. Every inner
chunk is a contiguous run of the object's memory (it spans whole tail axes, or one step), so encoding is a walk over
one buffer: 3 times the throughput of the generic encoder, which spends its time on selections. What is written is
checked against zarr-python and tensorstore in the tests.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import numpy as np
import numpy.typing as npt

from flowprofile.store.layout import Form

_ABSENT = 2**64 - 1
Inner = tuple[int, int, int]
"""Offset, length and trailing crc32c of an inner chunk."""


@dataclass(frozen=True, slots=True)
class Seal:
    """What an object's bytes must be."""

    size: int
    digest: str
    """blake2b, 128 bits, of all its bytes."""
    inner: tuple[Inner | None, ...]
    """Every inner chunk in C order, None where it was never written; one entry where there is no shard."""


def digest(data: bytes) -> str:
    """blake2b-128, in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def crc32c(data: bytes | memoryview) -> int:
    """The checksum Zarr's crc32c codec appends."""
    return int(google_crc32c.value(np.frombuffer(data, np.uint8)))  # it takes arrays, but no memoryviews


def with_crc(data: bytes) -> bytes:
    """Bytes with their little-endian crc32c behind them."""
    return data + crc32c(data).to_bytes(4, "little")


def encode(
    form: Form, content: npt.NDArray[np.generic], touched: Sequence[int] | None = None
) -> tuple[bytes, Seal]:
    """Encode one object.

    Parameters
    ----------
    content
        The whole object, of shape ``form.chunk``; cells never written hold the fill value.
    touched
        Positions of the inner chunks that hold any written cell; all, when None.

    Returns
    -------
    tuple
        The bytes and their seal, both a function of the arguments alone.
    """
    if content.shape != form.chunk:
        raise ValueError(f"content is {content.shape}, an object is {form.chunk}")
    little = np.ascontiguousarray(content, dtype=np.dtype(form.dtype).newbyteorder("<"))
    memory = memoryview(little.reshape(-1).view(np.uint8).data)
    if form.inner is None:
        data = with_crc(_compress(form, memory))
        return data, Seal(len(data), digest(data), ((0, len(data), _trailing(data)),))
    return _shard(form, memory, range(form.inners) if touched is None else touched)


def _shard(form: Form, memory: memoryview, touched: Sequence[int]) -> tuple[bytes, Seal]:
    length = len(memory) // form.inners
    inner: list[Inner | None] = [None] * form.inners
    pieces: list[bytes | memoryview] = []
    offset = 0
    for position in sorted(touched):
        plain = memory[position * length : (position + 1) * length]
        part = plain if form.codec == "none" else _compress(form, plain)
        check = crc32c(part)
        pieces += [part, check.to_bytes(4, "little")]
        inner[position] = (offset, len(part) + 4, check)
        offset += len(part) + 4
    pieces.append(index(inner))
    data = b"".join(pieces)
    return data, Seal(len(data), digest(data), tuple(inner))


def index(inner: Sequence[Inner | None]) -> bytes:
    """The index of a shard, as it stands at its end."""
    table = np.full((len(inner), 2), _ABSENT, "<u8")
    for position, entry in enumerate(inner):
        if entry is not None:
            table[position] = entry[:2]
    return with_crc(table.tobytes())


def _trailing(data: bytes | memoryview) -> int:
    return int.from_bytes(data[-4:], "little")


def intact(data: bytes | memoryview, entry: Inner) -> bool:
    """Whether these are the bytes of the inner chunk that was sealed."""
    return len(data) == entry[1] and _trailing(data) == entry[2] and crc32c(memoryview(data)[:-4]) == entry[2]


def decode_inner(form: Form, data: bytes | memoryview) -> npt.NDArray[np.generic]:
    """One inner chunk (or an unsharded object), already known to be intact."""
    shape = form.chunk if form.inner is None else form.inner
    raw = memoryview(data)[:-4]
    length = math.prod(shape) * np.dtype(form.dtype).itemsize
    plain = raw if form.codec == "none" else _decompress(form, raw, length)
    return np.frombuffer(plain, np.dtype(form.dtype).newbyteorder("<")).reshape(shape)


def decode(form: Form, data: bytes, seal: Seal) -> npt.NDArray[np.generic]:
    """A whole object, already known to be intact; the fill value where nothing was written."""
    if form.inner is None:
        return decode_inner(form, data).astype(form.dtype)
    flat = np.full((form.inners, int(np.prod(form.inner))), form.fill, form.dtype)
    for position, entry in enumerate(seal.inner):
        if entry is not None:
            flat[position] = decode_inner(form, data[entry[0] : entry[0] + entry[1]]).reshape(-1)
    return flat.reshape(form.chunk)


def _compress(form: Form, data: memoryview) -> bytes:
    if form.codec == "none":
        return bytes(data)
    if form.codec == "blosc":
        from numcodecs import blosc  # type: ignore[import-untyped]  # numcodecs ships no types

        # One block: blosc's threads would write several in the order in which they finish, a matter of chance.
        whole, item = len(data), np.dtype(form.dtype).itemsize
        return bytes(blosc.compress(data, b"zstd", 1, blosc.BITSHUFFLE, whole, item))
    from numcodecs.zstd import compress  # type: ignore[import-untyped]  # as above

    return bytes(compress(data, 1))


def _decompress(form: Form, data: memoryview, expected: int) -> bytes:
    # A lying frame is refused by the codec instead of growing past what we expect.
    plain = bytearray(expected)
    if form.codec == "blosc":
        from numcodecs import blosc

        blosc.decompress(data, plain)
        return bytes(plain)
    from numcodecs.zstd import decompress

    decompress(data, plain)
    return bytes(plain)
