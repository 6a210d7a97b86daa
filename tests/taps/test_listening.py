"""Listening: names, patterns, addresses, copies, and networks that are not ours."""

from typing import NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from listening import caller, still
from torch import nn

from flowprofile.errors import DefinitionError
from flowprofile.models import zoo
from flowprofile.models.denoiser import Guided
from flowprofile.models.layers import UNetConfig, layer_ids, layers
from flowprofile.models.taps import Tap, firings, order, resolve, shapes, tapping
from flowprofile.models.unet import UNet


class Twice(nn.Module):
    """One module that runs twice at different sizes, under two names; one that never runs; one that gives a pair."""

    def __init__(self) -> None:
        super().__init__()
        self.late = nn.Conv2d(2, 2, 1)
        self.shared = nn.Conv2d(2, 2, 1)
        self.alias = self.shared
        self.idle = nn.Identity()
        self.pair = Pair()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.late(self.relu(self.shared(self.shared(x)[..., ::2])))
        return out + self.pair(out).second


class Both(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> Both:
        return Both(x + 1.0, 2.0 * x)


@pytest.fixture
def twice():
    torch.manual_seed(0)
    return still(Twice())


X = torch.linspace(-1.0, 1.0, 2 * 2 * 4 * 4).reshape(2, 2, 4, 4)


def test_the_way_this_field_writes_it(thin):
    call = caller(thin)
    bare = call()
    with tapping(thin, "downs.*.2.fn") as seen:
        out = call()
    assert torch.equal(out, bare)
    assert tuple(seen) == seen.order == tuple(f"downs.{level}.2.fn" for level in range(4))
    assert seen["downs.0.2.fn"].shape == (2, 8, 16, 16)
    assert {name: a.shape[1] for name, a in seen.items()} == {f"downs.{i}.2.fn": 8 << i for i in range(4)}


def test_names_patterns_taps_functions_and_lists_of_them(thin):
    def names(wanted):
        return [tap.name for tap in resolve(thin, wanted)]

    branches = [layer for layer in layer_ids(thin.config) if layer.endswith(".fn")]
    assert names("*.fn") == names([Tap("*.fn")]) == branches
    assert len(branches) == 8  # the ids only: every branch holds another module whose name ends in .fn
    assert names("downs.0.2.fn.fn") == ["downs.0.2.fn.fn"]
    assert names("downs.?.2") == ["downs.0.2", "downs.1.2", "downs.2.2", "downs.3.2"]
    assert names(["mid_attn.fn", "*.fn", Tap("init_conv")]) == [
        "mid_attn.fn",
        *(name for name in branches if name != "mid_attn.fn"),
        "init_conv",
    ]
    identities = names(lambda name, module: isinstance(module, nn.Identity))
    assert {"downs.3.3", "mid_block1.res_conv", "final_conv.0.res_conv"} <= set(identities)
    assert names(lambda name, module: name == "ups" or name == "final_conv") == ["final_conv"]
    found = resolve(thin, "*")
    assert len(found) == 65
    assert resolve(thin, found) == found
    assert names(()) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("downs.0.2.fm", "did you mean 'downs.0.2.fn' or 'downs.0.2'"),
        ("downs.9.*", "There is no layer 'downs.9.*'"),
        ("downs.0", r"'downs.0' holds modules and does not run itself"),
        (lambda name, module: False, "chose none"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(thin, wrong, said):
    with pytest.raises(DefinitionError, match=said.replace("*", r"\*")), tapping(thin, ["init_conv", wrong]):
        pytest.fail("entered")
    with pytest.raises(DefinitionError) as caught:
        resolve(thin, "downs.0.2.fm")
    assert caught.value.remedy.count("'") == 6  # three names


def test_the_sum_and_the_branch_before_it_are_two_addresses(thin):
    with tapping(thin, ["downs.1.1", "downs.1.2", "downs.1.2.fn"]) as seen:
        caller(thin)()
    assert torch.equal(seen["downs.1.2.fn"] + seen["downs.1.1"], seen["downs.1.2"])


def test_a_module_that_runs_twice_has_two_addresses(twice):
    with tapping(twice, ["late", "shared", "alias"]) as seen:
        twice(X)
        twice(X)
    assert seen.order == ("shared", "alias", "late")  # of execution, not of registration
    assert seen["shared", 0].shape == (2, 2, 4, 4)
    assert seen["shared"].shape == seen["shared", 1].shape == (2, 2, 4, 2)
    assert torch.equal(seen["alias", 0], seen["shared", 0])
    with pytest.raises(DefinitionError, match="'shared' has no firing 2: it ran 2 times"):
        seen["shared", 2]
    with tapping(twice, [Tap("shared", call=0), Tap("late", call=1)]) as seen:
        twice(X)
    assert seen["shared"].shape == (2, 2, 4, 4)
    with pytest.raises(DefinitionError, match="'late' has no firing 1: it ran 1 times"):
        seen["late"]
    with pytest.raises(DefinitionError, match="'shared' has no firing 1"):
        seen["shared", 1]


def test_a_layer_that_did_not_run_is_refused_when_it_is_read(twice):
    with tapping(twice, ["late", "idle"]) as seen:
        assert "late" not in seen
        twice(X)
    assert "late" in seen
    assert "idle" not in seen
    assert seen.order == ("late",)
    for read in (seen.ran, lambda: seen["idle"], lambda: dict(seen)):
        with pytest.raises(DefinitionError, match="'idle' did not run"):
            read()
    with pytest.raises(DefinitionError, match="did you mean 'late'"):
        seen["latte"]
    with pytest.raises(DefinitionError, match="'idle' did not run"):
        order(twice, ["late", "idle"], lambda: twice(X))


def test_what_is_kept_is_not_what_an_in_place_operation_made_of_it(twice):
    with tapping(twice, "shared") as seen:
        twice(X)
    assert (seen["shared"] < 0).any()
    with tapping(twice, Tap("shared", reduce=lambda a: a[:, :1])) as seen:
        twice(X)
    assert (seen["shared"] < 0).any()


def test_part_of_a_tuple_is_named_or_refused(twice):
    with tapping(twice, [Tap("pair", select=0), Tap("pair", select="second")]) as seen:
        twice(X)
    first, second = seen[Tap("pair", select=0)], seen[Tap("pair", select="second")]
    torch.testing.assert_close(2.0 * (first - 1.0), second, rtol=0, atol=1e-6)
    with pytest.raises(DefinitionError, match="2 taps listen to 'pair'"):
        seen["pair"]
    for wrong in (Tap("pair"), Tap("pair", select=2), Tap("pair", select="third"), Tap("late", select=0)):
        with pytest.raises(DefinitionError, match="select"), tapping(twice, wrong):
            twice(X)
    assert shapes(twice, lambda: twice(X))["pair[1]"] == (2, 2, 4, 2)


def test_a_reduction_runs_where_the_tensor_is(thin):
    pair = [Tap("mid_attn.fn", reduce=lambda a: a.sum(1)), Tap("mid_attn.fn")]
    with tapping(thin, pair) as seen:
        caller(thin)()
    assert torch.equal(seen[pair[0]], seen[pair[1]].sum(1))
    with (
        pytest.raises(DefinitionError, match="writes into"),
        tapping(thin, Tap("init_conv", reduce=lambda a: a.clamp_(0))),
    ):
        caller(thin)()
    with (
        pytest.raises(DefinitionError, match="gives a float"),
        tapping(thin, Tap("init_conv", reduce=lambda a: a.sum().item())),
    ):
        caller(thin)()


def test_guidance_is_two_forwards_and_shows_the_conditional_one():
    digits = zoo.load("digits")
    x, index, label = torch.zeros(2, *digits.card.shape), torch.tensor([3, 4]), torch.tensor([1, 2])
    with tapping(digits, "mid_attn.fn") as seen:
        digits(x, index, label)
        plain = seen["mid_attn.fn"]
    with tapping(Guided(digits, 3.0), "mid_attn.fn") as seen:
        Guided(digits, 3.0)(x, index, label)
    assert torch.equal(seen["mid_attn.fn"], plain)
    assert torch.equal(seen["mid_attn.fn", 0], plain)
    with pytest.raises(DefinitionError):
        seen["mid_attn.fn", 1]
    counts = firings(Guided(digits, 3.0), "mid_attn.fn", lambda: Guided(digits, 3.0)(x, index, label))
    assert counts == {"mid_attn.fn": 2}


def test_a_closed_form_has_no_layers():
    with (
        pytest.raises(DefinitionError, match="'mixture16' is a formula"),
        tapping(zoo.load("mixture16"), "*"),
    ):
        pytest.fail("entered")


def test_only_some_layers_for_some_steps(thin):
    call = caller(thin)
    with tapping(thin, ["init_conv", "*.2.fn"]) as seen:
        seen.only("ups.*")
        call()
        assert seen.ran() == ("ups.0.2.fn", "ups.1.2.fn", "ups.2.2.fn")
        assert len(seen) == 3
        with pytest.raises(DefinitionError, match="'init_conv' was not listened to"):
            seen["init_conv"]
        with pytest.raises(DefinitionError, match="did you mean 'init_conv'"):
            seen.only(["init_con"])
        seen.only()
        call()
        assert len(seen.ran()) == 8


def test_gradients_at_a_layer_are_those_of_a_network_cut_there(twice):
    """By hand: the gradient at `shared`, 1 is that of everything after it."""
    with tapping(twice, ["shared", "late"], graph=True) as seen:
        out = twice(X)
    found = torch.autograd.grad(out.sum(), [seen["shared", 1], seen["late"]])
    leaf = seen["shared", 1].detach().requires_grad_()
    late = twice.late(torch.relu(leaf))
    wanted = torch.autograd.grad((late + 2.0 * late).sum(), [leaf, late])
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert (seen["shared", 1] < 0).any()
    assert torch.equal(out, twice(X))


def test_a_gradient_at_an_identity_is_not_one_at_the_skip(thin):
    """downs.3.3 hands on the very tensor that is the skip; only what goes through the layer counts."""
    call = caller(thin)
    with tapping(thin, ["downs.3.2", "downs.3.3"], graph=True) as seen:
        eps = call()
    skip, layer = torch.autograd.grad(eps.sum(), [seen["downs.3.2"], seen["downs.3.3"]])
    cut = {"downs.3.3": lambda a: a.detach()}
    with tapping(thin, "downs.3.2", edits=cut, graph=True) as seen:
        eps = call()
    rest = torch.autograd.grad(eps.sum(), seen["downs.3.2"])[0]
    assert layer.abs().max() > 1e-6
    torch.testing.assert_close(skip, layer + rest, rtol=1e-4, atol=1e-6)


def test_a_graph_needs_gradients(thin):
    with tapping(thin, "init_conv", graph=True) as seen:
        caller(thin)()
        with torch.no_grad(), pytest.raises(DefinitionError, match="keeps no gradients"):
            caller(thin)()
    with tapping(thin, "init_conv") as seen, torch.inference_mode():
        caller(thin)()
    assert not seen["init_conv"].requires_grad


def test_a_network_that_is_not_ours():
    torch.manual_seed(0)
    network = still(
        diffusers.UNet2DModel(
            sample_size=8,
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            attention_head_dim=8,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        )
    )
    x, t = torch.zeros(2, 3, 8, 8), torch.tensor([3, 4])
    bare = network(x, t).sample
    block, attention = Tap("down_blocks.0", select=0), "down_blocks.1.attentions.0"
    with tapping(network, [block, "*.attentions.?", Tap("", select="sample")]) as seen:
        assert torch.equal(network(x, t).sample, bare)
    assert seen["down_blocks.0"].shape == (2, 8, 4, 4)
    assert seen[attention].shape == (2, 16, 4, 4)
    assert torch.equal(seen[""], bare)
    assert seen.ran().index(attention) < seen.ran().index("mid_block.attentions.0")
    with tapping(network, edits={attention: lambda a: a * 0.0}):
        without = network(x, t).sample
    assert not torch.equal(without, bare)
    with tapping(
        network, block, edits={"down_blocks.0": lambda a: a * 0.0, Tap("", select="sample"): torch.neg}
    ) as seen:
        changed = network(x, t).sample
    assert not seen["down_blocks.0"].any()
    assert not torch.equal(changed, -bare)
    assert shapes(network, lambda: network(x, t))["down_blocks.0[0]"] == (2, 8, 4, 4)


def test_the_thesis_network_has_its_numbers_and_shapes(thesis):
    assert sum(parameter.numel() for parameter in thesis.parameters()) == 57_649_863
    with torch.device("meta"):
        network = UNet()
        x, index = torch.empty(1, 3, 64, 64), torch.empty(1, dtype=torch.int64)
        found = shapes(network, lambda: network(x, index, index))
    wanted = {layer.id: (1, layer.channels, *[64 >> layer.halvings] * 2) for layer in layers(UNetConfig())}
    assert len(wanted) == 65
    assert {name: found[name] for name in wanted} == wanted
    assert found["init_conv"] == (1, 42, 64, 64)
    assert found["time_mlp"] == (1, 256)
    assert found["ups.0.0"] == (1, 256, 8, 8)
    assert found["ups.2.3"] == found["downs.0.2"] == found["downs.0.2.fn"] == (1, 64, 64, 64)


def test_the_table_of_layers_is_in_the_order_of_execution(thin):
    """However it is asked for."""
    assert order(thin, "*", caller(thin)) == layer_ids(thin.config)
    backwards = list(reversed(layer_ids(thin.config)))
    assert order(thin, backwards, caller(thin)) == layer_ids(thin.config)


def test_listening_does_not_change_a_bit(thesis):
    call = caller(thesis, lanes=1)
    bare = call().numpy()
    with tapping(thesis, "*") as seen:
        listened = call().numpy()
    assert np.array_equal(bare, listened)
    assert len(seen.ran()) == 65
