"""Pipelines of several text encoders: our loop gives what their own code gives, and every layer is heard as it is."""

import itertools
import json
import shutil

import numpy as np
import pytest
import saved_transformers
import torch
from diffusers import FluxPipeline, StableDiffusion3Pipeline, StableDiffusionXLPipeline
from transformers import CLIPTextModel

import flowprofile as fp
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import zoo
from flowprofile.models.sites import sites
from flowprofile.models.taps import tapping
from flowprofile.time.noise import noise_batch

CAT, PETS, DOG = "a cat", "a dog, a cat", "a dog"
PIPELINES = {"sd3": StableDiffusion3Pipeline, "xl": StableDiffusionXLPipeline, "flux": FluxPipeline}
DENOISER = {"sd3": "transformer", "xl": "unet", "flux": "transformer"}
HEARD = {
    "sd3": "transformer_blocks.0",
    "xl": "down_blocks.1.attentions.0",
    "flux": "single_transformer_blocks.0",
}
STEPS = 4
WITHOUT_T5 = {"text_encoder_3": None, "tokenizer_3": None}


@pytest.fixture(scope="module", params=PIPELINES)
def family(request):
    return request.param


def profile(model, into, *, labels=(CAT, PETS), seeds="0:2", stages=None, **sampler):
    return fp.profile(
        str(model),
        seeds=seeds,
        labels=list(labels),
        into=into,
        sampler={"rule": "scheduler", "steps": STEPS, **sampler},
        stages=stages or {"trajectory": {}, "decoded": {}},
    )


def pipeline(family, model):
    third = {} if family != "sd3" or (model / "text_encoder_3").exists() else WITHOUT_T5
    found = PIPELINES[family].from_pretrained(model, **third)
    found.set_progress_bar_config(disable=True)
    return found


def own(family, model, prompt, *, output_type, running=None, **how):
    """What the pipeline's own code makes of our noise, for two seeds."""
    latents = torch.from_numpy(noise_batch([0, 1], 1000, (4, 8, 8)))
    if "negative_prompt" in how:
        how["negative_prompt"] = [how["negative_prompt"]] * 2
    if family == "flux":
        how |= {"height": 16, "width": 16}
        latents = FluxPipeline._pack_latents(latents, 2, 4, 8, 8)
    found = (running or pipeline(family, model))(
        [prompt] * 2, num_inference_steps=STEPS, latents=latents, output_type=output_type, **how
    ).images.detach()
    packed = family == "flux" and output_type == "latent"
    return (FluxPipeline._unpack_latents(found, 16, 16, 2) if packed else found).numpy()


def is_close(found, wanted):
    return np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


GUIDED = {"guidance_scale": 3.0, "negative_prompt": DOG}


def like_the_pipelines(family, model, into, ours, theirs):
    """Latents and images of two prompts are the pipeline's; the two prompts differ."""
    tree = profile(model, into, **ours)
    ends = []
    for prompt in (CAT, PETS):
        x = tree["trajectory"]["x_t"].isel(intervention=0).sel(label=prompt_number(prompt), time=0)
        found = x.transpose("seed", ...).values
        assert is_close(found, own(family, model, prompt, output_type="latent", **theirs))
        image = tree["decoded"]["decoded"].isel(intervention=0, time=0).sel(label=prompt_number(prompt))
        wanted = own(family, model, prompt, output_type="pt", **theirs)
        assert is_close((image.transpose("seed", ...).values / 2 + 0.5).clip(0, 1), wanted)
        ends.append(found)
    assert np.abs(ends[0] - ends[1]).max() > 1e-3


@pytest.mark.parametrize(("ours", "theirs"), [
    (GUIDED, GUIDED),
    ({"guidance_scale": 3.0}, {"guidance_scale": 3.0}),
    ({}, {"guidance_scale": 1.0}),
])  # fmt: skip
def test_latents_and_images_of_stable_diffusion_3_are_those_of_the_pipeline_itself(tmp_path, ours, theirs):
    like_the_pipelines("sd3", saved_transformers.folder("sd3"), tmp_path / "store", ours, theirs)


def test_stable_diffusion_3_without_t5_and_as_its_later_versions_are_is_the_pipeline_too(tmp_path):
    """Zeros stand for T5; 3.5 normalises queries and keys, and attends a second time to the picture alone."""
    model = saved_transformers.folder("sd3", third=False, qk_norm="rms_norm", dual_attention_layers=(0,))
    assert not (model / "text_encoder_3").exists()
    like_the_pipelines("sd3", model, tmp_path / "store", GUIDED, GUIDED)


@pytest.mark.parametrize(("ours", "theirs"), [
    (GUIDED, GUIDED),
    # No negative prompt is zeros, and an empty one is a text.
    ({"guidance_scale": 3.0}, {"guidance_scale": 3.0}),
    ({"guidance_scale": 3.0, "negative_prompt": ""}, {"guidance_scale": 3.0, "negative_prompt": ""}),
    ({}, {"guidance_scale": 1.0}),
])  # fmt: skip
def test_latents_and_images_of_stable_diffusion_xl_are_those_of_the_pipeline_itself(tmp_path, ours, theirs):
    like_the_pipelines("xl", saved_transformers.folder("xl"), tmp_path / "store", ours, theirs)


def test_no_negative_prompt_is_zeros_only_where_the_folder_says_so(tmp_path):
    copied = shutil.copytree(saved_transformers.folder("xl"), tmp_path / "copied")
    changed(copied / "model_index.json", force_zeros_for_empty_prompt=False)
    assert zoo.card(copied).null_label is None
    how = {"guidance_scale": 3.0}
    like_the_pipelines("xl", copied, tmp_path / "store", how, how)


def test_latents_that_are_scaled_channel_by_channel_are_decoded_as_the_pipeline_does(tmp_path):
    copied = shutil.copytree(saved_transformers.folder("xl"), tmp_path / "copied")
    changed(
        copied / "vae" / "config.json", latents_mean=[0.1, -0.2, 0.3, 0.4], latents_std=[1.0, 2.0, 0.5, 3.0]
    )
    like_the_pipelines("xl", copied, tmp_path / "store", {}, {"guidance_scale": 1.0})


def test_the_size_of_the_image_that_xl_is_told_is_in_its_identity(tmp_path):
    copied = shutil.copytree(saved_transformers.folder("xl"), tmp_path / "copied")
    before = zoo.identity(copied)
    changed(copied / "vae" / "config.json", block_out_channels=[16, 32, 32])
    assert zoo.identity(copied) != before


@pytest.mark.parametrize(("dev", "ours", "theirs"), [
    (True, {}, {}),
    (True, {"embedded_guidance": 7.0}, {"guidance_scale": 7.0}),
    (True, GUIDED, {"true_cfg_scale": 3.0, "negative_prompt": DOG}),
    (False, {}, {}),
])  # fmt: skip
def test_latents_and_images_of_flux_are_those_of_the_pipeline_itself(tmp_path, dev, ours, theirs):
    """Dev is told a scale of guidance, and shifts its steps with the size of the picture; schnell neither."""
    like_the_pipelines(
        "flux", saved_transformers.folder("flux", guidance=dev), tmp_path / "store", ours, theirs
    )


def test_the_scale_that_a_network_is_told_is_in_the_key_and_refused_where_there_is_none(tmp_path):
    def key(name, **sampler):
        stages, model = {"trajectory": {}}, saved_transformers.folder("flux", guidance=True)
        return profile(model, tmp_path / name, labels=[CAT], seeds="0:1", stages=stages, **sampler)[
            "trajectory"
        ].attrs["key"]

    assert key("a") == key("b", embedded_guidance=3.5) != key("c", embedded_guidance=4.0)
    for model in (saved_transformers.folder("flux", guidance=False), saved_transformers.folder("sd3")):
        with pytest.raises(DefinitionError, match="is told no scale of guidance"):
            profile(model, tmp_path / "d", embedded_guidance=4.0)


def rows(model, count=8):
    card = zoo.card(model)
    denoiser = zoo.load(model, card)
    x = torch.randn(count, *card.shape, generator=torch.Generator().manual_seed(3))
    labels = [card.labels.parse(text) for text in (CAT, PETS)]
    index = torch.linspace(card.steps - 1, 0, count).long()
    return denoiser, (x, index, torch.tensor(list(itertools.islice(itertools.cycle(labels), count))))


def copied_output(out):
    return tuple(map(copied_output, out)) if isinstance(out, tuple) else None if out is None else out.clone()


def test_every_site_shows_what_a_plain_hook_sees_and_changes_nothing(family):
    model = saved_transformers.folder(family)
    denoiser, call = rows(model)
    found, plain = sites(denoiser.card, str(model)), {}
    assert found == sites(denoiser.card, denoiser)
    handles = [
        denoiser.module.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: plain.__setitem__(name, copied_output(out))
        )
        for name in found
    ]
    bare = denoiser(*call)
    for handle in handles:
        handle.remove()
    with torch.no_grad(), tapping(denoiser, list(found)) as seen:
        assert torch.equal(denoiser(*call), bare)
    for name, site in found.items():
        wanted = plain[name] if site.select is None else plain[name][site.select]
        if site.tokens:
            wanted = wanted.unflatten(1, (site.y, site.x)).permute(0, 3, 1, 2)
        assert torch.equal(seen[name], wanted), name


def test_tokens_of_a_text_are_never_taken_for_a_picture(family):
    """Of a joint block the picture is meant, wherever in its tuple; what is said of a text alone is no site."""
    found = sites(zoo.card(saved_transformers.folder(family)), str(saved_transformers.folder(family)))
    assert not [name for name in found if "context" in name or "add_" in name or "norm_added" in name]
    # Nor are queries and keys by head, [head token feature].
    newer = saved_transformers.folder("sd3", third=False, qk_norm="rms_norm", dual_attention_layers=(0,))
    for names in (found, sites(zoo.card(newer), str(newer))):
        assert not [name for name in names if name.endswith(("norm_q", "norm_k"))]
    assert not [name for name in found if name.endswith(("attn2.to_k", "attn2.to_v"))] or family != "xl"
    for name in (one for one in found if one.startswith("transformer_blocks.") and one.count(".") == 1):
        assert (found[name].select, found[name].shape) == (1, (16, 4, 4))


EDITED = {
    "sd3": ("transformer_blocks.0", "transformer_blocks.1"),
    "flux": ("transformer_blocks.0", "single_transformer_blocks.0"),
}


@pytest.mark.parametrize("family", EDITED)
def test_an_edit_of_a_block_reaches_the_place_on_the_grid_that_it_names(family):
    denoiser, call = rows(saved_transformers.folder(family))
    (layer, following), caught = EDITED[family], {}

    def at_one_place(a):
        new = a.clone()
        new[:, :, 1, 2] = 7.0
        return new

    handle = denoiser.module.get_submodule(following).register_forward_pre_hook(
        lambda module, given, how: caught.update(how), with_kwargs=True
    )
    with torch.no_grad(), tapping(denoiser, layer, edits={layer: at_one_place}) as seen:
        denoiser(*call)
    handle.remove()
    assert (seen[layer][:, :, 1, 2] == 7.0).all()
    assert (caught["hidden_states"][:, 1 * 4 + 2] == 7.0).all()
    assert (caught["hidden_states"] == 7.0).sum() == 8 * 16
    assert not (caught["encoder_hidden_states"] == 7.0).any()


def test_rows_of_a_batch_know_nothing_of_each_other(family):
    denoiser, (x, index, label) = rows(saved_transformers.folder(family))
    among = denoiser(x, index, label)
    order = torch.tensor([5, 2, 7, 0, 1, 3, 4, 6])
    assert torch.equal(denoiser(x[order], index[order], label[order]), among[order])


def test_activations_of_a_run_are_what_hooks_in_the_pipeline_see_and_leave_its_bits(family, tmp_path):
    model, layer = saved_transformers.folder(family), HEARD[family]
    bare = profile(model, tmp_path / "bare", labels=[PETS])["trajectory"]["x_t"]
    stages = {"trajectory": {}, "activations": {"layers": [layer]}}
    tree = profile(model, tmp_path / "looked", labels=[PETS], stages=stages)
    assert tree["trajectory"]["x_t"].values.tobytes() == bare.values.tobytes()
    heard, running = [], pipeline(family, model)
    select = sites(zoo.card(model), str(model))[layer].select
    getattr(running, DENOISER[family]).get_submodule(layer).register_forward_hook(
        lambda module, given, out: heard.append((out if select is None else out[select]).clone())
    )
    how = {"guidance_scale": 1.0} if family != "flux" else {}
    own(family, model, PETS, output_type="latent", running=running, **how)
    found = tree[f"activations/{layer}"]["activation"].isel(intervention=0, label=0)
    wanted = torch.stack(heard)
    if wanted.ndim == 4:
        wanted = wanted.unflatten(2, (4, 4)).permute(0, 1, 4, 2, 3)
    assert is_close(found.transpose("time", "seed", "channel", "y", "x").values, wanted.numpy())


@pytest.fixture
def copied(family, tmp_path):
    return shutil.copytree(saved_transformers.folder(family), tmp_path / "copied")


def changed(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"])
def test_a_missing_part_is_named(copied, part):
    shutil.rmtree(copied / part)
    with pytest.raises(ModelError, match=f"There is no {copied / part}") as caught:
        zoo.card(copied)
    assert "copy or download" in str(caught.value)


@pytest.mark.parametrize(("name", "told"), [
    ("text_encoder_2/pytorch_model.bin", "is a pickle"), ("tokenizer_2/words.py", "is code"),
])  # fmt: skip
def test_anything_that_could_run_is_refused_wherever_it_lies(copied, name, told):
    (copied / name).write_bytes(b"import os")
    with pytest.raises(ModelError, match=f"{copied / name} {told}"):
        zoo.card(copied)


def test_an_encoder_of_another_class_or_width_is_named(family, copied):
    encoder = copied / "text_encoder_2" / "config.json"
    known = encoder.read_text()
    changed(encoder, architectures=[CLIPTextModel.__name__])
    with pytest.raises(ModelError, match=f"{encoder} is of a 'CLIPTextModel'"):
        zoo.card(copied)
    encoder.write_text(known)
    changed(encoder, hidden_size=96, d_model=96)
    with pytest.raises(ModelError, match=f"Up to {encoder} a prompt is") as caught:
        zoo.card(copied)
    assert str(copied / DENOISER[family] / "config.json") in str(caught.value)


def test_every_part_that_tells_a_prompt_is_in_the_identity(copied):
    before = zoo.identity(copied)
    for name in ("text_encoder", "text_encoder_2"):
        file = copied / name / "model.safetensors"
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        after = zoo.identity(copied)
        assert after != before
        before = after


def test_a_t5_that_the_pipeline_names_and_the_folder_lacks_is_missed(tmp_path):
    copied = shutil.copytree(saved_transformers.folder("sd3"), tmp_path / "copied")
    shutil.rmtree(copied / "text_encoder_3")
    with pytest.raises(ModelError, match=r"There is no .*text_encoder_3"):
        zoo.card(copied)


def test_weights_of_another_size_and_a_scheduler_of_betas_are_refused(tmp_path):
    copied = shutil.copytree(saved_transformers.folder("sd3"), tmp_path / "copied")
    changed(copied / "transformer" / "config.json", caption_projection_dim=16, num_layers=3)
    with pytest.raises(ModelError, match=r"safetensors do not fit .*transformer/config\.json"):
        sites(zoo.card(copied), str(copied))
    changed(copied / "scheduler" / "scheduler_config.json", _class_name="EulerDiscreteScheduler")
    with pytest.raises(ModelError, match=r"The scheduler of .* says _class_name = 'EulerDiscreteScheduler'"):
        zoo.card(copied)


def test_the_tokens_of_a_prompt_have_names_one_for_each_key():
    words = fp.tokens(saved_transformers.folder("sd3"), PETS)
    assert words[:6] == ["<|startoftext|>", "a</w>", "dog</w>", ",</w>", "a</w>", "cat</w>"]
    assert words[16:18] == ["\u2581", "a"]
    assert len(words) == 16 + 256
    assert fp.tokens(saved_transformers.folder("flux"), PETS)[:2] == words[16:18]
    assert len(fp.tokens(saved_transformers.folder("flux"), PETS)) == 512
    assert fp.tokens(saved_transformers.folder("xl"), PETS) == words[:16]
    without = fp.tokens(saved_transformers.folder("sd3", third=False), PETS)
    assert without == words[:16] + [""] * 256
