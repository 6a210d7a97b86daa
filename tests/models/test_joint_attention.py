"""Attention of picture and text in one softmax: probabilities beside the fused kernel, equal to those written out."""

import numpy as np
import pytest
import saved_transformers
import torch
from diffusers.models.embeddings import apply_rotary_emb

import flowprofile as fp
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError
from flowprofile.models import zoo

CAT, PETS = "a cat", "a dog, a cat"
SAMPLER = {"rule": "scheduler", "steps": 3, "guidance_scale": 2.0}
PICTURE, TEXT = 16, 16 + 256
OLDER, NEWER = {}, {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}


@pytest.fixture(scope="module", params=[OLDER, NEWER], ids=["3", "3.5"])
def model(request):
    return saved_transformers.folder("sd3", **request.param)


@pytest.fixture(scope="module")
def tree(model, tmp_path_factory):
    newer = zoo.card(model).config["dual_attention_layers"]
    stages = {
        "trajectory": {},
        "attention_maps": {"heads": "each", "layers": "*.attn"},
        "word_maps": {"layers": "*.attn"},
        **({"own": {"use": "attention_maps", "layers": "*.attn2"}} if newer else {}),
    }
    into = tmp_path_factory.mktemp("joint") / "store"
    return fp.profile(str(model), seeds="0:2", labels=[CAT, PETS], into=into, sampler=SAMPLER, stages=stages)


class WrittenOut:
    """Joint attention by matrix products, which keeps the probabilities that it multiplies with."""

    def __init__(self, kept, name):
        self.kept, self.name = kept, name

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        def by_head(tokens, project, norm):
            heads = project(tokens).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            return heads if norm is None else norm(heads)

        q, k, v = (by_head(hidden_states, project, norm) for project, norm in (
            (attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v, None)))  # fmt: skip
        if encoder_hidden_states is not None:
            q, k, v = (torch.cat([own, by_head(encoder_hidden_states, project, norm)], dim=2)
                       for own, project, norm in ((q, attn.add_q_proj, attn.norm_added_q),
                       (k, attn.add_k_proj, attn.norm_added_k), (v, attn.add_v_proj, None)))  # fmt: skip
        scores = q @ k.transpose(2, 3) / np.sqrt(q.shape[-1])
        shares = torch.exp(scores - scores.amax(-1, keepdim=True))
        shares = shares / shares.sum(-1, keepdim=True)
        places = hidden_states.shape[1]
        self.kept[self.name] = shares[:, :, :places].clone()
        out = (shares @ v).transpose(1, 2).flatten(2)
        mine = attn.to_out[0](out[:, :places])
        if encoder_hidden_states is None:
            return mine
        words = out[:, places:]
        return mine, words if attn.context_pre_only else attn.to_add_out(words)


def written_out(model, tree, label, t_from):
    """Shares of every attention module, [seed head query key], at one state; and the velocity with and without."""
    kept, states = {}, tree["trajectory"]["x_t"].isel(intervention=0)
    denoiser = zoo.load(model, zoo.card(model))
    number = denoiser.card.labels.parse(label)
    x = torch.from_numpy(states.sel(label=prompt_number(label), time=t_from).transpose("seed", ...).values)
    told = tree["trajectory"].timestep.sel(time=t_from).item()
    call = (x, torch.tensor([told, told]), torch.tensor([number, number]))
    fused = denoiser._predicted(*call)
    for name, module in denoiser.module.named_modules():
        if name.endswith((".attn", ".attn2")):
            module.set_processor(WrittenOut(kept, name))
    assert torch.allclose(denoiser._predicted(*call), fused, atol=1e-5)
    return kept


def test_maps_are_the_probabilities_written_out_and_rows_sum_to_one(model, tree):
    times = tree["trajectory"].time.values.tolist()
    for label, (t_from, t) in ((CAT, times[:2]), (PETS, times[1:3])):
        kept, at = written_out(model, tree, label, t_from), {"label": prompt_number(label), "time": t}
        for layer, node in tree["attention_maps"].children.items():
            found = node["attention"].isel(intervention=0).sel(at)
            assert found.sizes["token"] == PICTURE + TEXT
            assert np.abs(found.sum("token") - 1).max() <= 1e-5
            found = found.transpose("seed", "head", "y", "x", "token").values
            assert np.abs(found - kept[layer].numpy().reshape(found.shape)).max() <= 1e-5
            assert "a text's behind them" in node["attention"].attrs["of"]
        if "own" in tree.children:
            (layer,) = tree["own"].children
            found = tree[f"own/{layer}"]["attention"].isel(intervention=0).sel(at)
            found = found.transpose("seed", "y", "x", "token").values
            assert found.shape[-1] == PICTURE
            assert np.abs(found - kept[layer].mean(1).numpy().reshape(found.shape)).max() <= 1e-5
    # The wrong step is told apart.
    other = tree["attention_maps"].children["transformer_blocks.0.attn"]["attention"].isel(intervention=0)
    assert np.abs(other.sel(time=times[1]).values - other.sel(time=times[2]).values).max() > 1e-4


def test_maps_of_words_are_the_share_that_does_not_go_to_the_picture(tree):
    words = tree["word_maps"]["attention"]
    assert words.sizes["token"] == TEXT
    layers = [node["attention"].mean("head") for node in tree["attention_maps"].children.values()]
    picture = np.mean([one.isel(token=slice(0, PICTURE)).sum("token").values for one in layers], axis=0)
    # Twice as high and wide, a map keeps its mean.
    both = words.sum("token").mean(["y", "x"]).values + picture.mean(axis=(-2, -1))
    assert np.abs(both - 1).max() <= 1e-5
    assert "the rest of one going to the picture" in words.attrs["long_name"]
    assert 0.05 < words.sum("token").values.mean() < 1


def test_looking_leaves_the_states_as_they_are(model, tree, tmp_path):
    bare = fp.profile(str(model), seeds="0:2", labels=[CAT, PETS], into=tmp_path / "s", sampler=SAMPLER,
                      stages={"trajectory": {}})  # fmt: skip
    assert bare["trajectory"]["x_t"].values.tobytes() == tree["trajectory"]["x_t"].values.tobytes()


def test_attention_to_the_picture_alone_has_no_words(tmp_path):
    model = saved_transformers.folder("sd3", **NEWER)
    with pytest.raises(DefinitionError, match="attends to the picture") as caught:
        fp.profile(str(model), seeds="0:1", labels=[CAT], into=tmp_path / "s", sampler=SAMPLER,
                   stages={"word_maps": {"layers": "*.attn2"}})  # fmt: skip
    assert 'layers = "*.attn"' in str(caught.value)


class Rotated:
    """FLUX's attention by matrix products, turned by diffusers' own table of places."""

    def __init__(self, kept, name):
        self.kept, self.name = kept, name

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None
    ):
        def by_head(tokens, project, norm=None):
            heads = project(tokens).unflatten(-1, (attn.heads, -1))
            return heads if norm is None else norm(heads)

        q, k, v = (
            by_head(hidden_states, *how)
            for how in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k), (attn.to_v,))
        )
        text = 0
        if encoder_hidden_states is not None:
            text = encoder_hidden_states.shape[1]
            q, k, v = (torch.cat([by_head(encoder_hidden_states, *how), own], dim=1) for own, how in (
                (q, (attn.add_q_proj, attn.norm_added_q)), (k, (attn.add_k_proj, attn.norm_added_k)), (v, (attn.add_v_proj,))))  # fmt: skip
        q, k = (apply_rotary_emb(one, image_rotary_emb, sequence_dim=1) for one in (q, k))
        q, k, v = (one.transpose(1, 2) for one in (q, k, v))
        shares = torch.softmax(q @ k.transpose(2, 3) / np.sqrt(q.shape[-1]), dim=-1)
        words = q.shape[2] - PICTURE
        self.kept[self.name] = torch.cat([shares[:, :, words:, words:], shares[:, :, words:, :words]], dim=-1)
        out = (shares @ v).transpose(1, 2).flatten(2)
        return (attn.to_out[0](out[:, text:]), attn.to_add_out(out[:, :text])) if text else out


def test_flux_attends_by_place_and_its_maps_are_those_written_out(tmp_path):
    model, layers = (
        saved_transformers.folder("flux"),
        ["transformer_blocks.0.attn", "single_transformer_blocks.0"],
    )
    tree = fp.profile(
        str(model), seeds="0:2", labels=[PETS], into=tmp_path / "s", sampler={"rule": "scheduler", "steps": 3},
        stages={"trajectory": {}, "attention_maps": {"heads": "each", "layers": layers}, "word_maps": {"layers": layers}},
    )  # fmt: skip
    t_from, t = tree["trajectory"].time.values.tolist()[1:3]
    denoiser, kept = zoo.load(model, zoo.card(model)), {}
    x = torch.from_numpy(
        tree["trajectory"]["x_t"].isel(intervention=0, label=0).sel(time=t_from).transpose("seed", ...).values
    )
    told = tree["trajectory"].timestep.sel(time=t_from).item()
    number = denoiser.card.labels.parse(PETS)
    call = (x, torch.tensor([told, told]), torch.tensor([number, number]))
    fused = denoiser._predicted(*call)
    for name, module in denoiser.module.named_modules():
        if name.endswith(".attn"):
            module.set_processor(Rotated(kept, name))
    assert torch.allclose(denoiser._predicted(*call), fused, atol=1e-5)
    for layer in layers:
        found = tree["attention_maps"].children[layer]["attention"].isel(intervention=0, label=0).sel(time=t)
        assert found.sizes["token"] == PICTURE + 512
        found = found.transpose("seed", "head", "y", "x", "token").values
        assert np.abs(found.sum(-1) - 1).max() <= 1e-5
        wanted = kept[layer.removesuffix(".attn") + ".attn"].numpy().reshape(found.shape)
        assert np.abs(found - wanted).max() <= 1e-5
        # One that is turned otherwise is told apart: nearer places attend more.
        assert np.abs(found - wanted[..., ::-1, :, :]).max() > 1e-4
    words = tree["word_maps"]["attention"]
    assert words.sizes["token"] == 512
    assert 0.05 < words.sum("token").values.mean() < 1
