"""Procedural faces whose every pixel has a known cause.

A profile of a model trained on photographs can be judged by eye only. Here the attributes, the parts and the
chances are ours: the picture is a function of (seed, index), each of the 16 labels is equally likely whatever else
is drawn, and the segmentation says which pixels an attribute may change. Nothing lies on disk.

A face fills the frame, and hair is redrawn until it differs from skin and background (`CONTRAST`): in a first
version every eighth face had hair of the colour of its skin, where no one could see bangs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.datasets.paint import Canvas, Field, box, ellipse, grid, smooth
from flowprofile.errors import DefinitionError

LABELS: Final = LabelSpace(("bangs", "male", "smile", "lipstick"))
PARTS: Final = ("background", "clothes", "hair", "skin", "eyes", "brows", "mouth", "beard", "nose")
CONTRAST: Final = 0.32
"""Least Euclidean distance in RGB between hair and skin; hair and background keep two thirds of it."""

BACKGROUND, CLOTHES, HAIR, SKIN, EYES, BROWS, MOUTH, BEARD, NOSE = range(len(PARTS))

_TRAITS: Final = {
    "shift_x": (-0.05, 0.05),
    "shift_y": (-0.04, 0.04),
    "tilt": (-0.09, 0.09),
    "scale": (0.96, 1.05),
    "turn": (-0.06, 0.06),
    "face_width": (0.56, 0.62),
    "face_height": (0.70, 0.76),
    "eye_gap": (0.25, 0.29),
    "eye_size": (0.92, 1.08),
    "gaze": (-0.03, 0.03),
    "brow_lift": (0.0, 0.03),
    "nose_size": (0.9, 1.15),
    "mouth_width": (0.94, 1.06),
    "hair_volume": (0.0, 0.08),
    "parting": (-0.25, 0.25),
    "light": (-0.10, 0.10),
    "skin_tone": (0.0, 1.0),
    "eye_tone": (0.0, 1.0),
    "lip_tone": (0.0, 1.0),
    "clothes_hue": (0.0, 1.0),
    "background_hue": (0.0, 1.0),
    "background_value": (0.60, 0.93),
    "background_saturation": (0.12, 0.42),
}
"""What varies besides the label, with its range; the order is the order of the random numbers, so append only."""

_HAIR_DRAWS: Final = 16
_SKIN: Final = (
    (0.98, 0.85, 0.74),
    (0.93, 0.74, 0.60),
    (0.82, 0.60, 0.45),
    (0.64, 0.43, 0.30),
    (0.47, 0.31, 0.22),
)
_HAIR: Final = (
    (0.09, 0.07, 0.08),
    (0.24, 0.14, 0.09),
    (0.42, 0.23, 0.12),
    (0.62, 0.24, 0.10),
    (0.93, 0.77, 0.40),
    (0.80, 0.80, 0.83),
)
_IRIS: Final = ((0.22, 0.44, 0.70), (0.20, 0.48, 0.30), (0.33, 0.19, 0.10), (0.16, 0.13, 0.15))
_LIPSTICK: Final = ((0.86, 0.03, 0.14), (0.80, 0.03, 0.38), (0.70, 0.02, 0.10))

Colour = NDArray[np.floating[Any]]
Traits = Mapping[str, Field]


@dataclass(frozen=True)
class Faces:
    """Pictures with the truth about them."""

    images: NDArray[np.float32]
    """Colours in [0, 1], [case channel y x]."""
    labels: NDArray[np.int64]
    """8 bangs + 4 male + 2 smile + 1 lipstick, [case]."""
    parts: NDArray[np.uint8]
    """Index into PARTS of what is seen at each pixel, [case y x]."""


def faces(seed: int, indices: Sequence[int], *, labels: Sequence[int] | None = None, size: int = 32) -> Faces:
    """The pictures at the given indices of the endless collection `seed`; about .5 ms each at 32 x 32.

    With `labels` the attributes are set and everything else stays: two labels at one index show the same person.
    """
    if min(indices, default=0) < 0 or seed < 0:
        raise DefinitionError(
            f"Seed {seed!r} or an index among {list(indices)[:4]!r} is negative.",
            consequence="Both key a counter-based generator, which counts from 0.",
            remedy="use numbers of at least 0",
        )
    numbers = np.stack([_numbers(seed, index) for index in indices])
    drawn = (numbers[:, 0] * LABELS.count).astype(np.int64)
    chosen = drawn if labels is None else np.array([LABELS.parse(int(label)) for label in labels], np.int64)
    if len(chosen) != len(drawn):
        raise DefinitionError(
            f"There are {len(chosen)} labels for {len(drawn)} indices.",
            remedy="give one label for each index",
        )
    done = [_render(numbers[i : i + 64], chosen[i : i + 64], size) for i in range(0, len(chosen), 64)]
    return Faces(
        np.concatenate([canvas.image for canvas in done]),
        chosen,
        np.concatenate([canvas.parts for canvas in done]),
    )


def _numbers(seed: int, index: int) -> NDArray[np.float64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, index]))
    drawn: NDArray[np.float64] = generator.random(1 + len(_TRAITS) + 3 * _HAIR_DRAWS)
    return drawn


def _render(numbers: NDArray[np.float64], labels: NDArray[np.int64], size: int) -> Canvas:
    traits = {
        name: (low + (high - low) * numbers[:, 1 + i]).astype(np.float32)[:, None, None]
        for i, (name, (low, high)) in enumerate(_TRAITS.items())
    }
    bangs, male, smile, lipstick = (
        ((labels >> bit) & 1).astype(np.float32)[:, None, None] for bit in (3, 2, 1, 0)
    )
    colours = _colours(numbers, traits)
    canvas = Canvas.blank(len(labels), size)
    _background(canvas, traits, colours)
    x, y = _pose(traits, size)
    _body(canvas, x, y, colours)
    _hair_behind(canvas, x, y, traits, colours, male)
    head = _head(canvas, x, y, traits, colours, male)
    x = x - traits["turn"]
    _beard(canvas, x, y, head, colours, male)
    _nose(canvas, x, y, traits, colours)
    _eyes(canvas, x, y, traits, colours)
    _mouth(canvas, x, y, traits, colours, smile, lipstick)
    _hair_front(canvas, x, y, traits, colours, male, bangs)
    _brows(canvas, x, y, traits, colours, male)
    light = 1.0 + traits["light"] * x + 0.04 * smooth(0.6, -0.8, y)
    canvas.image = np.clip(canvas.image * light[:, None], 0.0, 1.0).astype(np.float32)
    return canvas


def _ramp(stops: Sequence[tuple[float, float, float]], position: NDArray[np.floating]) -> Colour:
    """Colours [case channel] along the stops for positions in [0, 1]."""
    at = np.linspace(0.0, 1.0, len(stops))
    table = np.array(stops)
    return np.stack([np.interp(position, at, table[:, c]) for c in range(3)], -1).astype(np.float32)


def _hue(hue: NDArray[np.floating], saturation: NDArray[np.floating], value: NDArray[np.floating]) -> Colour:
    """HSV to RGB [case channel], hue in turns."""
    offsets = (hue[:, None] + np.array([0.0, 2 / 3, 1 / 3])) % 1.0
    pure = np.clip(np.abs(offsets * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    colour: Colour = (value[:, None] * (1.0 - saturation[:, None] * (1.0 - pure))).astype(np.float32)
    return colour


def _colours(numbers: NDArray[np.float64], traits: Traits) -> Mapping[str, Colour]:
    flat = {name: value[:, 0, 0] for name, value in traits.items()}
    skin = _ramp(_SKIN, flat["skin_tone"])
    back = _hue(flat["background_hue"], flat["background_saturation"], flat["background_value"])
    hair = _contrasting_hair(numbers[:, 1 + len(_TRAITS) :].reshape(-1, _HAIR_DRAWS, 3), skin, back)
    iris = np.array(_IRIS, np.float32)[(flat["eye_tone"] * len(_IRIS)).astype(int) % len(_IRIS)]
    clothes = _hue(flat["clothes_hue"], np.full_like(flat["light"], 0.62), np.full_like(flat["light"], 0.62))
    natural = 0.6 * skin * np.array([0.86, 0.66, 0.62], np.float32) + 0.4 * np.array(
        [0.66, 0.36, 0.34], np.float32
    )
    return {
        "skin": skin,
        "background": back,
        "hair": hair,
        "iris": iris,
        "clothes": clothes,
        "lip": natural,
        "lipstick": _ramp(_LIPSTICK, flat["lip_tone"]),
    }


def _contrasting_hair(draws: NDArray[np.float64], skin: Colour, back: Colour) -> Colour:
    """The first drawn hair colour that is far enough from skin and background, else the farthest of all."""
    pick = (draws[..., 0] * len(_HAIR)).astype(int)
    jitter = (
        1.0 + 0.24 * (draws[..., 1:2] - 0.5) + 0.10 * (draws[..., 2:3] - 0.5) * np.array([1.0, 0.0, -1.0])
    )
    tones = np.clip(np.array(_HAIR)[pick] * jitter, 0.0, 1.0)
    to_skin = np.linalg.norm(tones - skin[:, None], axis=-1)
    to_back = np.linalg.norm(tones - back[:, None], axis=-1) * 1.5
    margin = np.minimum(to_skin, to_back)
    good = margin >= CONTRAST
    chosen = np.where(good.any(1), good.argmax(1), margin.argmax(1))
    picked: Colour = tones[np.arange(len(tones)), chosen].astype(np.float32)
    return picked


def _pose(traits: Traits, size: int) -> tuple[Field, Field]:
    x, y = grid(size)
    x, y = (x - traits["shift_x"]) / traits["scale"], (y - traits["shift_y"]) / traits["scale"]
    cos, sin = np.cos(traits["tilt"]), np.sin(traits["tilt"])
    return cos * x + sin * y, cos * y - sin * x


def _background(canvas: Canvas, traits: Traits, colours: Mapping[str, Colour]) -> None:
    x, y = grid(canvas.image.shape[-1])
    shade = 1.04 - 0.16 * smooth(-1.0, 1.2, y) - 0.10 * smooth(0.6, 1.5, np.sqrt(x * x + y * y))
    full = np.ones_like(canvas.image[:, 0])
    canvas.paint(full, colours["background"][:, :, None, None] * shade[:, None], BACKGROUND)


def _body(canvas: Canvas, x: Field, y: Field, colours: Mapping[str, Colour]) -> None:
    canvas.paint(canvas.cover(ellipse(x, y - 1.30, 0.98, 0.48)), colours["clothes"], CLOTHES)
    neck = canvas.cover(box(x, y - 0.75, 0.26, 0.36, corner=0.1))
    canvas.paint(neck, colours["skin"] * 0.80, SKIN)


def _strands(x: Field, y: Field, traits: Traits, hair: Colour) -> Colour:
    """Hair colour with a soft sheen across the crown and fine strands that follow the head."""
    angle = np.arctan2(x - 0.4 * traits["parting"], 1.3 - y)
    wave = 0.07 * np.sin(34.0 * angle + 12.0 * traits["parting"])
    sheen = 0.20 * np.exp(-(((np.sqrt(x * x + (y - 0.1) ** 2) - 0.72) / 0.10) ** 2)) * smooth(0.1, -0.5, y)
    shade = (1.0 + wave)[:, None] * hair[:, :, None, None]
    out: Colour = shade + sheen[:, None] * (1.0 - shade) * 0.6
    return out


def _hair_behind(
    canvas: Canvas, x: Field, y: Field, traits: Traits, colours: Mapping[str, Colour], male: Field
) -> None:
    volume = traits["hair_volume"]
    long = np.minimum(
        ellipse(x, y + 0.10, 0.74 + volume, 0.80 + volume),
        box(x, y - 0.40, 0.70 + volume + 0.06 * y, 0.56 + volume, corner=0.22),
    )
    short = np.maximum(ellipse(x, y + 0.16, 0.655 + 0.5 * volume, 0.70 + 0.6 * volume), y - 0.05)
    distance = np.where(male > 0, short, long)
    canvas.paint(canvas.cover(distance), 0.82 * _strands(x, y, traits, colours["hair"]), HAIR)
    neck = canvas.cover(box(x, y - 0.78, 0.25, 0.32, corner=0.1))
    canvas.paint(neck, colours["skin"] * 0.78, SKIN)
    low = canvas.cover(ellipse(x, y - 1.34, 0.80, 0.44))
    canvas.paint(low * np.where(male > 0, 1.0, canvas.cover(np.abs(x) - 0.42)), colours["clothes"], CLOTHES)


def _head(
    canvas: Canvas, x: Field, y: Field, traits: Traits, colours: Mapping[str, Colour], male: Field
) -> Field:
    """Ears and face; returns the distance to the face's outline."""
    width, height = traits["face_width"], traits["face_height"]
    ears = ellipse(np.abs(x) - width - 0.02, y - 0.08, 0.10, 0.16)
    canvas.paint(canvas.cover(ears) * (male > 0), colours["skin"] * 0.88, SKIN)
    jaw = width * (1.0 - (0.10 - 0.05 * male) * smooth(0.1, 0.8, y))
    head = ellipse(x, y - 0.06, jaw, height)
    edge = 1.0 - 0.15 * smooth(-0.22, 0.0, head)
    canvas.paint(canvas.cover(head), colours["skin"][:, :, None, None] * edge[:, None], SKIN)
    cheek = np.exp(-(((np.abs(x - traits["turn"]) - 0.34) / 0.13) ** 2) - (((y - 0.26) / 0.11) ** 2))
    blush = colours["skin"] * np.array([1.02, 0.78, 0.76], np.float32)
    canvas.paint((0.5 * cheek * canvas.cover(head)).astype(np.float32), blush)
    return head


def _beard(
    canvas: Canvas, x: Field, y: Field, head: Field, colours: Mapping[str, Colour], male: Field
) -> None:
    upper = 0.36 - y - 0.9 * np.maximum(np.abs(x) - 0.34, 0.0)
    moustache = ellipse(x, y - 0.325, 0.25, 0.05)
    mouth_gap = ellipse(x, y - 0.485, 0.37, 0.155)
    beard = np.minimum(np.maximum(np.maximum(upper, head), -mouth_gap), moustache)
    tone = 0.9 * colours["hair"] + 0.06 * colours["skin"]
    canvas.paint(canvas.cover(beard) * male, tone, BEARD)


def _nose(canvas: Canvas, x: Field, y: Field, traits: Traits, colours: Mapping[str, Colour]) -> None:
    size = traits["nose_size"]
    bridge = ellipse(x - 0.035, y - 0.15, 0.035 * size, 0.15)
    canvas.paint(0.5 * canvas.cover(bridge), colours["skin"] * 0.80, NOSE)
    tip = ellipse(x, y - 0.245, 0.105 * size, 0.05)
    canvas.paint(0.9 * canvas.cover(tip), colours["skin"] * 0.74, NOSE)


def _eyes(canvas: Canvas, x: Field, y: Field, traits: Traits, colours: Mapping[str, Colour]) -> None:
    size, gap = traits["eye_size"], traits["eye_gap"]
    side = np.abs(x) - gap
    white = ellipse(side, y - 0.03, 0.155 * size, 0.098 * size)
    cover = canvas.cover(white)
    lid = canvas.cover(ellipse(side, y - 0.015, 0.175 * size, 0.118 * size))
    dark = np.full_like(colours["skin"], 0.10)
    canvas.paint(0.85 * lid * (y < 0.03), dark, EYES)
    canvas.paint(cover, np.full_like(colours["skin"], 0.97), EYES)
    towards = np.sqrt((x - np.sign(x) * gap - traits["gaze"]) ** 2 + (y - 0.03) ** 2)
    canvas.paint(cover * canvas.cover(towards - 0.088 * size), colours["iris"], EYES)
    canvas.paint(cover * canvas.cover(towards - 0.042 * size), np.full_like(colours["skin"], 0.04), EYES)
    glint = np.sqrt((x - np.sign(x) * gap - traits["gaze"] + 0.03) ** 2 + (y + 0.005) ** 2)
    canvas.paint(cover * canvas.cover(glint - 0.02), np.ones_like(colours["skin"]), EYES)


def _mouth(
    canvas: Canvas,
    x: Field,
    y: Field,
    traits: Traits,
    colours: Mapping[str, Colour],
    smile: Field,
    lipstick: Field,
) -> None:
    """A smile is wide, open and bent upwards, with teeth; otherwise lips are closed, narrow and bent down a little."""
    half = np.where(smile > 0, 0.33, 0.215) * traits["mouth_width"]
    across = x / half
    inside = np.maximum(1.0 - across * across, 0.0)
    bend = np.where(smile > 0, 0.15, -0.025) * (1.0 - across * across)
    middle = y - 0.43 - bend + np.where(smile > 0, 0.035, -0.045)
    lip = (0.052 + 0.014 * lipstick) * np.sqrt(inside)
    opening = np.where(smile > 0, 0.062, 0.0) * inside
    ends = np.abs(x) - half
    lips = np.maximum(np.abs(middle) - opening - lip, ends)
    colour = colours["lip"] + (colours["lipstick"] - colours["lip"]) * lipstick[:, :, 0]
    canvas.paint(canvas.cover(lips), colour, MOUTH)
    teeth = np.maximum(np.abs(middle) - opening, ends)
    canvas.paint(canvas.cover(teeth) * smile, np.full_like(colour, 0.96), MOUTH)
    line = np.maximum(np.abs(middle) - 0.016, ends + 0.03)
    canvas.paint(0.8 * canvas.cover(line) * (1.0 - smile), colour * 0.45, MOUTH)


def _hair_front(
    canvas: Canvas,
    x: Field,
    y: Field,
    traits: Traits,
    colours: Mapping[str, Colour],
    male: Field,
    bangs: Field,
) -> None:
    """Hair over the skull down to the hairline; bangs reach the brows and hide the forehead."""
    volume = traits["hair_volume"]
    skull = ellipse(x, y + 0.14, np.where(male > 0, 0.655, 0.70) + 0.5 * volume, 0.71 + 0.6 * volume)
    parted = -0.55 + 0.60 * (x - traits["parting"]) ** 2
    fringe = -0.165 + 0.03 * np.cos(21.0 * (x + traits["parting"])) + 0.05 * np.abs(x)
    below = np.where(bangs > 0, fringe, parted)
    cover = canvas.cover(np.maximum(skull, y - below))
    canvas.paint(cover, _strands(x, y, traits, colours["hair"]), HAIR)
    sides = np.maximum(np.abs(np.abs(x) - 0.67) - 0.10, np.abs(y - 0.1) - 0.60)
    canvas.paint(canvas.cover(sides) * (1.0 - male), 0.94 * _strands(x, y, traits, colours["hair"]), HAIR)


def _brows(
    canvas: Canvas, x: Field, y: Field, traits: Traits, colours: Mapping[str, Colour], male: Field
) -> None:
    side = np.abs(x) - traits["eye_gap"]
    arch = y + 0.135 + traits["brow_lift"] + 0.04 * (1.0 - (side / 0.17) ** 2)
    brow = np.maximum(np.abs(arch) - (0.022 + 0.012 * male), np.abs(side) - 0.17)
    canvas.paint(0.9 * canvas.cover(brow), 0.45 * colours["hair"], BROWS)
