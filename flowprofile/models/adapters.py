"""Networks of the diffusers library, called like any other: noisy images, network indices and labels in.

An adapter says how one class is called and which part of its output is the prediction; everything else (dialects,
guidance, taps, gradients) is what every network has. diffusers is imported when a model of its own is opened.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import torch
from torch import Tensor, nn

from flowprofile.errors import ModelError
from flowprofile.models import folders, layouts, weights
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import NetworkDenoiser
from flowprofile.models.libraries import library
from flowprofile.models.prompted import Prompted
from flowprofile.models.sites import places
from flowprofile.models.stored import Folder


class Adapted(NetworkDenoiser):
    """A network of a known class."""

    def _predicted(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        return CALLS[self.card.architecture](self._network, x, index, label)


def _unet2d(network: nn.Module, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
    classes = label if getattr(network.config, "num_class_embeds", None) else None
    out: Tensor = network(x, index, class_labels=classes, return_dict=False)[0]
    return out


def _dit(network: nn.Module, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
    out: Tensor = network(x, index, class_labels=label, return_dict=False)[0]
    return out


CALLS: Final[Mapping[str, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]] = MappingProxyType(
    {"UNet2DModel": _unet2d, "DiTTransformer2DModel": _dit}
)
"""How a class is called: its prediction for x[row channel y x], index[row] and label[row], which a variance may follow."""


def load(path: str | Path, card: ModelCard) -> NetworkDenoiser:
    """The denoiser of a folder: float32, evaluation mode, parameters without gradients.

    Raises
    ------
    ModelError
        If diffusers is not installed, or the weights are not those of the configuration.
    """
    outline(path, card)
    found = folders.read(path)
    network = built(card)
    tensors: dict[str, Tensor] = {}
    for part in found.weights:
        tensors |= {name: tensor.float() for name, tensor in weights.load(part).items()}
    _fits(network, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, found)
    network.load_state_dict(tensors, strict=True)
    network.eval().requires_grad_(False)
    if found.kind in layouts.FACTS:
        from flowprofile.models.texts import encoder

        pixels = layouts.times_smaller(found)
        denoiser: NetworkDenoiser = Prompted(network, card, encoder(found), pixels=pixels)
    else:
        denoiser = Adapted(network, card)
    denoiser.places = places(denoiser)
    return denoiser


def outline(path: str | Path, card: ModelCard) -> NetworkDenoiser:
    """The denoiser without its weights, on the meta device: what it would put out has shapes only.

    Weights of other names or shapes are refused here, from their headers.
    """
    found = folders.read(path)
    with torch.device("meta"):
        network = built(card)
    shapes = {
        entry.name: entry.shape for part in found.weights for entry in weights.read_header(part).entries
    }
    _fits(network, shapes, found)
    kind: type[NetworkDenoiser] = Prompted if found.kind in layouts.FACTS else Adapted
    with torch.device("meta"):
        return kind(network.eval().requires_grad_(False), card)


def built(card: ModelCard) -> nn.Module:
    """A network of the card's class, with weights of chance."""
    try:
        return constructed(card.architecture, card.config)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(
            f"diffusers cannot build a {card.architecture} from the configuration of {card.name!r}.",
            consequence="There is no network to put the weights into.",
            remedy="save the folder again with diffusers: pipeline.save_pretrained(folder)",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def constructed(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """A network of a class of diffusers'; whatever its constructor raises is raised.

    Raises
    ------
    ModelError
        If diffusers is not installed.
    """
    kind = getattr(library("diffusers", consequence=f"A {architecture} cannot be built."), architecture)
    network: nn.Module = kind(**_as_written(config))
    return network


def _as_written(value: Any) -> Any:
    """A card's tuples as the lists that a configuration holds."""
    if isinstance(value, Mapping):
        return {name: _as_written(part) for name, part in value.items()}
    return [_as_written(part) for part in value] if isinstance(value, tuple | list) else value


def _fits(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], found: Folder) -> None:
    """Refuse weights that are not the network's, naming the first that is not."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        if wanted.get(name) != shapes.get(name):
            told = [f"{list(sizes[name])}" if name in sizes else "nothing" for sizes in (shapes, wanted)]
            raise ModelError(
                f"The weights in {found.weights[0]} do not fit {found.denoiser / 'config.json'}: of {name!r} they hold"
                f" {told[0]}, and the {found.kind} wants {told[1]}.",
                consequence="A network with missing or foreign weights computes something nobody trained.",
                remedy="take both files from the same folder, or save it again with diffusers",
            )
