"""Noise as old runs drew it: one torch generator per case, x_T first and then one draw per step.

Such noise depends on how many steps came before, so a state cannot be reached without drawing for all above it;
what it does not depend on is the batch. It exists to reproduce published runs, not to make new ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flowprofile.errors import DefinitionError


@dataclass
class GeneratorNoise:
    """z(seed, t) as the k-th draw of ``torch.Generator().manual_seed(seed)``, k counting the states of the grid.

    Generators are remembered where they stand: walking down the grid draws every number once, going back begins anew.
    """

    grid: tuple[int, ...]
    x_T: Path | None = None
    """A .npy file with the first states, [seed channel y x], row s for seed s; None: the generator's first draw."""
    _standing: dict[int, tuple[int, torch.Generator]] = field(default_factory=dict)

    def __call__(self, seeds: Sequence[int], t: int, shape: Sequence[int]) -> NDArray[np.float32]:
        """Noise of several seeds at one t, [case, *shape]."""
        place = self.grid.index(t)
        if place == 0 and self.x_T is not None:
            return self._from_file(seeds, shape)
        drawn = {seed: self._draw(seed, place, tuple(shape)) for seed in dict.fromkeys(seeds)}
        return np.stack([drawn[seed] for seed in seeds])

    def _draw(self, seed: int, place: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        first = 0 if self.x_T is None else 1
        at, generator = self._standing.get(seed, (first, None))
        if generator is None or at > place:
            at, generator = first, torch.Generator().manual_seed(seed)
        for _ in range(place - at):
            torch.randn(shape, generator=generator)
        values: NDArray[np.float32] = torch.randn(shape, generator=generator).numpy()
        self._standing[seed] = (place + 1, generator)
        return values

    def _from_file(self, seeds: Sequence[int], shape: Sequence[int]) -> NDArray[np.float32]:
        assert self.x_T is not None
        states = np.load(self.x_T, mmap_mode="r", allow_pickle=False)
        if states.shape[1:] != tuple(shape) or states.dtype != np.float32 or max(seeds) >= len(states):
            raise DefinitionError(
                f"{self.x_T.name} holds {states.dtype} {states.shape}, and seed {max(seeds)} needs a row"
                f" of float32 {tuple(shape)}.",
                consequence=f"A run would begin from {prod(shape)} numbers that nobody gave.",
                remedy="save one first state per seed: numpy.save(path, x_T.astype(numpy.float32))",
            )
        return np.stack([states[seed] for seed in seeds])
