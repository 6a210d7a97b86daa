"""Given pictures in the latents of a model that knows no pixels."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from photographs import looking, photographs, picture
from saved_folders import stable_diffusion

import flowprofile as fp
from flowprofile import assembly, running
from flowprofile.datasets.pictures import prepared
from flowprofile.errors import DefinitionError
from flowprofile.models.autoencoder import decoder, encoder
from flowprofile.store.layout import StoreLayout
from flowprofile.time.noised import image_noise
from flowprofile.time.schedule import schedule

FAST = StoreLayout(durability="none")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent")
    pipeline = stable_diffusion(folder / "vocabulary")
    with torch.no_grad():
        pipeline.unet.conv_out.weight.mul_(0.05)  # a network of chance is too steep to be inverted
    pipeline.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("latent") / "p", numbers=(0, 1), side=(20, 16), channels=3)


def encoded(model, number):
    """The pipeline's own latent of a picture, cropped and resized as every picture is."""
    vae = StableDiffusionPipeline.from_pretrained(model).vae
    image = torch.from_numpy(prepared(picture(number, side=(20, 16), channels=3), (16, 16)) * 2 - 1)
    with torch.no_grad():
        return (vae.encode(image[None]).latent_dist.mode() * vae.config.scaling_factor)[0].numpy()


def asked(model, folder, **how):
    return looking(folder, model=str(model), labels=["a cat", "a dog"], steps=4, **how)


def test_noised_latents_are_the_formula_and_are_decoded(model, folder, tmp_path):
    stages = {"trajectory": {}, "predicted_x0": {}, "decoded": {}, "word_maps": {}}
    running.run(asked(model, folder, draws=2, **stages), into=tmp_path / "s", layout=FAST)
    tree, levels = fp.open(tmp_path / "s"), schedule("scaled_linear", 1000)
    for number in range(2):
        x0 = encoded(model, number)
        for seed in tree.seed.values[tree.image.values == f"{number}.png"]:
            one = tree["trajectory"].x_t.sel(seed=seed).isel(label=0, intervention=0)
            np.testing.assert_allclose(one.sel(time=0), x0, atol=1e-6)
            for t in one.time.values[:-1]:
                z = image_noise([int(seed)], int(t), (4, 8, 8))[0]
                expected = levels.signal(int(t)) * x0 + levels.noise(int(t)) * z
                np.testing.assert_allclose(one.sel(time=t), expected, atol=1e-5)
            shown = tree["decoded"]["decoded"].sel(seed=seed, time=0).isel(label=0, intervention=0)
            np.testing.assert_allclose(shown, decoder(model)(x0[None])[0], atol=1e-5)
    [maps] = [array for name, array in tree["word_maps"].data_vars.items() if name != "status"]
    assert np.isfinite(maps).all()


def test_an_inversion_leads_back_to_the_latent(model, folder, tmp_path):
    def apart(iterations):
        into = tmp_path / str(iterations)
        pipeline = asked(
            model,
            folder,
            how="inverted",
            iterations=iterations,
            trajectory={},
            sampler={"guidance_scale": 2.0},
        )
        running.run(pipeline, into=into, layout=FAST)
        x = fp.open(into)["trajectory"].x_t.isel(intervention=0)
        found = [x.sel(time=0).isel(seed=place) for place in range(2)]
        wanted = [encoded(model, int(str(name)[0])) for name in x.image.values]
        return np.abs(np.stack(found) - np.stack(wanted)[:, None]).max()

    assert apart(8) < 0.5 * apart(1)


@pytest.mark.parametrize(
    "told", [{"shift_factor": 0.1}, {"latents_mean": [0.1, -0.2, 0.3, 0.4], "latents_std": [1, 2, 0.5, 3]}]
)
def test_what_is_encoded_is_what_the_decoder_turns_back(model, tmp_path, told):
    other = shutil.copytree(model, tmp_path / "model")
    config = json.loads((other / "vae" / "config.json").read_text("utf-8"))
    (other / "vae" / "config.json").write_text(json.dumps({**config, **told}), "utf-8")
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 16, 16)).astype(np.float32)
    vae = StableDiffusionPipeline.from_pretrained(other).vae
    with torch.no_grad():
        plain = vae.encode(torch.from_numpy(images)).latent_dist.mode()
        wanted = vae.decode(plain).sample.numpy()
    latents = encoder(other)(images)
    assert np.abs(latents - plain.numpy() * vae.config.scaling_factor).max() > 1e-2, (
        "told nothing, this test shows nothing"
    )
    np.testing.assert_allclose(decoder(other)(latents), wanted, atol=1e-5)
    assert np.array_equal(encoder(other)(images[1:2])[0], latents[1]), (
        "a picture does not depend on the others"
    )


def test_another_encoder_makes_other_states_and_nothing_is_mixed(model, folder, tmp_path):
    other = shutil.copytree(model, tmp_path / "model")
    config = json.loads((other / "vae" / "config.json").read_text("utf-8"))
    (other / "vae" / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}), "utf-8")

    def keys(path):
        return set(assembly.assemble(asked(path, folder)).graph.keys.values())

    assert keys(model) == keys(model)
    assert not keys(model) & keys(other)


def test_a_denoiser_without_its_vae_is_refused_and_says_what_is_missing(model, folder, tmp_path):
    with pytest.raises(DefinitionError, match="arrays of 4 x 8 x 8") as refusal:
        assembly.assemble(asked(_alone(model, tmp_path), folder, trajectory={}))
    assert "vae" in refusal.value.remedy


def _alone(model, tmp_path):
    """The folder without its VAE."""
    other = shutil.copytree(model, tmp_path / "alone")
    shutil.rmtree(other / "vae")
    index = json.loads((other / "model_index.json").read_text("utf-8"))
    del index["vae"]
    (other / "model_index.json").write_text(json.dumps(index), "utf-8")
    return other
