"""Models by name: the two that are embedded, the closed forms, any weights file with a card, any folder of diffusers'.

Card and identity are wanted long before a model is: to plan, to refuse, to key a store. So they are answered
from headers and bytes, and torch is loaded only by `load`.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowprofile.errors import ModelError, nearest
from flowprofile.models import closed_forms, folders, weights
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
    if closed is not None:
        return closed
    return (
        folders.card(name_or_path) if _is_folder(name_or_path) else weights.card(weights_path(name_or_path))
    )


def identity(name_or_path: str | Path) -> str:
    """Digest of everything that decides what the model computes: weights, architecture, labels, schedule.

    The same model has the same identity under any path; a retouched story in the card does not change it.
    """
    total = hashlib.sha256(card(name_or_path).identity_json().encode())
    if _is_folder(name_or_path):
        total.update(folders.digest(name_or_path).encode())
    elif str(name_or_path) not in closed_forms.CARDS:
        total.update(weights.digest(weights_path(name_or_path)).encode())
    return total.hexdigest()


def size(name_or_path: str | Path) -> int:
    """Bytes of a model's weights; none for a formula."""
    if str(name_or_path) in closed_forms.CARDS:
        return 0
    if _is_folder(name_or_path):
        return folders.size(name_or_path)
    return weights_path(name_or_path).stat().st_size


def load(name_or_path: str | Path, known: ModelCard | None = None) -> "Denoiser":
    """The model, ready to be called; float32, evaluation mode, parameters without gradients.

    ``known`` is its card where that holds more than the file: the prompts that its labels stand for.
    """
    found = known or card(name_or_path)
    if found.architecture in ("mixture", "gaussian"):
        from flowprofile.models.mixture import build

        return build(found)
    if found.architecture in folders.CARDS:
        from flowprofile.models import adapters

        return adapters.load(name_or_path, found)
    if found.architecture != "unet":
        raise ModelError(
            f"The model {found.name!r} is a {found.architecture!r} of the caller's own.",
            consequence="A file holds its weights but not its code, so it cannot be rebuilt from the file.",
            remedy="build the network in Python and wrap it: NetworkDenoiser(module, card)",
        )
    return _load_unet(weights_path(name_or_path), found)


def scheduler(name_or_path: str | Path) -> Mapping[str, Any] | None:
    """The configuration of the scheduler in a model's folder; None for a model that is no folder."""
    return folders.read(name_or_path).scheduler if _is_folder(name_or_path) else None


def has_decoder(name_or_path: str | Path) -> bool:
    """Whether the model is a folder with a VAE, which turns its latents into images."""
    return _is_folder(name_or_path) and "vae" in folders.read(name_or_path).parts


def _is_folder(name_or_path: str | Path) -> bool:
    # Of a path, nothing is the working folder; as a name it is nothing.
    return str(name_or_path) not in ("", *NAMES) and Path(name_or_path).is_dir()


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
        remedy=f"{nearest(text, NAMES)}; or give the path of a weights file with a card, or of a folder that diffusers saved",
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
