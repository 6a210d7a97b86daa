"""Old checkpoints: what is in them is read, and nothing in them is run."""

import os
import pickle
import socket

import pytest
import saved_folders
import torch
from click.testing import CliRunner

from flowprofile.cli.main import group
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import weights, zoo
from flowprofile.models.card import thesis_card
from flowprofile.models.conversion import convert, implied
from flowprofile.models.layers import UNetConfig
from flowprofile.models.unet import UNet

SMALL = UNetConfig(dim=16, mults=(1, 2), head_dim=4)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(7)
    return UNet(SMALL).eval()


def saved(path, value):
    torch.save(value, path)
    return path


@pytest.mark.parametrize("wrapped", [
    lambda state: state,
    lambda state: {"model": state, "epoch": 3, "loss": 0.25},
    lambda state: {"step": 1, "ema": {"state_dict": state}},
    lambda state: {f"module.{name}": tensor.double() for name, tensor in state.items()},
])  # fmt: skip
def test_a_checkpoint_of_the_thesis_becomes_a_model_that_computes_the_same(tmp_path, network, wrapped):
    path = saved(tmp_path / "ck.pt", wrapped(network.state_dict()))
    card = convert(path, tmp_path / "out.safetensors", size=16)
    assert (card.labels, card.pixel_range, card.shape) == (thesis_card("x").labels, (0.0, 1.0), (3, 16, 16))
    model = zoo.load(tmp_path / "out.safetensors")
    x, index, label = torch.randn(2, 3, 16, 16), torch.tensor([4, 900]), torch.tensor([6, 1])
    with torch.no_grad():
        assert torch.equal(model(x, index, label), network(x, index, label))


def test_a_side_that_the_levels_cannot_halve_is_refused_and_nothing_is_written(tmp_path, network):
    path = saved(tmp_path / "ck.pt", network.state_dict())
    with pytest.raises(DefinitionError, match=r"33 x 33 cannot be halved 1 times.*\n.*\n.*instance 32 or 34"):
        convert(path, tmp_path / "out.safetensors", size=33)
    told = CliRunner().invoke(group, ["convert", str(path), "--into", "", "--size", "16"])
    assert "has no name" in str(told.exception), told.output
    assert [file.name for file in tmp_path.iterdir()] == ["ck.pt"]


def test_the_thesis_configuration_is_that_of_its_shapes():
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UNet(UNetConfig()).state_dict().items()}
    assert implied(shapes) == UNetConfig()
    for name in zoo.EMBEDDED:
        path, card = zoo.weights_path(name), zoo.card(name)
        config = zoo.unet_config(card)
        shapes = {entry.name: entry.shape for entry in weights.read_header(path).entries}
        found = implied(shapes, space=card.labels, label_code=config.label_code, heads=config.heads)
        assert (found.widths, found.head_dim, found.label_width) == (
            config.widths,
            config.head_dim,
            config.label_width,
        )


class Runs:
    """What a hostile pickle would do when it is opened."""

    def __init__(self, function, *given):
        self.call = function, given

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(("function", "given"), [
    (os.system, ("touch {mark}",)), (os.mkdir, ("{mark}",)), (eval, ("open('{mark}', 'w')",)),
    (socket.create_connection, (("127.0.0.1", 9),)),
])  # fmt: skip
def test_a_pickle_that_would_run_is_refused_and_runs_nothing(tmp_path, network, function, given):
    mark = tmp_path / "it_ran"
    given = tuple(one.format(mark=mark) if isinstance(one, str) else one for one in given)
    path = tmp_path / "ck.pt"
    for content in ({**network.state_dict(), "x": Runs(function, *given)}, Runs(function, *given)):
        saved(path, content)
        with pytest.raises(ModelError, match="not opened") as caught:
            convert(path, tmp_path / "out.safetensors")
        assert "nothing of it was run" in str(caught.value)
    path.write_bytes(pickle.dumps(Runs(function, *given)))
    with pytest.raises(ModelError, match="not opened"):
        convert(path, tmp_path / "out.safetensors")
    assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 and then nothing"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "ck.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not opened"):
        convert(path, tmp_path / "out.safetensors")


def test_another_network_is_named_by_the_weight_that_it_lacks(tmp_path, network):
    path = saved(tmp_path / "other.pt", {"conv.weight": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"no weight 'time_mlp\.1\.weight'") as caught:
        convert(path, tmp_path / "out.safetensors")
    assert "flowprofile.denoiser" in str(caught.value)
    state = network.state_dict()
    state["ups.0.0.net.4.weight"] = torch.zeros(2, 2)
    with pytest.raises(ModelError, match=r"ups\.0\.0\.net\.4\.weight"):
        convert(saved(path, state), tmp_path / "out.safetensors")
    path = saved(tmp_path / "empty.pt", {"epoch": 3})
    with pytest.raises(ModelError, match="not opened") as caught:
        convert(path, tmp_path / "out.safetensors")
    assert "no table of tensors" in str(caught.value)


def test_a_file_that_exists_is_kept(tmp_path, network):
    (tmp_path / "out.safetensors").write_text("mine")
    with pytest.raises(ModelError, match="exists"):
        convert(saved(tmp_path / "ck.pt", network.state_dict()), tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_text() == "mine"


def test_the_command_writes_a_model_that_can_be_listed(tmp_path, network):
    path = saved(tmp_path / "old.pt", network.state_dict())
    done = CliRunner().invoke(group, ["convert", str(path), "--size", "16"])
    assert done.exit_code == 0, done.output
    assert "old.safetensors: 3x16x16" in done.output
    listed = CliRunner().invoke(group, ["layers", str(tmp_path / "old.safetensors")])
    assert "mid_attn.fn" in listed.output
    listed = CliRunner().invoke(group, ["layers", str(saved_folders.folder("DiTTransformer2DModel"))])
    assert "transformer_blocks.0.attn1" in listed.output
    assert "tokens   attention, 2 heads" in listed.output
