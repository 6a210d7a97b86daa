"""The two chains: the sampler's states, and the null that is driven by the finished image.

Everything else is read off these. The sampler's chain also shows what happens inside the network, where a stage
asks for it, and does to the network what a case's intervention says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, SEED, TIME, X, Y
from flowprofile.cases import Case
from flowprofile.definitions import Table
from flowprofile.flow.stage import Chain, Given, Need, Outputs, Stage, Walker
from flowprofile.kinds import Context, Kind, Request
from flowprofile.measures.nulls import posterior_chain
from flowprofile.objects.probes import PredictedImage
from flowprofile.sourcing import INVERTED, NOISED
from flowprofile.stages.given import Noising
from flowprofile.stages.halves import Halved, axis, halves, probed, settings
from flowprofile.stages.kinship import crosses, kinship
from flowprofile.stages.promises import INVERSION, NULL, STATES, Keep, image_promise, in_flight
from flowprofile.time.steps import generated, stepped


class TrajectoryParams(Table):
    """Parameters of the trajectory."""

    keep: Keep = Field(
        "::1",
        description='states to store: a list, a slice "::50" of those visited, or { exponential = 20 }',
    )
    before: bool = Field(
        False,
        description="also the state before each of them, from which what the network shows at them can be replayed",
    )


class PredictedParams(Halved):
    """Parameters of the predicted image."""

    keep: Keep = Field(
        "::1",
        description='states to store it at: a list, a slice "::50" of those visited, or { exponential = 20 }',
    )


def states(context: Context) -> Stage:
    """The states x_t, as a chain that is not stored unless a trajectory stage says so.

    They are the sampler's, from noise or from where an inversion ended; or those of noised images.
    """
    sampler, real = context.sampler, context.real
    apart = real is not None and real.how == NOISED
    return Stage(
        name=STATES,
        kind="trajectory",
        group="trajectory",
        version=1,
        params={
            "steps": len(context.grid) - 1,
            "guidance_scale": sampler.guidance_scale,
            **(real.params if real is not None else {}),
        },
        needs=(Need(INVERSION, "start"),) if real is not None and real.how == INVERTED else (),
        times=context.grid,
        promise=image_promise(
            "x_t", context, long_name="noised image x_t" if apart else "state x_t of the reverse process"
        ),
        chain=Chain(
            context.grid,
            partial(_sampling, context),
            1 if sampler.guidance_scale == 1 else 2,
            kinship(context),
            crosses(context),
            whole=context.whole and not apart,
            apart=apart,
        ),
        stored=False,
        attrs={"noise": context.noise.scheme},
    )


def _sampling(context: Context) -> Walker:
    sampling, real = _Sampling(context, context.watched()), context.real
    return Noising(context, real.images, sampling) if real is not None and real.how == NOISED else sampling


@dataclass(frozen=True)
class _Sampling:
    """The sampler, fused with whatever is asked of the network on the way, or replayed from known states."""

    context: Context
    watched: Any
    """`kernels.probing.Watched`: the denoiser."""

    def advance(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> tuple[xr.Dataset, Outputs]:
        import torch

        from flowprofile.kernels.acting import Lane
        from flowprofile.kernels.probing import Gathered
        from flowprofile.time.sample import sample

        before, grid, begun = None, times, []
        if start is not None:
            t = int(start[TIME].values[0])
            first = np.array(start["x_t"].transpose(CASE, TIME, ...).values[:, 0], dtype=np.float32)
            before, grid = (t, torch.from_numpy(first)), (t, *times)
        elif given.final is not None:
            first = np.array(given.final["x_t"].transpose(CASE, ...).values, dtype=np.float32)
            before, begun = (times[0], torch.from_numpy(first)), [first]
        gathered = Gathered(cases, _wanted(times, asked))
        into = iter(grid[1:])

        def denoise(x: Any, index: Any, label: Any) -> Any:
            t = next(into)
            names = frozenset(name for name, at in asked.items() if t in at)
            # Nothing is looked at or done: the loop's own indices and labels are those of the lanes.
            if not names and not self.watched.interventions:
                return self.watched(x, index, label)
            lanes = tuple(Lane(case, int(index[0]) + 1, t) for case in cases)
            eps = self.watched.ask(lanes, x, names, given.sources)
            gathered.take(lanes, self.watched.shown)
            return eps

        walk = sample(
            _Named(self.context, denoise),
            cases,
            schedule=self.context.schedule,
            grid=grid,
            rule=self.context.rule,
            noise=self.context.noise.batch,
            batch=self.context.batch,
            start=before,
        )
        states = np.stack([*begun, *(step.x.numpy() for step in walk)], axis=1)
        return in_flight({"x_t": states}, cases, times), _labelled(gathered, cases)

    def replay(
        self,
        cases: tuple[Case, ...],
        before: xr.Dataset,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> Outputs:
        import torch

        from flowprofile.kernels.acting import Lane
        from flowprofile.kernels.probing import Gathered

        known = before["x_t"].transpose(CASE, TIME, ...).values
        gathered = Gathered(cases, _wanted(times, asked))
        rows = [(row, at) for row in range(len(cases)) for at in range(len(times))]
        for first in range(0, len(rows), self.context.batch):
            chosen = rows[first : first + self.context.batch]
            lanes = tuple(Lane(cases[row], int(before[TIME].values[at]), times[at]) for row, at in chosen)
            x = torch.from_numpy(np.stack([known[row, at] for row, at in chosen]).astype(np.float32))
            here = {lane.t for lane in lanes}
            names = frozenset(name for name, wanted in asked.items() if here & wanted)
            self.watched.ask(lanes, x, names, given.sources)
            gathered.take(lanes, self.watched.shown)
        return _labelled(gathered, cases)


@dataclass(frozen=True)
class _Named:
    """A function as the sampling loop wants a denoiser: with its card."""

    context: Context
    function: Any

    @property
    def card(self) -> Any:
        return self.context.card

    def __call__(self, x: Any, index: Any, label: Any) -> Any:
        return self.function(x, index, label)


def _wanted(times: Sequence[int], asked: Mapping[str, frozenset[int]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t for t in times if t in at) for name, at in asked.items()}


def _labelled(gathered: Any, cases: Sequence[Case]) -> dict[str, xr.DataArray]:
    return {
        name: xr.DataArray(
            values,
            dims=(CASE, TIME, *(f"{name}:{axis}" for axis in range(values.ndim - 2))),
            coords={TIME: list(gathered.times[name])},
        )
        for name, values in gathered.settled().items()
    }


def null_states(context: Context) -> Stage:
    """The same sampler and noise, driven by the finished image (METHODS: exact posterior towards x_0)."""
    return Stage(
        name=NULL,
        kind="posterior-null",
        group=NULL,
        version=1,
        params={"steps": len(context.grid) - 1},
        needs=(Need(STATES, "final"),),
        times=context.grid,
        promise=image_promise("x_t", context, long_name="state of the chain that already knows its image"),
        chain=Chain(context.grid, partial(_Knowing, context), 0, whole=context.whole),
        stored=False,
    )


@dataclass(frozen=True)
class _Knowing:
    """The sampler of somebody who knows the finished image."""

    context: Context

    def advance(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
    ) -> tuple[xr.Dataset, Outputs]:
        assert given.final is not None
        before, grid = None, times
        if start is not None:
            t = int(start[TIME].values[0])
            before, grid = (t, start["x_t"].transpose(CASE, TIME, ...).values[:, 0]), (t, *times)
        chain = posterior_chain(
            given.final["x_t"].transpose(CASE, ...).values,
            [int(seed) for seed in given.final[SEED].values],
            schedule=self.context.schedule,
            grid=grid,
            rule=self.context.rule,
            noise=self.context.noise.batch,
            start=before,
        )
        return in_flight({"x_t": np.stack([x for _, x in chain], axis=1)}, cases, times), {}

    def replay(self, *_: Any) -> Outputs:
        """It shows nothing: no network is in it."""
        return {}


def _trajectory(request: Request) -> list[Stage]:
    """Store the states: the chain itself, with the states it keeps."""
    assert isinstance(request.params, TrajectoryParams)
    context = request.context
    times = generated(request.params.keep, context.grid)
    if request.params.before:
        starts = {context.before(t) for t in times if t != context.grid[0]}
        times = tuple(t for t in context.grid if t in starts or t in times)
    return [replace(context.built[STATES], times=times, stored=True)]


def _predicted_x0(request: Request) -> list[Stage]:
    """Store what the network believes the image to be, at each kept step; under guidance what both halves give."""
    assert isinstance(request.params, PredictedParams)
    context, names = request.context, halves(request)
    name, lead = context.probe(probed(PredictedImage(), names)), axis(names)
    dims = (CASE, TIME, *lead, CHANNEL, Y, X)

    def compute(block: xr.Dataset) -> xr.Dataset:
        return xr.Dataset({"x0_hat": (dims, block[name].values)}, coords={TIME: block[TIME]})

    return [
        Stage(
            name=request.name,
            kind="predicted_x0",
            group=request.name,
            version=1,
            params=settings(names),
            needs=(Need(STATES),),
            times=stepped(request.params.keep, context.grid),
            promise=image_promise(
                "x0_hat", context, long_name="x_0 as predicted during the step into x_t", lead=lead
            ),
            compute=compute,
            outputs=frozenset({name}),
        )
    ]


KINDS = (
    Kind("trajectory", 1, TrajectoryParams, _trajectory, needs=(), summary="the sampler's states x_t"),
    Kind("predicted_x0", 1, PredictedParams, _predicted_x0, summary="the image predicted at each step"),
)
