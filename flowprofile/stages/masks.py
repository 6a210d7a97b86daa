"""Masks in a definition: what a stage's `mask` may be, and the mask it means for this model."""

from typing import Any

from flowprofile.errors import DefinitionError
from flowprofile.kinds import Context
from flowprofile.objects.masks import Mask, parse

MaskValue = Any
"""A region's name, a PNG file, a table (see `objects.masks`), or a boolean array from Python; None is everywhere."""


def mask_of(value: MaskValue, context: Context, *, place: str) -> Mask | None:
    """The mask a value means; None for everywhere."""
    if value is None:
        return None
    return parse(
        value,
        shape=context.card.shape[1:],
        folder=context.folder,
        place=place,
        model=context.card.name,
    )


def given_mask(context: Context, value: MaskValue, place: str) -> Mask:
    """The mask of an intervention, which the denoiser is handed by name."""
    why = "An intervention acts from the first step on, before there is a picture that a region could be read off."
    mask = fixed_mask(value, context, place=place, why=why)
    assert mask.array is not None
    context.masks[mask.name] = mask
    return mask


def fixed_mask(
    value: MaskValue,
    context: Context,
    *,
    place: str,
    why: str = "What is differentiated and stored must be the same pixels for every sample.",
) -> Mask:
    """A mask that is the same for every sample; `why` it must be is the consequence that the refusal names."""
    mask = mask_of(value, context, place=place)
    if mask is None or mask.array is None:
        shown = "everywhere" if mask is None else mask.name
        raise DefinitionError(
            f"The mask {shown!r} has no pixels of its own ({place}).",
            consequence=why,
            remedy='name a region by its frequency map ("eyes"), or give a rectangle, a PNG file or an array',
        )
    return mask
