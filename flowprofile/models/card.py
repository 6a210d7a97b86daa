"""What must be known about a model besides its weights, as one frozen value that travels inside the weights file.

A sample is decided by more than numbers in tensors: which schedule the network was trained for, what it predicts,
what range pixels have, what a label means. Kept beside the file, such facts are lost; kept in the file's own
header, they are there whenever the weights are, and can be read without loading torch.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, prod
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

MOST_VALUES: Final = 1 << 28
"""Most numbers in one sample."""
MOST_STEPS: Final = 1 << 20
"""Longest schedule."""
MOST_NUMBER: Final = 1 << 20
"""Largest whole number in a configuration: sizes and counts, which decide what a network's building takes."""
MOST_PARTS: Final = 1024
"""Most parts that a list of a configuration may ask for, times as many layers as are in each."""
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
        self._sensible()
        if self.null_label is not None and 0 <= self.null_label < self.labels.count:
            raise ModelError(
                f"The null label {self.null_label!r} of {self.name!r} is a real label.",
                consequence="Guidance would push away from a class instead of from 'no label'.",
                remedy=f"use a number outside 0 .. {self.labels.count - 1}, or None",
            )

    def _sensible(self) -> None:
        """Refuse what no model is, before anything is built of it."""
        counts, most_listed = list(_counts(self.config)), _longest(self.config)
        layers = max((n for name, n in counts if "layers" in name), default=1)
        numbers = tuple(type(each) in (int, float) and isfinite(each) for each in self.pixel_range)
        for holds, fact in (
            (numbers == (True, True) and self.pixel_range[0] < self.pixel_range[1],
             f"The pixel range {self.pixel_range!r} is not two numbers, black and white"),
            (prod(self.shape) <= MOST_VALUES, f"A sample of {self.shape!r} has more than {MOST_VALUES:,} values"),
            (type(self.steps) is int and 1 <= self.steps <= MOST_STEPS,
             f"A schedule of {self.steps!r} steps is none of 1 to {MOST_STEPS:,}"),
            (self.null_label is None or type(self.null_label) is int,
             f"The null label {self.null_label!r} is not a number"),
            (all(n <= MOST_NUMBER for _, n in counts),
             f"The configuration holds a number over {MOST_NUMBER:,}"),
            (most_listed * max(1, layers) <= MOST_PARTS,
             f"The configuration asks for {most_listed:,} parts of {layers:,} layers"),
        ):  # fmt: skip
            if not holds:
                raise ModelError(
                    f"{fact} ({str(self.name)[:80]!r}).",
                    consequence="Nothing is built from such a card.",
                    remedy="correct the card, or load the network in Python: flowprofile.denoiser(module, shape)",
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
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(
                "The text is not a model card.",
                consequence="Shape, schedule and prediction of the weights are unknown, so nothing can be sampled.",
                remedy="write the file with flowprofile.models.weights.save(path, tensors, card)",
                evidence=f"{type(error).__name__}: {error}"[:300],
            ) from error


def _counts(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration, with the setting it belongs to."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _counts(part, str(key))
    elif isinstance(value, tuple):
        for part in value:
            yield from _counts(part, name)
    elif type(value) is int:
        yield name, value


def _longest(value: Any) -> int:
    """Length of the longest list in a configuration; 1 where there is none."""
    if isinstance(value, Mapping):
        return max((1, *map(_longest, value.values())))
    return max((1, len(value), *map(_longest, value))) if isinstance(value, tuple) else 1


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
