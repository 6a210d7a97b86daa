"""Text-to-image models: prompts as labels, latents, and images decoded from them."""

import json
import shutil

import numpy as np
import pytest
import saved_folders
import torch
from diffusers import StableDiffusionPipeline

import flowprofile as fp
from flowprofile.conditioning.labels import LabelSpace, prompt_number
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import zoo
from flowprofile.models.sites import sites
from flowprofile.models.taps import Tap
from flowprofile.time.noise import noise_batch

CAT, PETS, DOG = "a cat", "a dog, a cat", "a dog"
GUIDED = {"rule": "scheduler", "steps": 5, "guidance_scale": 3.0, "negative_prompt": DOG}


@pytest.fixture(scope="module")
def model():
    return saved_folders.folder("UNet2DConditionModel")


def profile(model, into, *, labels=(CAT, PETS), sampler=GUIDED, seeds="0:2", **stages):
    stages = {"trajectory": {}, "decoded": {}, **stages}
    return fp.profile(str(model), seeds=seeds, labels=list(labels), into=into, sampler=sampler, stages=stages)


@pytest.fixture(scope="module")
def tree(model, tmp_path_factory):
    return profile(
        model,
        tmp_path_factory.mktemp("prompts") / "store",
        activations={"layers": ["*.attn2"], "keep": [402]},
    )


def test_latents_and_image_are_those_of_the_pipeline_itself(model, tree, monkeypatch):
    """Stable Diffusion's own code with our noise: prompt, negative prompt, guidance, PNDM and VAE."""
    own = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    own.set_progress_bar_config(disable=True)
    x = tree["trajectory"]["x_t"].isel(intervention=0)
    for prompt in (CAT, PETS):
        latents = torch.from_numpy(noise_batch([0, 1], int(x.time[0]), (4, 8, 8)))
        how = {
            "prompt": [prompt] * 2,
            "negative_prompt": [DOG] * 2,
            "num_inference_steps": 5,
            "guidance_scale": 3.0,
        }
        wanted = own(**how, latents=latents.clone(), output_type="latent").images.numpy()
        found = x.sel(label=prompt_number(prompt), time=0).transpose("seed", ...).values
        assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
        image = own(**how, latents=latents.clone(), output_type="pt").images.numpy()
        decoded = tree["decoded"]["decoded"].isel(intervention=0, time=0).sel(label=prompt_number(prompt))
        assert np.abs((decoded.transpose("seed", ...).values / 2 + 0.5).clip(0, 1) - image).max() <= 1e-5


def test_a_pipeline_of_diffusers_is_tapped_as_it_is(model):
    own = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    own.set_progress_bar_config(disable=True)
    how = {"num_inference_steps": 2, "output_type": "latent"}
    bare = own(CAT, generator=torch.Generator().manual_seed(0), **how).images
    with fp.tapping(own, ["mid_block", Tap("down_blocks.0", select=0)]) as seen:
        listened = own(CAT, generator=torch.Generator().manual_seed(0), **how).images
    assert torch.equal(bare, listened)
    # Its two halves are one batch, unconditional first.
    assert seen["mid_block"].shape == (2, 64, 4, 4)


def test_labels_are_prompts_and_are_selected_by_their_text(tree):
    both = tree["decoded"]
    assert dict(zip(both.label.values.tolist(), both.prompt.values.tolist(), strict=True)) == {
        prompt_number(CAT): CAT, prompt_number(PETS): PETS,
    }  # fmt: skip
    one = tree.profile.sel(label=PETS, seed=1, objects="decoded")
    assert str(one.prompt.values) == PETS
    assert tree.profile.sel(label=[PETS, CAT], objects="decoded").sizes["label"] == 2
    with pytest.raises(DefinitionError, match="did you mean 'a cat'"):
        tree.profile.sel(label="a caat")


def test_a_sweep_grows_by_prompts_and_keeps_what_it_has(model, tmp_path):
    first = profile(model, tmp_path / "store", labels=[PETS])["trajectory"]["x_t"].load()
    outcome = fp.run(fp.Pipeline.model_validate({
        "model": str(model), "sampler": GUIDED, "cases": {"seeds": "0:2", "labels": [CAT, PETS]},
        "stages": {"trajectory": {}, "decoded": {}},
    }), into=tmp_path / "store")  # fmt: skip
    assert outcome.forwards == 2 * 2 * 6
    grown = fp.open(tmp_path / "store")["trajectory"]["x_t"]
    assert np.array_equal(grown.sel(label=[prompt_number(PETS)]).values, first.values)


def test_the_negative_prompt_is_in_the_key_where_it_acts_and_only_there(model, tmp_path):
    stages = {"trajectory": {}}

    def key(name, **sampler):
        tree = fp.profile(str(model), seeds="0:1", labels=[CAT], into=tmp_path / name, stages=stages,
                          sampler={"rule": "DDIMScheduler", "steps": 2, **sampler})  # fmt: skip
        return tree["trajectory"].attrs["key"]

    assert key("a", guidance_scale=2.0) != key("b", guidance_scale=2.0, negative_prompt=DOG)
    assert key("c") == key("d", negative_prompt=DOG)


def test_a_prompt_switch_is_the_other_prompts_run_from_its_step_on(model, tmp_path):
    table = {
        "model": str(model), "cases": {"seeds": "0:1", "labels": [CAT]}, "stages": {"trajectory": {}},
        "sampler": {"rule": "DDIMScheduler", "steps": 6},
        "interventions": {"early": {"kind": "switch", "at": 831, "to": PETS}, "late": {"kind": "switch", "at": 400, "to": PETS}},
    }  # fmt: skip
    fp.run(fp.Pipeline.model_validate(table), into=tmp_path / "switched")
    other = fp.profile(str(model), seeds="0:1", labels=[PETS], into=tmp_path / "other", sampler=table["sampler"],
                       stages={"trajectory": {}})  # fmt: skip
    x = fp.open(tmp_path / "switched")["trajectory"]["x_t"].isel(label=0, seed=0)
    clean, early, late = (x.isel(intervention=number) for number in range(3))
    assert np.array_equal(
        early.values, other["trajectory"]["x_t"].isel(intervention=0, label=0, seed=0).values
    )
    above = slice(1000, 401)
    assert np.array_equal(late.sel(time=above).values, clean.sel(time=above).values)
    assert np.abs(late.sel(time=0) - clean.sel(time=0)).max() > 1e-4


def test_tokens_of_the_text_are_never_taken_for_a_picture(model):
    """Sixteen tokens would fill a grid of 4 x 4; what they put out is no site."""
    found = sites(zoo.card(model), str(model))
    assert not [name for name in found if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert found["down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_q"].shape == (32, 8, 8)
    assert found["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k"].tokens


def test_a_module_that_fires_three_times_is_heard_each_time_and_edited_each_time(model):
    """The activation function of a residual block: twice on pictures of two widths, between them on the time."""
    denoiser = zoo.load(model, zoo.card(model))
    label = denoiser.card.labels.parse(CAT)
    name, plain = "up_blocks.1.resnets.0.nonlinearity", []
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    call = (x, torch.tensor([3, 900]), torch.tensor([label, label]))
    handle = denoiser.module.get_submodule(name).register_forward_hook(
        lambda *one: plain.append(one[2].clone())
    )
    bare = denoiser(*call)
    handle.remove()
    assert len({one.shape for one in plain}) == len(plain) == 3
    with fp.tapping(denoiser, name) as seen:
        assert torch.equal(denoiser(*call), bare)
    for firing, one in enumerate(plain):
        assert torch.equal(seen[name, firing], one)
    shapes = []
    with fp.tapping(denoiser, edits={name: lambda a: shapes.append(a.shape) or a * 0.0}):
        assert not torch.equal(denoiser(*call), bare)
    assert shapes == [one.shape for one in plain]
    assert torch.equal(denoiser(*call), bare)


def test_hooks_are_gone_after_an_exception_inside_the_network(model):
    denoiser = zoo.load(model, zoo.card(model))
    label = torch.tensor([denoiser.card.labels.parse(CAT)])
    with pytest.raises(RuntimeError), fp.tapping(denoiser, "*"):
        denoiser(torch.zeros(1, 5, 8, 8), torch.tensor([3]), label)
    hooks = [part for part in denoiser.module.modules() if part._forward_hooks or part._forward_pre_hooks]
    assert not hooks


def test_blocks_that_put_out_tuples_are_heard_and_edited_by_their_first_tensor(model):
    denoiser = zoo.load(model, zoo.card(model))
    label = torch.tensor([denoiser.card.labels.parse(CAT)])
    call, plain = (torch.ones(1, 4, 8, 8), torch.tensor([3]), label), []
    handle = denoiser.module.get_submodule("down_blocks.0").register_forward_hook(
        lambda *one: plain.append(one[2][0].clone())
    )
    bare = denoiser(*call)
    handle.remove()
    with fp.tapping(denoiser, "down_blocks.0") as seen:
        assert torch.equal(denoiser(*call), bare)
    assert torch.equal(seen["down_blocks.0"], plain[0])
    with fp.tapping(denoiser, Tap("down_blocks.0", select=0)) as seen:
        denoiser(*call)
    assert torch.equal(seen["down_blocks.0"], plain[0])
    layer = "down_blocks.0.attentions.0"
    assert sites(denoiser.card, denoiser)[layer].select == 0
    with fp.tapping(denoiser, interventions=fp.Ablation(layer, (0, 1, 2))):
        assert not torch.equal(denoiser(*call), bare)
    # Alone, without a denoiser that knows, the network's tuple is ambiguous.
    with pytest.raises(DefinitionError, match="select"), fp.tapping(denoiser.module, "down_blocks.0"):
        denoiser(*call)


def test_listening_in_another_order_than_the_modules_are_registered_in(model):
    """diffusers registers up_blocks before mid_block and runs it after."""
    denoiser = zoo.load(model, zoo.card(model))
    label = torch.tensor([denoiser.card.labels.parse(CAT)])
    with fp.tapping(denoiser, ["up_blocks.0", "mid_block", "conv_in"]) as seen:
        denoiser(torch.zeros(1, 4, 8, 8), torch.tensor([3]), label)
    assert seen.order == ("conv_in", "mid_block", "up_blocks.0")
    registered = [name for name, _ in denoiser.module.named_modules()]
    assert registered.index("up_blocks.0") < registered.index("mid_block")
    assert list(sites(denoiser.card, denoiser)).index("mid_block") < list(
        sites(denoiser.card, denoiser)
    ).index("up_blocks.0")


def test_a_gradient_volume_goes_through_attention_layers(model, tmp_path):
    """A row of d x_t / d x_{t+1}, through self- and cross-attention, against a difference quotient of eps."""
    sampler = {"rule": "ddim", "steps": 4}
    stages = {"trajectory": {}, "gradient_volume": {"mask": {"rectangle": [2, 3, 3, 4]}, "keep": [500]}}
    tree = fp.profile(
        str(model), seeds="0:1", labels=[CAT], into=tmp_path / "s", sampler=sampler, stages=stages
    )
    node = next(one for one in tree["gradients/gradient_volume"].subtree if "gradient" in one.data_vars)
    row = node["gradient"].isel(intervention=0, label=0, seed=0, time=0, pixel=0).values
    denoiser = zoo.load(model, zoo.card(model))
    label = torch.tensor([denoiser.card.labels.parse(CAT)])
    x = torch.from_numpy(
        tree["trajectory"]["x_t"].isel(intervention=0, label=0, seed=0).sel(time=750).values
    )[None]
    abar, onto = (
        float(tree["trajectory"].alpha_bar.sel(time=750)),
        float(tree["trajectory"].alpha_bar.sel(time=500)),
    )
    of_eps = np.sqrt(1 - onto) - np.sqrt(onto * (1 - abar) / abar)
    for y, width in ((2, 3), (2, 4), (6, 1)):
        quotient = 0.0
        for channel in range(4):
            h = torch.zeros_like(x)
            h[0, channel, y, width] = 0.02
            with torch.no_grad():
                change = denoiser(x + h, torch.tensor([749]), label) - denoiser(
                    x - h, torch.tensor([749]), label
                )
            quotient += of_eps * float(change[0, :, 2, 3].sum()) / 0.04 + np.sqrt(onto / abar) * (
                (y, width) == (2, 3)
            )
        assert row[y, width] == pytest.approx(quotient, abs=2e-3 * max(1.0, abs(quotient)))


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_missing_part_is_named(model, tmp_path, part):
    copied = shutil.copytree(model, tmp_path / "copied")
    shutil.rmtree(copied / part)
    with pytest.raises(ModelError, match=part):
        zoo.card(copied)


def test_an_exchanged_text_encoder_is_another_model(model, tmp_path):
    copied = shutil.copytree(model, tmp_path / "copied")
    weights = copied / "text_encoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert zoo.identity(copied) != zoo.identity(model)


def test_a_layout_that_wants_more_than_one_prompt_is_refused(model, tmp_path):
    copied = shutil.copytree(model, tmp_path / "copied")
    config = copied / "unet" / "config.json"
    known = json.loads(config.read_text())
    for name, value, told in (
        ("addition_embed_type", "text_image", "says addition_embed_type = 'text_image'"),
        ("time_cond_proj_dim", 256, "says time_cond_proj_dim = 256"),
        ("addition_embed_type", "text_time", "There is no .*text_encoder_2"),
    ):
        config.write_text(json.dumps({**known, name: value}))
        with pytest.raises(ModelError, match=told):
            zoo.card(copied)


def test_wrong_labels_are_refused(model, tmp_path):
    with pytest.raises(DefinitionError, match="Every text is one"):
        fp.profile(str(model), seeds="0:1", labels="all", into=tmp_path / "s", stages={"trajectory": {}})
    with pytest.raises(DefinitionError, match="write the prompt"):
        profile(model, tmp_path / "s", labels=[3])
    with pytest.raises(DefinitionError, match="negative_prompt"):
        fp.profile("digits", seeds="0:1", labels=[0], into=tmp_path / "s", sampler={"negative_prompt": "x"},
                   stages={"trajectory": {}})  # fmt: skip
    with pytest.raises(DefinitionError, match="images already"):
        fp.profile("digits", seeds="0:1", labels=[0], into=tmp_path / "s", stages={"decoded": {}})


def test_a_space_of_prompts_knows_what_was_written_down():
    space = LabelSpace(prompts=True)
    number = space.parse(CAT)
    assert (space.bits(number), space.parse(number), space.table()["prompts"]) == (CAT, number, True)
    assert LabelSpace.of_table(space.table()) == space
    with pytest.raises(DefinitionError, match="written down"):
        space.parse(number + 1)
