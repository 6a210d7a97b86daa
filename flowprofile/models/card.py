"""What must be known about a model besides its weights, as one frozen value that travels inside the weights file.

A sample is decided by more than numbers in tensors: which schedule the network was trained for, what it predicts,
what range pixels have, what a label means. Kept beside the file, such facts are lost; kept in the file's own
header, they are there whenever the weights are, and can be read without loading torch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError, nearest

ARCHITECTURES: Final = (
    "unet",
    "mixture",
    "gaussian",
    "module",
    "UNet2DModel",
    "DiTTransformer2DModel",
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
)
PREDICTIONS: Final = ("eps", "v", "x0", "flow")

DECIDING: Final = (
    "architecture",
    "config",
    "shape",
    "pixel_range",
    "labels",
    "schedule",
    "steps",
    "prediction",
    "null_label",
)
"""Fields that decide what the model computes; the others tell its story only."""


@dataclass(frozen=True)
class ModelCard:
    """The contract of one model."""

    name: str
    """How it is called in reports."""
    architecture: str
    """'unet', 'mixture', 'gaussian', a class of diffusers', or 'module' for a network that the caller brings."""
    config: Mapping[str, Any]
    """Constructor arguments of the architecture, JSON values only."""
    shape: tuple[int, int, int]
    """Channel, y, x of one sample."""
    labels: LabelSpace
    """What label numbers mean."""
    pixel_range: tuple[float, float] = (0.0, 1.0)
    """Values of black and white in the model's own space."""
    schedule: str = "linear"
    """Name of the noise schedule the model was trained for; 'flow' where sigma runs from 1 to 0 with time."""
    steps: int = 1000
    """T of that schedule."""
    prediction: str = "eps"
    """What the network itself puts out: 'flow' is the velocity eps - x_0 of states (1 - sigma) x_0 + sigma eps. The
    denoiser gives the velocity of such a network, and eps of all others."""
    null_label: int | None = None
    """Label that means 'unconditional', for guidance; never a label of the space."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Data, recipe and steps of the training."""
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    """How often a sample shows its label, measured: with n, interval, sampler and reader."""

    def __post_init__(self) -> None:
        for table in ("config", "training", "fidelity"):
            object.__setattr__(self, table, _with_tuples(getattr(self, table)))
        for what, value, known in (
            ("architecture", self.architecture, ARCHITECTURES),
            ("prediction", self.prediction, PREDICTIONS),
        ):
            if value not in known:
                raise ModelError(
                    f"There is no {what} {value!r}.",
                    consequence=f"The card of {self.name!r} describes no model that can be run.",
                    remedy=nearest(value, known),
                )
        if tuple(map(type, self.shape)) != (int, int, int) or min(self.shape) < 1:
            raise ModelError(
                f"The shape {self.shape!r} of {self.name!r} is not (channel, y, x) with sizes of at least 1.",
                remedy="give three positive sizes, for instance (3, 32, 32)",
            )
        if self.null_label is not None and 0 <= self.null_label < self.labels.count:
            raise ModelError(
                f"The null label {self.null_label!r} of {self.name!r} is a real label.",
                consequence="Guidance would push away from a class instead of from 'no label'.",
                remedy=f"use a number outside 0 .. {self.labels.count - 1}, or None",
            )

    def to_json(self) -> str:
        """Canonical text: sorted keys, no spaces; equal cards give equal bytes.

        >>> card = ModelCard("m", "gaussian", {"size": 8}, (1, 8, 8), LabelSpace(classes=1))
        >>> ModelCard.from_json(card.to_json()) == card
        True
        """
        return json.dumps(self.table(), sort_keys=True, separators=(",", ":"), allow_nan=False)

    def identity_json(self) -> str:
        """Canonical text of the fields that decide what the model computes."""
        values = self.table()
        return json.dumps({name: values[name] for name in DECIDING}, sort_keys=True, separators=(",", ":"))

    def table(self) -> dict[str, Any]:
        """The card as plain values."""
        return {**asdict(self), "labels": self.labels.table()}

    @classmethod
    def from_json(cls, text: str) -> "ModelCard":
        """The card written by `to_json`; raises ModelError for anything else."""
        try:
            values = json.loads(text)
            labels = LabelSpace.of_table(values["labels"])
            tuples = {"shape": tuple(values["shape"]), "pixel_range": tuple(values["pixel_range"])}
            return cls(**{**values, **tuples, "labels": labels})
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(
                "The text is not a model card.",
                consequence="Shape, schedule and prediction of the weights are unknown, so nothing can be sampled.",
                remedy="write the file with flowprofile.models.weights.save(path, tensors, card)",
                evidence=f"{type(error).__name__}: {error}",
            ) from error


def _with_tuples(value: Any) -> Any:
    """Lists as tuples all the way down, so that a card that went through JSON equals the one that did not."""
    if isinstance(value, Mapping):
        return {key: _with_tuples(part) for key, part in value.items()}
    return tuple(_with_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def thesis_card(name: str, *, size: int = 64) -> ModelCard:
    """Card of a checkpoint of the thesis' U-Net: raw decimal label plane, eps, pixels in [0, 1], linear schedule."""
    return ModelCard(
        name=name,
        architecture="unet",
        config={},
        shape=(3, size, size),
        labels=LabelSpace(("bangs", "male", "smile", "lipstick")),
    )
