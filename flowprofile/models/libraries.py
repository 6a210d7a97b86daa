"""diffusers and transformers, which only models of theirs need: imported when one is opened, missed in plain words."""

import importlib
from typing import Any

from flowprofile.errors import ModelError

EXTRA = 'pip install "flowprofile[diffusers]"'


def library(name: str, *, consequence: str, remedy: str = EXTRA) -> Any:
    """The library of that name.

    Raises
    ------
    ModelError
        If it is not installed, with what cannot be done without it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"{name} is not installed.", consequence=consequence, remedy=remedy, evidence=str(error)
        ) from error
