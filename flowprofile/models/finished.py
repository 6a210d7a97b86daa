"""What a training finds where it would write: the model it makes, already finished, or somebody else's.

A finished model is hours of work and has no second copy, so it is never written over unless that is asked for. Which
recipe made a file stands on its card; a folder of diffusers' has no card, so a note lies in it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from flowprofile.errors import ModelError
from flowprofile.models import weights
from flowprofile.models.stored import contents

NOTE: Final = "recipe.json"
"""Says inside a folder which recipe made it."""
RECIPE: Final = "recipe"


def already(path: Path, recipe: str) -> bool:
    """Whether the model at `path` was made by the recipe of this fingerprint.

    Raises
    ------
    ModelError
        If something else is there, which a training would replace.
    """
    if not path.exists():
        return False
    found = _recipe_of(path)
    if found == recipe:
        return True
    raise ModelError(
        f"{str(path)!r} is there already, and another recipe made it.",
        consequence="Training would replace that model by one of other pictures, labels, sizes or steps.",
        remedy="use another name or folder (--name, --into), remove what is there, or begin anew with --fresh"
        " (resume=False), which replaces it",
        evidence=f"recipe {found!r} there, {recipe!r} here",
    )


def notes(recipe: str) -> Mapping[str, str]:
    """What is to lie in a folder, so that it is known which recipe made it: text by name."""
    return {NOTE: json.dumps({RECIPE: recipe}) + "\n"}


def _recipe_of(path: Path) -> str | None:
    """Fingerprint of the recipe, None where it is not known."""
    if path.is_dir():
        file = path / NOTE
        told: Mapping[str, Any] = contents(file) if file.is_file() else {}
    else:
        told = weights.card(path).training if weights.KEY in weights.read_header(path).metadata else {}
    found = told.get(RECIPE)
    return None if found is None else str(found)
