"""Every deviation of compat = "thesis-2023", both ways: what it changes it changes, and all else keeps its key."""

from itertools import pairwise

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
    return fp.denoiser(network, (3, SIDE, SIDE), attributes=("a", "b", "c", "d"), pixel_range=(0.0, 1.0))


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
    assert keys(model, "thesis-2023") == keys(model, None), (
        "asked for by name, nothing else is left of compat"
    )
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
        assert set(values) <= set(KINDS[name].params.model_fields), (
            "a deviation that no kind knows does nothing"
        )


def ablated(layer):
    return {"one": {"kind": "ablate", "layer": layer, "channel": [0, 1, 2]}}


ALIASED = ("downs.3.3", "mid_block1.res_conv")
OTHERS = ("downs.2.3", "downs.3.2", "mid_attn.fn", "mid_block1.net", "ups.0.0.res_conv")


def test_an_ablation_in_place_cuts_the_skip_at_two_sites_and_is_the_same_at_others(model, store):
    table = {f"at {site}": ablated(site)["one"] for site in (*ALIASED, *OTHERS)}
    right, thesis = both(model, store, interventions=table, labels=[3])
    assert np.array_equal(state(right, "none"), state(thesis, "none")), "a clean run is a clean run"
    for site in (*ALIASED, *OTHERS):
        name = f"zero {site}[0,1,2]"
        assert np.array_equal(state(right, name), state(thesis, name)) == (site in OTHERS)
        assert not np.array_equal(state(right, name), state(right, "none"))
    for site in ALIASED:
        assert np.array_equal(state(thesis, f"zero {site}[0,1,2]"), _in_place(model, site, thesis))


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
    for before, t in pairwise(grid):
        with torch.no_grad():
            eps = model(x.expand(8, *x.shape), torch.full((8,), before - 1), torch.full((8,), 3))[0]
        z = torch.from_numpy(noise(1, t, x.shape))
        x = ddpm(x, eps, z, schedule=linear(1000), t_from=before, t_to=t)
    handle.remove()
    return x.numpy()


@pytest.fixture(scope="module")
def shown(model, tmp_path_factory):
    """One run of each, with everything that a deviation changes and the states it is read off."""
    place = tmp_path_factory.mktemp("shown")
    strokes = np.zeros((SIDE, SIDE), dtype=np.uint8)
    strokes[4, 4:6], strokes[5, 4] = (255, 128), 1
    Image.fromarray(strokes).save(place / "gray.png")
    stages = {
        "activations": {"layers": "mid_attn.fn"},
        "ssim": {},
        "attention": {"layers": "*.fn"},
        "layer_distance": {"layers": "mid_attn.fn"},
        "attention_distance": {"layers": "*.fn"},
        "volume": VOLUME,
        "influence": {"needs": ["volume"]},
    }
    right, thesis = both(model, place / "store", stages=stages, labels=[3])
    drawn = {"volume": {**VOLUME, "mask": str(place / "gray.png")}}
    running.run(definition(model, stages=drawn, labels=[3]), into=place / "drawn")
    return right, thesis, fp.open(place / "drawn"), place


def one(tree, node, variable="value"):
    return tree[node][variable].sel(intervention="none", label=3, seed=1)


def _loop(model, x, *, before, t, mask, plane):
    """Row by row as the thesis computes it: x and the label's plane in one input, a backward pass a pixel."""
    from flowprofile.time.schedule import linear

    bar, alpha = linear(1000).alpha_bar(before), linear(1000).alpha_bar(before) / linear(1000).alpha_bar(t)
    full = torch.cat([torch.from_numpy(x), torch.full((1, SIDE, SIDE), 3.0)])[None].requires_grad_()
    handle = model.module.init_conv.register_forward_pre_hook(lambda module, args: (full,))
    eps = model(full[:, :3], torch.tensor([before - 1]), torch.tensor([3]))
    handle.remove()
    mean = (full[:, :3] - (1 - alpha) * eps / (1 - bar) ** 0.5) / alpha**0.5
    target = (mean * torch.from_numpy(mask))[0].sum(0).flatten()
    rows = {}
    for pixel in np.flatnonzero(mask).tolist():
        (found,) = torch.autograd.grad(target[pixel], full, retain_graph=True)
        rows[pixel] = found[0, : 4 if plane else 3].sum(0).numpy()
    return rows


@pytest.mark.parametrize("plane", [False, True])
def test_the_labels_plane_is_added_to_a_gradient_volume(model, shown, plane):
    right, thesis, _, _ = shown
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[4:6, 4:7] = 1.0
    x = one(right, "trajectory", "x_t").sel(time=600).values
    rows = one(thesis if plane else right, "gradients/volume", "gradient").sel(time=400)
    wanted = _loop(model, x, before=600, t=400, mask=mask, plane=plane)
    assert set(rows.pixel.values.tolist()) == set(wanted)
    for pixel, row in wanted.items():
        np.testing.assert_allclose(rows.sel(pixel=pixel).values, row, rtol=1e-3, atol=1e-5)
    other = one(right if plane else thesis, "gradients/volume", "gradient").sel(time=400)
    assert np.abs(other.values - rows.values).max() > 1e-3


def test_strokes_scale_the_rows_and_are_refused_otherwise(model, shown):
    right, thesis, drawn, place = shown
    mask = np.asarray(Image.open(place / "gray.png")).astype(np.float32)
    x = one(right, "trajectory", "x_t").sel(time=600).values
    rows = one(drawn, "gradients/volume", "gradient").sel(time=400)
    plain = one(thesis, "gradients/volume", "gradient").sel(time=400)
    wanted = _loop(model, x, before=600, t=400, mask=mask, plane=True)
    assert set(rows.pixel.values.tolist()) == set(wanted)
    for pixel, row in wanted.items():
        stroke = mask.flatten()[pixel]
        np.testing.assert_allclose(rows.sel(pixel=pixel).values, row, rtol=1e-3, atol=1e-5 * stroke)
        assert np.array_equal(rows.sel(pixel=pixel).values, plain.sel(pixel=pixel).values * stroke)
    gray = {"volume": {**VOLUME, "mask": str(place / "gray.png")}}
    with pytest.raises(DefinitionError, match="not two-valued"):
        assemble(definition(model, None, stages=gray))
    Image.fromarray((mask > 0).astype(np.uint8) * 255).save(place / "full.png")
    full = {"volume": {**VOLUME, "mask": str(place / "full.png")}}
    found = [keys(model, compat, stages=full)["volume"] for compat in (None, "thesis-2023")]
    assert len({*found, keys(model, "thesis-2023", stages=gray)["volume"]}) == 3


def test_a_pixel_whose_value_is_zero_is_skipped():
    from flowprofile.kernels import gradients, published

    x = torch.ones(3, 5, 5)
    x[:, 2, 1:3] = 0.0
    asked = {"pixels": torch.tensor([[2, 2], [3, 3]]), "factors": (1.25, -0.5)}

    def eps(x):
        return torch.roll(x, 1, -1) * 0.3

    right = gradients.volume(eps, x, **asked)
    assert right[0].abs().sum() > 0.0, "its row is as good as any"
    assert torch.equal(published.volume(eps, x, **asked), right)
    skipped = published.volume(eps, x, **asked, skips_zeros=True)
    assert not skipped[0].any()
    assert torch.equal(skipped[1], right[1])


def test_layer_distances_are_normalised(shown):
    right, thesis, _, _ = shown
    a = one(right, "activations/mid_attn.fn", "activation").values[None]
    for tree, normalise in ((right, "none"), (thesis, "minmax")):
        found = one(tree, "measures/layer_distance").sel(layer="mid_attn.fn").values
        np.testing.assert_allclose(
            found, layers.distance(a[:, 1:], a[:, :-1], normalise=normalise)[0], rtol=1e-6
        )
        assert tree["measures/layer_distance"].attrs["params"]["normalise"] == normalise
    assert np.array_equal(a[0], one(thesis, "activations/mid_attn.fn", "activation").values)


def test_attention_maps_are_scaled_step_by_step(shown):
    right, thesis, _, _ = shown
    plain, scaled = one(right, "attention", "map").values, one(thesis, "attention", "map").values
    low, high = plain.min((1, 2), keepdims=True), plain.max((1, 2), keepdims=True)
    np.testing.assert_allclose(scaled, (plain - low) / (high - low), atol=1e-6)
    assert scaled.min((1, 2)).tolist() == [0.0] * STEPS
    assert scaled.max((1, 2)).tolist() == [1.0] * STEPS
    for tree, normalise in ((right, "none"), (thesis, "minmax")):
        found = one(tree, "measures/attention_distance").squeeze("layer").values
        wanted = layers.distance(plain[None, 1:], plain[None, :-1], normalise=normalise)[0]
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_ssim_is_measured_with_the_range_2(shown):
    right, thesis, _, _ = shown
    x = one(right, "trajectory", "x_t").values
    for tree, width in ((right, 1.0), (thesis, 2.0)):
        wanted = ssim(x[1:], x[:-1], data_range=width)
        np.testing.assert_allclose(one(tree, "measures/ssim").values, wanted, rtol=1e-5)
        assert tree["measures/ssim"].attrs["params"]["data_range"] == width


def test_the_count_above_a_threshold_stands_beside_the_radius(shown):
    right, thesis, _, _ = shown
    assert "above_mean" not in right["measures/influence"]
    rows = one(thesis, "gradients/volume", "gradient").values
    found = one(thesis, "measures/influence", "above_mean").values
    assert np.array_equal(found, influence.thesis_count(rows))
    assert found.min() > 0


@pytest.mark.parametrize(
    ("name", "sampler", "volume"),
    [
        ("gaussian8", {}, {}),
        ("digits", {"guidance_scale": 2.0}, {}),
        ("digits", {}, {"reduce": "l2"}),
    ],
)
def test_a_volume_that_the_thesis_has_not_is_refused(name, sampler, volume):
    table = {
        "model": name,
        "compat": "thesis-2023",
        "sampler": {"steps": STEPS, **sampler},
        "cases": {"seeds": [0], "labels": [0]},
        "stages": {"volume": {**VOLUME, **volume}},
    }
    with pytest.raises(DefinitionError, match=r"no such gradient volume"):
        assemble(fp.Pipeline.model_validate(table))
    del table["compat"]
    assert assemble(fp.Pipeline.model_validate(table)).graph.keys


def test_gradients_go_through_an_ablation_in_place(model, store):
    """In place at `downs.3.3` is out of place at the sum before it; at `res_conv` the skip is cut behind it."""
    every = list(range(64))
    table = {site: {"kind": "ablate", "layer": site, "channel": every} for site in (*ALIASED, "downs.3.2")}
    stages = {"trajectory": {"keep": [600, 400]}, "volume": VOLUME}
    running.run(definition(model, interventions=table, labels=[3], stages=stages), into=store)
    tree = fp.open(store)
    rows, x_t = tree["gradients/volume"]["gradient"], tree["trajectory"]["x_t"]
    known = [str(name) for name in tree.intervention.values]
    names = {site: next(name for name in known if name.startswith(f"zero {site}[")) for site in table}
    first, second, plain = (
        rows.sel(intervention=name, label=3, seed=1, time=400).values for name in names.values()
    )
    assert np.array_equal(first, plain)
    x = x_t.sel(intervention=names["mid_block1.res_conv"], label=3, seed=1, time=600).values
    network, mask = model.module, np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[4:6, 4:7] = 1.0

    def wanted():
        return np.stack(list(_loop(model, x, before=600, t=400, mask=mask, plane=True).values()))

    def no_skip(module, given):
        return torch.cat([given[0][:, :64], torch.zeros_like(given[0][:, 64:])], 1), *given[1:]

    cut = network.mid_block1.res_conv.register_forward_hook(lambda module, given, out: 0.0 * out)
    branch = wanted()
    skip = network.ups[0][0].register_forward_pre_hook(no_skip)
    both_cut = wanted()
    cut.remove()
    skip.remove()
    error = np.abs(second - both_cut).max()
    assert error < 1e-6
    assert np.abs(second - branch).max() > 10 * error, "cutting the branch alone is another gradient"
