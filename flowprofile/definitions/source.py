"""`[source]`: pictures that are given, instead of sampled from noise.

[source]
images     = "photos"                # a folder of PNG and JPEG files, or a list of files
how        = "noised"                # or "inverted"
draws      = 2
attributes = "list_attr_celeba.txt"  # the label of each picture, instead of cases.labels
"""

import os
from typing import Annotated, Literal

from pydantic import Field, field_validator

from flowprofile.definitions.base import Table, Whole

MAX_DRAWS = 1024
"""How many noises one picture may get."""


class SourceTable(Table):
    """Where the images come from, and how states are made of them."""

    images: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="a folder of PNG and JPEG files, or a list of files, from the definition's folder"
    )
    how: Literal["noised", "inverted"] = Field(
        "noised",
        description="noised: each state is the image with noise of its own; inverted: the sampler starts from the noise"
        " that it would make the image of (rule ddim, eta 0)",
    )
    draws: Whole = Field(1, ge=1, le=MAX_DRAWS, description="noised only: how many noises each image gets")
    iterations: Whole = Field(
        1, ge=1, le=64, description="inverted only: network evaluations for each step of the inversion"
    )
    attributes: str | None = Field(
        None,
        description="a table of attributes such as CelebA's, which gives each image its own label instead of"
        " cases.labels",
    )
    columns: dict[str, str] | None = Field(
        None, description="the table's name of an attribute of the model, where it is another one"
    )

    @field_validator("images", mode="before")
    @classmethod
    def _written(cls, value: object) -> object:
        """Paths from Python as text."""
        if isinstance(value, list | tuple):
            return [os.fspath(each) if isinstance(each, os.PathLike) else each for each in value]
        return os.fspath(value) if isinstance(value, os.PathLike) else value
