"""The named regions of a model's pictures: which there are, and how often each pixel belongs to one.

The renderer knows what it painted where, so a region is a fact and no opinion, and its frequency map is a count. The
counts lie beside the weights, because a plan asks for them before anything is loaded: nothing here needs torch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.datasets.faces import HAIR, PARTS, faces
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import weights

KEY: Final = "flowprofile-regions"
"""Name of the metadata entry that says what was counted."""
MODELS: Final = ("faces32",)
"""Models that have named regions."""
UNIONS: Final = {"face": ("skin", "eyes", "brows", "mouth", "beard", "nose")}
"""Regions that are several parts of the renderer together; "face" has the neck and the ears, which are skin."""
COVERED: Final = "forehead"
"""What bangs cover: hair with bangs and something else without, of one and the same person."""
REGIONS: Final = (*PARTS, *UNIONS, COVERED)
"""All regions of a face, in the order in which arrays hold them."""
COLLECTION: Final = 5
"""The collection of renders that is counted; no network has learned from it."""

FOLDER: Final = Path(__file__).parent / "embedded"
"""Where what is embedded lies."""
_BANGS: Final = 8


@dataclass(frozen=True)
class Renders:
    """Pictures with the truth about their regions."""

    images: NDArray[np.float32]
    """Colours in [0, 1], [case channel y x]; every person twice, without bangs and with them."""
    masks: NDArray[np.bool_]
    """Which pixels a region has, [case region y x]; regions may overlap."""


@dataclass(frozen=True)
class Counts:
    """How often each pixel belonged to each region."""

    model: str
    """The model whose pictures these are like."""
    regions: tuple[str, ...]
    """Names, in the order of the counts."""
    renders: int
    """Pictures that were counted."""
    collection: int
    """The endless collection they are from."""


def regions(model: str) -> tuple[str, ...]:
    """Names of a model's regions; a model without any is refused with what to use instead."""
    if model not in MODELS:
        raise DefinitionError(
            f"The model {model!r} has no named regions.",
            consequence="There is no truth from which a region of its pictures could be known.",
            remedy="give {rectangle = [y0, x0, y1, x1]}, a PNG file, or a boolean array from Python",
            evidence=f"models with regions: {', '.join(MODELS)}",
        )
    return _counted(model)[0].regions


def frequency(model: str, region: str) -> NDArray[np.float32]:
    """The share of renders in which a pixel belongs to the region, over all labels equally, [y x]."""
    known = regions(model)
    if region not in known:
        raise DefinitionError(
            f"The model {model!r} has no region {region!r}.",
            remedy=nearest(region, known),
        )
    card, counts = _counted(model)
    share: NDArray[np.float32] = (counts[known.index(region)] / card.renders).astype(np.float32)
    return share


def reader_digest(model: str) -> str:
    """Digest of the network that reads regions off this model's samples, without loading it."""
    regions(model)
    return weights.digest(reader_path(model))


def reader_path(model: str, *, folder: str | Path = FOLDER) -> Path:
    """Where that network's weights are."""
    return Path(folder) / f"{model}-segmenter.safetensors"


def renders(collection: int, people: Sequence[int], *, size: int = 32) -> Renders:
    """The people of a collection, each without bangs and with them, in all other attributes by turns.

    About 1 ms a person at 32 x 32. The pair is what makes the forehead known: a single picture hides it or shows it.
    """
    others = [person % _BANGS for person in people]
    bare, banged = (
        faces(collection, people, labels=[other | bangs for other in others], size=size)
        for bangs in (0, _BANGS)
    )
    covered = (banged.parts == HAIR) & (bare.parts != HAIR)
    masks = [_masks(drawn.parts, covered) for drawn in (bare, banged)]
    return Renders(np.concatenate([bare.images, banged.images]), np.concatenate(masks))


def counted(*, people: int = 1024, collection: int = COLLECTION, size: int = 32) -> NDArray[np.uint16]:
    """Renders in which a pixel belongs to a region, [region y x], over the first people of a collection: twice as many."""
    total = np.zeros((len(REGIONS), size, size), np.int64)
    for first in range(0, people, 64):
        part = renders(collection, range(first, min(first + 64, people)), size=size)
        total += part.masks.sum(axis=0, dtype=np.int64)
    return total.astype(np.uint16)


def save_counts(model: str, *, people: int = 1024, folder: str | Path = FOLDER) -> Path:
    """Count, and write what `frequency` reads; how the shipped file was made. Needs torch, as all that makes models."""
    import torch

    path = _counts_path(model, folder)
    card = Counts(model, REGIONS, 2 * people, COLLECTION)
    counts = torch.from_numpy(counted(people=people))
    weights.write(path, {"counts": counts}, {KEY: json.dumps(asdict(card), sort_keys=True)})
    return path


def _masks(parts: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    single = [parts == number for number in range(len(PARTS))]
    union = [np.logical_or.reduce([single[PARTS.index(name)] for name in names]) for names in UNIONS.values()]
    return np.stack([*single, *union, covered], axis=1)


def _counts_path(model: str, folder: str | Path) -> Path:
    return Path(folder) / f"{model}-regions.safetensors"


@cache
def _counted(model: str) -> tuple[Counts, NDArray[np.uint16]]:
    from safetensors.numpy import load_file

    path = _counts_path(model, FOLDER)
    values = json.loads(weights.read_header(path).metadata[KEY])
    counts: NDArray[np.uint16] = load_file(str(path))["counts"]
    return Counts(**{**values, "regions": tuple(values["regions"])}), counts
