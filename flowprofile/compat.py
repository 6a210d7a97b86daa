"""Published code, deviation by deviation: what it does otherwise than its text, or than is right (docs/compat.md).

A definition says ``compat = "thesis-2023"`` and means the code of *An XAI Interface for Diffusion Models* (Schörverth,
2023), defect for defect. Every deviation is a field here, and each is in the key of exactly those results that it
changes: a result that none of them touches is the same result, and is shared with runs that know nothing of this page.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.errors import DefinitionError
from flowprofile.time.sources import PHILOX, Noise, NoiseBatch

GENERATOR: Final = "torch-generator-1"
"""Name of the recipe of `time.generator`; part of every key."""


@dataclass(frozen=True)
class Compat:
    """What is done otherwise; as it stands, nothing."""

    name: str = ""
    noise: str | None = None
    """The sampler's noise where a definition does not say."""
    in_place: bool = False
    """Edits are written into a layer's output: at an Identity also into its input, and so into the skip."""
    label_plane: bool = False
    """A gradient volume adds the gradient with respect to the label's planes to that of the colours."""
    skips_zeros: bool = False
    """A gradient volume has no row, here a row of zeros, for a pixel of x_t whose value is 0."""
    strokes: bool = False
    """A gradient volume's rows are multiplied by the numbers 0 to 255 of the picture that is its mask."""
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Other defaults of stages' parameters, by kind; a table that says otherwise has its way."""

    @property
    def volume(self) -> dict[str, Any]:
        """What a gradient volume's key must say of this."""
        named = {"label_plane": self.label_plane, "skips_zeros": self.skips_zeros}
        return {name: value for name, value in named.items() if value}


NONE: Final = Compat()
"""Nothing is done otherwise."""
THESIS_2023: Final = Compat(
    name="thesis-2023",
    noise="torch",
    in_place=True,
    label_plane=True,
    skips_zeros=True,
    strokes=True,
    stages=MappingProxyType(
        {
            "ssim": {"data_range": 2.0},
            "layer_distance": {"normalise": "minmax"},
            "attention_distance": {"normalise": "minmax"},
            "gradient_distance": {"normalise": "minmax"},
            "attention": {"normalise": "minmax"},
            "influence": {"threshold": True},
        }
    ),
)
"""The code of the thesis, as published in 2023."""
BY_NAME: Final[Mapping[str | None, Compat]] = MappingProxyType({None: NONE, "thesis-2023": THESIS_2023})


@dataclass(frozen=True)
class Drawn:
    """Noise of a generator; torch is loaded when the first number is drawn, not when a run is planned."""

    grid: tuple[int, ...]
    x_T: Path | None = None
    _opened: dict[str, NoiseBatch] = field(default_factory=dict, compare=False, repr=False)

    def __call__(self, seeds: Sequence[int], t: int, shape: Sequence[int]) -> NDArray[np.float32]:
        """Noise of several seeds at one t, [case, *shape]."""
        if "noise" not in self._opened:
            from flowprofile.time.generator import GeneratorNoise

            self._opened["noise"] = GeneratorNoise(self.grid, self.x_T)
        return self._opened["noise"](seeds, t, shape)


def noise_of(
    asked: str | Path,
    *,
    grid: tuple[int, ...],
    shape: tuple[int, ...],
    seeds: Sequence[int],
) -> Noise:
    """The source that is asked for: "philox", "torch", or a file with the first states.

    Parameters
    ----------
    asked
        "philox", "torch", or the path of a .npy file [seed channel y x] with x_T; the generator draws what follows.
    grid
        Every state of the sampler: the generator's k-th draw belongs to the k-th.
    shape, seeds
        What a state is like, and which rows of the file are needed: the file is checked without reading its numbers
        into memory.

    Raises
    ------
    DefinitionError
        For a file that is none, or holds no float32 state for each seed.
    """
    if asked == "philox":
        return PHILOX
    if asked == "torch":
        return Noise(GENERATOR, Drawn(grid))
    path = Path(asked)
    _checked(path, shape, seeds)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return Noise(f"{GENERATOR}:x_T={digest}", Drawn(grid, path))


def _checked(path: Path, shape: tuple[int, ...], seeds: Sequence[int]) -> None:
    try:
        states = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DefinitionError(
            f"There is no file {str(path)!r}.",
            consequence="The runs would have no first state.",
            remedy="a path begins at the definition's folder, or from Python at the working folder",
        ) from error
    except (OSError, ValueError, EOFError) as error:
        raise DefinitionError(
            f"The file {str(path)!r} is no array that can be read safely.",
            consequence="The runs would have no first state.",
            remedy="save plain numbers: numpy.save(path, x_T.astype(numpy.float32))",
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    found = f"{states.dtype} {states.shape}" if isinstance(states, np.ndarray) else "several arrays"
    fits = isinstance(states, np.ndarray) and states.dtype == np.float32 and states.shape[1:] == shape
    if not fits or max(seeds) >= len(states):
        raise DefinitionError(
            f"{path.name} holds {found}, and seed {max(seeds)} needs a row of float32 {shape}.",
            consequence="A run would begin from numbers that nobody gave.",
            remedy="save one first state per seed, row s for seed s: numpy.save(path, x_T.astype(numpy.float32))",
        )
    if not all(np.isfinite(states[seed]).all() for seed in seeds):
        raise DefinitionError(
            f"{path.name} holds a NaN or an infinity.",
            consequence="The run that begins from it would leave the numbers at once.",
            remedy="save finite first states",
        )
