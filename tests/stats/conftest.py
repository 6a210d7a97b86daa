"""Curves as diffusion models make them: smooth along the steps of a seed, independent between seeds."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d


def smooth(rng: np.random.Generator, shape: tuple[int, ...], *, reach: float = 4.0) -> np.ndarray:
    """Standard normal noise whose steps (the last axis) hang together over about `reach` of them."""
    rough = gaussian_filter1d(rng.standard_normal((*shape[:-1], shape[-1] + 60)), reach, axis=-1)[..., 30:-30]
    return rough * np.sqrt(2 * np.sqrt(np.pi) * reach)


@pytest.fixture(scope="session")
def smooth_noise():
    return smooth
