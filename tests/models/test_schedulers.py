"""Schedulers of diffusers' as rules: the same states as their own loop, with the noise that we give."""

import importlib
import itertools
import logging

import numpy as np
import pytest
import saved_folders
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.models import schedulers, zoo
from flowprofile.models.flows import FLOWS
from flowprofile.time.noise import noise_batch
from flowprofile.time.visited import EXPLODING, numbered

KINDS = tuple(kind for kind in schedulers.SCHEDULERS if kind not in FLOWS)
OPTIONS = {"PNDMScheduler": {"skip_prk_steps": True}}
STEPS = 7


def profile(into, model, kind, *, steps=STEPS, seeds="0:3", labels=(1,), options=None, stages=None, **how):
    sampler = {"rule": kind, "steps": steps, "options": options or OPTIONS.get(kind), **how}
    return fp.profile(
        str(model),
        seeds=seeds,
        labels=labels,
        into=into,
        sampler=sampler,
        stages=stages or {"trajectory": {}, "predicted_x0": {}},
    )


def own_loop(model, kind, states, *, seeds=(0, 1, 2), options=None):
    """The loop that diffusers' pipelines write out, fed with our noise: every state, [state seed channel y x]."""
    denoiser, made = zoo.load(model), getattr(importlib.import_module("diffusers"), kind)
    config = {k: v for k, v in zoo.scheduler(model).items() if not k.startswith("_")}
    scheduler = made.from_config({**config, **(options or OPTIONS.get(kind, {}))})
    scheduler.set_timesteps(STEPS)
    module, shape = importlib.import_module(made.__module__), denoiser.card.shape
    network, label = denoiser.module, torch.ones(len(seeds), dtype=torch.int64)
    x = torch.from_numpy(noise_batch(seeds, states[0], shape)) * scheduler.init_noise_sigma
    found, before = [x], getattr(module, "randn_tensor", None)
    try:
        for t, into in zip(scheduler.timesteps, states[1:], strict=True):
            module.randn_tensor = lambda *_, into=into, **__: torch.from_numpy(
                noise_batch(seeds, into, shape)
            )
            with torch.no_grad():
                out = network(
                    scheduler.scale_model_input(x, t), t.expand(len(seeds)), class_labels=label
                ).sample
            x = scheduler.step(out[:, : shape[0]], t, x).prev_sample
            found.append(x)
    finally:
        if before is not None:
            module.randn_tensor = before
    return torch.stack(found).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["UNet2DModel", "DiTTransformer2DModel"])
def test_every_state_is_that_of_the_schedulers_own_loop(tmp_path, kind, family):
    model = saved_folders.folder(family)
    x = profile(tmp_path / "store", model, kind)["trajectory"]["x_t"].isel(intervention=0, label=0)
    states = x.time.values.tolist()
    wanted = own_loop(model, kind, states)
    found = x.transpose("time", "seed", ...).values
    assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("kind", "pipeline"), [
    ("DDPMScheduler", DDPMPipeline), ("DDIMScheduler", DDIMPipeline),
])  # fmt: skip
def test_the_image_is_that_of_the_pipeline_itself(tmp_path, kind, pipeline, monkeypatch):
    """The pipeline's own code draws our noise, in the order in which it draws."""
    model = saved_folders.save_unet(tmp_path / "model", num_class_embeds=None)
    found = profile(tmp_path / "store", model, kind, seeds="0:8", labels=(0,))["trajectory"]["x_t"]
    states = iter(found.time.values.tolist())

    def draw(shape, *_, **__):
        return torch.from_numpy(noise_batch(range(8), next(states), shape[1:]))

    own = pipeline.from_pretrained(model)
    if kind == "DDIMScheduler":
        own.scheduler = importlib.import_module("diffusers").DDIMScheduler.from_config(own.scheduler.config)
    for module in (
        importlib.import_module(pipeline.__module__),
        importlib.import_module(type(own.scheduler).__module__),
    ):
        monkeypatch.setattr(module, "randn_tensor", draw)
    own.set_progress_bar_config(disable=True)
    images = own(batch_size=8, num_inference_steps=STEPS, output_type="np").images
    ours = found.isel(intervention=0, label=0).sel(time=0).transpose("seed", "y", "x", "channel").values
    assert np.abs((ours / 2 + 0.5).clip(0, 1) - images).max() <= 1e-5


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("kind", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_networks_that_predict_v_or_the_image_take_the_same_steps(tmp_path, kind, prediction):
    model = saved_folders.save_unet(tmp_path / "model", DDIMScheduler(prediction_type=prediction))
    x = profile(tmp_path / "store", model, kind)["trajectory"]["x_t"].isel(intervention=0, label=0)
    wanted = own_loop(model, kind, x.time.values.tolist())
    assert np.abs(x.transpose("time", "seed", ...).values - wanted).max() <= 1e-5 * max(
        1.0, np.abs(wanted).max()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_says_what_it_holds(tmp_path, kind):
    model = saved_folders.folder("UNet2DModel")
    tree = profile(tmp_path / "store", model, kind)
    x, x0 = tree["trajectory"]["x_t"], tree["predicted_x0"]["x0_hat"]
    assert x.time.values.tolist() == sorted(set(x.time.values.tolist()), reverse=True)
    assert x.time.values[-1] == 0
    assert np.isnan(x.timestep.values[-1])
    assert (np.diff(x.sigma.values) < 0).all() or kind == "PNDMScheduler"
    assert np.allclose(x.alpha_bar.values, 1 / (1 + x.sigma.values**2))
    # The image predicted in the last step is the image, where the last state holds no noise.
    if x.sigma.values[-1] == 0 and kind in ("EulerDiscreteScheduler", "DPMSolverMultistepScheduler"):
        assert np.abs(x.sel(time=0) - x0.sel(time=0)).max() < 1e-4


def test_stored_states_hold_the_noise_that_they_say(tmp_path):
    """Where the network knows the image (eps is exactly the noise), x_t is its signal and noise at the said levels."""
    found = schedulers.scheduled("EulerDiscreteScheduler", {"num_train_timesteps": 1000}, steps=5, options={})
    x0, eps = torch.full((1, 1, 2, 2), 0.3, dtype=torch.float64), torch.ones(1, 1, 2, 2, dtype=torch.float64)
    for kind in KINDS:
        if kind == "EulerAncestralDiscreteScheduler":
            continue  # adds new noise in every step
        found = schedulers.scheduled(
            kind, {"num_train_timesteps": 1000, "clip_sample": False}, steps=5, options=OPTIONS.get(kind, {}),
            eta=0.0 if kind == "DDIMScheduler" else None,
        )  # fmt: skip
        seen, states = found.visited, found.visited.states
        x = seen.signal(states[0]) * x0 + seen.noise(states[0]) * eps
        for t_from, t in itertools.pairwise(states):
            z = torch.zeros_like(x)
            x = found(x, eps, z, schedule=seen, t_from=t_from, t_to=t)
            if kind != "DDPMScheduler" and (kind != "PNDMScheduler" or t_from != states[0]):
                wanted = seen.signal(t) * x0 + seen.noise(t) * eps
                assert torch.allclose(x, wanted, atol=1e-5), (kind, t)


@pytest.mark.parametrize("kind", ["EulerDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"])
def test_growing_a_store_gives_the_bits_of_one_run(tmp_path, kind):
    """A multistep scheduler's history is in no state, so its states are never taken up in between."""
    model, layers = saved_folders.folder("UNet2DModel"), {"layers": ["mid_block"]}
    states = profile(tmp_path / "one", model, kind)["trajectory"].time.values.tolist()
    stages = {"trajectory": {"keep": states[:4]}}
    profile(tmp_path / "grown", model, kind, stages=stages)
    whole = {"trajectory": {}, "activations": {**layers, "keep": states[5:6]}}
    grown = profile(tmp_path / "grown", model, kind, stages=whole)
    at_once = profile(tmp_path / "at_once", model, kind, stages=whole)
    for path in ("trajectory", "activations/mid_block"):
        for name in at_once[path].data_vars:
            assert grown[path][name].values.tobytes() == at_once[path][name].values.tobytes(), (path, name)


@pytest.mark.parametrize("kind", schedulers.SCHEDULERS)
def test_a_step_of_bare_numbers_is_that_of_a_picture(kind):
    """Coefficients of a step are read off it by giving it numbers."""
    config = {"clip_sample": False, **({"variance_type": "learned_range"} if kind == "DDPMScheduler" else {})}
    found = schedulers.scheduled(kind, config, steps=4, options=OPTIONS.get(kind, {}))
    for t_from, t in itertools.pairwise(found.visited.states):
        how = {"schedule": found.visited, "t_from": t_from, "t_to": t}
        one = found(0.5, 0.2, 0.1, **how)
        assert isinstance(one, float)
        if not found.remembers:
            whole = found(*(np.full((2, 3, 4, 4), number) for number in (0.5, 0.2, 0.1)), **how)
            assert np.allclose(whole, one)


@pytest.mark.parametrize("kind", schedulers.SCHEDULERS)
def test_a_step_warns_of_nothing_that_was_seen_to(kind, caplog):
    logger = logging.getLogger("diffusers")
    logger.addHandler(caplog.handler)
    try:
        found = schedulers.scheduled(kind, {"clip_sample": False}, steps=3, options=OPTIONS.get(kind, {}))
        for t_from, t in itertools.pairwise(found.visited.states):
            found(0.5, 0.2, 0.1, schedule=found.visited, t_from=t_from, t_to=t)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.messages


@pytest.mark.parametrize("kind", schedulers.SCHEDULERS)
def test_it_is_known_without_torch_whose_states_grow_with_their_noise(kind):
    found = schedulers.scheduled(kind, {}, steps=4, options=OPTIONS.get(kind, {})).visited
    grows = found.signal(found.states[0]) ** 2 + found.noise(found.states[0]) ** 2 > 1.01
    assert grows == (kind in EXPLODING)


def test_a_multistep_scheduler_refuses_to_begin_in_between():
    found = schedulers.scheduled("DPMSolverMultistepScheduler", {}, steps=5, options={})
    t_from, t = found.visited.states[2:4]
    with pytest.raises(DefinitionError, match="reads earlier steps"):
        found(0.0, 1.0, 0.0, schedule=found.visited, t_from=t_from, t_to=t)


def test_guidance_and_interventions_reach_a_scheduler(tmp_path):
    model = saved_folders.folder("DiTTransformer2DModel")
    plain = profile(tmp_path / "a", model, "DPMSolverMultistepScheduler")
    guided = profile(tmp_path / "b", model, "DPMSolverMultistepScheduler", guidance_scale=4.0)
    assert np.abs(plain["trajectory"].x_t.sel(time=0) - guided["trajectory"].x_t.sel(time=0)).max() > 1e-3
    table = {
        "model": str(model), "cases": {"seeds": "0:2", "labels": [1]}, "stages": {"trajectory": {}},
        "sampler": {"rule": "DPMSolverMultistepScheduler", "steps": STEPS},
        "interventions": {"off": {"kind": "ablate", "layer": "transformer_blocks.1", "channel": [0, 1, 2, 3]}},
    }  # fmt: skip
    fp.run(fp.Pipeline.model_validate(table), into=tmp_path / "c")
    x = fp.open(tmp_path / "c")["trajectory"].x_t
    apart = np.abs(x.isel(intervention=0) - x.isel(intervention=1)).max(
        ["label", "seed", "channel", "y", "x"]
    )
    assert apart.values[0] == 0
    assert apart.values[-1] > 1e-4


VOLUME = {"trajectory": {}, "gradient_volume": {"mask": {"rectangle": [0, 0, 1, 2]}, "keep": "::3"}}


@pytest.mark.parametrize(("kind", "options"), [
    ("DDPMScheduler", None), ("PNDMScheduler", {"skip_prk_steps": True}), ("DPMSolverMultistepScheduler", None),
])  # fmt: skip
def test_a_gradient_through_a_step_that_is_not_linear_is_refused_before_anything_is_sampled(
    tmp_path, kind, options
):
    with pytest.raises(DefinitionError, match=r"clip_sample|earlier steps"):
        profile(tmp_path / "store", saved_folders.folder("UNet2DModel"), kind, options=options, stages=VOLUME)
    assert not (tmp_path / "store").exists()


def test_a_gradient_volume_under_a_scheduler_is_that_of_its_step(tmp_path):
    """A row of d x_t / d x_{t_from} through Euler's scaling, against a difference quotient of the whole step."""
    model = saved_folders.folder("UNet2DModel")
    kept = profile(tmp_path / "states", model, "EulerDiscreteScheduler", seeds="0:1")["trajectory"]
    states = kept.time.values.tolist()
    stages = {"trajectory": {}, "gradient_volume": {"mask": {"rectangle": [3, 4, 4, 5]}, "keep": [states[3]]}}
    tree = profile(tmp_path / "store", model, "EulerDiscreteScheduler", seeds="0:1", stages=stages)
    volume = next(node for node in tree["gradients/gradient_volume"].subtree if "gradient" in node.data_vars)
    row = volume["gradient"].isel(intervention=0, label=0, seed=0, time=0, pixel=0).values
    found = schedulers.scheduled("EulerDiscreteScheduler", zoo.scheduler(model), steps=STEPS, options={})
    denoiser = zoo.load(model).visiting(found.visited)
    x = torch.from_numpy(kept.x_t.isel(intervention=0, label=0, seed=0).sel(time=states[2]).values)[None]

    def stepped(x):
        index, label = torch.tensor([states[2] - 1]), torch.tensor([1])
        with torch.no_grad():
            eps = denoiser(x, index, label)
        return found(
            x.double(),
            eps.double(),
            torch.zeros_like(x).double(),
            schedule=found.visited,
            t_from=states[2],
            t_to=states[3],
        )

    h = 0.05
    for y, width in ((3, 4), (3, 5), (8, 1)):
        quotient = 0.0
        for channel in range(3):
            up, down = x.clone(), x.clone()
            up[0, channel, y, width] += h
            down[0, channel, y, width] -= h
            quotient += float((stepped(up) - stepped(down))[0, :, 3, 4].sum() / (2 * h))
        assert row[y, width] == pytest.approx(quotient, abs=2e-3)


@pytest.mark.parametrize(("sampler", "told"), [
    ({"rule": "EulerScheduler"}, "EulerDiscreteScheduler"),
    ({"rule": "dppm"}, "did you mean 'ddpm'"),
    ({"rule": "EulerDiscreteScheduler", "options": {"use_karras": True}}, "use_karras_sigmas"),
    ({"rule": "EulerDiscreteScheduler", "options": {"prediction_type": "sample"}}, "stands in its folder"),
    ({"rule": "EulerDiscreteScheduler", "eta": 0.5}, "eta"),
    ({"rule": "DDPMScheduler", "variance": "beta"}, "variance"),
    ({"rule": "DDIMScheduler", "steps": 1001}, "1001"),
    ({"rule": "ddim", "options": {"clip_sample": True}}, "options"),
])  # fmt: skip
def test_what_a_scheduler_does_not_know_is_refused_with_a_remedy(tmp_path, sampler, told):
    with pytest.raises(DefinitionError) as caught:
        fp.profile(str(saved_folders.folder("UNet2DModel")), seeds="0:1", labels=[0], into=tmp_path / "s",
                   sampler=sampler, stages={"trajectory": {}})  # fmt: skip
    assert told in str(caught.value)
    assert "sampler" in str(caught.value)


def test_a_formula_has_no_scheduler_and_a_weights_file_none_of_its_own(tmp_path):
    for model, rule in (("mixture16", "DDIMScheduler"), ("digits", "scheduler")):
        with pytest.raises(DefinitionError, match=r"formula|no folder"):
            fp.profile(model, seeds="0:1", labels=[0], into=tmp_path / "s", sampler={"rule": rule, "steps": 5},
                       stages={"trajectory": {}})  # fmt: skip


def test_an_embedded_model_under_their_ddim_is_ours_at_the_same_states(tmp_path):
    """Two implementations of one algorithm: diffusers' trailing grid of ten steps is ours."""
    common = {"seeds": "0:2", "labels": [3], "stages": {"trajectory": {}}}
    theirs = fp.profile("digits", into=tmp_path / "a", **common, sampler={
        "rule": "DDIMScheduler", "steps": 10, "options": {"timestep_spacing": "trailing"}})  # fmt: skip
    ours = fp.profile("digits", into=tmp_path / "b", **common, sampler={"rule": "ddim", "steps": 10})
    assert theirs["trajectory"].time.values.tolist() == ours["trajectory"].time.values.tolist()
    # They end at alpha_bar of the first step's index, we at 1: only the last step may differ.
    before = slice(1000, 100)
    apart = np.abs(theirs["trajectory"].x_t.sel(time=before) - ours["trajectory"].x_t.sel(time=before)).max()
    assert float(apart) < 1e-4


def test_numbers_of_states_are_whole_fall_and_are_each_their_own():
    assert numbered([0.4, 0.2, 0.1], 1000) == (3, 2, 1, 0)
    assert numbered([1000.0], 1000) == (1000, 0)
    with pytest.raises(DefinitionError, match="fewer steps"):
        numbered([0.5] * 11, 10)
