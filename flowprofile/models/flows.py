"""Flow matching: which schedulers step along straight lines, and how they space their steps for a picture's size.

A network of flow matching says the velocity eps - x_0 of states (1 - sigma) x_0 + sigma eps. Under another kind of
scheduler its output would be taken for noise and still give pictures, so the two are matched before anything is run.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from flowprofile.errors import DefinitionError
from flowprofile.models.card import ModelCard

FLOWS: Final = ("FlowMatchEulerDiscreteScheduler",)
"""Schedulers of flow matching."""
PACKED: Final = "FluxTransformer2DModel"
"""The class that is shown squares of 2 x 2 latents as one token, and whose pipeline spaces sigma itself."""


def matched(kind: str, card: ModelCard) -> None:
    """Refuse a scheduler that would take what the network says for something else."""
    flows = kind in FLOWS
    if flows == (card.prediction == "flow"):
        return
    said = "a velocity" if card.prediction == "flow" else card.prediction
    others = "DDIMScheduler, EulerDiscreteScheduler or another that steps along betas"
    raise DefinitionError(
        f"{kind} {'steps along straight lines' if flows else 'steps along betas'}, and {card.name!r} predicts {said}.",
        consequence="What the network says would be taken for something else.",
        remedy=f"use {others if flows else FLOWS[0]}",
    )


def spacing(card: ModelCard, config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """What a pipeline tells a scheduler of flow matching besides the number of steps.

    That is mu, the shift towards noise that grows with the number of tokens, where the scheduler's configuration asks
    for one (Esser et al. 2024, Section 5.3.2), and of FLUX the values of sigma before they are shifted.

    Raises
    ------
    DefinitionError
        If a shift is asked for and the network has no tokens.
    """
    found: dict[str, Any] = {}
    if card.architecture == PACKED:
        found["sigmas"] = np.linspace(1.0, 1.0 / steps, steps).tolist()
    if config.get("use_dynamic_shifting"):
        fewest, most = int(config["base_image_seq_len"]), int(config["max_image_seq_len"])
        low, high = float(config["base_shift"]), float(config["max_shift"])
        slope = (high - low) / (most - fewest)
        found["mu"] = _tokens(card) * slope + (low - slope * fewest)
    return found


def _tokens(card: ModelCard) -> int:
    """How many tokens a state is."""
    side = 2 if card.architecture == PACKED else card.config.get("patch_size")
    if side is None:
        raise DefinitionError(
            f"The scheduler shifts its steps with the number of tokens, and {card.name!r} has none.",
            consequence="It is not known which states to visit.",
            remedy="give options = { use_dynamic_shifting = false, shift = 3.0 }",
        )
    _, height, width = card.shape
    return (height // int(side)) * (width // int(side))
