"""Cards of the models whose denoiser is a formula.

They have no weights file, so their cards live here, where they can be read without torch.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.models.card import ModelCard

MIXTURE16: Final = ModelCard(
    name="mixture16",
    architecture="mixture",
    config={"size": 16, "templates": 8, "groups": 2, "weights": (0.95, 0.05), "sd": 0.03, "template_seed": 0},
    shape=(1, 16, 16),
    labels=LabelSpace(classes=2),
)
"""Eight smooth random templates in two groups of four; a label gives one group .95 of the weight."""

GAUSSIAN8: Final = ModelCard(
    name="gaussian8",
    architecture="gaussian",
    config={"size": 8, "length_scale": 1.5, "sd": 0.25, "mean": 0.5},
    shape=(1, 8, 8),
    labels=LabelSpace(classes=1),
)
"""One Gaussian with a smooth covariance: a linear denoiser whose Jacobian is known exactly."""

CARDS: Final[Mapping[str, ModelCard]] = MappingProxyType({card.name: card for card in (MIXTURE16, GAUSSIAN8)})
