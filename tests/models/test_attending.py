"""Attention probabilities beside the fused kernel: equal to those written out, and adding up."""

import numpy as np
import pytest
import saved_folders
import torch
from diffusers.models.attention_processor import AttnProcessor

import flowprofile as fp
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import zoo
from flowprofile.models.sites import sites

CAT, PETS = "a cat", "a dog, a cat"
SAMPLER = {"rule": "scheduler", "steps": 4}


@pytest.fixture(scope="module")
def model():
    return saved_folders.folder("UNet2DConditionModel")


@pytest.fixture(scope="module")
def tree(model, tmp_path_factory):
    stages = {
        "trajectory": {},
        "attention_maps": {"heads": "each", "layers": ["*.attn2"]},
        "own": {"use": "attention_maps", "layers": ["down_blocks.0.attentions.0.transformer_blocks.0.attn1"]},
        "word_maps": {},
    }
    into = tmp_path_factory.mktemp("attention") / "store"
    return fp.profile(str(model), seeds="0:2", labels=[CAT, PETS], into=into, sampler=SAMPLER, stages=stages)


class WrittenOut(AttnProcessor):
    """diffusers' processor without fusion, which keeps the probabilities that it multiplies with."""

    def __init__(self, kept, name):
        super().__init__()
        self.kept, self.name = kept, name

    def __call__(self, attn, *given, **how):
        scores = attn.get_attention_scores

        def noted(*given):
            found = scores(*given)
            self.kept[self.name] = found.unflatten(0, (-1, attn.heads)).clone()
            return found

        attn.get_attention_scores = noted
        try:
            return super().__call__(attn, *given, **how)
        finally:
            del attn.get_attention_scores


def written_out(model, tree, label, t_from):
    """Probabilities of every attention module, [seed head query key], by unfused arithmetic at one state."""
    kept, states = {}, tree["trajectory"]["x_t"].isel(intervention=0)
    denoiser = zoo.load(model, zoo.card(model))
    number = denoiser.card.labels.parse(label)
    for name, module in denoiser.module.named_modules():
        if name.endswith((".attn1", ".attn2")):
            module.set_processor(WrittenOut(kept, name))
    x = torch.from_numpy(states.sel(label=prompt_number(label), time=t_from).transpose("seed", ...).values)
    told = torch.full((2,), int(tree["trajectory"].timestep.sel(time=t_from)))
    denoiser(x, told, torch.full((2,), number))
    return kept


def test_maps_are_the_probabilities_written_out(model, tree):
    times = tree["trajectory"].time.values.tolist()
    for label, (t_from, t) in ((CAT, times[:2]), (PETS, times[3:5])):
        kept = written_out(model, tree, label, t_from)
        for layer, node in tree["attention_maps"].children.items():
            found = node["attention"].isel(intervention=0).sel(label=prompt_number(label), time=t)
            found = found.transpose("seed", "head", "y", "x", "token").values
            wanted = kept[layer].numpy().reshape(found.shape)
            assert np.abs(found - wanted).max() <= 1e-5
        own = tree["own/down_blocks.0.attentions.0.transformer_blocks.0.attn1"]["attention"].isel(
            intervention=0
        )
        own = own.sel(label=prompt_number(label), time=t).transpose("seed", "y", "x", "token").values
        wanted = (
            kept["down_blocks.0.attentions.0.transformer_blocks.0.attn1"].mean(1).numpy().reshape(own.shape)
        )
        assert np.abs(own - wanted).max() <= 1e-5
    # The wrong step is told apart: these are not the same numbers at every step.
    apart = np.abs(found - tree["attention_maps"][layer]["attention"].isel(intervention=0).sel(
        label=prompt_number(label), time=times[1]).transpose("seed", "head", "y", "x", "token").values)  # fmt: skip
    assert apart.max() > 1e-4


def resized(maps):
    """On 8 x 8 places, bilinearly."""
    flat = torch.from_numpy(maps.values.reshape(-1, 1, *maps.shape[-2:]))
    return (
        torch.nn.functional.interpolate(flat, size=(8, 8), mode="bilinear")
        .numpy()
        .reshape(*maps.shape[:-2], 8, 8)
    )


def test_rows_sum_to_one_and_heads_and_layers_to_the_words(tree):
    layers = tree["attention_maps"].children
    for node in (
        *layers.values(),
        tree["own/down_blocks.0.attentions.0.transformer_blocks.0.attn1"],
        tree["word_maps"],
    ):
        assert np.abs(node["attention"].sum("token").values - 1).max() <= 1e-5
    words = tree["word_maps"]["attention"]
    assert words.sizes["y"] == words.sizes["x"] == 8
    assert {node.sizes["y"] for node in layers.values()} == {4, 8}
    total = np.mean([resized(node["attention"].mean("head")) for node in layers.values()], axis=0)
    assert np.abs(total - words.values).max() <= 1e-5
    per_step = sum(words.sel(time=t).values for t in words.time.values)
    assert np.abs(per_step - words.sum("time").values).max() <= 1e-5


def test_the_tokens_of_a_prompt_have_names(model, tree):
    words = fp.tokens(model, PETS)
    assert words[:6] == ["<|startoftext|>", "a</w>", "dog</w>", ",</w>", "a</w>", "cat</w>"]
    assert len(words) == tree["word_maps"].sizes["token"]
    with pytest.raises(ModelError, match="no tokenizer"):
        fp.tokens(saved_folders.folder("UNet2DModel"), PETS)


def test_looking_leaves_the_states_as_they_are(model, tree, tmp_path):
    bare = fp.profile(str(model), seeds="0:2", labels=[CAT, PETS], into=tmp_path / "s", sampler=SAMPLER,
                      stages={"trajectory": {}})  # fmt: skip
    assert bare["trajectory"]["x_t"].values.tobytes() == tree["trajectory"]["x_t"].values.tobytes()


def test_self_attention_of_a_transformer_and_of_a_unet_are_known_too(tmp_path):
    for family, layer, keys in (
        ("DiTTransformer2DModel", "*.attn1", 16),
        ("UNet2DModel", "mid_block.attentions.0", 64),
    ):
        path = saved_folders.folder(family)
        tree = fp.profile(str(path), seeds="0:1", labels=[0], into=tmp_path / family, sampler={"steps": 2},
                          stages={"trajectory": {}, "attention_maps": {"layers": layer}})  # fmt: skip
        for node in tree["attention_maps"].children.values():
            assert node.sizes["token"] == keys
            assert np.abs(node["attention"].sum("token").values - 1).max() <= 1e-5


def test_what_has_no_such_weights_is_refused(model, tmp_path):
    def asked(model, **stages):
        return fp.profile(str(model), seeds="0:1", labels=[CAT] if model != "digits" else [0], into=tmp_path / "s",
                          sampler={"steps": 2}, stages=stages)  # fmt: skip

    with pytest.raises(DefinitionError, match="sums the outputs"):
        asked("digits", attention_maps={"layers": "mid_attn.fn"})
    with pytest.raises(DefinitionError, match="no attention with queries"):
        asked(model, attention_maps={"layers": "mid_block"})
    with pytest.raises(DefinitionError, match="attends to the picture"):
        asked(model, word_maps={"layers": "*.attn1"})
    assert sites(zoo.card("digits"), "digits")["mid_attn.fn"].attends is None
