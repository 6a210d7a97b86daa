"""Signed distances, one-pixel ramps and a canvas that remembers which part it painted where.

Anti-aliasing by a ramp over the distance costs one evaluation a pixel where supersampling costs sixteen, and the
same distance gives the segmentation. All arrays begin with `case`, so a batch is painted at the price of its sum.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.floating[Any]]
"""One number a pixel [case y x], or one number an image [case 1 1]; the two broadcast."""


def grid(size: int) -> tuple[Field, Field]:
    """x to the right and y downwards at the pixel centres, in [-1, 1], each [1 y x]."""
    centres = ((np.arange(size, dtype=np.float32) + 0.5) * (2.0 / size) - 1.0).astype(np.float32)
    x, y = np.meshgrid(centres, centres)
    return x[None], y[None]


def ellipse(x: Field, y: Field, radius_x: Field | float, radius_y: Field | float) -> Field:
    """Distance to an ellipse about the origin, exact to first order near its edge; negative inside."""
    u, v = x / radius_x, y / radius_y
    length = np.sqrt(u * u + v * v)
    slope = np.sqrt((u / radius_x) ** 2 + (v / radius_y) ** 2)
    out: Field = length * (length - 1.0) / np.maximum(slope, 1e-6)
    return out


def box(x: Field, y: Field, half_x: Field | float, half_y: Field | float, *, corner: float = 0.0) -> Field:
    """Distance to a rectangle about the origin with rounded corners."""
    u, v = np.abs(x) - half_x + corner, np.abs(y) - half_y + corner
    outside = np.sqrt(np.maximum(u, 0.0) ** 2 + np.maximum(v, 0.0) ** 2)
    out: Field = outside + np.minimum(np.maximum(u, v), 0.0) - corner
    return out


def smooth(edge0: float, edge1: float, value: Field) -> Field:
    """0 below edge0, 1 above edge1, a cubic between."""
    t = np.clip((value - edge0) / (edge1 - edge0), 0.0, 1.0)
    out: Field = t * t * (3.0 - 2.0 * t)
    return out


@dataclass
class Canvas:
    """A batch of pictures under the brush; lives for one call of the renderer."""

    image: NDArray[np.float32]
    """Colours in [0, 1], [case channel y x]."""
    parts: NDArray[np.uint8]
    """Number of the part last painted with more than half coverage, [case y x]."""

    @classmethod
    def blank(cls, cases: int, size: int) -> "Canvas":
        """Black, part 0 everywhere."""
        image = np.zeros((cases, 3, size, size), np.float32)
        return cls(image, np.zeros((cases, size, size), np.uint8))

    def cover(self, distance: Field) -> Field:
        """Share of each pixel inside the shape: a ramp one pixel wide across its edge."""
        size = self.image.shape[-1]
        cover: Field = np.clip(0.5 - distance * np.float32(size / 2), 0.0, 1.0).astype(np.float32)
        return cover

    def paint(self, coverage: Field, colour: NDArray[np.floating[Any]], part: int | None = None) -> None:
        """Lay a colour [case channel] or [case channel y x] over the picture; without a part it only tints."""
        layer = colour[:, :, None, None] if colour.ndim == 2 else colour
        self.image += coverage[:, None] * (layer - self.image)
        if part is not None:
            self.parts = np.where(coverage > 0.5, np.uint8(part), self.parts)
