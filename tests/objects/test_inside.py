"""Objects inside the network: the same bits fused or replayed, and never a bit of the sample changed by looking."""

import numpy as np
import pytest

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import BudgetError, DefinitionError, NonFiniteError

LOOKS = {
    "predicted_x0": {"keep": "::8"},
    "activations": {"layers": ["mid_attn.fn", "downs.0.2", "ups.0.3"], "keep": "::8"},
    "pooled": {"layers": "*.2.fn", "keep": "::8"},
    "channel_sums": {"layers": "mid_attn.fn", "keep": "::8"},
    "max_channel": {"layers": "*", "keep": "::8"},
    "attention": {"layers": "*.fn", "keep": "::8"},
    "attention_sum": {"use": "attention", "layers": "*.fn", "residual": True, "keep": "::8"},
}


def definition(stages, *, model="digits", steps=40, seeds="0:2", labels=(3, 5), **more):
    return fp.Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": steps, **more.pop("sampler", {})},
            "cases": {"seeds": seeds, "labels": list(labels)},
            "stages": stages,
            **more,
        }
    )


def stored(tree):
    """Every stored array by node and name."""
    return {
        (node.path, str(name)): values
        for node in tree.subtree
        for name, values in node.data_vars.items()
        if name != "status"
    }


def test_looking_changes_no_bit_of_the_sample_and_replaying_gives_what_looking_gave(store):
    bare, fused, replayed = (f"{store}-{name}" for name in ("bare", "fused", "replayed"))
    running.run(definition({"trajectory": {}}), into=bare)
    running.run(definition({"trajectory": {}, **LOOKS}), into=fused)
    running.run(definition({"trajectory": {}}), into=replayed)
    outcome = running.run(definition({"trajectory": {}, **LOOKS}), into=replayed)
    assert outcome.forwards == 4 * 5, (
        "one evaluation for each looked-at step, shared by everything that looks"
    )
    first, second = stored(fp.open(fused)), stored(fp.open(replayed))
    assert np.array_equal(first["/trajectory", "x_t"], stored(fp.open(bare))["/trajectory", "x_t"])
    assert set(first) == set(second)
    for key, values in first.items():
        assert np.array_equal(values.values, second[key].values), key
        assert np.isfinite(values.values).all(), key


def test_an_activation_is_what_the_module_puts_out_and_the_others_are_read_off_it(store):
    import torch

    from flowprofile.measures.channels import strongest
    from flowprofile.models import zoo

    running.run(definition({"trajectory": {}, **LOOKS}), into=store)
    tree = fp.open(store)
    denoiser = zoo.load("digits")
    seen = {}
    layer = denoiser.module.get_submodule("mid_attn.fn")
    hook = layer.register_forward_hook(lambda module, given, out: seen.update(a=out))
    chosen = {"label": 3, "seed": 1}
    t, before = 800, 825
    x = torch.tensor(tree["trajectory"]["x_t"].sel(**chosen, intervention="none", time=before).values)
    with torch.no_grad():
        denoiser(x.expand(8, *x.shape), torch.full((8,), before - 1), torch.full((8,), 3))
    hook.remove()
    there = tree["activations/mid_attn.fn"]["activation"].sel(**chosen, intervention="none", time=t).values
    np.testing.assert_allclose(there, seen["a"][0].numpy(), rtol=1e-5, atol=1e-6)
    channel = tree["max_channel"]["channel"].sel(**chosen, intervention="none", time=t, layer="mid_attn.fn")
    assert channel.item() == strongest(there)
    pooled = tree["pooled/ups.0.2.fn"]["activation"]
    assert pooled.dims == ("intervention", "label", "seed", "time", "channel")
    summed = tree["channel_sums/mid_attn.fn"]["activation"].sel(**chosen, intervention="none", time=t)
    np.testing.assert_allclose(summed.values, there.sum(0), rtol=1e-4, atol=1e-5)
    assert tree["attention"]["map"].shape[-2:] == (8, 8), "at the size of the image"
    assert not np.array_equal(tree["attention"]["map"].values, tree["attention_sum"]["map"].values)


def test_a_gradient_volume_is_the_jacobian_and_a_larger_mask_computes_only_its_new_pixels(store):
    def volume(rectangle, **more):
        table = {"trajectory": {}, "volume": {"use": "gradient_volume", "mask": {"rectangle": rectangle},
                 "keep": [100, 25], "reduce": "sum"}, "influence": {"needs": ["volume"]}, **more}  # fmt: skip
        return definition(table, model="gaussian8", labels=[0])

    assert running.run(volume([2, 2, 4, 4]), into=store).forwards == 2 * 40 + 2 * 2
    small = fp.open(store)["gradients/volume"]["gradient"].load()
    assert small.sizes["pixel"] == 4
    grown = running.run(volume([2, 2, 4, 6]), into=store)
    assert grown.forwards == 2 * 2, "no state is sampled again"
    tree = fp.open(store)
    large = tree["gradients/volume"]["gradient"]
    assert large.sizes["pixel"] == 8
    assert np.array_equal(large.sel(pixel=small.pixel).values, small.values)
    assert running.run(volume([2, 2, 4, 6]), into=store).regions == 0
    assert running.run(volume([2, 2, 3, 5]), into=store).regions == 0, "a smaller mask is there already"
    assert tree["measures/influence"]["radius"].sizes["pixel"] == 8
    expected = _jacobian(tree, t=100, before=125)
    places = np.stack([large.pixel_y.values, large.pixel_x.values], 1)
    rows = large.sel(time=100, label=0, seed=0, intervention="none").values
    np.testing.assert_allclose(rows, expected[places[:, 0] * 8 + places[:, 1]].reshape(-1, 8, 8), atol=2e-5)


@pytest.mark.parametrize("rows", [{}, {"reduce": "l2", "identity": False}, {"reduce": "abs"}])
def test_the_gaussian_beside_a_reach_is_the_reach_itself_where_images_are_gaussian(store, rows):
    """gaussian8's images have RBF correlation: the null must equal what the network's own rows give."""
    table = {
        "trajectory": {},
        "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 4, 6]}, "keep": [500, 25], **rows},
        "influence": {"threshold": True, "gaussian": {"sd": 0.25, "length_scale": 1.5, "correlation": "rbf"}},
    }
    running.run(definition(table, model="gaussian8", labels=[0]), into=store)
    found = fp.open(store)["measures/influence"].to_dataset().load()
    for name in ("radius", "radius_50", "radius_90", "above_mean"):
        np.testing.assert_allclose(
            found[f"{name}_gaussian"].values, found[name].values, rtol=1e-3, err_msg=name
        )
        assert found[f"{name}_gaussian"].dtype == found[name].dtype
    wrong = {**table, "influence": {"gaussian": {"sd": 0.25, "length_scale": 3.0, "correlation": "rbf"}}}
    running.run(definition(wrong, model="gaussian8", labels=[0]), into=store)
    other = fp.open(store)["measures/influence"]
    assert np.array_equal(other["radius"].values, found["radius"].values)
    assert not np.allclose(other["radius_gaussian"].values, found["radius"].values, rtol=0.1)


def _jacobian(tree, *, t, before):
    """c_x I + c_eps d eps / d x of the closed form, for one colour channel."""
    import torch

    from flowprofile.models import zoo
    from flowprofile.time.rules import coefficients, ddpm
    from flowprofile.time.schedule import linear

    denoiser = zoo.load("gaussian8")
    x = torch.tensor(tree["trajectory"]["x_t"].sel(time=before, label=0, seed=0, intervention="none").values)
    inner = denoiser.jacobian(x[None], torch.tensor([before - 1]), torch.tensor([0]))[0].numpy()
    factors = coefficients(ddpm, schedule=linear(), t_from=before, t_to=t)
    return factors.x * np.eye(len(inner)) + factors.eps * inner


def test_layer_gradients_sums_and_energies_come_from_stored_states(store):
    table = {
        "trajectory": {},
        "layer_gradients": {"layers": "*.2.fn", "mask": {"rectangle": [2, 2, 5, 5]}, "keep": [500, 100]},
        "gradient_channel": {"layers": "*.2.fn", "mask": {"rectangle": [2, 2, 5, 5]}, "keep": [500, 100]},
        "gradient_distance": {"layers": "*.2.fn", "mask": {"rectangle": [2, 2, 5, 5]}, "keep": [500, 100]},
        "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 5, 5]}, "keep": [500, 100]},
        "pull": {"use": "gradient_sum", "mask": {"rectangle": [2, 2, 5, 5]}, "keep": [500, 100]},
        "energy": {
            "use": "gradient_energy",
            "mask": {"rectangle": [2, 2, 5, 5]},
            "keep": [500, 100],
            "probes": 256,
        },
    }
    running.run(definition({"trajectory": {}}), into=store)
    outcome = running.run(definition(table), into=store)
    assert outcome.forwards == 4 * 2 * 4, "one for all layers together, one for each of the others"
    tree = fp.open(store)
    rows = tree["gradients/volume"]["gradient"]
    pull = tree["gradients/pull"]["gradient"]
    np.testing.assert_allclose(rows.sum("pixel").values, pull.values, atol=2e-5)
    exact = (rows**2).sum("pixel")
    energy = tree["gradients/energy"]["energy"]
    assert abs(energy.sum().item() / exact.sum().item() - 1) < 0.1
    gradient = tree["gradients/layer_gradients/ups.0.2.fn"]["gradient"]
    channel = tree["gradient_channel"]["channel"].sel(layer="ups.0.2.fn")
    assert np.array_equal(gradient.sum(["y", "x"]).argmax("channel").values, channel.values)
    step = gradient.sel(time=100) - gradient.sel(time=500)
    distance = tree["measures/gradient_distance"]["value"].sel(layer="ups.0.2.fn", time=100)
    np.testing.assert_allclose(
        np.sqrt((step.astype(float) ** 2).sum(["channel", "y", "x"])), distance, rtol=1e-5
    )


def test_an_activation_that_is_no_number_is_named_and_its_strongest_channel_is_minus_one(store):
    import torch

    class Broken(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Conv2d(1, 2, 1)
            self.side = torch.nn.Identity()

        def forward(self, x, index, label):
            self.side(torch.where(index[:, None, None, None] < 500, torch.nan, 1.0) * self.inner(x))
            return x * 0.1

    model = fp.denoiser(Broken(), (1, 8, 8))
    heard = []
    looks = {"trajectory": {}, "max_channel": {"layers": ["inner", "side"], "keep": "::10"}}
    running.run(definition(looks, model=model, labels=[0]), into=store, listen=heard.append)
    channel = fp.open(store)["max_channel"]["channel"].isel(intervention=0, label=0)
    assert (channel.sel(layer="side", time=slice(499, 0)) == -1).all()
    assert (channel.sel(layer="inner") >= 0).all()
    told = [event.text for event in heard if type(event).__name__ == "Noticed"]
    assert any("side" in text and "seed 0" in text and "t = 250" in text for text in told)
    with pytest.raises(NonFiniteError, match="activations/side") as refused:
        running.run(
            definition({"activations": {"layers": "side"}}, model=model, labels=[0]), into=f"{store}2"
        )
    assert "seed 0" in str(refused.value)
    assert "t = 475" in str(refused.value)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"activations": {"layers": "downs.9.fn"}}, ["downs.9.fn", "downs.0.2.fn"]),
        (
            {"volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 2, 4]}}},
            ["no pixel", "stages.volume"],
        ),
        ({"volume": {"use": "gradient_volume", "mask": {"rectangle": [0, 0, 9, 9]}}}, ["8"]),
        ({"volume": {"use": "gradient_volume", "mask": np.zeros((8, 8), bool)}}, ["no pixel"]),
        ({"volume": {"use": "gradient_volume", "mask": np.ones((4, 4), bool)}}, ["4", "8"]),
        ({"volume": {"use": "gradient_volume", "mask": np.ones((8, 8))}}, ["boolean"]),
        ({"max_channel": {"mask": "eyes"}}, ["region"]),
        ({"label_ssim": {"use": "ssim", "between": "labels", "window": 5}}, ["two labels"]),
        ({"activations": {"layers": []}}, ["empty list of layers", "stages.activations"]),
        ({"max_channel": {"layers": []}}, ["empty list of layers"]),
        ({"attention": {"layers": "init_conv"}}, ["'init_conv' is no attention branch", "channel_sums"]),
        ({"attention": {"layers": ["mid_attn.fn", "downs.0.0.net"], "residual": True}}, ["'downs.0.0.net' is no", "residual add"]),
        ({"attention": {"layers": "mid_attn", "residual": True}}, ["did you mean 'mid_attn.fn'"]),
        ({"rows": {"use": "gradient_volume", "mask": {"rectangle": [0, 0, 2, 2]}, "reduce": "none"},
          "influence": {"needs": ["rows"]}}, ["colour channels apart", "stages.influence", 'reduce = "sum"']),
        ({"rows": {"use": "gradient_volume", "mask": {"rectangle": [0, 0, 2, 2]}}, "one": {"use": "influence", "needs": ["rows"]},
          "two": {"use": "influence", "needs": ["one"]}}, ["'one' is no gradient volume"]),
        ({"max_channel": {"keep": "::100"}}, ["t = 1000, which is noise", "stages.max_channel"]),
    ],
)  # fmt: skip
def test_wrong_looks_are_refused_before_a_model_is_loaded(stages, words):
    with pytest.raises(DefinitionError) as refused:
        running.plan(definition(stages, labels=[3]))
    for word in words:
        assert word in str(refused.value)


def test_attention_is_looked_at_as_the_branch_or_as_the_sum_behind_it():
    def looked(**table):
        ready = running.assembled(definition({"attention": {"keep": [500], **table}}))
        return ready.graph.stages["attention"].params["layers"]

    assert looked(layers="mid_attn.fn") == ["mid_attn.fn"]
    assert looked(layers="mid_attn.fn", residual=True) == looked(layers="mid_attn") == ["mid_attn"]


def test_a_volume_over_the_budget_is_refused_with_its_bytes(store):
    table = {"volume": {"use": "gradient_volume", "mask": {"rectangle": [0, 0, 32, 32]}, "keep": "::1"}}
    with pytest.raises(BudgetError, match=r"MiB|GiB"):
        running.run(definition(table, model="faces32", labels=[6]), into=store, memory=600 << 20)


def test_a_formula_has_no_layers():
    with pytest.raises(DefinitionError, match="no layers"):
        running.plan(definition({"activations": {}}, model="gaussian8", labels=[0]))
