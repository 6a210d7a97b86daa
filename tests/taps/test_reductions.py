"""What is taken of a layer's output has its definition's value, and a lane's bits are its own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.models import reductions
from flowprofile.models.reductions import STATISTICS, attention_map, cast, channel_sum, max_channel, pooled


def layer(seed: int, shape: tuple[int, ...] = (4, 6, 5, 7)) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def scores(a: np.ndarray, shares: np.ndarray, statistic: str, q: float) -> np.ndarray:
    """The definition for one lane, [channel y x] in float64 -> [channel]."""
    chosen = a[:, shares > 0]
    if statistic == "sum":
        return (a * shares).sum((1, 2))
    if statistic == "abs":
        return (abs(a) * shares).sum((1, 2))
    if statistic == "max":
        return chosen.max(1)
    return np.sort(chosen)[:, ::-1][:, : math.ceil(q * chosen.shape[1])].mean(1)


@pytest.mark.parametrize("statistic", STATISTICS)
@given(seed=st.integers(0, 10_000), masked=st.sampled_from(["no", "shared", "own"]), q=st.floats(0.05, 1.0))
def test_the_strongest_channel_is_the_definition(statistic, seed, masked, q):
    a, rng = layer(seed), np.random.default_rng(seed)
    shares = np.clip(rng.uniform(-1, 1, size=(4, 5, 7)), 0.0, 1.0)
    shares = {"no": np.ones_like(shares), "shared": np.broadcast_to(shares[0], shares.shape), "own": shares}[
        masked
    ]
    shares = shares.astype(np.float32)
    weights = {"no": None, "shared": torch.tensor(shares[0]), "own": torch.tensor(shares)}[masked]
    found = max_channel(a, weights=weights, statistic=statistic, q=q)
    double = a.double().numpy()
    wanted = [scores(double[lane], shares[lane], statistic, q).argmax() for lane in range(4)]
    assert found.dtype == torch.int64
    assert found.tolist() == wanted


@pytest.mark.parametrize("statistic", STATISTICS)
def test_of_equal_channels_the_lowest_wins(statistic):
    a = layer(0)
    a[:, 4] = a[:, 2] = a.abs().amax(1) + 1.0
    assert max_channel(a, statistic=statistic).tolist() == [2, 2, 2, 2]
    assert max_channel(torch.zeros(2, 3, 4, 4), statistic=statistic).tolist() == [0, 0]


@pytest.mark.parametrize("statistic", STATISTICS)
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_a_number_has_no_strongest_channel(statistic, wrong):
    a = layer(1)
    clean = max_channel(a, statistic=statistic)
    a[2, 3, 1, 1] = wrong
    found = max_channel(a, statistic=statistic)
    assert found[2] == -1
    assert found[[0, 1, 3]].tolist() == clean[[0, 1, 3]].tolist()


def test_a_sum_that_overflows_is_no_number_either():
    assert max_channel(torch.full((1, 2, 4, 4), 3e38)).tolist() == [-1]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_mask_that_selects_nothing_has_no_strongest_channel(statistic):
    weights = torch.zeros(4, 5, 7)
    weights[1:, 2, 2] = 1.0
    found = max_channel(layer(2), weights=weights, statistic=statistic)
    pixel = layer(2)[1:, :, 2, 2]
    wanted = (pixel.abs() if statistic == "abs" else pixel).argmax(1)
    assert found.tolist() == [-1, *wanted.tolist()]


@given(seed=st.integers(0, 10_000), side=st.integers(1, 9), lanes=st.integers(1, 5))
def test_a_lanes_bits_do_not_depend_on_its_company(seed, side, lanes):
    a = layer(seed, (lanes, 5, side, side + 1))
    every = [channel_sum, pooled, lambda b: attention_map([b, b[:, :2]], (11, 8))]
    every += [lambda b, s=statistic: max_channel(b, statistic=s) for statistic in STATISTICS]
    for reduce in every:
        together = reduce(a)
        for lane in range(lanes):
            alone = reduce(a[lane : lane + 1].clone())
            assert together[lane].numpy().tobytes() == alone[0].numpy().tobytes()


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 9))
def test_sums_and_means_are_their_definitions(seed, channels):
    a = layer(seed, (3, channels, 4, 5))
    double = a.double().numpy()
    np.testing.assert_allclose(channel_sum(a).numpy(), double.sum(1), rtol=0, atol=1e-5)
    np.testing.assert_allclose(pooled(a).numpy(), double.mean((2, 3)), rtol=0, atol=1e-6)
    assert pooled(a.half()).dtype == torch.float32


def test_sums_and_means_are_differentiable():
    a = layer(0, (2, 3, 3, 4)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda b: pooled(b) + channel_sum(b).sum(), a)


def test_an_attention_map_adds_the_resized_channels_of_all_layers():
    layers = [layer(3, (2, 4, 8, 8)), layer(4, (2, 3, 4, 4)), layer(5, (2, 2, 16, 16))]
    wanted = sum(
        functional.interpolate(a.double(), (16, 12), mode="bilinear", align_corners=False).sum(1)
        for a in layers
    )
    found = attention_map(layers, (16, 12))
    assert found.shape == (2, 16, 12)
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=1e-5)


def test_a_known_resize():
    """Half-pixel centres: doubling [0, 4] gives [0, 1, 3, 4]; aligned corners would give thirds."""
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert attention_map([row], (1, 4)).flatten().tolist() == [0.0, 1.0, 3.0, 4.0]


def test_a_copy_in_a_narrow_type_never_becomes_an_infinity():
    a = layer(6)
    assert cast(a, torch.float32).data_ptr() != a.data_ptr()
    assert torch.equal(cast(a, torch.float16), a.half())
    a[0, 0, 0, 0] = torch.nan
    assert torch.isnan(cast(a, torch.float16)[0, 0, 0, 0])
    a[1, 1, 1, 1] = 1e5
    with pytest.raises(NonFiniteError, match="float16"):
        cast(a, torch.float16)


@pytest.mark.parametrize(
    "options",
    [
        {"statistic": "summ"},
        {"q": 0.0},
        {"q": 1.5},
        {"weights": torch.ones(7, 5)},
        {"weights": torch.ones(3, 5, 7)},
    ],
)
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(DefinitionError):
        max_channel(layer(7), **options)
    with pytest.raises(DefinitionError):
        reductions.attention_map([], (4, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_the_same_bits():
    a = layer(8, (8, 64, 32, 32))
    for statistic in STATISTICS:
        assert torch.equal(
            max_channel(a.cuda(), statistic=statistic).cpu(), max_channel(a, statistic=statistic)
        )
    assert torch.equal(pooled(a.cuda()).cpu(), pooled(a))
    assert torch.equal(channel_sum(a.cuda()).cpu(), channel_sum(a))
