"""Channels that an intervention leaves to each sample: the strongest, within a mask, or of a gradient."""

import numpy as np
import pytest
from changed_runs import definition, opened, state


@pytest.mark.parametrize("kept", ["::1", "::8"])
def test_a_sample_ablated_at_its_own_channel_is_the_one_ablated_at_that_number(store, kept):
    own = {"own": {"kind": "ablate", "layer": "mid_attn.fn", "channel": {"from": "max_channel", "time": 200}}}
    tree = opened(definition(own, trajectory={"keep": kept}), store)
    channels = tree["reference.sum"]["channel"].sel(intervention="none", time=200, layer="mid_attn.fn")
    for label in (3, 5):
        for seed in (0, 1):
            number = int(channels.sel(label=label, seed=seed))
            explicit = {"one": {"kind": "ablate", "layer": "mid_attn.fn", "channel": number}}
            other = opened(
                definition(explicit, seeds=[seed], labels=[label], trajectory={"keep": kept}),
                f"{store}{label}{seed}",
            )
            assert np.array_equal(
                state(tree, "zero mid_attn.fn[max_channel@200]", label, seed),
                state(other, f"zero mid_attn.fn[{number}]", label, seed),
            )


def test_a_strongest_channel_within_a_rectangle_is_looked_for_there_and_nowhere_else(store):
    mask = {"rectangle": [0, 0, 2, 2]}
    channel = {"from": "max_channel", "time": 200, "mask": mask}
    own = {"own": {"kind": "ablate", "layer": "*.fn", "channel": channel}}
    looked = {
        "within": {"use": "max_channel", "layers": "*.fn", "mask": mask, "keep": [200]},
        "anywhere": {"use": "max_channel", "layers": "*.fn", "keep": [200]},
    }
    tree = opened(definition(own, trajectory={}, **looked, seeds="0:4"), store)
    [reference] = [tree[node]["channel"] for node in tree.children if node.startswith("reference")]
    clean = {"intervention": "none", "time": 200}
    found = reference.sel(clean).values
    assert (found == tree["within"]["channel"].sel(clean).values).all()
    assert (found != tree["anywhere"]["channel"].sel(clean).values).any()


def test_a_sample_ablated_where_a_region_pulls_the_strongest_is_the_one_ablated_at_that_number(store):
    mask = {"rectangle": [2, 2, 6, 6]}
    pulled = {"from": "gradient_channel", "time": 200, "mask": mask}
    own = {"own": {"kind": "ablate", "layer": "mid_attn.fn", "channel": pulled}}
    stages = {
        "trajectory": {},
        "gradient_channel": {"layers": "mid_attn.fn", "mask": mask, "keep": [200]},
        "max_channel": {"layers": "mid_attn.fn", "keep": [200]},
    }
    tree = opened(definition(own, **stages), store)
    [name] = [name for name in tree.intervention.values.tolist() if "gradient_channel@200" in name]
    clean = {"intervention": "none", "time": 200, "layer": "mid_attn.fn"}
    numbers = tree["gradient_channel"]["channel"].sel(clean).load()
    [reference] = [tree[node]["channel"] for node in tree.children if node.startswith("reference.gradient")]
    assert (reference.sel(clean).load() == numbers).all()
    strongest = tree["max_channel"]["channel"].sel(clean).load()
    assert (strongest != numbers).any(), "another one than the strongest activation"
    for label in (3, 5):
        number = int(numbers.sel(label=label, seed=1))
        explicit = {"one": {"kind": "ablate", "layer": "mid_attn.fn", "channel": number}}
        other = opened(definition(explicit, seeds=[1], labels=[label]), f"{store}{label}")
        assert np.array_equal(
            state(tree, name, label, 1), state(other, f"zero mid_attn.fn[{number}]", label, 1)
        )
