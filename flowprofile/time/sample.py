"""The sampling loop, as a generator that is pulled: memory is one step, and `break` stops the work.

A network's float32 arithmetic depends in its last bits on the size of the batch, not on what else is in it. So
every call is padded to one canonical batch, and a case has the same bits alone, among others, in any order, or
resumed. Noise is drawn on the host as a function of (seed, t), for the same reason.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from flowprofile.cases import Case
from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import Rule, ddpm, x0_from_eps
from flowprofile.time.schedule import Levels
from flowprofile.time.sources import NoiseBatch

CANONICAL_BATCH: Final = 8
"""The batch every network call is padded to unless a run says otherwise."""


class Card(Protocol):
    """What the loop must know about a model."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channel, y, x of one sample."""
        ...


class EpsModel(Protocol):
    """A denoiser, as far as the loop is concerned: the rooms above know it in full."""

    @property
    def card(self) -> Card:
        """What the model is."""
        ...

    def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        """eps of x[case channel y x], at network index i = t - 1 [case], for label [case]."""
        ...


@dataclass(frozen=True)
class Step:
    """One state of the reverse process, with what the network said on the way into it.

    Tensors hold the real cases only, in the order asked for. `x` is what the next step starts from: do not write
    into it.
    """

    t: int
    """State reached; T is noise, 0 the image."""
    x: Tensor
    """x_t, [case channel y x] float32."""
    eps: Tensor | None
    """The network's eps during the transition into t, computed on the previous state; None at the first."""
    x0: Tensor | None
    """The image predicted from that eps and that previous state; None at the first."""


def sample(
    denoiser: EpsModel,
    cases: Sequence[Case],
    *,
    schedule: Levels,
    grid: Sequence[int],
    rule: Rule = ddpm,
    noise: NoiseBatch = noise_batch,
    batch: int = CANONICAL_BATCH,
    start: tuple[int, Tensor] | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Step]:
    """Sample the cases together, state by state down the grid.

    Parameters
    ----------
    denoiser, cases
        The network and at most `batch` samples to draw from it; labels may differ within a batch.
    schedule, grid, rule
        alpha-bar, the states to visit (descending), and the algorithm.
    noise
        z of several seeds at one t; x_T is z at the grid's first state.
    batch
        Canonical batch: part of a run's numerics, since another one changes a network's last bits.
    start
        (t, x_t) to resume from; then only the states after t are yielded.
    device
        Where the denoiser computes. Noise always comes from the host.

    Yields
    ------
    Step
        First the noise at grid[0] (unless resuming), then every further state of the grid.

    Raises
    ------
    NonFiniteError
        Names the first sample that has left the numbers, and the state in which it did.
    """
    _fits(cases, batch)
    shape = denoiser.card.shape
    seeds = [case.seed for case in cases]

    def draw(t: int) -> Tensor:
        return torch.from_numpy(noise(seeds, t, shape)).to(device)

    if start is None:
        t, x = grid[0], draw(grid[0])
        x = x if schedule.start == 1.0 else x * schedule.start
        yield Step(t, x, None, None)
    else:
        t, x = _resumed(start, grid, (len(cases), *shape), device)
    labels = pad(torch.tensor([case.label for case in cases], dtype=torch.int64, device=device), batch)
    for t_to in grid[grid.index(t) + 1 :]:
        index = torch.full((batch,), t - 1, dtype=torch.int64, device=device)
        with torch.no_grad():
            eps = denoiser(pad(x, batch), index, labels)[: len(cases)]
            x0 = x0_from_eps(x, eps, schedule=schedule, t=t)
            x = rule(x, eps, draw(t_to), schedule=schedule, t_from=t, t_to=t_to)
        t = t_to
        must_be_finite(x, cases, t)
        yield Step(t, x, eps, x0)


def pad(rows: Tensor, batch: int) -> Tensor:
    """The rows and then copies of the first one, up to the canonical batch."""
    missing = batch - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])])


def _fits(cases: Sequence[Case], batch: int) -> None:
    if not 1 <= len(cases) <= batch:
        raise DefinitionError(
            f"{len(cases)} cases do not fit a canonical batch of {batch}.",
            consequence="A larger call would give other last bits than the rest of the run.",
            remedy=f"hand over 1 to {batch} cases at a time",
        )


def _resumed(
    start: tuple[int, Tensor], grid: Sequence[int], shape: tuple[int, ...], device: torch.device | str
) -> tuple[int, Tensor]:
    t, x = start
    if t not in grid or tuple(x.shape) != shape:
        raise DefinitionError(
            f"Sampling cannot resume from state t = {t!r} with shape {tuple(x.shape)!r}.",
            consequence="It would continue another sampler's run.",
            remedy=f"give one of the {len(grid)} states visited and an array of shape {shape!r}",
            evidence=f"the sampler visits {grid[0]} down to {grid[-1]}",
        )
    return t, x.to(device)


def must_be_finite(x: Tensor, cases: Sequence[Case], t: int) -> None:
    """Refuse states [case channel y x] with a number that is none, and name the first case."""
    # One number that is not finite makes the sum so; the slower look that names the case follows only then.
    if bool(torch.isfinite(x.sum())):
        return
    finite = torch.isfinite(x).flatten(1).all(dim=1)
    if not bool(finite.all()):
        bad = [case for case, good in zip(cases, finite.tolist(), strict=True) if not good]
        raise NonFiniteError(
            f"The sample of {bad[0]} left the numbers at t = {t}.",
            consequence="Every later state of it would be NaN, so none of them is sampled or stored.",
            remedy="check the model's prediction kind, pixel range and guidance scale",
            evidence=f"{len(bad)} of {len(cases)} cases: {', '.join(str(case) for case in bad[:4])}",
        )
