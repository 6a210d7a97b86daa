"""What a cache holds of one layer, whatever file it lies in, and the refusals that both kinds of files share.

A cache is a stranger's: shapes are checked before anything is allocated, and nothing in it is run.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flowprofile.errors import DefinitionError, NonFiniteError, StoreError

Values = npt.NDArray[np.generic]
Grid = tuple[int, int]
FLOATS: Final = ("float16", "float32", "float64")
NETWORKS: Final = ("unet.", "transformer.")
"""What a pipeline calls its network, in front of a layer's name."""


@dataclass(frozen=True)
class Cached:
    """One layer of a cache."""

    name: str
    """As the network calls it: without the name that a pipeline has for its network."""
    dtype: str
    shape: tuple[int, int, int]
    """Channel, y, x."""
    timesteps: tuple[int, ...]
    """What the network was told, descending; the same for every case."""
    cases: int
    files: tuple[Path, ...]
    about: dict[str, Any]
    """What decides how the file is understood: tensor or column, axes, grid."""
    read: Callable[[Sequence[bool]], Iterator[Values | None]]
    """The cases in order, each [time channel y x]; None for one that is not wanted."""


def layer_name(text: str) -> str:
    """The name inside the network.

    >>> layer_name("unet.up_blocks.1.attentions.1")
    'up_blocks.1.attentions.1'
    """
    for prefix in NETWORKS:
        text = text.removeprefix(prefix)
    return text


def grid_of(tokens: int, grid: Grid | None, *, where: str) -> Grid:
    """Rows and columns that tokens fill: those that are given, or a square.

    Raises
    ------
    DefinitionError
        If the tokens do not fill it.
    """
    side = round(tokens**0.5)
    rows, columns = grid or (side, side)
    if rows * columns == tokens and min(rows, columns) > 0:
        return rows, columns
    asked = f"the grid {rows} x {columns}" if grid else "a square"
    raise DefinitionError(
        f"The {tokens} tokens of {where} do not fill {asked}.",
        consequence="It is not known which place of the picture a token is.",
        remedy="give the rows and columns they fill, for instance --grid 16x24 (grid=(16, 24)); tokens of a text, or a"
        " class token among them, are no picture",
    )


def descending(timesteps: Sequence[int], *, where: str) -> tuple[int, ...]:
    """Timesteps that fall from noise to image, each once.

    Raises
    ------
    DefinitionError
        If they do not.
    """
    if timesteps and all(a > b for a, b in zip(timesteps, (*timesteps[1:], -1), strict=True)):
        return tuple(int(t) for t in timesteps)
    raise DefinitionError(
        f"The timesteps of {where} do not fall, each once, from noise to image.",
        consequence="A cell of the profile is one state, and states are shown in the order of generation.",
        remedy="give what the network was told at each step, falling, without a step that is asked twice",
        evidence=f"{list(timesteps[:8])!r}",
    )


def finite(values: Values, *, where: str) -> Values:
    """The values themselves; the first that is no number is named."""
    if np.isfinite(values).all():
        return values
    at = np.argwhere(~np.isfinite(values))[0].tolist()
    raise NonFiniteError(
        f"{where} has a {values[tuple(at)]} at time, channel, y, x = {at!r}.",
        consequence="A NaN in a profile means a cell that is not stored; this case and those that would have been written with it"
        " are not stored, those before them are.",
        remedy="collect the case again, or leave it out of the cache, and give the same command again",
    )


def unreadable(path: Path, error: object) -> StoreError:
    """The refusal of a file that is not what its name says."""
    return StoreError(
        f"{path} cannot be read.",
        consequence="Nothing of it was adopted.",
        remedy="copy it again: it is cut off, damaged or of another kind",
        evidence=f"{type(error).__name__}: {error}" if isinstance(error, Exception) else str(error),
    )
