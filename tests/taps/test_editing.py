"""Edits of a layer's output: their definitions, their laws, and what they do to a network that has been trained."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.conditioning.interventions import Ablation, Difference, OwnChannel, Patch, Steer
from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.models import zoo
from flowprofile.models.editing import Lane, edits, everywhere
from flowprofile.models.taps import tapping

SITE = "downs.0.2.fn"
CHANNELS, SIDE = 6, 4


def output(seed: int, lanes: int = 3) -> torch.Tensor:
    shape = (lanes, CHANNELS, SIDE, SIDE)
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def ablation(*channels: int, **options) -> Ablation:
    return Ablation(SITE, tuple(channels), **options)


def edited(a: torch.Tensor, *parts, **lane) -> torch.Tensor:
    """The parts on every lane."""
    return edits([Lane(parts, **lane)] * len(a))[SITE](a)


def untouched(a: torch.Tensor, *channels: int) -> torch.Tensor:
    return a[:, [channel for channel in range(CHANNELS) if channel not in channels]]


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


channel_sets = st.sets(st.integers(0, CHANNELS - 1), min_size=1).map(lambda some: tuple(sorted(some)))
ablations = st.builds(
    Ablation, st.just(SITE), channel_sets, st.just("scale"), st.floats(-2, 2, width=32, allow_subnormal=False)
) | st.builds(Ablation, st.just(SITE), channel_sets)
steers = st.builds(
    lambda seed: Steer(SITE, tuple(np.random.default_rng(seed).normal(size=CHANNELS).tolist())),
    st.integers(0, 99),
)
commuting = st.lists(ablations, max_size=4, unique=True) | st.lists(steers, max_size=4, unique=True)


def test_zero_mean_and_scale_are_their_definitions():
    a = output(0)
    wanted = {"zero": torch.zeros(3, 2, SIDE, SIDE), "scale": 0.5 * a[:, [1, 4]]}
    wanted["mean"] = a[:, [1, 4]].double().mean((2, 3), keepdim=True).expand(-1, -1, SIDE, SIDE).float()
    for mode, values in wanted.items():
        new = edited(a, ablation(4, 1, mode=mode, factor=0.5))
        torch.testing.assert_close(new[:, [1, 4]], values, rtol=0, atol=1e-7)
        assert same_bits(untouched(new, 1, 4), untouched(a, 1, 4))
    assert new.data_ptr() != a.data_ptr()


def test_steer_adds_a_direction_everywhere_and_patch_takes_the_donors_output():
    a, donor = output(0), output(1, 1)[0]
    vector = tuple(float(number) for number in range(CHANNELS))
    moved = edited(a, Steer(SITE, vector, scale=2.0))
    assert torch.equal(moved, a + 2.0 * torch.tensor(vector)[None, :, None, None])
    difference = Difference((1,), (0,), 200, (0, 1))
    given_mean = {(SITE, difference): torch.tensor(vector)}
    assert same_bits(edited(a, Steer(SITE, difference, scale=2.0), vectors=given_mean), moved)
    patched = edited(a, Patch((SITE, "mid_attn.fn"), 6, None, None), donor={(SITE, 0): donor})
    assert torch.equal(patched, donor.expand_as(a))


def test_each_firing_of_a_layer_gets_the_donors_output_of_the_same_firing():
    a, donor = output(0), {(SITE, call): output(10 + call, 1)[0] for call in range(2)}
    (edit,) = edits([Lane((Patch((SITE,), 6),), donor=donor)] * len(a)).values()
    for _ in range(2):
        edit.begin()
        for call in range(2):
            assert torch.equal(edit(a), donor[SITE, call].expand_as(a))
    with pytest.raises(DefinitionError, match=r"gives nothing for firing 2.*\n.*\n.*\n.*fired 2 times"):
        edit(a)


def test_an_own_channel_is_another_one_in_every_lane():
    own = OwnChannel(200)
    part = Ablation(SITE, own)
    a = output(2)
    lanes = [Lane((part,), channels={(SITE, own): channel}) for channel in (5, 0, 3)]
    new = edits(lanes)[SITE](a)
    for lane, channel in enumerate((5, 0, 3)):
        assert same_bits(new[lane], edited(a, ablation(channel))[lane])


@given(parts=commuting, seed=st.integers(0, 99), data=st.data())
def test_the_order_in_which_parts_are_written_does_not_matter(parts, seed, data):
    shuffled = data.draw(st.permutations(parts))
    if parts:
        assert same_bits(edited(output(seed), *parts), edited(output(seed), *shuffled))


@given(
    parts=st.lists(st.none() | ablations | steers, min_size=1, max_size=4).filter(any),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_a_lane_without_parts_keeps_its_bits_and_the_others_do_not_see_their_company(parts, padding, seed):
    a = output(seed, len(parts) + padding)
    new = edits([Lane((part,) if part else ()) for part in parts])[SITE](a)
    for lane, part in enumerate(parts):
        alone = a[lane : lane + 1] if part is None else edited(a[lane : lane + 1].clone(), part)
        assert same_bits(new[lane], alone[0])
    assert same_bits(new[len(parts) :], a[len(parts) :])


@given(channels=channel_sets, seed=st.integers(0, 99))
def test_zero_twice_is_zero_once(channels, seed):
    once = edited(output(seed), ablation(*channels))
    assert same_bits(edited(once, ablation(*channels)), once)
    parts = [ablation(channel) for channel in channels]
    assert same_bits(edited(output(seed), *parts), once)


@given(mode=st.sampled_from(["zero", "mean", "scale"]), seed=st.integers(0, 99))
def test_a_mask_changes_its_pixels_only_and_blends_on_its_edge(mode, seed):
    a = output(seed)
    a[0, 2, 0, 0] = a[1, 2, 1, 1] = torch.inf  # a mixture of none of it, or of none of the rest, would be NaN
    share = torch.zeros(SIDE, SIDE)
    share[1:3, 1:3], share[3, 3] = 1.0, 0.25
    part = ablation(2, mode=mode, factor=-3.0)
    whole, new = edited(a, part), edited(a, replace(part, mask="face"), masks={"face": share})
    assert same_bits(untouched(new, 2), untouched(a, 2))
    assert torch.equal(new[:, 2][:, share == 0], a[:, 2][:, share == 0])
    assert torch.equal(new[:, 2][:, share == 1], whole[:, 2][:, share == 1])
    torch.testing.assert_close(new[:, 2, 3, 3], 0.25 * whole[:, 2, 3, 3] + 0.75 * a[:, 2, 3, 3])


def test_a_mask_of_the_image_enters_by_its_area():
    mask = torch.zeros(8, 8)
    mask[:3, :2] = 1.0
    new = edited(torch.ones(1, CHANNELS, SIDE, SIDE), ablation(0, mask="m"), masks={"m": mask})
    assert (1.0 - new[0, 0]).tolist() == [[1, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    thirds = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3)
    new = edited(torch.ones(1, CHANNELS, SIDE, SIDE), ablation(0, mask="m"), masks={"m": thirds})
    torch.testing.assert_close(1.0 - new[0, 0, 0], torch.tensor([1.0, 1 / 3, 0.0, 0.0]))


def test_edits_are_differentiable_and_leave_the_graph_whole():
    a = output(3).double().requires_grad_()
    mask = {"m": torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(0))}
    parts = [ablation(0), ablation(1, mode="scale", factor=0.5), ablation(2, mode="mean", mask="m")]
    assert torch.autograd.gradcheck(lambda b: edited(b, *parts, masks=mask), a)
    edited(a, *parts, masks=mask).sum().backward()
    assert not a.grad[:, 0].any()
    assert (a.grad[:, 1] == 0.5).all()
    assert (a.grad[:, 3:] == 1.0).all()


@pytest.mark.parametrize(
    ("part", "lane"),
    [
        (ablation(CHANNELS), {}),
        (Ablation(SITE, OwnChannel(200)), {}),
        (ablation(0, mask="face"), {"masks": {"fase": torch.ones(4, 4)}}),
        (Patch((SITE,), 6, None, None), {}),
        (Patch((SITE,), 6, None, None), {"donor": {(SITE, 0): torch.zeros(2, 2, 2)}}),
        (Steer(SITE, (1.0,)), {}),
    ],
)
def test_what_cannot_be_done_is_refused(part, lane):
    with pytest.raises(DefinitionError):
        edited(output(0), part, **lane)


def test_a_channel_that_was_no_number_is_never_taken_for_the_last():
    own = OwnChannel(200)
    with pytest.raises(NonFiniteError, match="no strongest channel"):
        edited(output(0), Ablation(SITE, own), channels={(SITE, own): -1})


def test_more_lanes_than_rows_are_refused():
    with pytest.raises(DefinitionError, match="3 lanes for the 2 rows"):
        edits([Lane((ablation(0),))] * 3)[SITE](output(0, 2))


@pytest.fixture(scope="module")
def digits():
    return zoo.load("digits")


def test_a_dead_channel_does_not_matter_and_a_live_one_does(digits):
    """Kill one channel by its weights: ablating it then changes no bit, ablating its neighbour does."""
    name = "downs.0.2.fn"
    norm = digits.module.get_submodule(f"{name}.fn.to_out.1")
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    with torch.no_grad():
        norm.weight[3] = norm.bias[3] = 0.0
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(4, *digits.card.shape)).astype(np.float32))

        def eps(*parts):
            with tapping(digits, edits=everywhere(parts)):
                return digits(x, torch.full((4,), 300), torch.arange(4))

        assert same_bits(eps(Ablation(name, (3,))), eps())
        changed = (eps(Ablation(name, (2,))) - eps()).abs().amax((1, 2, 3))
    norm.load_state_dict(before)
    assert (changed > 1e-6).all()
