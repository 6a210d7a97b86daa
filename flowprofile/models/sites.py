"""Where a model can be looked at: names, shapes and order of its modules' outputs, without loading it.

A layer of the interface is *listed*; the residual sums (``downs.0.2``: the attention branch plus its input) are sites
too, but a pattern means listed layers only. For any other network, one probe pass finds all modules that put out a
picture; of one in a file the pass is over shapes alone.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from flowprofile.models import folders, zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.layers import UNetConfig, layer_ids, layers

if TYPE_CHECKING:
    from flowprofile.models.denoiser import Denoiser


class Place(NamedTuple):
    """Where in a module's output its picture is, for a module that does not simply put one out."""

    select: int | None = None
    """Which tensor of a tuple."""
    grid: tuple[int, int] | None = None
    """y and x of its tokens."""


@dataclass(frozen=True)
class Attends:
    """A module that attends: softmax(scale q k) of its own projections of queries and keys."""

    layer: str
    heads: int
    scale: float
    cross: bool = False
    """Whether its keys are a text's tokens and not the picture's own."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The modules that put out its queries and keys."""
        return f"{self.layer}.to_q", f"{self.layer}.to_k"

    @property
    def text(self) -> bool:
        """Whether a text's tokens are among its keys."""
        return self.cross


@dataclass(frozen=True)
class JointlyAttends(Attends):
    """Attention of the places of a picture to the picture and, behind it, a text: one softmax over both.

    Or to the picture alone, where queries and keys are normalised by head.
    """

    grid: tuple[int, int] = (1, 1)
    """y and x of the picture's tokens."""
    sources: tuple[str, ...] = ()
    """Inside the layer: what puts out the picture's queries, its keys, and a text's keys."""
    words: bool = False
    """Whether only the share of the text's tokens is meant."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The modules that put out its queries and keys."""
        return tuple(f"{self.layer}.{source}" for source in self.sources)

    @property
    def text(self) -> bool:
        """Whether a text's tokens are among its keys."""
        return len(self.sources) == 3


@dataclass(frozen=True)
class RotarilyAttends(JointlyAttends):
    """Joint attention whose queries and keys are turned by their places, a text's by none (FLUX; Su et al. 2021).

    With two sources a text and, behind it, the picture are one stream.
    """

    widths: tuple[int, ...] = ()
    """Features of a head that are turned by an index that is 0 everywhere, by y, and by x."""

    @property
    def text(self) -> bool:
        """Always: in one stream or in two."""
        return True


@dataclass(frozen=True)
class Site:
    """One module's output."""

    channels: int
    y: int
    x: int
    listed: bool = True
    """Whether a pattern means it."""
    tokens: bool = False
    """Whether the module puts out tokens, which lie on the grid row by row."""
    select: int | None = None
    """Which tensor is meant, of a module that puts out a tuple."""
    attends: Attends | None = None
    """How it attends, for a module that is attention with queries and keys of its own."""

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
        found = probed(model)
        return {name: replace(site, listed=listed is None or name in listed) for name, site in found.items()}
    if card.architecture in folders.CARDS:
        from flowprofile.models import adapters

        return probed(adapters.outline(model, card))
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


def probed(model: "Denoiser") -> dict[str, Site]:
    """The modules of a network that put out a picture, found by one pass over a blank image; works on the meta device.

    A picture is [case channel y x], or tokens [case token channel] that fill a grid as wide and high as the image is; of
    a tuple the first tensor that is one counts. A text's tokens, which joint transformers put out first, are none.
    """
    import torch

    from flowprofile.models.taps import shapes

    assert model.module is not None
    device = next((tensor.device for tensor in model.module.parameters()), torch.device("cpu"))

    def call() -> None:
        with torch.no_grad():
            model(
                torch.zeros(1, *model.card.shape, device=device),
                torch.zeros(1, dtype=torch.int64, device=device),
                torch.full((1,), -1 if model.card.labels.prompts else 0, dtype=torch.int64, device=device),
            )

    seen = shapes(model, call)
    found: dict[str, Site] = {}
    modules = dict(model.module.named_modules())
    for key, shape in seen.items():
        several = None if key in modules else re.fullmatch(r"(.+)\[(\d+)\]", key, re.DOTALL)
        name = key if several is None else several[1]
        by_head = name.rpartition(".")[2] in BY_HEAD
        if name in found or by_head or (not several and f"{name}[0]" in seen):
            continue
        site = _picture(shape, model.card.shape)
        if site is not None:
            found[name] = replace(site, select=None if several is None else int(several[2]))
    widths = tuple(getattr(getattr(model.module, "config", None), "axes_dims_rope", ()))
    return {
        name: replace(
            site, attends=_rotary(name, modules[name], site, widths) or _attends(name, modules[name], site)
        )
        for name, site in found.items()
    }


BY_HEAD: Final = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
"""Modules of attention that put out [case head token feature], which is no picture."""
JOINT: Final = "JointAttnProcessor2_0"
"""How Stable Diffusion 3 attends: the picture's keys and a text's behind them, each normalised by head or not."""


ROTARY: Final = "FluxAttnProcessor"
"""How FLUX attends: joined, normalised by head, and turned by place."""


def _rotary(name: str, module: Any, site: Site, widths: tuple[int, ...]) -> RotarilyAttends | None:
    """The facts of FLUX's attention: of a joint block's module, or of a whole block of one stream.

    There the module itself puts out text and picture together, which lie on no grid.
    """
    within = "attn." if hasattr(module, "attn") and hasattr(module, "proj_mlp") else ""
    attention = module.attn if within else module
    if type(getattr(attention, "processor", None)).__name__ != ROTARY or not widths:
        return None
    sources = [f"{within}norm_q", f"{within}norm_k", *([] if within else ["norm_added_k"])]
    return RotarilyAttends(
        name,
        int(attention.heads),
        float(attention.head_dim) ** -0.5,
        grid=(site.y, site.x),
        sources=tuple(sources),
        widths=widths,
    )


def _attends(name: str, module: Any, site: Site) -> Attends | None:
    """The facts of an attention module of diffusers'; None where its queries and keys are more than projections."""
    if not all(hasattr(module, part) for part in ("to_q", "to_k", "heads", "scale")):
        return None
    if type(getattr(module, "processor", None)).__name__ == JOINT:
        normed = [part for part in ("norm_q", "norm_k") if getattr(module, part) is not None]
        sources = normed if len(normed) == 2 else ["to_q", "to_k"]
        if getattr(module, "add_k_proj", None) is not None:
            sources.append("add_k_proj" if getattr(module, "norm_added_k", None) is None else "norm_added_k")
        return JointlyAttends(
            name, int(module.heads), float(module.scale), grid=(site.y, site.x), sources=tuple(sources)
        )
    if getattr(module, "add_k_proj", None) is not None:
        return None
    if getattr(module, "norm_q", None) is not None or getattr(module, "norm_k", None) is not None:
        return None
    return Attends(
        name, int(module.heads), float(module.scale), bool(getattr(module, "is_cross_attention", False))
    )


def places(model: "Denoiser") -> dict[str, Place]:
    """Where the picture is, of every layer that does not simply put one out."""
    return {
        name: Place(site.select, (site.y, site.x) if site.tokens else None)
        for name, site in probed(model).items()
        if site.tokens or site.select is not None
    }


def _picture(shape: tuple[int, ...], image: tuple[int, int, int]) -> Site | None:
    """The site of an output of this shape, if it is a picture."""
    if len(shape) == 4:
        return Site(*shape[1:])
    grid = _grid(shape[1], image) if len(shape) == 3 else None
    return Site(shape[2], *grid, tokens=True) if grid is not None else None


def _grid(tokens: int, shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """y and x of so many tokens, if they can lie as the image does and are fewer than its pixels."""
    _, height, width = shape
    y = math.isqrt(tokens * height // width)
    x = tokens // y if y else 0
    fits = y > 1 and x > 1 and y * x == tokens and y * width == x * height and height % y == 0
    return (y, x) if fits else None
