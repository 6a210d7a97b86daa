"""Networks that are told a text: how each class is called, and what it is told besides.

A prompt is encoded once, by itself, and remembered by its number; so rows of one call may belong to different prompts.
"""

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Self

import torch
from torch import Tensor, nn

from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import NetworkDenoiser
from flowprofile.models.layouts import EMBEDDED, NOTHING
from flowprofile.models.texts import Told

BLANK: Final = -1
"""The label that stands for no text at all, when only shapes are wanted."""
SHORT: Final = 7
"""Tokens of the blank text: as many as fill no grid."""


class Prompted(NetworkDenoiser):
    """A network that is told a text."""

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        encode: Callable[[str], Told] | None = None,
        *,
        pixels: int = 8,
    ) -> None:
        """`pixels` along a side of the image belong to one latent: a network may be told the size of its image."""
        super().__init__(network, card)
        self._encode = encode
        self._known: dict[int, Told] = {}
        self._pixels = pixels
        self.embedded_guidance = EMBEDDED
        """What a network that was trained to imitate guidance is told of its scale."""

    def guided_by(self, scale: float) -> Self:
        """The same network, told another scale of guidance."""
        found = copy.copy(self)
        found.embedded_guidance = scale
        return found

    def _predicted(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        numbers = [BLANK] * len(x) if label.is_meta else label.tolist()
        told = [self._text(number, x.device) for number in numbers]
        texts = torch.stack([one.tokens for one in told])
        pooled = torch.stack([one.pooled for one in told if one.pooled is not None]) if self._pools else None
        return CALLS[self.card.architecture](self, x, index, Told(texts, pooled))

    @property
    def network(self) -> Any:
        """The network itself."""
        return self._network

    @property
    def _pools(self) -> bool:
        return _pooled(self.card.config) > 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image of a state, in pixels."""
        _, height, width = self.card.shape
        return height * self._pixels, width * self._pixels

    def _text(self, number: int, device: torch.device) -> Told:
        """What the network is told of a prompt; of `BLANK` a few zeros, and of `NOTHING` as many as of a text."""
        if number == BLANK or self._encode is None:
            return _zeros(self.card.config, SHORT, device)
        if number not in self._known:
            text = "" if number == NOTHING else self.card.labels.bits(number)
            told = self._encode(text)
            told = _zeros(self.card.config, len(told.tokens)) if number == NOTHING else told
            pooled = None if told.pooled is None else told.pooled.to(device)
            self._known[number] = Told(told.tokens.to(device), pooled)
        return self._known[number]


def _zeros(config: Mapping[str, Any], tokens: int, device: torch.device | None = None) -> Told:
    wide = int(config.get("joint_attention_dim") or config["cross_attention_dim"])
    pooled = _pooled(config)
    return Told(
        torch.zeros(tokens, wide, device=device), torch.zeros(pooled, device=device) if pooled else None
    )


def _pooled(config: Mapping[str, Any]) -> int:
    """How many numbers a text is told as besides its tokens."""
    if config.get("addition_embed_type") == "text_time":
        return int(config["projection_class_embeddings_input_dim"]) - 6 * int(
            config["addition_time_embed_dim"]
        )
    return int(config.get("pooled_projection_dim") or 0)


def _unet(model: Prompted, x: Tensor, t: Tensor, told: Told) -> Tensor:
    """Stable Diffusion 1 and 2; XL is also told the sizes of an image that nothing was cut off from."""
    added = {}
    if told.pooled is not None:
        sizes = torch.tensor([*model.size, 0, 0, *model.size], dtype=x.dtype).to(x.device)
        added = {"added_cond_kwargs": {"text_embeds": told.pooled, "time_ids": sizes.expand(len(x), 6)}}
    out: Tensor = model.network(x, t, encoder_hidden_states=told.tokens, **added, return_dict=False)[0]
    return out


def _sd3(model: Prompted, x: Tensor, t: Tensor, told: Told) -> Tensor:
    out: Tensor = model.network(
        hidden_states=x,
        timestep=t,
        encoder_hidden_states=told.tokens,
        pooled_projections=told.pooled,
        return_dict=False,
    )[0]
    return out


def _flux(model: Prompted, x: Tensor, t: Tensor, told: Told) -> Tensor:
    """Squares of 2 x 2 latents are one token, numbered by their row and column; a text's tokens have no place."""
    rows, channels, height, width = x.shape
    y, across = height // 2, width // 2
    packed = x.reshape(rows, channels, y, 2, across, 2).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    places = torch.zeros(y, across, 3, device=x.device)
    places[..., 1] += torch.arange(y, device=x.device)[:, None]
    places[..., 2] += torch.arange(across, device=x.device)
    scale = None
    if model.card.config.get("guidance_embeds"):
        scale = torch.full([rows], model.embedded_guidance, dtype=torch.float32, device=x.device)
    out: Tensor = model.network(
        hidden_states=packed,
        timestep=t / 1000,
        guidance=scale,
        pooled_projections=told.pooled,
        encoder_hidden_states=told.tokens,
        txt_ids=torch.zeros(told.tokens.shape[1], 3, device=x.device),
        img_ids=places.flatten(0, 1),
        return_dict=False,
    )[0]
    squares = out.reshape(rows, y, across, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return squares.reshape(rows, channels, height, width)


CALLS: Final[Mapping[str, Callable[[Prompted, Tensor, Tensor, Told], Tensor]]] = MappingProxyType(
    {"UNet2DConditionModel": _unet, "SD3Transformer2DModel": _sd3, "FluxTransformer2DModel": _flux}
)
"""How a class is called: what it puts out for x[row channel y x], times [row] and texts."""
