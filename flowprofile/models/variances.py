"""Learned variances: networks that say how much noise a step adds, and the scheduler that listens.

Such a network puts out twice the channels of a state (Nichol & Dhariwal 2021). Most samplers leave the second half
out; DDPM's can take a step's variance from it, and then needs it.
"""

from collections.abc import Mapping
from typing import Any, Final

from flowprofile.errors import DefinitionError
from flowprofile.models.card import ModelCard

VARIED: Final = "DDPMScheduler"
"""The scheduler that reads a variance."""
LEARNED: Final = ("learned", "learned_range")
"""Its variance types that a network says."""


def learned(kind: str, config: Mapping[str, Any]) -> bool:
    """Whether a scheduler of this configuration reads a variance behind eps."""
    return kind == VARIED and config.get("variance_type") == "learned_range"


def said(kind: str, config: Mapping[str, Any], card: ModelCard) -> None:
    """Refuse a scheduler that reads a variance which the network does not say, or not in that form."""
    asked = config.get("variance_type")
    if kind != VARIED or asked not in LEARNED:
        return
    twice = card.config.get("out_channels") == 2 * card.shape[0] and card.architecture != "module"
    if asked == "learned_range" and twice:
        return
    fact = f"{kind} reads a variance of the type {asked!r}"
    raise DefinitionError(
        f"{fact}, and {card.name!r} predicts none."
        if not twice
        else f"{fact}, for which there is no adapter.",
        consequence="It is not known how much noise a step adds.",
        remedy='give options = { variance_type = "fixed_small" }'
        + (', or "learned_range" if the network was trained so' if twice else ""),
    )
