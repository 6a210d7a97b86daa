"""A mask whose picture has numbers, for code that multiplies with them (compat): strokes of 0 to 255 as they are drawn."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprofile.errors import DefinitionError
from flowprofile.kinds import Context
from flowprofile.objects.masks import Mask, fixed
from flowprofile.stages.masks import fixed_mask

Strokes = NDArray[np.float32]


def drawn(value: Any, context: Context, *, place: str) -> tuple[Mask, Strokes | None]:
    """The mask a value means, and the numbers of its picture [y x]; None where it is no picture.

    Where strokes count, a gray picture is a mask too: the pixels that are not 0. A region, a rectangle or an array has
    no numbers, so its pixels count once.
    """
    path = _picture(value) if context.compat.strokes else None
    if path is None:
        return fixed_mask(value, context, place=place), None
    file = (context.folder or Path()) / path
    if not file.is_file():
        return fixed_mask(value, context, place=place), None  # refuses, and says why
    strokes = _gray(file, place)
    name = f"strokes of {file.name}"
    mask = fixed(name, strokes > 0, shape=(context.card.shape[1], context.card.shape[2]), place=place)
    return mask, strokes


def _picture(value: Any) -> str | None:
    if isinstance(value, str) and value.lower().endswith(".png"):
        return value
    if isinstance(value, Mapping) and isinstance(value.get("png"), str) and set(value) == {"png"}:
        return str(value["png"])
    return None


def _gray(file: Path, place: str) -> Strokes:
    """The numbers of an 8-bit gray picture, or of the one gray of a coloured one."""
    from PIL import Image

    try:
        with Image.open(file, formats=("PNG",)) as picture:
            values = np.asarray(picture if picture.mode in ("L", "RGB") else picture.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DefinitionError(
            f"The file {str(file)!r} is not a sound PNG picture ({place}).",
            remedy="save the strokes as a gray PNG of 8 bits",
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    gray = values if values.ndim == 2 else values[..., 0]
    same = values.ndim == 2 or bool((values[..., :3] == gray[..., None]).all())
    opaque = values.ndim == 2 or values.shape[2] == 3 or bool((values[..., 3] == 255).all())
    if not (same and opaque):
        raise DefinitionError(
            f"The picture {str(file)!r} has colours or is transparent ({place}).",
            consequence="Which numbers the rows would be multiplied by is open.",
            remedy="save the strokes as an opaque gray PNG of 8 bits",
        )
    return gray.astype(np.float32)
