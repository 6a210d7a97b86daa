"""From what a definition calls its model to what the model is: its card, its identity, and a way to open it.

A model is a name that ships, a path (a weights file, a folder of diffusers'), a denoiser in hand, a name that an
installed package has registered, or code of one's own, ``package.module:function``, where code is allowed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from flowprofile.errors import DefinitionError, ModelError
from flowprofile.kinds import imported, not_allowed
from flowprofile.models import zoo
from flowprofile.models.card import ModelCard

ENTRY_POINTS: Final = "flowprofile.models"
"""Entry point group in which a package registers functions that give a denoiser."""


@dataclass(frozen=True)
class Brought:
    """A model, as far as it is known without being loaded."""

    model: Any
    """The name or path, or the denoiser in hand."""
    card: ModelCard
    identity: str
    """Digest of everything that decides what it computes."""
    open: Callable[[], Any]
    """Gives the denoiser."""
    size: int
    """Bytes of its weights."""


def brought(
    model: object, *, place: str, allow_code: bool, told: Callable[[ModelCard], ModelCard]
) -> Brought:
    """The model that a definition means.

    Parameters
    ----------
    model
        A name, a path, ``package.module:function``, or a denoiser.
    place
        Where in the definition it stands, for refusals.
    allow_code
        Whether a definition may name code.
    told
        What else the definition says of the card.

    Raises
    ------
    DefinitionError, ModelError
        If there is no such model, or it is code and code is not allowed.
    """
    if isinstance(model, str):
        _a_path(model, place)
        model = _made(model, place, allow_code=allow_code)
    if isinstance(model, str):
        name, card, known = model, told(zoo.card(model)), zoo.identity(model)
        return Brought(name, card, known, lambda: _unchanged(name, card, known), zoo.size(name))
    card_in_hand = getattr(model, "card", None)
    if not isinstance(card_in_hand, ModelCard) or not callable(model):
        raise DefinitionError(
            f"A model is a name, a path or a denoiser, not a {type(model).__name__} ({place}).",
            remedy="wrap a network: flowprofile.denoiser(module, shape=(3, 32, 32), labels=...)",
        )
    from flowprofile.models.live import identity

    module = getattr(model, "module", None)
    weights = [] if module is None else list(module.parameters())
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights)
    return Brought(model, told(card_in_hand), identity(model), lambda: model, size)


def _a_path(name: str, place: str) -> None:
    """Refuse what the system would not even look for."""
    try:
        Path(name).exists()
    except OSError as error:
        raise DefinitionError(
            f"The model {name[:80]!r} cannot be looked for ({place}).",
            remedy="name a model that ships, or give the path of a weights file or folder",
            evidence=f"{error.strerror}, {len(name):,} characters",
        ) from error


def _made(name: str, place: str, *, allow_code: bool) -> Any:
    """What code says a model is; the name itself where it names no code."""
    if name in zoo.NAMES:
        return name
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if name in registered:
        return registered[name].load()()
    _, colon, attribute = name.partition(":")
    if not colon or not attribute.isidentifier() or Path(name).exists():
        return name
    if not allow_code:
        raise not_allowed(name, place)
    function: Any = imported(name, place)
    try:
        return function()
    except Exception as error:
        raise DefinitionError(
            f"{name!r} gives no model ({place}).",
            consequence="There is nothing to profile.",
            remedy="let it be a function without arguments that returns flowprofile.denoiser(...)",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _unchanged(name: str, card: ModelCard, known: str) -> Any:
    """The denoiser, if it still is what the plan was made for: a run may load it hours after it looked at its bytes.

    Raises
    ------
    ModelError
        If its files have changed meanwhile.
    """
    denoiser = zoo.load(name, card)
    now = zoo.identity(name)  # after loading, so that a file that was written meanwhile is seen too
    if now != known:
        raise ModelError(
            f"The weights of {name!r} have changed since this run was planned.",
            consequence="Nothing is computed with them: results of two models would stand under one name.",
            remedy="restore the old weights and give the same command again, or use another store for the new ones",
            evidence=f"planned {known}, now {now}",
        )
    return denoiser
