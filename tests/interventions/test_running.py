"""Interventions end to end: what a changed run has to do with the clean one, counted and compared bit by bit."""

import numpy as np
import pytest
import torch
from changed_runs import definition, opened, state

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError


def test_a_switch_at_the_first_step_is_the_new_label_and_each_later_one_parts_where_it_begins(store):
    table = {"sw": {"kind": "switch", "at": [975, 500, 0], "to": 5}}
    tree = opened(definition(table), store)
    for seed in (0, 1):
        assert np.array_equal(state(tree, "switch@975->5", 3, seed), state(tree, "none", 5, seed))
        shared = [t for t in tree["trajectory"].time.values.tolist() if t > 500]
        for t in shared:
            assert np.array_equal(state(tree, "switch@500->5", 3, seed, t), state(tree, "none", 3, seed, t))
        assert not np.array_equal(
            state(tree, "switch@500->5", 3, seed, 500), state(tree, "none", 3, seed, 500)
        )
    status = tree["trajectory"]["status"].sel(intervention="switch@500->5", time=0)
    assert status.sel(label=5).values.tolist() == [0, 0], "nothing to switch for label 5 itself"


def test_an_idle_part_does_not_keep_the_others_from_acting(store):
    idle = {"kind": "switch", "at": 500, "to": 5}
    ablate = {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3}
    tree = opened(
        definition({"all": {"kind": "all", "parts": [ablate, idle]}, "one": ablate}, steps=20), store
    )
    both = next(name for name in tree.intervention.values.tolist() if " + " in name)
    for seed in (0, 1):
        whole = state(tree, both, 5, seed)
        assert np.array_equal(whole, state(tree, "zero mid_attn.fn[3]", 5, seed)), (
            "for label 5 it is the ablation"
        )
        assert not np.array_equal(whole, state(tree, "none", 5, seed))
        assert not np.array_equal(state(tree, both, 3, seed), state(tree, "zero mid_attn.fn[3]", 3, seed))
    assert (tree["trajectory"]["status"] == 2).all()


def test_a_patch_from_the_own_run_undoes_what_an_ablation_before_it_did(store):
    parts = [
        {"kind": "ablate", "layer": "init_conv", "channel": 1},
        {"kind": "patch", "layers": "final_conv", "from": {"label": 5}},
    ]
    tree = opened(definition({"undone": {"kind": "all", "parts": parts}}, steps=20), store)
    both = next(name for name in tree.intervention.values.tolist() if " + " in name)
    for seed in (0, 1):
        assert np.array_equal(state(tree, both, 5, seed), state(tree, "none", 5, seed)), (
            "eps is the clean run's"
        )
        assert np.array_equal(state(tree, both, 3, seed), state(tree, "none", 5, seed))


@pytest.mark.parametrize(
    "stage",
    [
        {"use": "ssim", "between": "clean", "window": 5},
        {"use": "change", "mask": {"rectangle": [0, 0, 2, 2]}},
    ],
)
def test_nothing_is_compared_with_clean_runs_where_all_runs_are_clean(stage):
    with pytest.raises(DefinitionError, match=r"the pipeline has none .*stages\.compared"):
        running.plan(definition({}, compared=stage))
    table = {"one": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3}}
    running.plan(definition(table, compared=stage))


def test_the_change_outside_of_the_whole_image_is_refused_before_anything_is_sampled():
    table = {"one": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3}}
    whole = {"use": "change", "mask": {"rectangle": [0, 0, 8, 8]}}
    with pytest.raises(DefinitionError, match=r"is the whole image .*stages\.change"):
        running.plan(definition(table, change=whole))
    read = {"use": "change", "mask": {"region": "eyes", "read": True}}
    with pytest.raises(DefinitionError, match="Inside and outside are the same two sets"):
        running.plan(definition(table, model="faces32", labels=[6], change=read))


def test_switches_cost_the_branched_minimum(store):
    ten = list(range(900, -1, -100))
    table = {"sw": {"kind": "switch", "at": ten, "to": 5}}
    plan = running.plan(
        definition(table, steps=1000, seeds=[0], labels=[3], trajectory={"keep": "::50"})
    ).plan
    assert plan.forwards == 1000 + sum(at + 1 for at in ten) == 1000 + 4510, "about half of ten full runs"
    outcome = running.run(
        definition(table, steps=40, seeds=[0], labels=[3], trajectory={"keep": "::5"}), into=store
    )
    assert outcome.forwards == 40 + sum(at // 25 + 1 for at in ten)


def test_patching_every_layer_from_another_label_reproduces_that_label(store):
    table = {"all": {"kind": "patch", "layers": "*", "from": {"label": 5}}}
    tree = opened(definition(table), store)
    name = next(str(name) for name in tree.intervention.values if str(name).startswith("patch"))
    for seed in (0, 1):
        for t in (975, 500, 0):
            assert np.array_equal(state(tree, name, 3, seed, t), state(tree, "none", 5, seed, t))
        assert not np.array_equal(state(tree, "none", 3, seed), state(tree, "none", 5, seed))


class Echo(torch.nn.Module):
    """All that it knows of x passes one module, which it calls twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = (torch.nn.Conv2d(*ends, 3, padding=1) for ends in ((1, 4), (4, 1)))
        self.inner = torch.nn.Conv2d(4, 4, 1)

    def forward(self, x, index, label):
        once = self.inner(self.first(x) + label.view(-1, 1, 1, 1))
        return self.last(torch.tanh(once) + self.inner(torch.tanh(once)))


def test_each_firing_of_a_patched_layer_is_the_donors_same_firing(store):
    """Patched at both firings, the step is the donor's own, since both begin at the same noise."""
    model = fp.denoiser(Echo(), (1, 8, 8), classes=2)
    table = {"p": {"kind": "patch", "layers": "inner", "from": {"label": 1}, "time": [900, 900]}}
    tree = opened(definition(table, model=model, steps=10, labels=[0, 1], trajectory={}), store)
    name = next(str(name) for name in tree.intervention.values if str(name).startswith("patch"))
    for seed in (0, 1):
        patched = state(tree, name, 0, seed, 900)
        assert np.array_equal(patched, state(tree, "none", 1, seed, 900))
        assert not np.array_equal(patched, state(tree, "none", 0, seed, 900))


def test_a_mask_that_is_a_name_only_is_refused_with_the_table_that_gives_its_pixels(store):
    def with_mask(intervention):
        return definition({"a": intervention}, steps=4, labels=[3])

    value = fp.Ablation("mid_attn.fn", (3,), mask="eyes")
    with pytest.raises(
        DefinitionError, match=r"mask 'eyes', which nobody gave(.|\n)*\"mask\": a boolean array"
    ):
        running.plan(with_mask(value))
    with pytest.raises(DefinitionError, match="which nobody gave"):
        running.plan(with_mask(fp.Intervention((value, fp.Switch(500, 5)))))
    pixels = {"kind": "ablate", "layer": "mid_attn.fn", "channel": [3], "mask": np.eye(8, dtype=bool)}
    assert running.run(with_mask(pixels), into=store).forwards == 2 * 2 * 4


def test_an_intervention_has_the_same_bits_alone_among_others_and_added_later(store):
    one = {"one": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3, "time": [600, 0]}}
    more = {
        **one,
        "other": {"kind": "ablate", "layer": "downs.0.2.fn", "channel": [1, 2], "value": "mean"},
        "scaled": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3, "value": {"scale": -2.0}},
    }
    stages = {"trajectory": {}, "activations": {"layers": "mid_attn.fn", "keep": "::10"}}
    together = opened(definition(more, **stages), store)
    alone = opened(definition(one, **stages), f"{store}-alone")
    later = f"{store}-later"
    running.run(definition({}, **stages), into=later)
    grown = running.run(definition(more, **stages), into=later)
    assert grown.forwards == 4 * (25 + 40 + 40), "each from where it begins; the clean runs are there"
    name = "zero mid_attn.fn[3] t<=600"
    for node, variable in (("trajectory", "x_t"), ("activations/mid_attn.fn", "activation")):
        first = together[node][variable].sel(intervention=name).values
        assert np.isfinite(first).all()
        assert np.array_equal(first, alone[node][variable].sel(intervention=name).values)
        assert np.array_equal(first, fp.open(later)[node][variable].sel(intervention=name).values)
    seen = together["activations/mid_attn.fn"]["activation"].sel(intervention=name)
    assert not seen.sel(time=slice(600, 0), channel=3).values.any(), (
        "a tap sees what the rest of the network gets"
    )


def test_steering_by_the_difference_of_two_labels_adds_exactly_that_vector(store):
    layer, time = "mid_attn.fn", 500
    difference = {"from": "difference", "plus": [5], "minus": [3], "time": time, "seeds": "0:2"}
    table = {
        "towards": {"kind": "steer", "layer": layer, "vector": difference, "scale": 2.0, "time": [400, 0]}
    }
    tree = opened(definition(table), store)
    name = next(str(name) for name in tree.intervention.values if str(name).startswith("steer"))
    pooled = tree[f"steering/{layer}"]["activation"].sel(intervention="none", time=time).astype("float64")
    vector = (pooled.sel(label=5).mean("seed") - pooled.sel(label=3).mean("seed")).astype("float32")
    explicit = {
        "same": {
            "kind": "steer",
            "layer": layer,
            "vector": vector.values.tolist(),
            "scale": 2.0,
            "time": [400, 0],
        }
    }
    other = opened(definition(explicit), f"{store}-explicit")
    same = next(str(name) for name in other.intervention.values if str(name).startswith("steer"))
    for seed in (0, 1):
        assert np.array_equal(state(tree, name, 3, seed), state(other, same, 3, seed))
        assert not np.array_equal(state(tree, name, 3, seed), state(tree, "none", 3, seed))
    assert running.run(definition(table), into=store).regions == 0


def test_a_donor_may_have_another_seed(store):
    table = {"all": {"kind": "patch", "layers": "final_conv", "from": {"seed": 1}}}
    tree = opened(definition(table, seeds="0:9", labels=[3], steps=10), store)
    name = next(str(name) for name in tree.intervention.values if str(name).startswith("patch"))
    assert np.array_equal(state(tree, name, 3, 1), state(tree, "none", 3, 1))
    assert not np.array_equal(state(tree, name, 3, 8), state(tree, "none", 3, 8))
    alone = opened(definition(table, seeds=[1, 8], labels=[3], steps=10), f"{store}-alone")
    assert np.array_equal(state(tree, name, 3, 8), state(alone, name, 3, 8))


def test_the_axis_can_be_searched_by_what_was_done(store):
    table = {
        "random": {"kind": "ablate", "layer": "mid_attn.fn", "channel": {"from": "random", "n": 3}},
        "sw": {"kind": "switch", "at": 500, "to": 5, "labels": [3]},
    }
    tree = opened(definition(table, steps=4), store)
    data = tree["trajectory"].to_dataset()
    assert data.where(data.kind == "zero", drop=True).sizes["intervention"] == 3
    assert set(data.title.values.tolist()) == {"none", "random", "sw"}
    renamed = {"control": table["random"], "sw": table["sw"]}
    assert running.run(definition(renamed, steps=4), into=store).forwards == 0, "a title is not its identity"
    running.run(definition({**renamed, "late": {"kind": "switch", "at": 0, "to": 5}}, steps=4), into=store)
    assert set(fp.open(store).title.values.tolist()) == {"none", "random", "sw", "late"}
    assert data.switch_step.sel(intervention="switch@500->5").item() == 500


def test_similarity_to_the_unablated_sample_is_one_until_the_intervention_begins(store):
    table = {
        "one": {
            "kind": "ablate",
            "layer": "mid_attn.fn",
            "channel": 3,
            "time": [500, 0],
            "value": {"scale": 9.0},
        }
    }
    tree = opened(
        definition(
            table,
            trajectory={"keep": "::20"},
            similar={"use": "ssim", "between": "clean", "window": 5, "keep": "::1"},
        ),
        store,
    )
    curve = tree["measures/similar"].sel(intervention=tree.intervention.values[1])
    assert (curve["value"].sel(time=slice(1000, 525)) == 1.0).all()
    assert (curve["value"].sel(time=0) < 1.0).all()
    assert np.isfinite(curve["null"]).all()
    status = tree["measures/similar"]["status"].sel(intervention="none")
    assert not status.any(), "a clean run is not compared with itself"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "ablate", "layer": "mid_atn.fn", "channel": 0}, ["mid_atn.fn", "mid_attn.fn"]),
        ({"kind": "ablate", "layer": "mid_attn.fn", "channel": 431}, ["32 channels", "431"]),
        ({"kind": "switch", "at": 600, "to": 3, "labels": [3]}, ["A switch to the same label changes nothing"]),
        ({"kind": "steer", "layer": "mid_attn.fn", "vector": [0.0] * 32}, ["a vector of zeros"]),
        ({"kind": "switch", "at": 1000, "to": 5}, ["outside 0 .. 999"]),
        ({"kind": "ablate", "layer": "mid_attn.fn", "channel": 0, "time": [100, 400]}, ["counts down"]),
        ({"kind": "ablat", "layer": "mid_attn.fn", "channel": 0}, ["did you mean 'ablate'"]),
        ({"kind": "ablate", "layer": "mid_attn.fn", "channel": 0, "chanel": 0}, ["chanel", "'channel'"]),
        ({"kind": "ablate", "layer": "mid_attn.fn", "channel": {"from": "random", "n": 99}}, ["which has 32"]),
        ({"kind": "patch", "layers": "*", "from": {}}, ["no donor"]),
        (
            {"kind": "all", "parts": [
                {"kind": "ablate", "layer": "mid_attn.fn", "channel": 0, "value": "mean"},
                {"kind": "ablate", "layer": "mid_attn.fn", "channel": 0},
            ]},
            ["do not commute"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_before_a_model_is_loaded(table, words):
    with pytest.raises(DefinitionError) as refused:
        running.plan(definition({"wrong": table}))
    for word in words:
        assert word in str(refused.value)


def test_gradients_and_activations_are_of_the_run_that_was_changed(store):
    look = {
        "trajectory": {},
        "activations": {"layers": "mid_attn.fn", "keep": "::8"},
        "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 4, 4]}, "keep": "::8"},
        "layer_gradients": {"layers": "mid_attn.fn", "mask": {"rectangle": [2, 2, 4, 4]}, "keep": "::8"},
        "max_channel": {"layers": "*", "keep": "::8"},
    }
    table = {
        "sw": {"kind": "switch", "at": 975, "to": 5},
        "ab": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3},
    }
    tree = opened(definition(table, **look), store)
    for node, name in (
        ("activations/mid_attn.fn", "activation"),
        ("gradients/volume", "gradient"),
        ("gradients/layer_gradients/mid_attn.fn", "gradient"),
        ("max_channel", "channel"),
    ):
        values = tree[node][name]
        switched, new = (
            values.sel(intervention="switch@975->5", label=3),
            values.sel(intervention="none", label=5),
        )
        assert np.array_equal(switched.values, new.values), node
        ablated = values.sel(intervention="zero mid_attn.fn[3]")
        changed = not np.array_equal(ablated.values, values.sel(intervention="none").values)
        assert changed or node == "max_channel", node


def test_a_patch_from_the_own_run_is_refused_in_its_own_words():
    table = {"p": {"kind": "patch", "layers": "mid_attn.fn", "from": {"label": 3}}}
    with pytest.raises(
        DefinitionError, match=r"A patch from the own run changes nothing.*interventions\.p"
    ) as refused:
        running.plan(definition(table, labels=[3]))
    assert "another label or seed" in refused.value.remedy
    running.plan(definition(table, labels=[3, 5]))


def test_guidance_away_from_the_label_is_refused():
    with pytest.raises((DefinitionError, ValueError), match="greater than or equal to 0"):
        definition({}, sampler={"guidance_scale": -3.0})
    running.plan(definition({}, sampler={"guidance_scale": 0.0}))


def test_a_patch_under_guidance_is_refused():
    table = {"p": {"kind": "patch", "layers": "*", "from": {"label": 5}}}
    with pytest.raises(DefinitionError, match="under guidance"):
        running.plan(definition(table, sampler={"guidance_scale": 2.0}))
    running.plan(
        definition(
            {"a": {"kind": "ablate", "layer": "*.2.fn", "channel": 0}}, sampler={"guidance_scale": 2.0}
        )
    )


class Cut(Exception):
    """The run was cut off."""


@pytest.mark.parametrize("after", [1, 6, 15, 23])
def test_a_run_cut_off_anywhere_ends_in_the_same_bytes(tmp_path, after):
    table = {
        "own": {"kind": "ablate", "layer": "*.2.fn", "channel": {"from": "max_channel", "time": 200}},
        "sw": {"kind": "switch", "at": [500, 0], "to": 5},
        "p": {"kind": "patch", "layers": "mid_attn.fn", "from": {"label": 5}, "time": [600, 300]},
    }
    stages = {
        "trajectory": {"keep": "::8"},
        "activations": {"layers": "mid_attn.fn", "keep": "::8"},
        "to_clean": {"use": "ssim", "between": "clean", "window": 5, "keep": "::8"},
        "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 4, 4]}, "keep": "::20"},
    }
    pipeline = definition(table, steps=20, **stages)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    regions = running.run(pipeline, into=whole).regions
    assert regions > after
    seen = 0

    def listen(event):
        nonlocal seen
        seen += type(event).__name__ == "Committed"
        if seen == after:
            raise Cut

    with pytest.raises(Cut):
        running.run(pipeline, into=cut, listen=listen)
    running.run(pipeline, into=cut)
    assert running.run(pipeline, into=cut).regions == 0
    for part in ("profile.zarr", "ledger/receipts"):
        files = sorted(path.relative_to(whole) for path in (whole / part).rglob("*") if path.is_file())
        assert files == sorted(path.relative_to(cut) for path in (cut / part).rglob("*") if path.is_file())
        if part == "profile.zarr":
            assert all((whole / name).read_bytes() == (cut / name).read_bytes() for name in files)


def test_gradients_of_a_patched_run_are_had_at_few_states(store):
    """The steps between the wanted ones are history only: nothing of the donor is asked for there."""
    table = {"p": {"kind": "patch", "layers": "mid_attn.fn", "from": {"label": 5}, "time": [600, 300]}}
    gradients = {"layers": ["ups.0.2.fn"], "mask": {"rectangle": [0, 0, 2, 2]}, "keep": "::2"}
    tree = opened(definition(table, steps=20, layer_gradients=gradients), store)
    patched = next(name for name in tree.intervention.values.tolist() if name.startswith("patch"))
    values = next(
        node for node in tree.subtree if "layer_gradients" in node.path and "gradient" in node.data_vars
    )
    found = values["gradient"].sel(intervention=patched, label=3)
    assert values.sizes["time"] == 10
    assert np.isfinite(found.values).all()
