"""What bits that do not depend on the cut cost: every network call padded to the canonical batch."""

import itertools

import torch

from benchmarks.harness import Row, compare, exact
from benchmarks.networks import Network, small
from flowprofile.cases import Case
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import ddpm
from flowprofile.time.sample import sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import respaced

LINEAR = linear()


def rows(*, tiny: bool = False) -> list[Row]:
    """A full batch through the loop against a bare loop; and 11 seeds in three cuts."""
    torch.set_num_threads(1)
    network = small(8 if tiny else 16)
    grid = respaced(1000, 1 if tiny else 4)
    cases = [Case(seed, 0) for seed in range(8)]
    return [
        compare(
            "sampling a full batch of 8 padded to 8, against a loop without padding",
            lambda: list(sample(network, cases, schedule=LINEAR, grid=grid, batch=8)),
            lambda: _bare(network, cases, grid),
            target="<= 1.02x",
            tiny=tiny,
        ),
        _cuts(network, grid),
    ]


@torch.no_grad()
def _bare(network: Network, cases: list[Case], grid: tuple[int, ...]) -> torch.Tensor:
    """The shortest loop that gives the same samples."""
    seeds, shape = [case.seed for case in cases], network.card.shape
    label = torch.tensor([case.label for case in cases])
    x = torch.from_numpy(noise_batch(seeds, grid[0], shape))
    for t_from, t_to in itertools.pairwise(grid):
        eps = network(x, torch.full((len(cases),), t_from - 1), label)
        z = torch.from_numpy(noise_batch(seeds, t_to, shape))
        x = ddpm(x, eps, z, schedule=LINEAR, t_from=t_from, t_to=t_to)
    return x


def _cuts(network: Network, grid: tuple[int, ...]) -> Row:
    cases = [Case(seed, 0) for seed in range(11)]

    def last(*sizes: int) -> torch.Tensor:
        found, at = [], 0
        for size in sizes:
            *_, step = sample(network, cases[at : at + size], schedule=LINEAR, grid=grid, batch=11)
            found.append(step.x)
            at += size
        return torch.cat(found)

    whole = last(11)
    differing = sum(int((last(*sizes) != whole).sum()) for sizes in ((8, 3), (3, 8)))
    return exact("11 seeds as 8 + 3 and 3 + 8: numbers that differ from 11 at once", differing, target="<= 0")
