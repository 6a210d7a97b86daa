"""Given images, noised: x_t = signal(t) x_0 + noise(t) z, with a z that belongs to image, state and draw alone.

An image has no noise seed of its own, and a profile has no axis for it. So its seed is made of its content's digest,
with room for a draw: seeds of one image are neighbours on the axis, another image's never meet them, and a changed
image is another seed.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.time.noise import noise_batch
from flowprofile.time.schedule import Levels

DRAWS: Final = 1024
"""Draws there can be of one image."""
PURPOSE: Final = "image"
"""Keeps this noise apart from the sampler's."""
_NUMBER: Final = 53


def seed_of(digest: str, draw: int = 0) -> int:
    """The seed of a draw of the image with this hexadecimal digest.

    >>> seed_of("00000000000008000000"), seed_of("00000000000008000000", 3)
    (1024, 1027)
    """
    return (int(digest[:16], 16) >> (64 - _NUMBER)) * DRAWS + draw


def image_of(seed: int) -> int:
    """The number of a seed's image."""
    return seed // DRAWS


def draw_of(seed: int) -> int:
    """Which draw of its image a seed is."""
    return seed % DRAWS


def image_noise(seeds: Sequence[int], t: int, shape: Sequence[int]) -> NDArray[np.float32]:
    """z of several seeds of images at state t, [case, *shape]."""
    drawn = np.empty((len(seeds), *shape), dtype=np.float32)
    for draw in dict.fromkeys(draw_of(seed) for seed in seeds):
        rows = [row for row, seed in enumerate(seeds) if draw_of(seed) == draw]
        numbers = [image_of(seeds[row]) for row in rows]
        drawn[rows] = noise_batch(numbers, t, shape, purpose=PURPOSE, draw=draw)
    return drawn


def noised(
    images: NDArray[np.float32], seeds: Sequence[int], t: int, *, levels: Levels
) -> NDArray[np.float32]:
    """State x_t of images [case channel y x]; at t = 0 the images themselves."""
    signal, noise = levels.signal(t), levels.noise(t)
    if noise == 0.0 and signal == 1.0:
        return images.copy()
    return images * np.float32(signal) + image_noise(seeds, t, images.shape[1:]) * np.float32(noise)
