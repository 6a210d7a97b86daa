"""What a definition says of guidance: whom it may be asked of, and how a denoiser is made to obey it.

Two kinds exist. Classifier-free guidance asks the network twice and leads away from no label, or from a negative
prompt; other networks imitate it in one call, and are told a scale (FLUX.1 dev).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flowprofile.definitions import Sampler, Text
from flowprofile.errors import DefinitionError
from flowprofile.kinds import Context
from flowprofile.models.card import ModelCard
from flowprofile.models.layouts import EMBEDDED


def prompted(card: ModelCard, *, sampler: Sampler, text: Text) -> ModelCard:
    """The card of a model that is told prompts, with the prompt of guidance's unconditional half.

    A card that has a null label of its own was trained with it: no text is told instead of an empty one.
    """
    if card.labels.prompts:
        if sampler.negative_prompt is None and card.null_label is not None:
            return card
        return replace(card, null_label=card.labels.parse(sampler.negative_prompt or ""))
    if sampler.negative_prompt is not None:
        raise DefinitionError(
            f"negative_prompt is given, and {card.name!r} is told no prompts"
            f" ({text.place(['sampler', 'negative_prompt'])}).",
            consequence="It would be ignored, and the run would not be the one asked for.",
            remedy="leave it out",
        )
    return card


def guidance_fits(sampler: Sampler, card: ModelCard, text: Text) -> None:
    """Refuse guidance of a kind that the model does not know."""
    _twice_fits(sampler, card, text)
    _embedded_fits(sampler, card, text)


def guided(opener: Callable[[], Any], sampler: Sampler) -> Callable[[], Any]:
    """A denoiser that asks twice, where the sampler says so."""
    if sampler.guidance_scale == 1:
        return opener

    def opened() -> Any:
        from flowprofile.models.denoiser import Guided

        return Guided(opener(), sampler.guidance_scale)

    return opened


def embedding(opener: Callable[[], Any], sampler: Sampler) -> Callable[[], Any]:
    """A denoiser that is told the sampler's scale, where it says one."""
    scale = sampler.embedded_guidance
    return opener if scale is None else lambda: opener().guided_by(scale)


def guidance_recipe(context: Context) -> dict[str, Any]:
    """What of guidance no other part of a key holds: the prompt it leads away from, and the scale that is imitated."""
    sampler, card = context.sampler, context.card
    negated = card.labels.prompts and sampler.guidance_scale != 1
    scale = EMBEDDED if sampler.embedded_guidance is None else sampler.embedded_guidance
    return {
        **({"negative": card.null_label} if negated else {}),
        **({"embedded_guidance": scale} if _embeds(card) else {}),
    }


def _twice_fits(sampler: Sampler, card: ModelCard, text: Text) -> None:
    if sampler.guidance_scale != 1 and card.null_label is None:
        raise DefinitionError(
            f"guidance_scale = {sampler.guidance_scale!r}, but {card.name!r} has no null label"
            f" ({text.place(['sampler', 'guidance_scale'])}).",
            consequence="There is no unconditional prediction to guide away from; label 0 is a real label.",
            remedy="use guidance_scale = 1, or a model trained with label dropout",
        )


def _embedded_fits(sampler: Sampler, card: ModelCard, text: Text) -> None:
    if sampler.embedded_guidance is None or _embeds(card):
        return
    raise DefinitionError(
        f"embedded_guidance = {sampler.embedded_guidance!r}, but {card.name!r} is told no scale of guidance"
        f" ({text.place(['sampler', 'embedded_guidance'])}).",
        consequence="It would be ignored, and the run would not be the one asked for.",
        remedy="leave it out; guidance_scale is that of classifier-free guidance, with two calls a step",
    )


def _embeds(card: ModelCard) -> bool:
    """Whether a network is told the scale of the guidance that it imitates."""
    return bool(card.architecture != "module" and card.config.get("guidance_embeds"))
