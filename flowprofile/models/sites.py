"""Where a model can be looked at: names, shapes and order of its modules' outputs, without loading it.

A layer of the interface is *listed*; the residual sums (``downs.0.2``: the attention branch plus its input) are sites
too, but a pattern means listed layers only. For a network that the caller brings, one probe pass finds all modules
that put out a picture.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flowprofile.models import zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.layers import layers

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
    """Every site in the order of the forward pass; none for a formula."""
    if card.architecture == "unet":
        return _unet(card)
    return _probed(model) if getattr(model, "module", None) is not None else {}


def _unet(card: ModelCard) -> dict[str, Site]:
    _, height, width = card.shape
    found: dict[str, Site] = {}
    for layer in layers(zoo.unet_config(card)):
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
