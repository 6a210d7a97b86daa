"""Learned variances: the noise of a step as the network says it, equal to what diffusers' own loops make of it."""

import importlib

import numpy as np
import pytest
import saved_folders
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.measures.nulls import posterior_chain
from flowprofile.models import schedulers, zoo
from flowprofile.time.noise import noise_batch
from pipelines import MEASURES

STEPS = 6
RANGE = DDPMScheduler(variance_type="learned_range", clip_sample=False)


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("variances") / "unet"
    return saved_folders.save_unet(folder, RANGE, out_channels=6, num_class_embeds=None)


@pytest.fixture(scope="module")
def dit(tmp_path_factory):
    return saved_folders.save_dit(tmp_path_factory.mktemp("variances") / "dit", RANGE)


def profile(model, into, *, labels=(0,), stages=None, seeds="0:3", **sampler):
    return fp.profile(
        str(model),
        seeds=seeds,
        labels=labels,
        into=into,
        sampler={"rule": "scheduler", "steps": STEPS, **sampler},
        stages=stages or {"trajectory": {}, "predicted_x0": {}},
    )


def test_the_image_is_that_of_the_pipeline_itself(unet, tmp_path, monkeypatch):
    found = profile(unet, tmp_path / "store", seeds="0:8")["trajectory"]["x_t"]
    states = iter(found.time.values.tolist())

    def draw(shape, *_, **__):
        return torch.from_numpy(noise_batch(range(8), next(states), shape[1:]))

    own = DDPMPipeline.from_pretrained(unet)
    for module in (DDPMPipeline.__module__, DDPMScheduler.__module__):
        monkeypatch.setattr(importlib.import_module(module), "randn_tensor", draw)
    own.set_progress_bar_config(disable=True)
    images = own(batch_size=8, num_inference_steps=STEPS, output_type="np").images
    ours = found.isel(intervention=0, label=0).sel(time=0).transpose("seed", "y", "x", "channel").values
    assert np.abs((ours / 2 + 0.5).clip(0, 1) - images).max() <= 1e-5
    fixed = profile(unet, tmp_path / "fixed", options={"variance_type": "fixed_small"}, seeds="0:8")
    assert np.abs(fixed["trajectory"]["x_t"].sel(time=0) - found.sel(time=0)).max() > 1e-3


def own_states(dit, states, scale, monkeypatch):
    """DiT's loop with the whole of what its network says, guided in eps alone: [state seed channel y x]."""
    network, scheduler = zoo.load(dit).module, DDPMScheduler.from_config(RANGE.config)
    scheduler.set_timesteps(STEPS)
    x = torch.from_numpy(noise_batch([0, 1, 2], states[0], (4, 8, 8)))
    found, said = [x], []
    for t, into in zip(scheduler.timesteps, states[1:], strict=True):
        with torch.no_grad():
            real, null = (
                network(x, t.expand(3), class_labels=torch.full((3,), label)).sample for label in (3, 10)
            )
        eps = null[:, :4] + scale * (real[:, :4] - null[:, :4])
        said.append(
            (x - float(1 - scheduler.alphas_cumprod[t]) ** 0.5 * eps)
            / float(scheduler.alphas_cumprod[t]) ** 0.5
        )
        z = torch.from_numpy(noise_batch([0, 1, 2], into, (4, 8, 8)))
        monkeypatch.setattr(
            importlib.import_module(DDPMScheduler.__module__), "randn_tensor", lambda *_, z=z, **__: z
        )
        x = scheduler.step(torch.cat([eps, real[:, 4:]], dim=1), t, x).prev_sample
        found.append(x)
    monkeypatch.undo()
    return torch.stack(found).numpy(), torch.stack(said).numpy()


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_guidance_leaves_the_variance_of_the_conditional_half(dit, tmp_path, monkeypatch, scale):
    tree = profile(dit, tmp_path / "store", labels=(3,), guidance_scale=scale)
    x = tree["trajectory"]["x_t"].isel(intervention=0, label=0).transpose("time", "seed", ...)
    x0 = tree["predicted_x0"]["x0_hat"].isel(intervention=0, label=0).transpose("time", "seed", ...)
    wanted, images = own_states(dit, x.time.values.tolist(), scale, monkeypatch)
    assert np.abs(x.values - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    # The image is predicted from eps, whatever stands behind it.
    assert np.abs(x0.values - images).max() <= 1e-5 * max(1.0, np.abs(images).max())


def test_looking_inside_leaves_every_bit_and_a_row_does_not_know_the_others(dit, tmp_path):
    bare = profile(dit, tmp_path / "bare", labels=(3, 5))["trajectory"]["x_t"]
    stages = {"trajectory": {}, "activations": {"layers": ["transformer_blocks.?"]}, **MEASURES}
    looked = profile(dit, tmp_path / "looked", labels=(3, 5), stages=stages)
    assert looked["trajectory"]["x_t"].values.tobytes() == bare.values.tobytes()
    assert np.isfinite(looked["measures/step_ssim"]["null"]).all()
    alone = profile(dit, tmp_path / "alone", labels=(5,), seeds="2:3")["trajectory"]["x_t"]
    assert alone.values.tobytes() == bare.sel(label=[5], seed=[2]).values.tobytes()


def test_who_knows_the_image_steps_with_the_variance_of_the_posterior():
    chains = []
    for kind in ("learned_range", "fixed_small"):
        found = schedulers.scheduled(
            "DDPMScheduler", dict(RANGE.config), steps=STEPS, options={"variance_type": kind}
        )
        image = np.linspace(-1, 1, 2 * 3 * 64, dtype=np.float32).reshape(2, 3, 8, 8)
        chain = posterior_chain(image, [4, 5], schedule=found.visited, grid=found.visited.states, rule=found)
        chains.append([x for _, x in chain])
    for learned, fixed in zip(*chains, strict=True):
        assert np.abs(learned - fixed).max() <= 1e-5
    assert np.abs(chains[0][-1] - image).max() <= 1e-4


def test_dpm_solver_leaves_the_variance_out_and_keeps_every_channel(dit, tmp_path):
    """Its own code would cut a network's output to three channels where its configuration says that it is learned."""
    learned = saved_folders.save_dit(
        tmp_path / "model", DPMSolverMultistepScheduler(variance_type="learned_range")
    )
    plain = saved_folders.save_dit(tmp_path / "other", DPMSolverMultistepScheduler())
    found = [profile(one, tmp_path / f"{one.name}-store")["trajectory"]["x_t"] for one in (learned, plain)]
    assert found[0].sizes["channel"] == 4
    assert found[0].values.tobytes() == found[1].values.tobytes()


@pytest.mark.parametrize(("options", "told"), [
    ({"variance_type": "learned"}, "for which there is no adapter"),
    ({"variance_type": "learned_range"}, "predicts none"),
])  # fmt: skip
def test_a_variance_that_nobody_says_is_refused_before_anything_is_sampled(dit, tmp_path, options, told):
    model = dit if options["variance_type"] == "learned" else saved_folders.folder("UNet2DModel")
    with pytest.raises(DefinitionError, match=told) as caught:
        profile(model, tmp_path / "s", rule="DDPMScheduler", options=options)
    assert "fixed_small" in str(caught.value)
    assert not (tmp_path / "s").exists()


def test_a_gradient_through_a_learned_variance_is_refused(dit, tmp_path):
    stages = {"trajectory": {}, "gradient_volume": {"mask": {"rectangle": [0, 0, 1, 2]}}}
    with pytest.raises(DefinitionError, match="of a variance that the network says"):
        profile(dit, tmp_path / "s", stages=stages)
