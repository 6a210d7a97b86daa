"""What can be asked of a network while it is asked for eps, as frozen values.

A probe names layers and says what is taken of them. It is a value because it decides a result: it is in the key of
the stage that stores it, and two stages that want the same thing share one probe. How it is taken, before anything
is copied off the device, is in `kernels.probing`.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from flowprofile.models.sites import Attends
from flowprofile.objects.masks import Mask

Statistic: TypeAlias = Literal["sum", "abs", "max", "mean_top"]


@dataclass(frozen=True)
class PredictedImage:
    """The image x_0 that eps and the state before imply, [channel y x]."""

    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Activation:
    """The output of one module, [channel y x]."""

    layer: str
    dtype: str = "float32"

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)


@dataclass(frozen=True)
class Pooled:
    """The spatial mean of every channel of one module's output, [channel]."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)


@dataclass(frozen=True)
class ChannelSum:
    """The sum over the channels of one module's output, [y x]."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)


@dataclass(frozen=True)
class MaxChannel:
    """The strongest channel c* of each of several modules, int64 [layer]."""

    layers: tuple[str, ...]
    statistic: Statistic = "sum"
    """sum (the definition), abs: sum of absolute values, max, or mean_top: mean of the largest share q."""
    q: float = 0.1
    mask: Mask | None = None
    """Where to look; everywhere if None."""


@dataclass(frozen=True)
class AttentionMap:
    """Sum over modules and channels of the outputs resized to the image, [y x]."""

    layers: tuple[str, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """How much each place of one or several modules attends to each token, [token y x], or [head token y x] of one.

    Of several modules it is the mean of their maps, resized. Over the tokens it adds up to one at every place.
    """

    attends: tuple[Attends, ...]
    heads: bool = False
    """Whether heads are kept apart."""
    size: tuple[int, int] | None = None
    """Resize to this; as the module has it if None."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Queries and keys of each module in turn."""
        return tuple(layer for one in self.attends for layer in one.layers)


Single: TypeAlias = PredictedImage | Activation | Pooled | ChannelSum | MaxChannel | AttentionMap | Attention
"""What is taken of one call: of a guided step the label's, and for a predicted image the eps that both give."""


@dataclass(frozen=True)
class Halves:
    """The same of several calls of a guided step, side by side, [half ...]."""

    of: Single
    names: tuple[str, ...]
    """Which of `conditioning.guidance.HALVES`, in their order."""

    @property
    def layers(self) -> tuple[str, ...]:
        return self.of.layers


Probe: TypeAlias = Single | Halves
