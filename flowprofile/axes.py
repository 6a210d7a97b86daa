"""The names of every dimension, in one place, with their order, unit and meaning.

A profile is one array along four axes; a second spelling of a dimension anywhere would silently make a fifth.
"""

from dataclasses import dataclass
from typing import Final

INTERVENTION: Final = "intervention"
LABEL: Final = "label"
SEED: Final = "seed"
TIME: Final = "time"
CHANNEL: Final = "channel"
Y: Final = "y"
X: Final = "x"
LAYER: Final = "layer"
PIXEL: Final = "pixel"
OTHER: Final = "other_label"
READ: Final = "read_label"
TOKEN: Final = "token"
HEAD: Final = "head"
GUIDANCE: Final = "guidance"
PROMPT: Final = "prompt"
"""Coordinate of labels that are prompts."""
IMAGE: Final = "image"
"""Coordinate of seeds that stand for given images."""
CASE: Final = "case"

CASE_AXES: Final = (INTERVENTION, LABEL, SEED)
"""The axes that together say which sample it is; on disk every array begins with them."""

STORED_AXES: Final = (*CASE_AXES, TIME)
"""The leading axes of every stored array, in the order in which they are stored."""


@dataclass(frozen=True)
class Axis:
    """What a reader of a coordinate needs to know about it."""

    name: str
    dtype: str
    """NumPy name of the coordinate's type; ``str`` stands for variable-length strings."""
    unit: str
    meaning: str


AXES: Final = {
    axis.name: axis
    for axis in (
        Axis(
            INTERVENTION,
            "str",
            "name",
            "what was done to the model while it sampled; 'none' is the clean run",
        ),
        Axis(LABEL, "int64", "number", "the conditioning the sample was asked for"),
        Axis(SEED, "int64", "number", "the noise seed; equal seeds share x_T and every step's noise"),
        Axis(
            TIME,
            "int64",
            "step",
            "state t: t = T is noise, t = 0 is the image; generated in descending order",
        ),
        Axis(CHANNEL, "int64", "index", "colour or feature channel"),
        Axis(Y, "int64", "pixel", "row, from the top"),
        Axis(X, "int64", "pixel", "column, from the left"),
        Axis(LAYER, "str", "name", "module of the network, in the order of the forward pass"),
        Axis(PIXEL, "int64", "index", "chosen pixel y * width + x of the image"),
        Axis(OTHER, "int64", "number", "the label that is compared with"),
        Axis(READ, "int64", "number", "the label that a reader may see in the image"),
        Axis(TOKEN, "int64", "index", "position in the prompt, or place y * width + x of the picture"),
        Axis(HEAD, "int64", "index", "head of an attention layer"),
        Axis(
            GUIDANCE,
            "str",
            "name",
            "half of a guided step: 'uncond' was asked with the null label, 'cond' with the sample's",
        ),
        Axis(CASE, "int64", "index", "position in a batch; exists only in flight"),
    )
}
