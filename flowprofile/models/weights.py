"""Reading and writing weights, with the suspicion that files from elsewhere deserve.

Only safetensors: a pickle can run code when it is opened, and there is no way to look first. The header is checked
against the file before a byte of it is believed, so a lying header is a refusal and not a crash. Nothing here needs
torch until tensors are truly wanted; identity and card come from the bytes.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowprofile.errors import ModelError
from flowprofile.models.card import ModelCard

if TYPE_CHECKING:
    from torch import Tensor

KEY: Final = "flowprofile"
"""Name of the metadata entry that holds the card."""
HEADER_LIMIT: Final = 16 * 2**20
"""Longest header that is read, in bytes; a thousand tensors need a tenth of a megabyte."""

ITEM_SIZES: Final = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "U16": 2,
    "U32": 4,
    "U64": 8,
}
_FOREIGN: Final = ((b"PK\x03\x04", "a zip archive, as torch.save writes it"), (b"\x80", "a Python pickle"))


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int
    """One past the last byte."""


@dataclass(frozen=True)
class Header:
    """What a weights file says about itself, checked against its length."""

    entries: tuple[Entry, ...]
    """Tensors sorted by name."""
    metadata: Mapping[str, str]
    """Free text entries; the card is one of them."""


def read_header(path: str | Path) -> Header:
    """The header, or a ModelError that says what is wrong; never executes and never over-allocates."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"There is no weights file at {str(path)!r}.",
            remedy="check the path, or use an embedded model's name",
        )
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        for magic, kind in _FOREIGN:
            if start.startswith(magic) and not _plausible(start, size):
                raise _foreign(path, kind)
        if not _plausible(start, size):
            raise _broken(
                path, f"the first 8 bytes {start!r} are no header length for a file of {size} bytes"
            )
        text = file.read(int.from_bytes(start, "little"))
    return _parse(path, text, size)


def digest(source: "str | Path | Mapping[str, Tensor]") -> str:
    """SHA-256 over the sorted (name, dtype, shape, bytes) of all tensors, in hex.

    The same for a file and for its loaded tensors; card and layout of the file do not enter.
    """
    total = hashlib.sha256()
    if isinstance(source, Mapping):
        for name in sorted(source):
            tensor = source[name].detach().cpu().contiguous()
            dtype = _dtype_names()[str(tensor.dtype)]
            _absorb(total, name, dtype, tuple(tensor.shape), _bytes(tensor))
        return total.hexdigest()
    with Path(source).open("rb") as file:
        for entry in read_header(source).entries:
            file.seek(entry.begin)
            _absorb(total, entry.name, entry.dtype, entry.shape, file.read(entry.end - entry.begin))
    return total.hexdigest()


def card(path: str | Path) -> ModelCard:
    """The card in the file's header; raises ModelError when there is none."""
    metadata = read_header(path).metadata
    if KEY not in metadata:
        raise ModelError(
            f"The weights file {str(path)!r} has no model card.",
            consequence="Shape, schedule and prediction of the network are unknown, so nothing can be sampled.",
            remedy="load its tensors and write them with flowprofile.models.weights.save(path, tensors, card);"
            " flowprofile.models.card.thesis_card(name) is the card of a thesis checkpoint",
            evidence=f"metadata entries: {sorted(metadata)!r}",
        )
    return ModelCard.from_json(metadata[KEY])


def load(path: str | Path) -> "dict[str, Tensor]":
    """All tensors by name, after the header was checked.

    They are copies: what is mapped from a file changes under the network when somebody writes into that file.
    """
    read_header(path)
    from safetensors.torch import load_file

    return {name: tensor.clone() for name, tensor in load_file(str(path)).items()}


def save(path: str | Path, tensors: "Mapping[str, Tensor]", card: ModelCard) -> None:
    """Write tensors and card as one file, at once or not at all."""
    write(path, tensors, {KEY: card.to_json()})


def write(path: str | Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> None:
    """Write tensors and text entries through a temporary neighbour, so that a reader sees all or nothing."""
    from safetensors.torch import save as to_bytes

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            file.write(to_bytes(content, dict(metadata)))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _absorb(total: "hashlib._Hash", name: str, dtype: str, shape: tuple[int, ...], content: bytes) -> None:
    total.update(f"{name}\0{dtype}\0{','.join(map(str, shape))}\0{len(content)}\0".encode())
    total.update(content)


def _bytes(tensor: "Tensor") -> bytes:
    import torch

    return bytes(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())


def _dtype_names() -> dict[str, str]:
    pairs = {
        "float64": "F64",
        "float32": "F32",
        "float16": "F16",
        "bfloat16": "BF16",
        "uint8": "U8",
        "bool": "BOOL",
    }
    pairs |= {f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)}
    return {f"torch.{name}": code for name, code in pairs.items()}


def _plausible(start: bytes, size: int) -> bool:
    length = int.from_bytes(start, "little")
    return len(start) == 8 and 2 <= length <= min(HEADER_LIMIT, size - 8)


def _parse(path: Path, text: bytes, size: int) -> Header:
    if not text.startswith(b"{"):
        raise _broken(path, f"the header begins with {text[:8]!r} and not with '{{'")
    try:
        values = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"the header is not JSON: {error}") from error
    metadata = values.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(path, "the metadata is not a table of texts")
    data = 8 + len(text)
    entries = [_entry(path, name, value, data) for name, value in values.items()]
    position = data
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != position:
            raise _broken(path, f"tensor {entry.name!r} begins at byte {entry.begin}, expected {position}")
        position = entry.end
    if position != size:
        raise _broken(path, f"the tensors end at byte {position}, the file at {size}")
    return Header(tuple(sorted(entries, key=lambda e: e.name)), metadata)


def _entry(path: Path, name: str, value: Any, data: int) -> Entry:
    try:
        dtype, shape, (begin, end) = value["dtype"], tuple(value["shape"]), value["data_offsets"]
        sizes_fit = end - begin == prod(shape) * ITEM_SIZES[dtype]
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"tensor {name!r} is described by {value!r}") from error
    whole = all(type(number) is int and number >= 0 for number in (*shape, begin, end))
    if not whole or not sizes_fit:
        raise _broken(path, f"tensor {name!r} of {dtype} {shape!r} claims bytes {begin!r} to {end!r}")
    return Entry(name, dtype, shape, data + begin, data + end)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _foreign(path: Path, kind: str) -> ModelError:
    return ModelError(
        f"The weights file {str(path)!r} is {kind}.",
        consequence="Such a file can run code when it is opened; it is never loaded.",
        remedy="where you trust it, open it with torch.load(..., weights_only=True) in a session of your own and"
        " write it with flowprofile.models.weights.save(path, tensors, card)",
    )


def _broken(path: Path, evidence: str) -> ModelError:
    return ModelError(
        f"The weights file {str(path)!r} is not a sound safetensors file.",
        consequence="Its header cannot be trusted, so no tensor is read.",
        remedy="copy or download the file again, and compare its digest",
        evidence=evidence,
    )
