"""One call and its layers in memory: the network's own numbers, and nothing left behind."""

import numpy as np
import pytest
import saved_folders
import torch
from diffusers import StableDiffusionPipeline
from listening import hooks
from torch import nn

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.models.taps import Tap


class Shrinking(nn.Module):
    """Halves its picture the more often it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Identity()

    def forward(self, x: torch.Tensor, calls: int) -> torch.Tensor:
        for _ in range(calls):
            x = self.inner(x[..., ::2])
        return x


class Called:
    """A pipeline: it holds its network under a name that is known."""

    def __init__(self, unet: nn.Module, calls: tuple[int, ...] = (1, 2)) -> None:
        self.unet, self.calls = unet, calls

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.unet(x, count) for count in self.calls]


def test_a_pipeline_gives_its_image_and_every_step_of_its_layers():
    model = saved_folders.folder("UNet2DConditionModel")
    own = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    own.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 3, "output_type": "latent"}
    seen: list[torch.Tensor] = []
    handle = own.unet.mid_block.register_forward_hook(lambda module, given, out: seen.append(out.clone()))
    alone = own("a cat", generator=torch.Generator().manual_seed(0), **how).images
    handle.remove()
    before = hooks(own.unet)
    layers = ["mid_block", "*.attn2", Tap("down_blocks.0", select=0)]
    out, cache = fp.run_with_cache(
        own, "a cat", generator=torch.Generator().manual_seed(0), layers=layers, **how
    )
    assert hooks(own.unet) == before
    assert torch.equal(out.images, alone)
    found = cache["mid_block"]["activation"]
    # PNDM asks four times in three steps; its two halves are one batch.
    assert dict(found.sizes) == {"call": 4, "case": 2, "channel": 64, "y": 4, "x": 4}
    assert (found.values == torch.stack(seen).numpy()).all()
    assert found["timestep"].values.tolist() == [667, 334, 334, 1]
    tokens = next(node for name, node in cache.children.items() if name.endswith("attn2"))["activation"]
    assert tokens.dims == ("call", "case", "token", "channel")


def test_a_network_is_called_as_it_is():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(inplace=True)).to(torch.bfloat16)
    x = torch.linspace(-1, 1, 16, dtype=torch.bfloat16).view(1, 1, 4, 4)
    out, cache = fp.run_with_cache(net, x, layers="?")
    assert torch.equal(out, net(x))
    # The ReLU writes in place: what is kept of the convolution is what it put out.
    assert (cache["0"]["activation"].values[0] == net[0](x).float().detach().numpy()).all()
    assert cache["1"]["activation"].dtype == np.float32
    assert np.isnan(cache["0"]["timestep"].values).all()
    model = fp.load("digits")
    index, label = torch.tensor([500, 500]), torch.tensor([3, 4])
    eps, cache = fp.run_with_cache(
        model, torch.zeros(2, *model.card.shape), index, label, layers="mid_block1"
    )
    assert eps.shape == (2, *model.card.shape)
    assert cache["mid_block1"]["timestep"].values.tolist() == [500.0]


def test_what_cannot_be_one_array_is_refused_and_nothing_stays():
    net = Shrinking()
    with pytest.raises(DefinitionError, match="no layer 'outer'"):
        fp.run_with_cache(net, torch.zeros(1, 8), 1, layers="outer")
    with pytest.raises(DefinitionError, match="did not run"):
        fp.run_with_cache(net, torch.zeros(1, 8), 0, layers="inner")
    _, cache = fp.run_with_cache(net, torch.zeros(1, 8), 2, layers="inner")
    assert cache["inner"]["activation"].shape == (1, 1, 2)
    with pytest.raises(DefinitionError, match="in another"):
        fp.run_with_cache(Called(net), torch.zeros(1, 8), layers="inner")
    with pytest.raises(DefinitionError, match="did not run in this call"):
        fp.run_with_cache(Called(net, calls=()), torch.zeros(1, 8), layers="inner")
    with pytest.raises(DefinitionError, match="is a formula"):
        fp.run_with_cache(fp.load("mixture16"), layers="*")
    assert not hooks(net)


def test_no_layers_are_no_cache():
    with pytest.raises(DefinitionError, match="No layers are named"):
        fp.run_with_cache(torch.nn.Conv2d(1, 1, 1), torch.zeros(1, 1, 2, 2), layers=[])
