"""How a definition's sampler steps from noise to image: its states, what they hold, and the rule between them.

A rule is ours (ddpm, ddim) or a scheduler of diffusers', by its class or as the model's own folder names it. Of ours
everything follows from the card; a scheduler brings a configuration and a time grid of its own, and diffusers with
it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from flowprofile.definitions import Sampler
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import closed_forms, zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.flows import FLOWS, matched, spacing
from flowprofile.models.variances import said
from flowprofile.time.rules import RULES, Rule, parameters, rule
from flowprofile.time.schedule import Levels, schedule
from flowprofile.time.steps import respaced
from flowprofile.time.visited import Visited

OWN: Final = "scheduler"
"""The rule that means the scheduler in the model's own folder."""
CLASS: Final = "Scheduler"
"""How the name of a scheduler's class ends."""


@dataclass(frozen=True)
class Stepping:
    """A sampler."""

    grid: tuple[int, ...]
    """Every state it passes, from noise to image."""
    levels: Levels
    rule: Rule
    recipe: Mapping[str, Any]
    """All that decides its steps; part of every key."""
    whole: bool = False
    """Whether a step reads earlier ones, so that states cannot be taken up in between."""

    def opening(self, opener: Callable[[], Any]) -> Callable[[], Any]:
        """A denoiser that is told what this sampler tells it."""
        levels = self.levels
        if not isinstance(levels, Visited):
            return opener
        return lambda: opener().visiting(levels)


def stepping(sampler: Sampler, card: ModelCard, model: Any) -> Stepping:
    """The sampler of a definition, every option checked before a step is taken.

    Raises
    ------
    DefinitionError
        For a rule, an option or a number of steps that there is not.
    """
    if sampler.rule in RULES:
        return _ours(sampler, card)
    if sampler.rule != OWN and not sampler.rule.endswith(CLASS):
        raise DefinitionError(
            f"There is no sampler rule {sampler.rule!r}.",
            consequence="It is not known how to step from one state to the next.",
            remedy=f"{nearest(sampler.rule, (*RULES, OWN))}; a scheduler of diffusers' goes by its class, such as"
            " EulerDiscreteScheduler",
        )
    return _theirs(sampler, card, model)


def _ours(sampler: Sampler, card: ModelCard) -> Stepping:
    asked = {"eta": sampler.eta, "variance": sampler.variance}
    given = {name: value for name, value in asked.items() if value is not None}
    if card.prediction == "flow":
        raise DefinitionError(
            f"{card.name!r} was trained by flow matching, and the rule {sampler.rule!r} steps along betas.",
            consequence="Its states hold noise along straight lines, for which there are none.",
            remedy=f'use rule = "{OWN}" with a folder, or "{FLOWS[0]}"',
        )
    if sampler.options:
        raise DefinitionError(
            f"The rule {sampler.rule!r} has no options, and {', '.join(map(repr, sampler.options))} is given.",
            consequence="It would be ignored, and the run would not be the one asked for.",
            remedy="leave the table out: eta and variance are keys of [sampler]",
        )
    bound = rule(sampler.rule, **given)
    return Stepping(
        grid=respaced(card.steps, sampler.steps),
        levels=schedule(card.schedule, card.steps),
        rule=bound,
        recipe={
            "schedule": [card.schedule, card.steps],
            "rule": sampler.rule,
            "options": {**parameters(sampler.rule), **given},
        },
    )


def _theirs(sampler: Sampler, card: ModelCard, model: Any) -> Stepping:
    if card.architecture in {one.architecture for one in closed_forms.CARDS.values()}:
        raise DefinitionError(
            f"{card.name!r} is a formula, and {sampler.rule!r} a scheduler for networks.",
            consequence="It cannot be told the times that the scheduler has.",
            remedy="use the rules ddpm and ddim",
        )
    if sampler.variance is not None:
        raise DefinitionError(
            f"variance = {sampler.variance!r} belongs to the rule ddpm.",
            consequence="It would be ignored, and the run would not be the one asked for.",
            remedy='give options = { variance_type = "fixed_large" } to DDPMScheduler',
        )
    config = zoo.scheduler(model) if isinstance(model, str) else None
    if sampler.rule == OWN and config is None:
        raise DefinitionError(
            f"{card.name!r} is no folder of diffusers', so it names no scheduler.",
            consequence="It is not known how to step from one state to the next.",
            remedy="name one, for instance DDIMScheduler, or use the rules ddpm and ddim",
        )
    kind = str(config["_class_name"]) if sampler.rule == OWN and config is not None else sampler.rule
    matched(kind, card)
    said(kind, {**(config or {}), **(sampler.options or {})}, card)
    from flowprofile.models.schedulers import scheduled

    found = scheduled(
        kind,
        config if config is not None else _of_card(card),
        steps=sampler.steps,
        options=sampler.options or {},
        eta=sampler.eta,
        spacing=partial(spacing, card),
    )
    return Stepping(
        grid=found.visited.states,
        levels=found.visited,
        rule=found,
        recipe={"scheduler": found.recipe},
        whole=found.remembers,
    )


def _of_card(card: ModelCard) -> dict[str, Any]:
    """A scheduler's configuration, as far as a card decides it."""
    if card.prediction == "flow":
        return {"num_train_timesteps": card.steps}
    times = schedule(card.schedule, card.steps)
    return {"num_train_timesteps": card.steps, "trained_betas": list(times.betas), "clip_sample": False}
