"""Where one looks: masks as frozen values, from a name, a rectangle, a picture or an array.

A mask is boolean from its first line on. The thesis tested a mask by its *value*, so that a pixel whose gradient was
truly zero counted as masked, and a stroke drawn in gray scaled what it should only have chosen. What is not clearly
two-valued is therefore refused here and never rounded.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import regions as known
from flowprofile.objects.pictures import read_png

Pixels = NDArray[np.bool_]
AT_LEAST: Final = 0.5
"""Share of renders in which a pixel must belong to a region to be in its mask."""
FORMS: Final = (
    'a region\'s name, "file.png", {region = ...}, {rectangle = [y0, x0, y1, x1]}, {pixels = [y * width + x, ...]},'
    " {png = ...}, or a boolean array"
)
_TABLES: Final = {
    "region": ("region", "at_least", "read"),
    "rectangle": ("rectangle",),
    "pixels": ("pixels",),
    "png": ("png",),
}


@dataclass(frozen=True)
class Mask:
    """A set of pixels of the image, or the name of a region that each sample has somewhere else.

    Two masks are equal when their content is: who called it what does not matter.
    """

    name: str = field(compare=False)
    """How it is called in names and reports."""
    digest: str
    """Digest of its content: shape and pixels, or region and the reader's weights."""
    array: Pixels | None = field(default=None, compare=False, repr=False)
    """Its pixels [y x], not writable; None where they are read off each sample's own x_0."""
    region: str | None = field(default=None, compare=False)
    """The region that is read off each sample; None for a mask that is the same for all."""


def fixed(name: str, array: ArrayLike, *, shape: tuple[int, int] | None = None, place: str = "") -> Mask:
    """The mask of a boolean array [y x]; refuses numbers, another shape than `shape`, and an array without a pixel."""
    given = np.asarray(array)
    if given.dtype != np.bool_:
        raise DefinitionError(
            f"The mask {name!r} holds {given.dtype} and not booleans{_at(place)}.",
            consequence="What a number means is open: a gradient that is truly zero is not a pixel left out.",
            remedy="compare first, for instance `values > 0.5`",
        )
    if given.ndim != 2 or (shape is not None and given.shape != shape):
        wanted = "[y x]" if shape is None else f"[y x] of {_size(shape)}"
        raise DefinitionError(
            f"The mask {name!r} has the shape {given.shape!r}{_at(place)}.",
            consequence=f"It is laid over the image, so it must be {wanted}.",
            remedy="give one boolean for each pixel of the image, without a channel axis",
        )
    if not given.any():
        raise _empty(name, place, "choose at least one pixel")
    pixels_ = np.array(given, order="C")
    pixels_.flags.writeable = False
    return Mask(name, _digest("pixels", repr(pixels_.shape), np.packbits(pixels_).tobytes()), pixels_)


def read_off(model: str, region: str, *, place: str = "") -> Mask:
    """The mask that every sample of a model has of its own; the reader's weights are part of its identity."""
    _known(model, region, place)
    digest = _digest("read", region, known.reader_digest(model).encode())
    return Mask(f"own {region}", digest, None, region)


def complement(mask: Mask) -> Mask:
    """All pixels that a mask has not; of a fixed mask only, and refused when nothing is left."""
    if mask.array is None:
        raise DefinitionError(
            f"The mask {mask.name!r} is read off each sample and has no pixels yet.",
            consequence="What is outside of it is another set for every sample.",
            remedy=f"use the region's frequency map, {mask.region!r}",
        )
    return fixed(f"not {mask.name}", ~mask.array)


def parse(
    value: Any, *, shape: tuple[int, int], model: str, folder: str | Path | None = None, place: str = ""
) -> Mask:
    """The mask that a definition or a caller means.

    Parameters
    ----------
    value
        "eyes": the pixels that belong to the region in at least half of all renders; {region = "eyes", at_least =
        0.3}: in another share; {region = "eyes", read = true}: read off each sample's own x_0; {rectangle = [y0, x0,
        y1, x1]}: rows y0 to y1 and columns x0 to x1, without the ends; {pixels = [489, 490]}: these pixels by their
        number y * width + x, as in a gradient's coordinate `pixel`; "m.png" or {png = "m.png"}: a two-valued picture
        of the image's size; from Python also a boolean array [y x] or a Mask.
    shape
        Height and width of the image.
    model
        Name of the model, by which its regions are found.
    folder
        Where the path of a PNG begins; the working folder by default.
    place
        Where the value stands, for the refusal.

    Raises
    ------
    DefinitionError
        What is not one of these, has another size, is outside of the image, or contains no pixel.
    """
    if isinstance(value, Mask):
        return value if value.array is None else fixed(value.name, value.array, shape=shape, place=place)
    if isinstance(value, str):
        value = {"png": value} if value.lower().endswith(".png") else {"region": value}
    if isinstance(value, Mapping):
        return _table(value, shape, model, folder, place)
    return _array(value, shape, place)


def resampled(array: ArrayLike, size: tuple[int, int]) -> NDArray[np.float32]:
    """The share of every cell of another grid that a mask covers, float32[... h w] of a mask [... y x].

    Areas are exact, also where one grid does not divide the other; so the mean over the cells is the mean over the
    pixels, and a mask and its complement add up to one.
    """
    mask = np.asarray(array)
    rows, columns = (_overlaps(old, new) for old, new in zip(mask.shape[-2:], size, strict=True))
    shares: NDArray[np.float64] = rows @ mask.astype(np.float64) @ columns.T
    return shares.astype(np.float32)


def pixels(array: ArrayLike) -> NDArray[np.int64]:
    """Row and column of a mask's pixels, row by row, int64[pixel 2]."""
    found: NDArray[np.int64] = np.argwhere(np.asarray(array)).astype(np.int64)
    return found


def _table(
    table: Mapping[str, Any], shape: tuple[int, int], model: str, folder: str | Path | None, place: str
) -> Mask:
    kind = next((name for name in _TABLES if name in table), None)
    unknown = [key for key in table if kind is None or key not in _TABLES[kind]]
    if kind is None or unknown:
        wrong = unknown[0] if unknown else ""
        options = _TABLES[kind] if kind else [key for keys in _TABLES.values() for key in keys]
        raise DefinitionError(
            f"The table {dict(table)!r} is no mask{_at(place)}.",
            consequence="There is no saying which pixels are meant.",
            remedy=f"{nearest(wrong, options)}; a mask is {FORMS}",
        )
    if kind == "region":
        return _region(table, shape, model, place)
    if kind == "rectangle":
        return _rectangle(table["rectangle"], shape, place)
    if kind == "pixels":
        return _of_pixels(table["pixels"], shape, place)
    path = table["png"]
    if not isinstance(path, str | Path):
        raise DefinitionError(f"The path {path!r} of a PNG is not a text{_at(place)}.", remedy='give "m.png"')
    drawn = read_png(Path(folder or ".") / path, shape=shape, place=place)
    return _numbered(fixed(Path(path).name, drawn, place=place))


def _region(table: Mapping[str, Any], shape: tuple[int, int], model: str, place: str) -> Mask:
    region, share, read = table["region"], table.get("at_least", AT_LEAST), table.get("read", False)
    _known(model, region, place)
    if not isinstance(read, bool) or (read and "at_least" in table):
        raise DefinitionError(
            f"The table {dict(table)!r} is no region{_at(place)}.",
            consequence="A region is either read off each sample or its frequency map, which alone has shares.",
            remedy=f'use {{region = "{region}", read = true}} or {{region = "{region}", at_least = {AT_LEAST}}}',
        )
    if read:
        return read_off(model, region, place=place)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise DefinitionError(
            f"No pixel can belong to {region!r} in a share of {share!r} of the renders{_at(place)}.",
            remedy="give a number above 0 and of at most 1",
        )
    often = known.frequency(model, region)
    if often.shape != shape:
        raise DefinitionError(
            f"The frequency map of {region!r} is {_size(often.shape)} and the image {_size(shape)}{_at(place)}.",
            consequence="No pixel of one is a pixel of the other.",
            remedy="give a rectangle, a PNG file or a boolean array",
        )
    name = region if share == AT_LEAST else f"{region}>={float(share)!r}"
    if not (often >= share).any():
        most = np.floor(float(often.max()) * 100) / 100
        raise _empty(
            name,
            place,
            f'use {{region = "{region}", at_least = {most:g}}} or less, or {{region = "{region}", read = true}}',
            evidence=f"no pixel belongs to it in more than {often.max():.1%} of the renders",
        )
    return fixed(name, often >= share, place=place)


def _rectangle(value: Any, shape: tuple[int, int], place: str) -> Mask:
    numbers = list(value) if isinstance(value, list | tuple) else [value]
    whole = [int(v) for v in numbers if isinstance(v, int | np.integer) and not isinstance(v, bool)]
    if len(numbers) != 4 or len(whole) != 4:
        raise DefinitionError(
            f"{value!r} is no rectangle{_at(place)}.",
            remedy="give four whole numbers [y0, x0, y1, x1]; the row y1 and the column x1 are outside of it",
        )
    y0, x0, y1, x1 = whole
    if min(y0, x0) < 0 or y1 > shape[0] or x1 > shape[1]:
        raise DefinitionError(
            f"The rectangle {whole!r} reaches out of the image of {_size(shape)}{_at(place)}.",
            consequence="Negative numbers do not count from the far edge here, and nothing is cut off silently.",
            remedy=f"keep to rows 0 to {shape[0]} and columns 0 to {shape[1]}: [y0, x0, y1, x1]",
        )
    array = np.zeros(shape, np.bool_)
    array[y0:y1, x0:x1] = True
    name = f"[{y0}:{y1}, {x0}:{x1}]"
    if not array.any():
        raise _empty(
            name, place, "let y1 be larger than y0 and x1 than x0: [y0, x0, y1, x1], without the ends"
        )
    return fixed(name, array, place=place)


def _of_pixels(value: Any, shape: tuple[int, int], place: str) -> Mask:
    if not isinstance(value, list | tuple):
        what, wrong = "list of pixels", [value]
    else:
        what, wrong = (
            "number of a pixel",
            [n for n in value if isinstance(n, bool) or not isinstance(n, int | np.integer)],
        )
    if wrong:
        raise DefinitionError(
            f"{wrong[0]!r} is no {what}{_at(place)}.",
            consequence="There is no saying which pixels are meant.",
            remedy=f"give a list of whole numbers y * {shape[1]} + x: pixels = [{shape[1]}] is y = 1, x = 0",
        )
    outside = [n for n in value if not 0 <= n < shape[0] * shape[1]]
    if outside:
        raise DefinitionError(
            f"The pixel {outside[0]} is outside of the image of {_size(shape)}{_at(place)}.",
            consequence="Nothing is cut off silently: a mask drawn on a picture of another size is another mask.",
            remedy=f"give numbers of 0 to {shape[0] * shape[1] - 1}: y * {shape[1]} + x",
        )
    doubled = [n for n, count in Counter(value).items() if count > 1]
    if doubled:
        raise DefinitionError(
            f"The pixel {doubled[0]} is named twice{_at(place)}.",
            consequence="A pixel is in a mask or not; something else may have been meant by the second.",
            remedy="name each pixel once",
        )
    array = np.zeros(shape, np.bool_)
    array.flat[list(value)] = True
    if not value:
        raise _empty("pixels", place, f"give at least one number y * {shape[1]} + x")
    return _numbered(fixed("pixels", array, place=place))


def _array(value: Any, shape: tuple[int, int], place: str) -> Mask:
    try:
        array = np.asarray(value)
    except ValueError:  # rows of unequal length
        array = np.asarray(None)
    if array.ndim == 0:
        raise DefinitionError(
            f"{value!r} is no mask{_at(place)}.",
            consequence="There is no saying which pixels are meant.",
            remedy=f"give {FORMS}",
        )
    return _numbered(fixed("array", array, shape=shape, place=place))


def _numbered(mask: Mask) -> Mask:
    """The mask with its content in its name: two files in two folders, or two arrays, would else be called the same."""
    return replace(mask, name=f"{mask.name} {mask.digest[:8]}")


def _known(model: str, region: Any, place: str) -> None:
    names = known.regions(model)
    if region not in names:
        raise DefinitionError(
            f"The model {model!r} has no region {region!r}{_at(place)}.",
            consequence="There is no saying which pixels are meant.",
            remedy=f'{nearest(region, names)}; a file\'s name ends in ".png"',
        )


def _empty(name: str, place: str, remedy: str, *, evidence: str = "") -> DefinitionError:
    return DefinitionError(
        f"The mask {name!r} has no pixel{_at(place)}.",
        consequence="A sum over no pixel is zero whatever the network does.",
        remedy=remedy,
        evidence=evidence,
    )


def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """Share of every new cell that lies in each old one, [new old]; rows add up to 1."""
    edges = np.arange(new + 1, dtype=np.float64) * old / new
    cells = np.arange(old, dtype=np.float64)
    shared = np.minimum(edges[1:, None], cells + 1.0) - np.maximum(edges[:-1, None], cells)
    overlaps: NDArray[np.float64] = np.maximum(shared, 0.0) * new / old
    return overlaps


def _digest(kind: str, what: str, content: bytes) -> str:
    return hashlib.sha256(f"{kind}\0{what}\0".encode() + content).hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _at(place: str) -> str:
    return f" ({place})" if place else ""
