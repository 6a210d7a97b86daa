"""Gradients of cases: which network call belongs to a case's step, and the kernels of `gradients` run on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowprofile.cases import Case
from flowprofile.kernels import gradients, published
from flowprofile.kernels.acting import Lane, Results
from flowprofile.kernels.probing import Watched
from flowprofile.time.sample import pad

Factors = Callable[[int, int], tuple[float, float]]
"""(t_from, t) to the factors of x and of eps in the step between them."""

PixelMask = np.ndarray
"""bool[y x]."""


@dataclass(frozen=True)
class Pulled:
    """Goes backwards through the network of a pipeline."""

    watched: Watched
    factors: Factors
    before: Callable[[int], int]
    """The state from which a step leads into t."""

    def volumes(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        given: Results,
        *,
        pixels: np.ndarray,
        reduce: gradients.Reduce,
        identity: bool,
        label_plane: bool = False,
        skips_zeros: bool = False,
    ) -> np.ndarray:
        """Rows of d x_t / d x_{t+1} at the pixels [pixel 2], [case time pixel (channel) y x]; starts[case time c y x].

        The last two are deviations of published code, see `published.volume`; they reduce by "sum".
        """
        module = self.watched.denoiser.module
        first = module.get_submodule("init_conv") if label_plane and module is not None else None

        def rows(lane: Lane, x: Tensor) -> Tensor:
            with self.watched.acting([lane], given, rows=gradients.REPLICAS) as eps:
                if label_plane or skips_zeros:
                    return published.volume(
                        eps,
                        x,
                        pixels=self._there(pixels),
                        factors=self._factors(lane),
                        identity=identity,
                        first=first,
                        skips_zeros=skips_zeros,
                    )
                return gradients.volume(
                    eps,
                    x,
                    pixels=self._there(pixels),
                    factors=self._factors(lane),
                    reduce=reduce,
                    identity=identity,
                )

        return self._each(cases, times, starts, rows)

    def energies(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        given: Results,
        *,
        pixels: np.ndarray,
        identity: bool,
        probes: int,
    ) -> np.ndarray:
        """Estimates of the sum over pixels of squared rows, [case time y x]."""

        replicas = min(gradients.REPLICAS, probes)

        def map_(lane: Lane, x: Tensor) -> Tensor:
            with self.watched.acting([lane], given, rows=replicas) as eps:
                return gradients.energy(
                    eps,
                    x,
                    pixels=self._there(pixels),
                    factors=self._factors(lane),
                    identity=identity,
                    probes=probes,
                    seed=lane.case.seed,
                    replicas=replicas,
                )

        return self._each(cases, times, starts, map_)

    def sums(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        given: Results,
        *,
        mask: PixelMask,
        identity: bool,
    ) -> np.ndarray:
        """Signed sums of the rows of a mask, [case time y x]: one backward pass for a batch of steps."""

        def together(lanes: list[Lane], x: Tensor) -> dict[str, Tensor]:
            out = []
            with self.watched.acting(lanes, given, rows=len(x)) as eps:
                # The factors differ from step to step; the backward pass does not know them.
                part = gradients.signed_sum(eps, x, self._there(mask), factors=(0.0, 1.0), identity=False)
            chosen = self._there(mask).to(part)
            for row, lane in enumerate(lanes):
                c_x, c_eps = self._factors(lane)
                own = c_x * x.shape[1] * chosen if identity else torch.zeros_like(chosen)
                out.append(own + c_eps * part[row])
            return {"map": torch.stack(out)}

        return self._batched(cases, times, starts, together)["map"]

    def layers(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        given: Results,
        *,
        mask: PixelMask,
        layers: Sequence[str],
    ) -> dict[str, np.ndarray]:
        """Gradients at layers' outputs of the sum of a mask's pixels of x_t, [case time channel y x] each."""

        def together(lanes: list[Lane], x: Tensor) -> dict[str, Tensor]:
            with self.watched.acting(lanes, given, rows=len(x)) as eps:
                found = gradients.layer_gradients(
                    eps,
                    x,
                    self._there(mask),
                    model=self.watched.denoiser,
                    layers=layers,
                    factors=(0.0, 1.0),
                )
            scale = torch.tensor([self._factors(lane)[1] for lane in lanes]).to(x.device)
            return {
                layer: values[: len(lanes)] * scale.view(-1, *(1,) * (values.ndim - 1))
                for layer, values in found.items()
            }

        return self._batched(cases, times, starts, together)

    def _factors(self, lane: Lane) -> tuple[float, float]:
        return self.factors(lane.t_from, lane.t)

    def _there(self, values: np.ndarray) -> Tensor:
        """An array where the network is."""
        return torch.from_numpy(np.array(values)).to(self.watched.device)

    def _each(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        function: Callable[[Lane, Tensor], Tensor],
    ) -> np.ndarray:
        found = [
            [
                function(Lane(case, self.before(t), t), self._there(starts[row, at])).cpu().numpy()
                for at, t in enumerate(times)
            ]
            for row, case in enumerate(cases)
        ]
        return np.array(found)

    def _batched(
        self,
        cases: Sequence[Case],
        times: Sequence[int],
        starts: np.ndarray,
        function: Callable[[list[Lane], Tensor], dict[str, Tensor]],
    ) -> dict[str, np.ndarray]:
        """Mixed cases and states, as many at once as the canonical batch has lanes."""
        places = [(row, at) for row in range(len(cases)) for at in range(len(times))]
        found: dict[str, np.ndarray] = {}
        for first in range(0, len(places), self.watched.batch):
            chosen = places[first : first + self.watched.batch]
            lanes = [Lane(cases[row], self.before(times[at]), times[at]) for row, at in chosen]
            x = self._there(np.stack([starts[row, at] for row, at in chosen]))
            for name, values in function(lanes, pad(x, self.watched.batch)).items():
                if name not in found:
                    found[name] = np.empty((len(cases), len(times), *values.shape[1:]), dtype=np.float32)
                for (row, at), value in zip(chosen, values.cpu().numpy(), strict=True):
                    found[name][row, at] = value
        return found
