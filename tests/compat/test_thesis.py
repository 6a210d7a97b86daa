"""Every deviation of compat = "thesis-2023", both ways: what it changes it changes, and all else keeps its key."""

import numpy as np
import pytest
import torch
from PIL import Image

import flowprofile as fp
from flowprofile import running
from flowprofile.assembly import assemble
from flowprofile.compat import THESIS_2023
from flowprofile.errors import DefinitionError
from flowprofile.measures import influence, layers
from flowprofile.measures.images import ssim
from flowprofile.models.layers import UNetConfig
from flowprofile.models.unet import UNet

STEPS, SIDE = 5, 16
RECTANGLE = {"rectangle": [4, 4, 6, 7]}
VOLUME = {"use": "gradient_volume", "mask": RECTANGLE, "keep": [400]}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = UNet(UNetConfig(dim=8))
    with torch.no_grad():  # so that the label's plane, a number of up to 15, has a say that is not lost
        network.init_conv.weight[:, 3] *= 0.2
    return fp.denoiser(network, (3, SIDE, SIDE), attributes=("a", "b", "c", "d"), pixel_range=(0, 1))


def definition(model, compat="thesis-2023", *, noise="philox", labels=(3, 5), seeds=(1,), **more):
    return fp.Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": STEPS, **({"noise": noise} if noise else {})},
            "cases": {"seeds": list(seeds), "labels": list(labels)},
            "stages": {"trajectory": {}, **more.pop("stages", {})},
            **({"compat": compat} if compat else {}),
            **more,
        }
    )


def both(model, store, **more):
    """The same definition as it is, and as the thesis' code would have it; under the same noise."""
    found = []
    for compat in (None, "thesis-2023"):
        running.run(definition(model, compat, **more), into=f"{store}-{compat}")
        found.append(fp.open(f"{store}-{compat}"))
    return found


def keys(model, compat, **more):
    return assemble(definition(model, compat, **more)).graph.keys


def test_the_noise_is_the_generators_unless_a_definition_says_otherwise(model):
    free = assemble(definition(model, noise=None))
    assert free.context.noise.scheme == "torch-generator-1"
    assert assemble(definition(model, None, noise=None)).context.noise.scheme == "philox-box-muller-1"
    assert keys(model, "thesis-2023") == keys(model, None), "asked for by name, nothing else is left of compat"
    assert keys(model, "thesis-2023", noise=None) == keys(model, None, noise="torch")
    told = fp.Pipeline.model_validate({**free.definition(), "model": model})
    assert assemble(told).graph.keys == free.graph.keys, "provenance says what was meant"


STAGES = {
    "activations": {"layers": "mid_attn.fn"},
    "max_channel": {"layers": "mid_attn.fn"},
    "ssim": {},
    "mse": {},
    "attention": {"layers": "*.fn"},
    "layer_distance": {"layers": "mid_attn.fn"},
    "attention_distance": {"layers": "*.fn"},
    "gradient_distance": {"layers": "mid_attn.fn", "mask": RECTANGLE, "keep": [600, 400]},
    "layer_gradients": {"layers": "mid_attn.fn", "mask": RECTANGLE, "keep": [400]},
    "gradient_sum": {"mask": RECTANGLE, "keep": [400]},
    "volume": VOLUME,
    "influence": {"needs": ["volume"]},
}
CHANGED = {
    "ssim",
    "ssim.null",
    "attention",
    "layer_distance",
    "attention_distance",
    "gradient_distance",
    "volume",
    "influence",
}


def test_a_deviation_is_in_the_key_of_what_it_changes_and_in_no_other(model):
    right, thesis = keys(model, None, stages=STAGES), keys(model, "thesis-2023", stages=STAGES)
    assert set(right) == set(thesis)
    assert {name for name in right if right[name] != thesis[name]} == CHANGED
    explicit = {
        **STAGES,
        **{name: {**STAGES[name], "normalise": "none"} for name in ("attention", "layer_distance")},
        "ssim": {"data_range": 1.0},
    }
    kept = keys(model, "thesis-2023", stages=explicit)
    for name in ("attention", "layer_distance", "ssim", "ssim.null"):
        assert kept[name] == right[name], "what a table says is what is done"


def test_only_the_thesis_own_stages_have_other_defaults():
    from flowprofile.stages import KINDS

    for name, values in THESIS_2023.stages.items():
        assert set(values) <= set(KINDS[name].params.model_fields), "a deviation that no kind knows does nothing"


def ablated(layer):
    return {"one": {"kind": "ablate", "layer": layer, "channel": [0, 1, 2]}}


@pytest.mark.parametrize("layer", ["downs.3.3", "mid_block1.res_conv"])
def test_an_ablation_in_place_cuts_the_skip_at_two_sites(model, store, layer):
    right, thesis = both(model, store, interventions=ablated(layer), labels=[3])
    assert np.array_equal(state(right, "none"), state(thesis, "none")), "a clean run is a clean run"
    name = f"zero {layer}[0,1,2]"
    assert not np.array_equal(state(right, name), state(thesis, name))
    assert np.array_equal(state(thesis, name), _in_place(model, layer, thesis))
    assert not np.array_equal(state(right, name), state(right, "none"))


def test_an_ablation_in_place_is_the_same_at_every_other_site(model, store):
    for number, layer in enumerate(("downs.2.3", "downs.3.2", "mid_attn.fn", "mid_block1.net", "ups.0.0.res_conv")):
        right, thesis = both(model, f"{store}{number}", interventions=ablated(layer), labels=[3])
        assert np.array_equal(state(right, f"zero {layer}[0,1,2]"), state(thesis, f"zero {layer}[0,1,2]"))


def test_edits_enter_the_key_and_a_switch_of_the_label_does_not(model):
    switch = {"sw": {"kind": "switch", "at": 400, "to": 5}}
    assert keys(model, None, interventions=switch) == keys(model, "thesis-2023", interventions=switch)
    edited = [keys(model, compat, interventions=ablated("mid_attn.fn")) for compat in (None, "thesis-2023")]
    assert edited[0]["trajectory"] != edited[1]["trajectory"]


def state(tree, intervention, t=0, label=3):
    return tree["trajectory"]["x_t"].sel(intervention=intervention, label=label, seed=1, time=t).values


def _in_place(model, layer, tree):
    """The final image of a run with the thesis' hook: channels of the output are overwritten where they are."""
    from flowprofile.time.noise import noise
    from flowprofile.time.rules import ddpm
    from flowprofile.time.schedule import linear

    def hook(module, given, out):
        out[:, :3] = 0.0
        return out

    handle = model.module.get_submodule(layer).register_forward_hook(hook)
    grid = tree["trajectory"].time.values.tolist()
    x = torch.from_numpy(noise(1, 1000, (3, SIDE, SIDE)))
    for before, t in zip(grid, grid[1:], strict=False):
        with torch.no_grad():
            eps = model(x.expand(8, *x.shape), torch.full((8,), before - 1), torch.full((8,), 3))[0]
        z = torch.from_numpy(noise(1, t, x.shape))
        x = ddpm(x, eps, z, schedule=linear(1000), t_from=before, t_to=t)
    handle.remove()
    return x.numpy()
