"""States of given images: noised each by itself, or inverted, so that the sampler finds its way back to them.

Both fill the same stages as a sampled trajectory. What the network shows at t is what it shows in the step t+1 -> t,
asked in the state before, here the noised image or a state of the sampler that ends in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, TIME
from flowprofile.cases import Case
from flowprofile.flow.stage import Chain, Given, Outputs, Stage, Walker
from flowprofile.kinds import Context
from flowprofile.sourcing import Decoded
from flowprofile.stages.kinship import crosses, kinship
from flowprofile.stages.promises import INVERSION, image_promise, in_flight
from flowprofile.time.noised import noised


@dataclass(frozen=True)
class Noising:
    """States of noised images; what the network shows is replayed from them."""

    context: Context
    images: Decoded
    sampling: Walker
    """Knows the network."""

    def advance(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> tuple[xr.Dataset, Outputs]:
        seeds = [case.seed for case in cases]
        images, levels = self.images(seeds), self.context.schedule
        states = np.stack([noised(images, seeds, t, levels=levels) for t in times], axis=1)
        return in_flight({"x_t": states}, cases, times), {}

    def replay(
        self,
        cases: tuple[Case, ...],
        before: xr.Dataset,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> Outputs:
        return self.sampling.replay(cases, before, times, given, asked)


def inversion(context: Context) -> Stage:
    """The chain from each image up to the noise that the sampler would make it of; it is not stored."""
    sampler, real = context.sampler, context.real
    assert real is not None
    each = real.iterations * (1 if sampler.guidance_scale == 1 else 2)
    return Stage(
        name=INVERSION,
        kind="inversion",
        group=INVERSION,
        version=1,
        params={
            "steps": len(context.grid) - 1,
            "guidance_scale": sampler.guidance_scale,
            **real.params,
        },
        needs=(),
        times=context.grid[::-1],
        promise=image_promise("x_t", context, long_name="state on the way from the image to noise"),
        chain=Chain(
            context.grid[::-1],
            partial(_inverting, context),
            each,
            kinship(context),
            crosses(context),
        ),
        stored=False,
    )


def _inverting(context: Context) -> Walker:
    assert context.real is not None
    return _Inverting(context, context.real.images, context.watched(), context.real.iterations)


@dataclass(frozen=True)
class _Inverting:
    """The deterministic sampler, run backwards."""

    context: Context
    images: Decoded
    watched: Any
    """`kernels.probing.Watched`: the denoiser."""
    iterations: int

    def advance(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> tuple[xr.Dataset, Outputs]:
        import torch

        from flowprofile.time.inversion import invert

        if start is None:
            at, x, states = times[0], self.images([case.seed for case in cases]), []
            states.append(x)
        else:
            at = int(start[TIME].values[0])
            x, states = start["x_t"].transpose(CASE, TIME, ...).values[:, 0].astype(np.float32), []
        walk = invert(
            self.watched,
            cases,
            (at, torch.from_numpy(np.ascontiguousarray(x))),
            times[len(states) :],
            schedule=self.context.schedule,
            rule=self.context.rule,
            batch=self.context.batch,
            iterations=self.iterations,
        )
        states.extend(x.numpy() for _, x in walk)
        return in_flight({"x_t": np.stack(states, axis=1)}, cases, times), {}

    def replay(self, *_: Any) -> Outputs:
        """Nothing is looked at on the way up."""
        return {}
