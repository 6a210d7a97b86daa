"""A mask from a PNG file, where the picture leaves no doubt about which pixels are meant.

Three kinds of drawing are understood: black and white, a gray of two values, and strokes on a transparent ground,
where the strokes are the mask whatever their colour. All else is refused, since a threshold is the author's to choose.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowprofile.errors import DefinitionError

Values = NDArray[np.int64]
_WHITES: Final = (1, 255, 65535)
"""What can stand for 'in the mask' beside 0."""
_OPAQUE: Final = 255


def read_png(path: Path, *, shape: tuple[int, int], place: str = "") -> NDArray[np.bool_]:
    """The mask [y x] in a two-valued PNG file of the given height and width.

    The size is compared before a pixel is decoded, so a file that is not of the image's size costs nothing.
    """
    where = f" ({place})" if place else ""
    if not path.is_file():
        raise DefinitionError(
            f"There is no file {str(path)!r}{where}.",
            remedy="a path begins at the definition's folder, or from Python at the working folder",
        )
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            size = (picture.height, picture.width)
            if size != shape:
                raise DefinitionError(
                    f"The picture {str(path)!r} is {size[0]} x {size[1]} pixels and the image {shape[0]} x {shape[1]}"
                    f"{where}.",
                    consequence="No pixel of one is a pixel of the other, and a mask is never resized silently.",
                    remedy="draw it in the image's size (height x width)",
                )
            values = _drawn(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DefinitionError(
            f"The file {str(path)!r} is not a sound PNG picture{where}.",
            remedy="save the mask as PNG; a lossy format has no two values",
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    if isinstance(values, str):
        raise _doubtful(path, where, values)
    found = np.unique(values)
    if not any(set(found.tolist()) <= {0, white} for white in _WHITES):
        shown = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        raise _doubtful(path, where, f"{len(found)} values: {shown}")
    mask: NDArray[np.bool_] = values > 0
    return mask


def _drawn(picture: Image.Image) -> Values | str:
    """The numbers [y x] that are to have two values: alpha if the ground is transparent, else gray; or what is in doubt."""
    if picture.mode == "P" or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    bands, values = picture.getbands(), np.asarray(picture).astype(np.int64)
    if values.ndim == 2:
        return values
    alpha = values[..., -1] if bands[-1] == "A" else np.full(values.shape[:2], _OPAQUE)
    colours = values[..., : len(bands) - (bands[-1] == "A")]
    if alpha.min() < _OPAQUE:
        strokes = np.unique(colours[alpha > 0], axis=0)
        return alpha if len(strokes) < 2 else "strokes of several colours on a transparent ground"
    return "colours" if (colours != colours[..., :1]).any() else colours[..., 0]


def _doubtful(path: Path, where: str, evidence: str) -> DefinitionError:
    return DefinitionError(
        f"The picture {str(path)!r} is not two-valued{where}.",
        consequence="Which of its pixels are meant is open, and where to cut is not ours to choose.",
        remedy="threshold it: keep black (0) for out and white (255) for in, without smoothed edges",
        evidence=evidence,
    )
