"""Pictures in a folder: which they are, told by their content, and how one becomes an array of a model's size.

A path says nothing about what is in a file, so a picture is known by the digest of its bytes, and bytes that are no
longer those that were looked at are refused when they are decoded. A header can claim any size: how much is decoded
is bounded before a pixel is. Crop and resize are written out here, since a library's resize differs between its
versions.
"""

import hashlib
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from flowprofile.errors import DefinitionError

PREPARATION: Final = "centre-crop antialiased-bilinear 1"
"""Name of what `prepared` does; part of every key that depends on it."""
SUFFIXES: Final = (".png", ".jpg", ".jpeg")
MAX_BYTES: Final = 64 << 20
"""A larger file is refused unread."""
MAX_PIXELS: Final = 1 << 25
"""A picture of more pixels is refused undecoded: 33 million, 100 MiB of colours."""
_MODES: Final = {1: ("L", "1"), 3: ("RGB",)}
"""Pillow's modes of so many channels."""
_DIGITS: Final = 32
_BAND: Final = 256
"""Rows that are resized together."""
_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_READ: Final = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, *_BOMBS)
"""What a decoder does with bytes that are no picture."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Picture:
    """One picture, before it is decoded."""

    path: Path
    digest: str
    """First 32 hex digits of the SHA-256 of the file."""

    @property
    def name(self) -> str:
        """How it is called in a profile."""
        return self.path.name


def listed(folder: Path, *, place: str = "") -> tuple[Path, ...]:
    """The pictures directly in a folder, by name; hidden files and folders in it are passed over.

    Raises
    ------
    DefinitionError
        For a folder that is none, is empty, or holds something else.
    """
    where = f" ({place})" if place else ""
    if not folder.is_dir():
        raise DefinitionError(
            f"There is no folder {str(folder)!r}{where}.",
            consequence="There are no pictures to look at.",
            remedy="a path begins at the definition's folder, or from Python at the working folder",
        )
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    strange = [file.name for file in files if file.suffix.lower() not in SUFFIXES]
    if strange:
        raise DefinitionError(
            f"{strange[0]!r} in {str(folder)!r} is no PNG or JPEG{where}.",
            consequence="Whether it was meant to be a picture is not ours to guess.",
            remedy="move it out of the folder, or convert it",
            evidence=f"{len(strange)} such files among {len(files)}",
        )
    if not files:
        below = [entry.name for entry in entries if entry.is_dir()]
        raise DefinitionError(
            f"The folder {str(folder)!r} holds no pictures{where}.",
            consequence="There is nothing to look at.",
            remedy=f"name the folder itself: it is not searched further ({', '.join(map(repr, below[:4]))} in it)"
            if below
            else "put PNG or JPEG files into it",
        )
    return tuple(files)


def looked_at(path: Path, *, channels: int, place: str = "") -> Picture:
    """The picture in a file: its header is read and its bytes are digested, but no pixel is decoded.

    Raises
    ------
    DefinitionError
        If it is no picture, too large, or of another number of channels.
    """
    with _sound(path, place):
        data = _bytes(path, place)
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            _fits(picture, path, channels, place)
    return Picture(path, _digest(data))


def decoded(picture: Picture, shape: tuple[int, int, int]) -> Pixels:
    """The picture cropped and resized to (channel, y, x), from 0, black, to 1, white.

    Raises
    ------
    DefinitionError
        If the file is damaged or no longer what it was.
    """
    return opened(picture.path, shape, digest=picture.digest)


def opened(path: Path, shape: tuple[int, int, int], *, digest: str | None = None) -> Pixels:
    """The picture in a file cropped and resized to (channel, y, x), from 0, black, to 1, white.

    With a digest, a file that has another one is refused.
    """
    with _sound(path, ""):
        data = _bytes(path, "")
        if digest is not None and _digest(data) != digest:
            raise DefinitionError(
                f"The picture {str(path)!r} has changed since this run began.",
                consequence="Results of two pictures would be taken for one.",
                remedy="leave it alone while a run goes on, and give the command again: it is a new picture then",
                evidence=f"{digest} then, {_digest(data)} now",
            )
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
            _fits(file, path, shape[0], "")
            upright = ImageOps.exif_transpose(file)
            values = np.asarray(upright.convert(_MODES[shape[0]][0]), dtype=np.uint8)
    return prepared(values.reshape(*values.shape[:2], shape[0]), shape[1:])


def prepared(values: NDArray[np.uint8], size: tuple[int, int]) -> Pixels:
    """The largest centred rectangle of a size's proportions, resized to it: [y x channel] bytes to [channel y x] 0..1.

    For CelebA's pictures, 178 wide and 218 high, it is the centred square of 178. Resizing is bilinear with
    antialiasing: every new pixel is a mean of old ones, weighted by a triangle as wide as two new pixels. A picture
    that has the size already is not changed.
    """
    rows, columns = values.shape[:2]
    height, width = size
    crop = min(rows, max(1, columns * height // width)), min(columns, max(1, rows * width // height))
    top, left = (rows - crop[0]) // 2, (columns - crop[1]) // 2
    part = values[top : top + crop[0], left : left + crop[1]].transpose(2, 0, 1)
    if crop == size:
        return part.astype(np.float32) / np.float32(255)
    down, across = triangle(crop[0], height), triangle(crop[1], width).T
    # A band of rows at a time: the whole as float64 would take eight times the picture.
    bands = [part[:, row : row + _BAND].astype(np.float64) @ across for row in range(0, crop[0], _BAND)]
    return np.asarray(down @ np.concatenate(bands, axis=1) / 255, dtype=np.float32)


@cache
def triangle(old: int, new: int) -> NDArray[np.float64]:
    """Weights [new old] of an antialiased linear resize; every row sums to 1."""
    scale = old / new
    reach = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach
    weights = np.maximum(1.0 - distance, 0.0)
    found: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return found


def decoder() -> str:
    """What decodes pictures here; JPEG's last bits are its own."""
    turbo = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    jpeg = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}"
    return f"Pillow {PIL.__version__}, {jpeg}"


def _bytes(path: Path, place: str) -> bytes:
    if not path.is_file():
        raise DefinitionError(
            f"{str(path)!r} is no file{_at(place)}.",
            consequence="A device or a pipe may never end.",
            remedy="give PNG or JPEG files",
        )
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise DefinitionError(
            f"The file {str(path)!r} has {size} bytes, and a picture may have {MAX_BYTES}{_at(place)}.",
            consequence="It is not read.",
            remedy="save a smaller copy: a model sees a small picture anyway",
        )
    return path.read_bytes()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_DIGITS]


def _fits(picture: Image.Image, path: Path, channels: int, place: str) -> None:
    if picture.width * picture.height > MAX_PIXELS:
        raise DefinitionError(
            f"The picture {str(path)!r} is {picture.height} x {picture.width} pixels{_at(place)}.",
            consequence=f"Decoding it could take any amount of memory; up to {MAX_PIXELS} pixels are decoded.",
            remedy="save a smaller copy: a model sees a small picture anyway",
        )
    wanted = _MODES.get(channels, ())
    if picture.mode not in wanted or "transparency" in picture.info:
        kind = {1: "gray", 3: "colour (RGB)"}.get(channels, f"{channels} channels")
        found = f"{picture.mode}{' with transparency' if 'transparency' in picture.info else ''}"
        raise DefinitionError(
            f"The picture {str(path)!r} is {found}, and the model's images are {kind}{_at(place)}.",
            consequence="How its channels should become the model's is not ours to choose.",
            remedy=f"convert it, for instance with Pillow: Image.open(path).convert({wanted[0]!r}).save(copy)"
            if wanted
            else "use a model of gray or RGB images",
        )


@contextmanager
def _sound(path: Path, place: str) -> Iterator[None]:
    """Turn whatever a damaged or dishonest file does to a decoder into a refusal that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except _READ as error:
        bomb = isinstance(error, _BOMBS)
        raise DefinitionError(
            f"The file {str(path)!r} {'claims too many pixels' if bomb else 'is no sound PNG or JPEG'}{_at(place)}.",
            consequence=f"Up to {MAX_PIXELS} pixels are decoded." if bomb else "There is no picture in it.",
            remedy="save a smaller copy" if bomb else "replace it, or move it out of the folder",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _at(place: str) -> str:
    return f" ({place})" if place else ""
