"""Noise that belongs to its seed and step, against noise that belongs to nobody."""

import torch

from benchmarks.harness import Row, compare
from flowprofile.time.noise import noise


def rows(*, tiny: bool = False) -> list[Row]:
    """z(seed, t) against torch.randn."""
    torch.set_num_threads(1)
    shape = (1, 4, 4) if tiny else (3, 64, 64)
    return [
        compare(
            "noise z(seed, t), 3x64x64, against torch.randn",
            lambda: noise(7, 500, shape),
            lambda: torch.randn(shape),
            target="<= 2x",
            tiny=tiny,
        )
    ]
