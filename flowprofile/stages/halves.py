"""Both halves of a guided step, on an axis of their own.

A guided step asks the network twice, and what it shows differs by what the label does. Which half is which is never
read off the order of a batch: the two are separate calls, and each is listened to under its own name.
"""

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
from pydantic import BaseModel, Field

from flowprofile.axes import GUIDANCE
from flowprofile.conditioning.guidance import HALVES
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.kinds import Request
from flowprofile.objects.probes import Halves, Probe, Single


class Halved(Table):
    """Which calls of a guided step are looked at."""

    guidance: list[Literal["uncond", "cond"]] | None = Field(
        None,
        description='halves of a guided step, as an axis: ["uncond", "cond"]; by default what belongs to the label,'
        " without an axis",
    )


def halves(request: Request) -> tuple[str, ...]:
    """The halves that a table asks for, in the order in which they are called; none where it does not say.

    Raises
    ------
    DefinitionError
        If the run is not guided, or no half or one of them twice is named.
    """
    asked = wanted(request.params)
    if asked is None:
        return ()
    if not asked or len(set(asked)) < len(asked):
        raise DefinitionError(
            f"guidance = {asked!r} does not say which halves ({request.place}).",
            consequence="The axis would be empty, or hold one half twice.",
            remedy=f"write guidance = {list(HALVES)!r}, or one of them",
        )
    context = request.context
    if context.sampler.guidance_scale == 1:
        known = context.card.null_label is not None
        raise DefinitionError(
            f"guidance = {asked!r} is asked for, and the run is not guided ({request.place}).",
            consequence="A step then asks the network once, with the label: there is no other half to look at.",
            remedy="set guidance_scale under [sampler], for instance to 3.0, or leave guidance out"
            if known
            else "use a model with a null label, such as 'digits', and set guidance_scale; or leave guidance out",
            evidence=f"guidance_scale = 1; {context.card.name!r} has {'a' if known else 'no'} null label",
        )
    return tuple(half for half in HALVES if half in asked)


def wanted(params: BaseModel) -> list[str] | None:
    """What a table says of halves; None for one that says nothing, or has no such parameter."""
    return cast("list[str] | None", params.guidance) if isinstance(params, Halved) else None


def probed(probe: Single, names: tuple[str, ...]) -> Probe:
    """A probe of these halves; of none, the probe itself."""
    return Halves(probe, names) if names else probe


def axis(names: tuple[str, ...]) -> dict[str, Any]:
    """The axis of these halves, which comes first of all that one state shows; none without halves."""
    return {GUIDANCE: np.array(names, dtype=object)} if names else {}


def settings(names: tuple[str, ...]) -> Mapping[str, Any]:
    """What halves add to a recipe: nothing where there are none, so that such a recipe keeps its key."""
    return {"guidance": list(names)} if names else {}
