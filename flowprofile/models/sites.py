"""Where a model can be looked at: names, shapes and order of its modules' outputs, without loading it.

A layer of the interface is *listed*; the residual sums (``downs.0.2``: the attention branch plus its input) are sites
too, but a pattern means listed layers only. For a network that the caller brings, one probe pass finds all modules
that put out a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flowprofile.models import zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.layers import UNetConfig, layer_ids, layers

if TYPE_CHECKING:
    from flowprofile.models.denoiser import Denoiser


@dataclass(frozen=True)
class Site:
    """One module's output."""

    channels: int
    y: int
    x: int
    listed: bool = True
    """Whether a pattern means it."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channel, y, x."""
        return self.channels, self.y, self.x

    @property
    def bytes(self) -> int:
        """Bytes of one sample at one step, float32."""
        return 4 * self.channels * self.y * self.x


def sites(card: ModelCard, model: Any = None) -> Mapping[str, Site]:
    """Every site in the order of the forward pass; none for a formula.

    A live network is asked itself: what its card says of an architecture may be another network's.
    """
    module = getattr(model, "module", None)
    if module is not None:
        config = getattr(module, "config", None)
        listed = layer_ids(config) if isinstance(config, UNetConfig) else None
        found = _probed(model)
        return {name: replace(site, listed=listed is None or name in listed) for name, site in found.items()}
    return _unet(card.shape, zoo.unet_config(card)) if card.architecture == "unet" else {}


def _unet(shape: tuple[int, int, int], config: UNetConfig) -> dict[str, Site]:
    _, height, width = shape
    found: dict[str, Site] = {}
    for layer in layers(config):
        side = height >> layer.halvings, width >> layer.halvings
        found[layer.id] = Site(layer.channels, *side)
        if layer.id.endswith(".fn"):
            found[layer.id.removesuffix(".fn")] = Site(layer.channels, *side, listed=False)
    return found


def _probed(model: "Denoiser") -> dict[str, Site]:
    """The modules of a live network that put out [case channel y x], found by one pass over a blank image."""
    import torch

    from flowprofile.models.taps import shapes

    def call() -> None:
        with torch.no_grad():
            model(
                torch.zeros(1, *model.card.shape),
                torch.zeros(1, dtype=torch.int64),
                torch.zeros(1, dtype=torch.int64),
            )

    return {
        name: Site(*shape[1:])
        for name, shape in shapes(model, call).items()
        if len(shape) == 4 and not name.endswith("]")
    }
