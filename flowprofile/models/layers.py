"""The addresses of a U-Net's layers, known without building it.

A definition is checked before anything is loaded: a wrong layer name or a channel that does not exist must be
refused at once and by name. So the table of layers is computed from the constructor arguments alone, without torch.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from flowprofile.errors import DefinitionError, ModelError, nearest

LABEL_CODES: Final = ("decimal", "bits", "classes")


@dataclass(frozen=True)
class UNetConfig:
    """Constructor arguments of the U-Net; the defaults are the thesis' network."""

    dim: int = 64
    """Width of the first level."""
    channels: int = 3
    """Image channels, in and out."""
    mults: tuple[int, ...] = (1, 2, 4, 8)
    """Width of every level as a multiple of dim; each level but the last halves the side."""
    heads: int = 4
    """Heads of linear attention."""
    head_dim: int = 32
    """Features of one head."""
    label_code: str = "decimal"
    """How a label enters: 'decimal' raw number, 'bits' as -1/+1 each, 'classes' one-hot."""
    label_width: int = 1
    """Numbers in a label's code: 1 for decimal, bits, or classes; 0 for a network without labels."""
    label_embedding: bool = False
    """Whether a Linear of the code is added to the time embedding, besides the constant planes."""
    null_label: int | None = None
    """Label whose code is all zeros."""
    full_skip: bool = False
    """Whether the first level's skip is used; the annotated layout pushes it and never pops it."""

    def __post_init__(self) -> None:
        if self.label_code not in LABEL_CODES:
            raise ModelError(
                f"There is no label code {self.label_code!r}.", remedy=nearest(self.label_code, LABEL_CODES)
            )
        # The embedding of t is dim / 2 sines and as many cosines.
        if len(self.mults) < 2 or min(self.mults) < 1 or self.dim < 6 or self.dim % 2:
            raise ModelError(
                f"A U-Net cannot have dim = {self.dim!r} and mults = {self.mults!r}.",
                consequence="t enters as dim / 2 sines and as many cosines, and each level but the last halves the side.",
                remedy="give an even dim of at least 6 and two or more positive multiples",
            )

    @property
    def init_dim(self) -> int:
        """Channels after the first convolution."""
        return 2 * (self.dim // 3)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before the first level and after each of them."""
        return (self.init_dim, *(self.dim * mult for mult in self.mults))

    @property
    def time_dim(self) -> int:
        """Size of the time embedding."""
        return 4 * self.dim


def parse_config(values: Mapping[str, Any]) -> UNetConfig:
    """The config of a card; an unknown argument is refused by name."""
    known = [field.name for field in fields(UNetConfig)]
    for name in values:
        if name not in known:
            raise ModelError(
                f"A U-Net has no argument {name!r}.",
                consequence="The weights belong to another network.",
                remedy=nearest(name, known),
            )
    given = dict(values)
    if "mults" in given:
        given["mults"] = tuple(given["mults"])
    return UNetConfig(**given)


def size_fits(size: int, levels: int) -> None:
    """Refuse a side that the levels cannot halve.

    Raises
    ------
    DefinitionError
        With the nearest sides that they can.
    """
    factor = 2 ** (levels - 1)
    if size < factor or size % factor:
        below, above = max(1, size // factor) * factor, (size // factor + 1) * factor
        raise DefinitionError(
            f"Images of {size} x {size} cannot be halved {levels - 1} times.",
            consequence=f"A network of {levels} levels could not put its halves together again.",
            remedy=f"use a multiple of {factor}, for instance {below if size > factor else above} or"
            f" {above if size > factor else 2 * above}",
        )


@dataclass(frozen=True)
class Layer:
    """One address and what it puts out."""

    id: str
    """Name of the module inside the network."""
    channels: int
    """Channels of its output; a probe's channel must be below it."""
    halvings: int
    """How many times the image's side was halved before it."""


def layers(config: UNetConfig) -> tuple[Layer, ...]:
    """Every layer of the interface in the order of the forward pass: 65 at the defaults.

    `x.2.fn` is the attention branch before the residual is added; the sum is the module `x.2`.
    """
    widths = config.widths
    depth = len(config.mults) - 1
    rows = [Layer("init_conv", widths[0], 0)]
    for level, (into, out) in enumerate(itertools.pairwise(widths)):
        rows += _block(f"downs.{level}", into, out, level)
        rows.append(Layer(f"downs.{level}.3", out, min(level + 1, depth)))
    rows += _convnext("mid_block1", widths[-1], widths[-1], depth)
    rows.append(Layer("mid_attn.fn", widths[-1], depth))
    rows += _convnext("mid_block2", widths[-1], widths[-1], depth)
    for step, level in enumerate(range(depth, 0, -1)):
        rows += _block(f"ups.{step}", 2 * widths[level + 1], widths[level], level)
        rows.append(Layer(f"ups.{step}.3", widths[level], level - 1))
    return (*rows, Layer("final_conv", config.channels, 0))


def layer_ids(config: UNetConfig) -> tuple[str, ...]:
    """The addresses alone.

    >>> len(layer_ids(UNetConfig()))
    65
    """
    return tuple(layer.id for layer in layers(config))


def _block(name: str, into: int, out: int, halvings: int) -> list[Layer]:
    return [
        *_convnext(f"{name}.0", into, out, halvings),
        *_convnext(f"{name}.1", out, out, halvings),
        Layer(f"{name}.2.fn", out, halvings),
    ]


def _convnext(name: str, into: int, out: int, halvings: int) -> list[Layer]:
    return [
        Layer(f"{name}.ds_conv", into, halvings),
        Layer(f"{name}.net", out, halvings),
        Layer(f"{name}.res_conv", out, halvings),
    ]
