"""A case has the same bits alone, in a batch, in any order, and resumed; the loop is pulled and leaves nothing."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowprofile.cases import Case
from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.measures.nulls import posterior_chain
from flowprofile.models.closed_forms import MIXTURE16
from flowprofile.models.mixture import build
from flowprofile.time.noise import noise
from flowprofile.time.rules import coefficients, ddpm, eps_from_x0, rule, x0_from_eps
from flowprofile.time.sample import Step, pad, sample
from flowprofile.time.schedule import linear
from flowprofile.time.steps import full, respaced

LINEAR = linear()


@dataclass(frozen=True)
class Shape:
    """As much of a card as the loop reads."""

    shape: tuple[int, int, int]


class Convolutions(nn.Module):
    """A small network whose last bits depend on the size of the batch; real ones' do on some machines only."""

    def __init__(self) -> None:
        super().__init__()
        self.card = Shape((3, 16, 16))
        self.sizes: list[int] = []
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Conv2d(5, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 3, 3, padding=1)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1

    def forward(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
        self.sizes.append(len(x))
        planes = torch.stack([index / 1000, label / 8], 1)[:, :, None, None].expand(-1, -1, 16, 16)
        hidden = torch.nn.functional.silu(self.first(torch.cat([x, planes], 1)))
        return self.last(hidden) * (1 + 1e-6 * len(x))


GRID = respaced(1000, 25)


def run(denoiser, cases, **options) -> list[Step]:
    return list(sample(denoiser, cases, **{"schedule": LINEAR, "grid": GRID, "batch": 4, **options}))


def bits(steps: list[Step], row: int) -> list[bytes]:
    return [step.x[row].numpy().tobytes() for step in steps]


@pytest.fixture(params=["convolutions", "mixture"])
def denoiser(request):
    return Convolutions() if request.param == "convolutions" else build(MIXTURE16)


CASES = [Case(0, 0), Case(1, 1), Case(2**40, 0), Case(0, 1)]


def test_a_case_has_the_same_bits_alone_in_a_batch_and_in_any_order(denoiser):
    together = run(denoiser, CASES)
    backwards = run(denoiser, CASES[::-1])
    for row, case in enumerate(CASES):
        alone = run(denoiser, [case])
        assert bits(together, row) == bits(alone, 0) == bits(backwards, len(CASES) - 1 - row)
        assert all(s.x.shape[0] == 1 and s.t == t for s, t in zip(alone, GRID, strict=True))


def test_eleven_seeds_cut_three_ways_are_the_same(denoiser):
    cases = [Case(seed, seed % 2) for seed in range(11)]

    def cut(*sizes: int) -> list[bytes]:
        found, at = [], 0
        for size in sizes:
            last = run(denoiser, cases[at : at + size], batch=11)[-1].x
            found += [row.numpy().tobytes() for row in last]
            at += size
        return found

    assert cut(11) == cut(8, 3) == cut(3, 8)


def test_the_equality_rests_on_the_padding():
    """The negative twin: with another canonical batch the same case has other bits."""
    network = Convolutions()
    assert bits(run(network, CASES[:1], batch=1), 0) != bits(run(network, CASES[:1], batch=8), 0)


@pytest.mark.parametrize("at", [0, 1, 12, 24])
def test_a_resumed_run_continues_bit_for_bit(denoiser, at: int):
    whole = run(denoiser, CASES[:3])
    resumed = run(denoiser, CASES[:3], start=(whole[at].t, whole[at].x))
    assert [s.t for s in resumed] == list(GRID[at + 1 :])
    for row in range(3):
        assert bits(resumed, row) == bits(whole[at + 1 :], row)


def test_every_network_call_has_the_canonical_size():
    network = Convolutions()
    run(network, CASES[:3])
    assert set(network.sizes) == {4}
    assert len(network.sizes) == len(GRID) - 1


def test_the_network_is_called_with_the_index_of_the_state_it_sees():
    seen = []

    class Listening(Convolutions):
        def forward(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
            seen.append((index.tolist(), label.tolist()))
            return super().forward(x, index, label)

    run(Listening(), [Case(0, 3)], grid=(1000, 400, 0), batch=2)
    assert seen == [([999, 999], [3, 3]), ([399, 399], [3, 3])]


def test_eps_and_x0_of_a_step_belong_to_the_transition_into_it(denoiser):
    steps = run(denoiser, CASES[:2])
    first, second = steps[:2]
    assert first.eps is None
    assert first.x0 is None
    label = pad(torch.tensor([0, 1]), 4)
    eps = denoiser(pad(first.x, 4), torch.full((4,), first.t - 1), label).detach()[:2]
    assert torch.equal(second.eps, eps)
    assert torch.equal(second.x0, x0_from_eps(first.x, eps, schedule=LINEAR, t=first.t))
    z = torch.from_numpy(np.stack([noise(s, second.t, denoiser.card.shape) for s in (0, 1)]))
    assert torch.equal(second.x, ddpm(first.x, eps, z, schedule=LINEAR, t_from=first.t, t_to=second.t))


def test_x_T_is_the_noise_of_the_seed_whatever_the_label(denoiser):
    steps = run(denoiser, [Case(5, 0), Case(5, 1)])
    assert steps[0].t == 1000
    assert steps[0].x[0].numpy().tobytes() == noise(5, 1000, denoiser.card.shape).tobytes()
    assert torch.equal(steps[0].x[0], steps[0].x[1])


def test_the_consumer_keeps_its_own_gradient_mode_and_may_break():
    for step in sample(Convolutions(), [Case(0, 0)], schedule=LINEAR, grid=full(1000), batch=1):
        assert torch.is_grad_enabled()
        assert not step.x.requires_grad
        if step.t == 997:
            break
    assert torch.is_grad_enabled()


def test_a_state_that_is_not_a_number_names_its_case_and_time():
    class Exploding(Convolutions):
        def forward(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
            return torch.where((index[0] < 500) & (label == 1), torch.nan, 0.0)[:, None, None, None] * x

    with pytest.raises(NonFiniteError, match=r"seed 1, label 1 left the numbers at t = 440") as caught:
        run(Exploding(), CASES[:2])
    assert "1 of 2" in str(caught.value)
    assert (
        caught.value.consequence
        == "Every later state of it would be NaN, so none of them is sampled or stored."
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"cases": []}, "1 to 4"),
        ({"cases": [Case(s, 0) for s in range(5)]}, "1 to 4"),
        ({"start": (999, torch.zeros(1, 3, 16, 16))}, "states visited"),
        ({"start": (1000, torch.zeros(2, 3, 16, 16))}, r"\(1, 3, 16, 16\)"),
    ],
)
def test_refusals(options, says: str):
    with pytest.raises(DefinitionError, match=says):
        run(Convolutions(), **{"cases": [Case(0, 0)], **options})


@pytest.mark.parametrize(
    "step", [rule("ddpm"), rule("ddpm", variance="beta"), rule("ddim"), rule("ddim", eta=1.0)]
)
def test_the_null_chain_is_the_sampler_with_a_network_that_knows_the_image(step):
    image = torch.linspace(0, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)

    class Knowing:
        card = Shape((3, 16, 16))

        def __call__(self, x: Tensor, index: Tensor, label: Tensor) -> Tensor:
            return eps_from_x0(x, pad(image, len(x)), schedule=LINEAR, t=int(index[0]) + 1)

    sampled = run(Knowing(), [Case(3, 0), Case(9, 0)], rule=step)
    chain = list(posterior_chain(image.numpy(), [3, 9], schedule=LINEAR, grid=GRID, rule=step))
    for ours, (t, x) in zip(sampled, chain, strict=True):
        assert ours.t == t
        assert ours.x.numpy().tobytes() == x.tobytes()
    if coefficients(step, schedule=LINEAR, t_from=GRID[-2], t_to=0).z == 0:
        assert np.abs(chain[-1][1] - image.numpy()).max() < 1e-5
