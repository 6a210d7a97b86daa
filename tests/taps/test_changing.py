"""Changing what a layer puts out: out of place by default, and the thesis' defect by name."""

import pytest
import torch
from listening import caller, still
from torch import nn

from flowprofile.conditioning.interventions import Ablation, OwnChannel, Steer, Switch
from flowprofile.errors import DefinitionError
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


def test_parts_that_need_another_run_or_no_layer_are_refused(thin):
    with (
        pytest.raises(DefinitionError, match="clean run"),
        tapping(thin, interventions=[Ablation("mid_attn.fn", OwnChannel(200))]),
    ):
        caller(thin)()
    with (
        pytest.raises(DefinitionError, match="does not edit a layer"),
        tapping(thin, interventions=[Switch(600, 7)]),
    ):
        pytest.fail("entered")


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
