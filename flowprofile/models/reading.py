"""Which network reads the labels of whose pictures, and what its file says of it.

A plan asks for it before anything is loaded, so that a reader of other pictures is refused before a sample is drawn:
nothing here needs torch.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from flowprofile.errors import ModelError
from flowprofile.models import weights

KEY: Final = "flowprofile-reader"
"""Name of the metadata entry that holds the card."""
MODELS: Final = ("digits", "faces32")
"""Models that come with a reader."""
FOLDER: Final = Path(__file__).parent / "embedded"
"""Where what is embedded lies."""
WIDTHS: Final = (24, 32, 48)
"""Channels of the three convolutions."""


@dataclass(frozen=True)
class ReaderCard:
    """What a reader reads, and how well."""

    name: str
    """Name of the model whose samples it reads."""
    channels: int
    """Image channels."""
    size: int
    """Side of the image."""
    heads: tuple[int, ...]
    """Answers of each question: (2, 2, 2, 2) for four bits, (10,) for ten classes."""
    held_out: float = 0.0
    """Share of held-out pictures that it reads without any error."""
    held_out_n: int = 0
    """How many those were."""

    @property
    def labels(self) -> int:
        """How many labels it tells apart: every combination of answers."""
        return prod(self.heads)

    @property
    def shrink(self) -> int:
        """Stride of its second convolution; the third always halves."""
        return 2 if self.size >= 16 else 1

    @property
    def side(self) -> int:
        """Side of what its last layer sees."""
        return self.size // (2 * self.shrink)


def path_of(name: str, *, folder: str | Path = FOLDER) -> Path:
    """Where the reader of a model's samples is."""
    return Path(folder) / f"{name}-reader.safetensors"


def card(path: str | Path) -> ReaderCard:
    """The card in a reader's file, checked against its tensors; raises ModelError for a file that holds no reader."""
    header = weights.read_header(path)
    if KEY not in header.metadata:
        raise _no_reader(path, f"metadata entries: {sorted(header.metadata)!r}")
    try:
        values = json.loads(header.metadata[KEY])
        found = ReaderCard(**{**values, "heads": tuple(values["heads"])})
        sound = all(
            type(number) is int and number >= 1 for number in (found.channels, found.size, *found.heads)
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise _no_reader(path, f"{type(error).__name__}: {error}") from error
    if not sound or not found.heads:
        raise _no_reader(path, f"card {header.metadata[KEY]!r}")
    shapes, wanted = {entry.name: entry.shape for entry in header.entries}, _shapes(found)
    if shapes != wanted:
        odd = sorted(name for name in {**shapes, **wanted} if shapes.get(name) != wanted.get(name))
        told = [f"{name}: {shapes.get(name)!r}, not {wanted.get(name)!r}" for name in odd]
        raise _no_reader(path, "; ".join(told))
    return found


def _shapes(found: ReaderCard) -> dict[str, tuple[int, ...]]:
    """The tensors a reader of this card has."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (before, width) in enumerate(zip((found.channels, *WIDTHS), WIDTHS, strict=False)):
        shapes[f"features.{2 * layer}.weight"] = (width, before, 3, 3)
        shapes[f"features.{2 * layer}.bias"] = (width,)
    answers = sum(found.heads)
    return shapes | {
        "answers.weight": (answers, WIDTHS[-1] * found.side**2),
        "answers.bias": (answers,),
    }


def _no_reader(path: str | Path, evidence: str) -> ModelError:
    return ModelError(
        f"The file {str(path)!r} holds no reader of labels.",
        consequence="What its tensors mean, and which pictures they were made for, is unknown.",
        remedy="write it with flowprofile.models.reader.save(Reader(ReaderCard(...)), folder=...)",
        evidence=evidence,
    )
