"""Changing what a layer puts out: out of place by default, and the thesis' defect by name."""

import pytest
import torch
from listening import caller, still
from torch import nn

from flowprofile.conditioning.interventions import (
    Ablation,
    Difference,
    Intervention,
    OwnChannel,
    Patch,
    Span,
    Steer,
    Switch,
)
from flowprofile.errors import DefinitionError
from flowprofile.models.editing import Lane, edits
from flowprofile.models.layers import layer_ids
from flowprofile.models.taps import tapping

CUT = ["downs.3.3", "mid_block1.res_conv"]
"""The layers of which METHODS says that writing into them cuts the skip."""


def first_channel_zero(a: torch.Tensor) -> torch.Tensor:
    return torch.cat((torch.zeros_like(a[:, :1]), a[:, 1:]), dim=1)


def outcome(network, call, layer, *, in_place):
    with tapping(network, edits={layer: first_channel_zero}, in_place=in_place):
        return call()


def test_writing_in_place_cuts_the_skip_for_exactly_two_of_the_65_layers(thin):
    call = caller(thin)
    bare = call()
    different = []
    for layer in layer_ids(thin.config):
        out_of_place = outcome(thin, call, layer, in_place=False)
        assert not torch.equal(out_of_place, bare), layer
        if not torch.equal(out_of_place, outcome(thin, call, layer, in_place=True)):
            different.append(layer)
    assert different == CUT


@pytest.mark.parametrize("layer", [*CUT, "downs.3.2.fn", "mid_block2.res_conv", "downs.1.3"])
def test_so_it_is_at_full_width(thesis, layer):
    call = caller(thesis, lanes=1)
    same = torch.equal(
        outcome(thesis, call, layer, in_place=False), outcome(thesis, call, layer, in_place=True)
    )
    assert same == (layer not in CUT)


def test_a_tap_sees_what_the_network_goes_on_with(thin):
    taps = ["downs.3.2", "downs.3.3", "mid_block1.ds_conv"]
    with tapping(thin, taps, edits={"downs.3.3": first_channel_zero}) as seen:
        caller(thin)()
    assert not seen["downs.3.3"][:, 0].any()
    assert seen["downs.3.2"][:, 0].any()


def test_parts_of_interventions_reach_every_lane(thin):
    part = Ablation("mid_attn.fn", (0,))
    call = caller(thin)
    with tapping(thin, "mid_attn.fn", interventions=[part]) as seen:
        ablated = call()
    assert not seen["mid_attn.fn"][:, 0].any()
    assert torch.equal(ablated, outcome(thin, call, "mid_attn.fn", in_place=False))
    steer = Steer("mid_attn.fn", (1.0,) * 64)
    with tapping(thin, "mid_attn.fn", interventions=[steer], edits={"mid_attn.fn": torch.zeros_like}) as seen:
        call()
    assert not seen["mid_attn.fn"].any()  # the caller's own edit comes after the parts


SITE = "mid_attn.fn"
ZERO = Ablation(SITE, (0,))

REFUSED = {
    "an own channel": ([Ablation(SITE, OwnChannel(200))], "clean run"),
    "a switch": ([Switch(600, 7)], "does not edit a layer"),
    "a switch in an intervention": (Intervention((ZERO, Switch(600, 7))), "does not edit a layer"),
    "a donor": ([Patch((SITE,), 6)], "reads a donor's run"),
    "means of other runs": ([Steer(SITE, Difference((1,), (0,), 9, (0,)))], "means of other runs"),
    "a span": ([Ablation(SITE, (0,), span=Span(700, 400))], "has a span"),
    "a mask": ([Ablation(SITE, (0,), mask="eyes")], "mask 'eyes', which holds no pixels"),
    "parts that do not commute": ([ZERO, Steer(SITE, (1.0,) * 64)], "do not commute"),
    "a factor twice": ([Ablation(SITE, (0,), "scale", 0.5), Ablation(SITE, (0,), "scale", 0.5)], "twice"),
    "a number": ([3], "3 is not something that can be done"),
    "a name": (SITE, "'mid_attn.fn' is not something that can be done"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_one_call_cannot_carry_out_is_refused_before_anything_is_attached(thin, what):
    given, words = REFUSED[what]
    with pytest.raises(DefinitionError, match=words), tapping(thin, interventions=given):
        pytest.fail("entered")


@pytest.mark.parametrize("given", [ZERO, (ZERO,), Intervention((ZERO,)), [Intervention((ZERO,), "mine")]])
def test_a_part_alone_and_a_whole_intervention_do_the_same(thin, given):
    call = caller(thin)
    with tapping(thin, interventions=given):
        assert torch.equal(call(), outcome(thin, call, SITE, in_place=False))


@pytest.mark.parametrize(
    ("model", "taps", "edits", "words"),
    [
        (None, None, None, "None does not name a layer"),
        (None, 3, None, "3 does not name a layer"),
        (None, ["init_conv", 3], None, "3 does not name a layer"),
        ("faces32", "init_conv", None, r"'faces32' is a name.*\n.*\n.*flowprofile.load\('faces32'\)"),
        (None, (), {"init_conv": 3}, "which function changes which layer"),
        (None, (), [first_channel_zero], "which function changes which layer"),
    ],
)
def test_what_names_no_network_no_layer_and_no_edit_is_refused(thin, model, taps, edits, words):
    with pytest.raises(DefinitionError, match=words), tapping(model or thin, taps, edits=edits):
        pytest.fail("entered")


class Twice(nn.Module):
    """Calls one module twice, once on what it made of the first call."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, x):
        first = self.inner(x)
        return first + 3.0 * self.inner(first)


@pytest.mark.parametrize("forwards", [1, 3])
def test_in_every_forward_a_patch_begins_with_the_first_firing(forwards):
    torch.manual_seed(0)
    network, donor, x = still(Twice()), torch.randn(1, 2), torch.randn(1, 2)
    with tapping(network, "inner") as seen:
        whole = network(donor)
    parts = (Patch(("inner",), 6),)
    given = {("inner", call): seen["inner", call][0] for call in range(2)}
    with tapping(network, edits=edits([Lane(parts, donor=given)])):
        for _ in range(forwards):
            assert torch.equal(network(x), whole)


@pytest.mark.parametrize("wrong", [lambda a: a.mul_(0.0), lambda a: a[:, :1], torch.Tensor.double])
def test_an_edit_that_writes_or_does_not_fit_is_refused(thin, wrong):
    with (
        pytest.raises(DefinitionError, match="edit of 'init_conv'"),
        tapping(thin, edits={"init_conv": wrong}),
    ):
        caller(thin)()


def test_an_edit_keeps_the_graph_before_and_behind_it():
    torch.manual_seed(0)
    network = still(nn.Sequential(nn.Linear(3, 3), nn.ReLU(inplace=True), nn.Linear(3, 3)))
    x = torch.ones(2, 3, requires_grad=True)
    with tapping(network, ["0", "1"], edits={"0": lambda a: 2.0 * a}, graph=True) as seen:
        out = network(x)
    at_input, at_layer = torch.autograd.grad(out.sum(), [x, seen["0"]])
    alive = (seen["0"] > 0).float()
    wanted = network[2].weight.sum(0) * alive
    torch.testing.assert_close(at_layer, wanted)
    torch.testing.assert_close(at_input, 2.0 * wanted @ network[0].weight)


def test_a_module_with_two_names_is_edited_before_it_is_heard():
    network = nn.Module()
    network.one = network.other = nn.Identity()
    network.forward = lambda x: network.one(x)
    with tapping(network, "other", edits={"one": torch.neg}) as seen:
        out = network(torch.ones(1))
    assert seen["other"] == out == -1
