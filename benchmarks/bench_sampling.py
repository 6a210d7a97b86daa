"""What a batch of seeds saves, and what measuring inside the loop costs."""

import torch

from benchmarks.harness import Row, compare
from benchmarks.networks import small
from flowprofile.cases import Case
from flowprofile.kernels.ssim import RunningSsim
from flowprofile.models.denoiser import NetworkDenoiser
from flowprofile.time.sample import sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import respaced

LINEAR = linear()


def rows(*, tiny: bool = False) -> list[Row]:
    """Eight seeds of a U-Net of width 16."""
    torch.set_num_threads(1)
    return [
        _measured(8 if tiny else 32, tiny),
        _batched(8 if tiny else 16, ">= 3x", tiny),
        _batched(8 if tiny else 32, ">= 1.8x", tiny),
    ]


def _run(network: NetworkDenoiser, seeds: range, steps: int, batch: int) -> None:
    cases = [Case(seed, 0) for seed in seeds]
    for _ in sample(network, cases, schedule=LINEAR, grid=respaced(1000, steps), batch=batch):
        pass


def _measured(side: int, tiny: bool) -> Row:
    network, steps = small(side), 1 if tiny else 3
    cases = [Case(seed, 0) for seed in range(8)]

    def with_ssim() -> None:
        running = None
        for step in sample(network, cases, schedule=LINEAR, grid=respaced(1000, steps), batch=8):
            running = running or RunningSsim(step.x, data_range=2.0)
            running.push(step.x)

    return compare(
        f"step SSIM inside the loop, batch 8, {side} px, against bare sampling",
        with_ssim,
        lambda: _run(network, range(8), steps, 8),
        target="<= 1.05x",
        tiny=tiny,
        pairs=31,
    )


def _batched(side: int, target: str, tiny: bool) -> Row:
    network, steps = small(side), 1 if tiny else 2

    def one_by_one() -> None:
        for seed in range(8):
            _run(network, range(seed, seed + 1), steps, 1)

    return compare(
        f"8 seeds at once, {side} px, against one by one",
        lambda: _run(network, range(8), steps, 8),
        one_by_one,
        target=target,
        tiny=tiny,
        pairs=11,
    )
