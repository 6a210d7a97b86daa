"""A model of one's own pictures: the recipe of the shipped faces, for a folder with a table of attributes."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.datasets.folder import Labelled, labelled
from flowprofile.errors import DefinitionError
from flowprofile.models import zoo
from flowprofile.models.layers import parse_config, size_fits
from flowprofile.models.training import RECIPES, Batch, Recipe, Source

CHANNELS: Final = 3
SIZE: Final = 32
"""Side of the images, if nothing is said."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")


def pictured(
    images: str | Path,
    attributes: Sequence[str],
    *,
    size: int = SIZE,
    name: str | None = None,
    steps: int | None = None,
    dim: int | None = None,
    mults: Sequence[int] | None = None,
    seed: int = 0,
) -> tuple[Recipe, Source]:
    """The recipe of a model of pictures with attributes, and where it gets them: `train(recipe, data=source, ...)`.

    Parameters
    ----------
    images
        A folder in CelebA's layout; see `datasets.folder`.
    attributes
        What a label's bits mean, most significant first; names of the table's columns.
    size
        Side of the square images.
    name
        What the model is called; by default the folder's name and the size.
    steps
        Optimiser steps; by default those of the shipped faces, which are few for photographs.
    dim, mults
        Width of the first level, and of every level as a multiple of it; each but the last halves the side.
    seed
        Of the weights, the order and the noise.

    Raises
    ------
    DefinitionError
        For whatever is wrong with the folder, a name, or a size that the levels cannot halve.
    ModelError
        For a network that cannot be built: an odd width, a single level.
    """
    like = RECIPES["faces32"]
    levels = tuple(mults) if mults is not None else tuple(like.config["mults"])
    size_fits(size, len(levels))
    called = name if name is not None else f"{_plain(Path(images).resolve().name)}-{size}"
    _name_fits(called)
    config = {
        **like.config,
        "dim": dim if dim is not None else like.config["dim"],
        "mults": levels,
        "label_width": len(attributes),
    }
    parse_config(config)
    data = labelled(Path(images), attributes)
    recipe = Recipe(
        name=called,
        data="pictures",
        config=config,
        shape=(CHANNELS, size, size),
        labels=LabelSpace(data.attributes),
        steps=steps if steps is not None else like.steps,
        batch=like.batch,
        seed=seed,
        source=data.digest,
    )
    return recipe, lambda recipe: _batches(recipe, data)


def _batches(recipe: Recipe, data: Labelled) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        images, labels = data.batch(data.places(recipe.seed, step, recipe.batch), recipe.shape)
        return np.float32(2.0) * images - np.float32(1.0), labels

    return batch


def _plain(name: str) -> str:
    """A folder's name as a model may be called."""
    return re.sub(r"[^A-Za-z0-9._\-]+", "-", name).strip("-.") or "pictures"


def _name_fits(name: str) -> None:
    if not _NAME.fullmatch(name) or name in zoo.NAMES:
        raise DefinitionError(
            f"A model cannot be called {name!r}.",
            consequence="It is the name of a shipped model, and would be taken for it."
            if name in zoo.NAMES
            else "Its name becomes that of a file and of folders in stores.",
            remedy="use letters, digits and . _ -, for instance --name mine",
        )
