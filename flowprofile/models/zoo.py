"""Models by name: the two that are embedded, the closed forms, and any weights file with a card.

Card and identity are wanted long before a model is: to plan, to refuse, to key a store. So they are answered
from headers and bytes, and torch is loaded only by `load`.
"""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flowprofile.errors import ModelError, nearest
from flowprofile.models import closed_forms, weights
from flowprofile.models.card import ModelCard
from flowprofile.models.layers import UNetConfig, parse_config

if TYPE_CHECKING:
    from flowprofile.models.denoiser import Denoiser

EMBEDDED: Final = ("faces32", "digits")
"""Models whose weights come with the library."""
NAMES: Final = (*EMBEDDED, *closed_forms.CARDS)
"""Every name that `card`, `identity` and `load` know; anything else is taken for a path."""

_FOLDER: Final = Path(__file__).parent / "embedded"


def card(name_or_path: str | Path) -> ModelCard:
    """The card of a model, without loading it."""
    closed = closed_forms.CARDS.get(str(name_or_path))
    return closed or weights.card(weights_path(name_or_path))


def identity(name_or_path: str | Path) -> str:
    """Digest of everything that decides what the model computes: weights, architecture, labels, schedule.

    The same model has the same identity under any path; a retouched story in the card does not change it.
    """
    total = hashlib.sha256(card(name_or_path).identity_json().encode())
    if str(name_or_path) not in closed_forms.CARDS:
        total.update(weights.digest(weights_path(name_or_path)).encode())
    return total.hexdigest()


def load(name_or_path: str | Path) -> "Denoiser":
    """The model, ready to be called; float32, evaluation mode, parameters without gradients."""
    found = card(name_or_path)
    if found.architecture in ("mixture", "gaussian"):
        from flowprofile.models.mixture import build

        return build(found)
    if found.architecture != "unet":
        raise ModelError(
            f"The model {found.name!r} is a {found.architecture!r} of the caller's own.",
            consequence="A file holds its weights but not its code, so it cannot be rebuilt from the file.",
            remedy="build the network in Python and wrap it: NetworkDenoiser(module, card)",
        )
    return _load_unet(weights_path(name_or_path), found)


def weights_path(name_or_path: str | Path) -> Path:
    """The weights file behind a name or path; a name that is neither is refused with the nearest."""
    text = str(name_or_path)
    if text in EMBEDDED:
        return _FOLDER / f"{text}.safetensors"
    path = Path(name_or_path)
    if path.is_file():
        return path
    raise ModelError(
        f"There is no model {text!r}.",
        consequence="No sample can be drawn.",
        remedy=f"{nearest(text, NAMES)}; or give the path of a weights file with a card",
    )


def unet_config(found: ModelCard) -> UNetConfig:
    """The constructor arguments of a card's U-Net, checked against its shape and labels; needs no torch."""
    config = parse_config(found.config)
    channels, *sides = found.shape
    halvings = len(config.mults) - 1
    if config.channels != channels or any(side % (1 << halvings) for side in sides):
        raise ModelError(
            f"A U-Net of {config.channels} channels that halves the side {halvings} times cannot draw {found.shape!r}.",
            consequence="Its skips would not meet at equal sizes.",
            remedy=f"give {config.channels} channels, and sides that are multiples of {1 << halvings}",
        )
    widths = {"bits": len(found.labels.attributes), "classes": found.labels.count}
    if config.label_width != widths.get(config.label_code, config.label_width):
        raise ModelError(
            f"The label code {config.label_code!r} of width {config.label_width!r} does not hold"
            f" {found.labels.count} labels.",
            consequence="Two labels would enter the network as one.",
            remedy=f"use label_width = {widths[config.label_code]}, or the labels the network was trained for",
        )
    return config


def _load_unet(path: Path, found: ModelCard) -> "Denoiser":
    import torch

    from flowprofile.models.denoiser import NetworkDenoiser
    from flowprofile.models.unet import UNet

    config = unet_config(found)
    tensors = {name: tensor.float() for name, tensor in weights.load(path).items()}
    with torch.device("meta"):
        network = UNet(config)
    try:
        network.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError as error:
        raise ModelError(
            f"The weights in {str(path)!r} do not fit the U-Net of their card.",
            consequence="A network with missing or foreign weights computes something nobody trained.",
            remedy="correct the card's config (dim, mults, heads, label_code, full_skip) or the tensors' names",
            evidence=str(error).strip()[:600],
        ) from error
    return NetworkDenoiser(network.eval().requires_grad_(False), found)
