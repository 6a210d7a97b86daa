"""The two calls of a guided step on an axis: each is what it would be alone, and neither changes the other."""

import numpy as np
import pytest
import saved_folders
import torch
from torch import nn

import flowprofile as fp
from flowprofile import maps, running
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.kernels.attending import attended
from flowprofile.models import reductions, zoo
from flowprofile.models.numerics import settle
from flowprofile.models.sites import sites
from flowprofile.objects.probes import Attention
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import ddpm, x0_from_eps
from flowprofile.time.schedule import linear

HALVES = ["uncond", "cond"]
NULL, SCALE, LABELS = 10, 3.0, (3, 5)
KEEP = {"keep": "::8"}
LAYERS = ["mid_attn.fn", "ups.0.3"]
LOOKS = {
    "predicted_x0": KEEP,
    "activations": {"layers": ["mid_attn.fn", "final_conv"], **KEEP},
    "pooled": {"layers": "mid_attn.fn", **KEEP},
    "channel_sums": {"layers": "mid_attn.fn", **KEEP},
    "max_channel": {"layers": LAYERS, **KEEP},
    "attention": {"layers": "*.fn", **KEEP},
    "scaled": {"use": "attention", "layers": "*.fn", "normalise": "minmax", **KEEP},
    "layer_distance": {"layers": LAYERS, **KEEP},
    "attention_distance": {"layers": "*.fn", "between": "labels", **KEEP},
}
KEYS = {
    "trajectory": "588db1762d",
    "predicted_x0": "ae529b524f",
    "activations/mid_attn.fn": "69f8114ea3",
    "activations/final_conv": "330e2cb9b7",
    "pooled/mid_attn.fn": "8a4ddd4279",
    "channel_sums/mid_attn.fn": "c6afcd9ff0",
    "max_channel": "63ad84129d",
    "attention": "6752a675bb",
    "scaled": "413d9c42ee",
    "layer_distance.ups.0.3": "31c2955ecb",
    "layer_distance": "fe5bbdf086",
    "attention_distance": "e6591aed33",
}
"""Of the guided looks above, as they were before there was an axis."""


def of_both(looks):
    return {name: {**table, "guidance": HALVES} for name, table in looks.items()}


def definition(stages, *, model="digits", labels=LABELS, guidance_scale=SCALE, **more):
    return fp.Pipeline.model_validate({
        "model": model,
        "sampler": {"steps": 40, "guidance_scale": guidance_scale},
        "cases": {"seeds": "0:2", "labels": list(labels)},
        "stages": {"trajectory": {}, **stages},
        **more,
    })  # fmt: skip


def stored(url):
    """Every stored array by node and name, its axes beginning with those of the cases and time."""
    return {
        (node.path, str(name)): values.load()
        for node in fp.open(url).subtree
        for name, values in node.data_vars.items()
        if name != "status"
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The store of a guided run that is looked at in both halves while it samples."""
    store = str(tmp_path_factory.mktemp("halves") / "store")
    running.run(definition(of_both(LOOKS)), into=store)
    return store


def asked(t_from, t, store):
    """What plain hooks see of two calls with the states before t: by half, then by layer, [label and seed ...]."""
    settle()
    network, seen = zoo.load("digits"), {}
    x = fp.open(store)["trajectory"]["x_t"].isel(intervention=0).sel(time=t_from)
    x = x.transpose("label", "seed", ...).values.reshape(4, 1, 8, 8)
    x = torch.from_numpy(np.concatenate([x, x]))
    layers = [name for name in sites(network.card) if name.endswith(".fn") or name in (*LAYERS, "final_conv")]  # fmt: skip
    told = {"uncond": [NULL] * 8, "cond": [3, 3, 5, 5, 3, 3, 5, 5]}
    for half, labels in told.items():
        here = seen.setdefault(half, {})
        hooks = [
            network.module.get_submodule(name).register_forward_hook(
                lambda module, given, out, name=name, here=here: here.update({name: out[:4].clone()})
            )
            for name in layers
        ]
        with torch.no_grad():
            here["eps"] = network(x, torch.full((8,), t_from - 1), torch.tensor(labels))[:4]
        for hook in hooks:
            hook.remove()
    return x[:4], seen


def of_case(array, t):
    """[label and seed, half, ...] of a stored array at one state."""
    found = array.isel(intervention=0).sel(time=t).transpose("label", "seed", "guidance", ...)
    assert found.guidance.values.tolist() == HALVES
    return found.values.reshape(4, 2, *found.shape[3:])


def test_both_halves_are_what_plain_hooks_see_of_two_calls_bit_for_bit(both):
    tree, schedule = stored(both), linear()
    for t_from, t in ((825, 800), (225, 200), (25, 0)):
        x, seen = asked(t_from, t, both)
        for place, half in enumerate(HALVES):
            a = seen[half]
            branches = [out for name, out in a.items() if name.endswith(".fn")]
            wanted = {
                ("/activations/mid_attn.fn", "activation"): a["mid_attn.fn"],
                ("/activations/final_conv", "activation"): a["final_conv"],
                ("/pooled/mid_attn.fn", "activation"): reductions.pooled(a["mid_attn.fn"]),
                ("/channel_sums/mid_attn.fn", "activation"): reductions.channel_sum(a["mid_attn.fn"]),
                ("/attention", "map"): reductions.attention_map(branches, (8, 8)),
                ("/max_channel", "channel"): torch.stack(
                    [reductions.max_channel(a[name]) for name in LAYERS], 1
                ),
                ("/predicted_x0", "x0_hat"): x0_from_eps(x, a["eps"], schedule=schedule, t=t_from),
            }
            for key, value in wanted.items():
                assert np.array_equal(of_case(tree[key], t)[:, place], value.numpy()), (key, half, t)
        assert not torch.equal(seen["uncond"]["eps"], seen["cond"]["eps"])


def test_the_halves_recombine_into_the_step_that_was_taken(both):
    """digits predicts v: eps is sqrt(1 - abar) x + sqrt(abar) v, of each half."""
    tree, schedule = stored(both), linear()
    states = tree["/trajectory", "x_t"].isel(intervention=0).transpose("time", "label", "seed", ...)
    for t_from, t in ((825, 800), (225, 200)):
        x = torch.from_numpy(states.sel(time=t_from).values.reshape(4, 1, 8, 8))
        v = torch.from_numpy(of_case(tree["/activations/final_conv", "activation"], t))
        bar = np.float64(schedule.alpha_bar(t_from))
        eps = [np.float32(np.sqrt(1 - bar)) * x + np.float32(np.sqrt(bar)) * v[:, half] for half in range(2)]
        whole = SCALE * eps[1] - (SCALE - 1) * eps[0]
        z = torch.from_numpy(noise_batch([0, 1, 0, 1], t, (1, 8, 8)))
        after = ddpm(x, whole, z, schedule=schedule, t_from=t_from, t_to=t)
        assert np.array_equal(after.numpy(), states.sel(time=t).values.reshape(4, 1, 8, 8))
        image = of_case(tree["/predicted_x0", "x0_hat"], t)
        wanted = x0_from_eps(x, whole, schedule=schedule, t=t_from).numpy()
        found = SCALE * image[:, 1] - (SCALE - 1) * image[:, 0]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_fused_is_replayed_and_the_label_s_half_is_what_is_looked_at_without_an_axis(both, store):
    running.run(definition({}), into=store)
    outcome = running.run(definition(of_both(LOOKS)), into=store)
    assert outcome.forwards == 2 * 4 * 5, (
        "both halves of each looked-at step, shared by everything that looks"
    )
    first, second = stored(both), stored(store)
    assert set(first) == set(second)
    for key, values in first.items():
        assert np.array_equal(values.values, second[key].values), key
        assert np.isfinite(values.values).all(), key
    running.run(definition(LOOKS), into=f"{store}-plain")
    for key, values in stored(f"{store}-plain").items():
        assert "guidance" not in values.dims
        if key[0] == "/trajectory":
            assert np.array_equal(values.values, first[key].values), "looking changes no bit"
        elif key[0] != "/predicted_x0":  # without the axis it is what both halves give together
            assert np.array_equal(values.values, first[key].sel(guidance="cond").values), key


def test_keys_of_definitions_without_the_axis_are_what_they_were():
    def keys(looks):
        return running.assembled(definition(looks)).graph.keys

    plain, halved = keys(LOOKS), keys(of_both(LOOKS))
    assert {name: key[:10] for name, key in plain.items()} == KEYS
    assert plain["trajectory"] == halved["trajectory"]
    looks = [name for name in plain if name != "trajectory" and name in halved]
    assert looks
    assert all(plain[name] != halved[name] for name in looks)
    one, other = (
        keys({"pooled": {"layers": "mid_attn.fn", "guidance": order}}) for order in (HALVES, HALVES[::-1])
    )
    assert one == other, "an axis has an order of its own"


def test_a_half_is_selected_by_its_name(both):
    tree = fp.open(both)
    one = tree.profile.sel(guidance="uncond", time=800, label=3, seed=1)
    whole = tree["activations/mid_attn.fn"]["activation"].isel(intervention=0)
    found = one["activations/mid_attn.fn"]["activation"].isel(intervention=0)
    assert np.array_equal(found.values, whole.sel(guidance="uncond", time=800, label=3, seed=1).values)
    assert one["trajectory"]["x_t"].shape[-3:] == (1, 8, 8), "what has no halves is given whole"
    assert tree.profile.sel(guidance=["cond", "uncond"], objects="max_channel").guidance.values.tolist() == [
        "cond",
        "uncond",
    ]
    side_by_side = tree.profile.sel(guidance="cond", layer=["mid_attn.fn"], objects="activations/*")
    assert side_by_side.sizes["layer"] == 1
    with pytest.raises(DefinitionError, match="did you mean 'cond'"):
        tree.profile.sel(guidance="conditional")
    with pytest.raises(DefinitionError, match="'uncond' or 'cond'"):
        tree.profile.sel(guidance=1)
    with pytest.raises(DefinitionError, match="has guidances"):
        tree.profile.sel(guidance="cond", objects="trajectory")


def test_halves_are_drawn_apart_and_not_averaged(both):
    tree = fp.open(both)
    words = [
        text.get_text() for text in maps.maps(tree, ["attention"]).findobj(lambda a: hasattr(a, "get_text"))
    ]
    assert {"attention, uncond", "attention, cond"} <= set(words)
    assert maps.lined(tree["measures/layer_distance"].to_dataset())
    (legend,) = (axes.get_legend() for axes in maps.lines(tree, "measures/layer_distance").axes)
    named = [text.get_text() for text in legend.get_texts()]
    assert named == [f"{layer}, {half}" for half in HALVES for layer in LAYERS]
    with pytest.raises(DefinitionError, match="'measures/layer_distance' holds uncond and cond"):
        fp.compare(both, between={"label": LABELS}, measure="layer_distance")


@pytest.mark.parametrize(
    ("table", "more", "words"),
    [
        (
            {"guidance": HALVES},
            {"guidance_scale": 1.0},
            ["not guided", "stages.pooled", "set guidance_scale"],
        ),
        (
            {"guidance": ["cond"]},
            {"guidance_scale": 1.0, "model": "faces32"},
            ["not guided", "a model with a null label", "'faces32' has no null label"],
        ),
        ({"guidance": []}, {}, ["does not say which halves", "stages.pooled"]),
        ({"guidance": ["cond", "cond"]}, {}, ["does not say which halves"]),
        ({"guidance": ["conditional"]}, {}, ["'uncond'", "'cond'"]),
    ],
)
def test_what_has_no_halves_is_refused_before_a_model_is_loaded(table, more, words):
    with pytest.raises(DefinitionError) as refused:
        running.plan(definition({"pooled": {"layers": "mid_attn.fn", **table}}, **more))
    for word in words:
        assert word in str(refused.value)


def test_nobody_listens_in_a_half_that_nobody_asks_for():
    ready = running.assembled(definition({"pooled": {"layers": "mid_attn.fn"}}))
    watched = ready.context.watched()
    (name,) = watched.probes
    assert watched._listeners((name,), "uncond", 4) is None
    assert watched._listeners((name,), "cond", 4).modules.keys() == {"mid_attn.fn"}


def test_gradients_know_no_halves():
    table = {"gradient_sum": {"mask": {"rectangle": [2, 2, 4, 4]}, "guidance": HALVES}}
    with pytest.raises(DefinitionError, match="guidance"):
        running.plan(definition(table))


def test_an_ablation_acts_in_both_halves(store):
    change = {"off": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 7}}
    looks = {"activations": {"layers": "mid_attn.fn", "guidance": HALVES, **KEEP}}
    running.run(definition(looks, interventions=change), into=store)
    found = fp.open(store)["activations/mid_attn.fn"]["activation"].sel(channel=7)
    assert not found.isel(intervention=1).any()
    assert (found.isel(intervention=0) != 0).any(["y", "x"]).all()


class Told(nn.Module):
    """A small network that is told one of two labels, or none."""

    def __init__(self, labels=3):
        super().__init__()
        torch.manual_seed(4)
        self.label = nn.Embedding(labels, 4)
        self.early, self.late = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x, index, label):
        return self.late(torch.tanh(self.early(x) + self.label(label)[..., None, None]))


def test_a_live_network_with_a_null_label_is_guided_and_seen_in_both_halves(store):
    model = fp.denoiser(Told(), (1, 8, 8), classes=2, null_label=2)
    stages = {"activations": {"layers": ["early", "late"], "guidance": HALVES, "keep": [500]}}
    running.run(definition(stages, model=model, labels=[0, 1]), into=store)
    tree = fp.open(store)
    x = tree["trajectory"]["x_t"].isel(intervention=0).sel(time=525, label=1).transpose("seed", ...).values
    late = tree["activations/late"]["activation"].isel(intervention=0).sel(time=500, label=1)
    rows = torch.from_numpy(np.concatenate([x] * 4))
    for half, label in (("uncond", 2), ("cond", 1)):
        eps = model(rows, torch.full((8,), 524), torch.full((8,), label))[:2]
        assert np.array_equal(late.sel(guidance=half).transpose("seed", ...).values, eps.numpy())
    early = tree["activations/early"]["activation"]
    assert np.array_equal(early.sel(guidance="uncond").values, early.sel(guidance="cond").values), (
        "the label comes later"
    )
    with pytest.raises(ModelError, match="a real label"):
        fp.denoiser(Told(), (1, 8, 8), classes=3, null_label=2)
    with pytest.raises(DefinitionError, match="not a whole number"):
        fp.denoiser(Told(), (1, 8, 8), classes=2, null_label="none")
    with pytest.raises(DefinitionError, match=r"2 are given, and the null label 2"):
        fp.denoiser(Told(labels=2), (1, 8, 8), classes=2, null_label=2)


def test_the_strongest_channel_within_a_read_region_has_halves_too(store):
    class Face(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(5)
            self.label, self.inner = nn.Embedding(17, 3), nn.Conv2d(3, 6, 1)

        def forward(self, x, index, label):
            return 0.9 * x + 0.0 * self.inner(x + 5 * self.label(label)[..., None, None]).mean(
                1, keepdim=True
            )

    model = fp.denoiser(Face(), (3, 32, 32), classes=16, null_label=16, name="faces32")
    table = {"layers": "inner", "mask": "hair", "keep": [500]}
    stages = {"both": {"use": "max_channel", "guidance": HALVES, **table}, "max_channel": table}
    running.run(definition(stages, model=model, labels=[6]), into=store)
    tree = fp.open(store)
    halves, plain = tree["both"]["channel"], tree["max_channel"]["channel"]
    assert halves.dims[-2:] == ("guidance", "layer")
    assert np.array_equal(halves.sel(guidance="cond").values, plain.values)
    assert (halves.sel(guidance="uncond") != plain).any()
    assert (halves != -1).any()


PROMPT, NEGATIVE = "a cat", "a dog, a cat"
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


def test_the_halves_of_a_prompt_are_the_negative_prompt_s_and_its_own(tmp_path):
    model = saved_folders.folder("UNet2DConditionModel")
    stages = {
        "trajectory": {},
        "activations": {"layers": CROSS, "guidance": HALVES},
        "attention_maps": {"layers": CROSS, "heads": "each", "guidance": HALVES},
        "word_maps": {"guidance": HALVES},
    }
    sampler = {"rule": "DDIMScheduler", "steps": 2, "guidance_scale": 4.0, "negative_prompt": NEGATIVE}
    tree = fp.profile(
        str(model), seeds="0:2", labels=[PROMPT], into=tmp_path / "s", sampler=sampler, stages=stages
    )
    states = tree["trajectory"]["x_t"].isel(intervention=0, label=0).transpose("time", "seed", ...)
    t_from, t = states.time.values[:2].tolist()
    network = zoo.load(model, zoo.card(model))
    seen = {}
    for name in (CROSS, f"{CROSS}.to_q", f"{CROSS}.to_k"):
        network.module.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: seen.update({name: out[:2].clone()})
        )
    x = torch.from_numpy(np.concatenate([states.sel(time=t_from).values] * 4))
    told = torch.full((8,), int(tree["trajectory"].timestep.sel(time=t_from)))
    attends = sites(network.card, str(model))[CROSS].attends
    for half, text in (("uncond", NEGATIVE), ("cond", PROMPT)):
        with torch.no_grad():
            network(x, told, torch.full((8,), network.card.labels.parse(text)))
        chosen = {"guidance": half, "time": t}
        out = seen[CROSS].transpose(1, 2).reshape(2, -1, 8, 8)
        found = tree[f"activations/{CROSS}"]["activation"].isel(intervention=0, label=0).sel(**chosen)
        assert np.array_equal(found.transpose("seed", ...).values, out.numpy()), half
        q = seen[f"{CROSS}.to_q"].transpose(1, 2).reshape(2, -1, 8, 8)
        wanted = attended(Attention((attends,), heads=True), [q, seen[f"{CROSS}.to_k"]])
        found = tree[f"attention_maps/{CROSS}"]["attention"].isel(intervention=0, label=0).sel(**chosen)
        assert np.array_equal(found.transpose("seed", ...).values, wanted.numpy()), half
    words = tree["word_maps"]["attention"]
    assert words.dims[-4:] == ("guidance", "token", "y", "x")
    assert np.abs(words.sum("token").values - 1).max() <= 1e-5
    assert np.abs(words.sel(guidance="uncond") - words.sel(guidance="cond")).max() > 1e-4
    assert words.label.values.tolist() == [prompt_number(PROMPT)]
