"""The U-Net has the thesis' numbers and addresses, and its options do what they say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import ModelError
from flowprofile.models.layers import UNetConfig, layer_ids, layers, parse_config
from flowprofile.models.unet import UNet, label_code

TINY = UNetConfig(dim=8, mults=(1, 2, 4), heads=2, head_dim=4)


def call(network, side=16, label=3):
    torch.manual_seed(0)
    x = torch.randn(2, network.config.channels, side, side)
    return network(x, torch.tensor([5, 900]), torch.tensor([label, label]))


def test_the_thesis_network_has_its_numbers():
    with torch.device("meta"):
        network = UNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 57_649_863
    modules = dict(network.named_modules())
    assert len(modules) == 290
    ids = layer_ids(UNetConfig())
    assert len(ids) == len(set(ids)) == 65
    assert set(ids) <= set(modules)
    assert isinstance(modules["downs.3.3"], torch.nn.Identity)
    assert {"downs.0.2", "mid_attn", "ups.2.2"} <= set(modules)


def test_the_thesis_names_lead_to_the_channels_of_its_table():
    channels = {layer.id: layer.channels for layer in layers(UNetConfig())}
    assert channels["ups.1.2.fn"] == 128
    assert channels["init_conv"] == 42
    assert channels["ups.0.0.ds_conv"] == 1024
    assert channels["final_conv"] == 3


@pytest.mark.parametrize("full_skip", [False, True])
@pytest.mark.parametrize("mults", [(1, 2), (1, 2, 4)])
def test_the_table_of_layers_is_what_the_network_puts_out(mults, full_skip):
    config = UNetConfig(dim=8, mults=mults, heads=2, head_dim=4, full_skip=full_skip)
    network, seen, hooks = UNet(config), {}, []
    for layer in layers(config):

        def keep(module, given, out, name=layer.id):
            seen[name] = tuple(out.shape)

        hooks.append(network.get_submodule(layer.id).register_forward_hook(keep))
    call(network)
    expected = {e.id: (2, e.channels, 16 >> e.halvings, 16 >> e.halvings) for e in layers(config)}
    assert seen == expected


def test_without_full_skip_the_first_level_reaches_the_end_only_through_the_depth():
    network = UNet(TINY)
    with torch.no_grad():
        network.downs[0][3].weight.zero_()
        assert torch.equal(call(network, label=1), call(network, label=9))
    skipping = UNet(
        parse_config({"dim": 8, "mults": [1, 2, 4], "heads": 2, "head_dim": 4, "full_skip": True})
    )
    with torch.no_grad():
        skipping.downs[0][3].weight.zero_()
        assert not torch.equal(call(skipping, label=1), call(skipping, label=9))


@given(st.integers(0, 15))
def test_bits_enter_as_signs(label):
    config = UNetConfig(label_code="bits", label_width=4, null_label=16)
    code = label_code(torch.tensor([label, 16]), config)
    assert code[0].tolist() == [1.0 if bit == "1" else -1.0 for bit in f"{label:04b}"]
    assert code[1].tolist() == [0.0] * 4


def test_classes_enter_as_one_and_the_null_label_as_nothing():
    config = UNetConfig(label_code="classes", label_width=10, null_label=10)
    code = label_code(torch.tensor([7, 10]), config)
    assert code[0].nonzero().tolist() == [[7]]
    assert not code[1].any()


def test_the_default_plane_is_the_raw_number():
    assert label_code(torch.tensor([13]), UNetConfig()).tolist() == [[13.0]]


def test_a_wrong_argument_is_named():
    with pytest.raises(ModelError, match="full_skip"):
        parse_config({"fullskip": True})
    with pytest.raises(ModelError, match="bits"):
        UNetConfig(label_code="bitz")
    with pytest.raises(ModelError):
        UNetConfig(mults=(1,))
