"""Flow matching: straight lines from noise to image, walked by the velocity that a network says."""

import itertools
import json

import numpy as np
import pytest
import saved_folders
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import nn

import flowprofile as fp
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import schedulers, zoo
from flowprofile.time.noise import noise_batch
from flowprofile.time.rules import eps_from_x0, x0_from_eps
from pipelines import MEASURES

FLOW = "FlowMatchEulerDiscreteScheduler"
SAVE = {"UNet2DModel": saved_folders.save_unet, "DiTTransformer2DModel": saved_folders.save_dit}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return saved_folders.save_unet(tmp_path_factory.mktemp("flow") / "model", scheduler)


def profile(model, into, *, steps=4, seeds="0:3", labels=(1,), stages=None, rule="scheduler", **sampler):
    return fp.profile(
        model if hasattr(model, "card") else str(model),
        seeds=seeds,
        labels=labels,
        into=into,
        sampler={"rule": rule, "steps": steps, **sampler},
        stages=stages or {"trajectory": {}, "predicted_x0": {}},
    )


def own_loop(model, steps, start, **told):
    """The loop of diffusers' pipelines of flow matching: every state and velocity, [state seed channel y x]."""
    denoiser, config = zoo.load(model), dict(zoo.scheduler(model))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(config)
    scheduler.set_timesteps(steps, **told)
    x = torch.from_numpy(noise_batch([0, 1, 2], start, denoiser.card.shape))
    found, said = [x], []
    for t in scheduler.timesteps:
        with torch.no_grad():
            out = denoiser.module(x, t.expand(3), class_labels=torch.ones(3, dtype=torch.int64)).sample
        said.append(out[:, : x.shape[1]])
        x = scheduler.step(said[-1], t, x, return_dict=False)[0]
        found.append(x)
    return torch.stack(found).numpy(), torch.stack(said).numpy(), scheduler.sigmas.numpy()


MU = 0.5 + (16 - 256) * 0.65 / 3840
"""The shift of 16 tokens, on the line through (256, 0.5) and (4096, 1.15)."""


@pytest.mark.parametrize(("family", "steps", "given", "told"), [
    ("UNet2DModel", 4, {"shift": 3.0}, {}),
    ("UNet2DModel", 9, {}, {}),
    ("DiTTransformer2DModel", 1, {}, {}),
    ("DiTTransformer2DModel", 4, {"use_dynamic_shifting": True}, {"mu": MU}),
])  # fmt: skip
def test_every_state_and_predicted_image_is_that_of_the_schedulers_own_loop(
    tmp_path, family, steps, given, told
):
    model = SAVE[family](tmp_path / "model", FlowMatchEulerDiscreteScheduler(**given))
    tree = profile(model, tmp_path / "store", steps=steps)
    x, x0 = (tree[path][name].isel(intervention=0, label=0).transpose("time", "seed", ...)
             for path, name in (("trajectory", "x_t"), ("predicted_x0", "x0_hat")))  # fmt: skip
    wanted, said, sigmas = own_loop(model, steps, int(x.time[0]), **told)
    assert len(x.time) == steps + 1
    assert np.abs(x.values - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())
    images = wanted[:-1] - sigmas[:-1, None, None, None, None] * said
    assert np.abs(x0.values - images).max() <= 1e-5 * max(1.0, np.abs(images).max())
    # The last step ends in the image that it predicts.
    assert np.abs(x0.values[-1] - x.values[-1]).max() <= 1e-5


def test_states_say_their_time_and_noise_and_are_whole_numbers_that_fall_to_0(model, tmp_path):
    x = profile(model, tmp_path / "store", seeds="0:1", stages={"trajectory": {}})["trajectory"]["x_t"]
    own = FlowMatchEulerDiscreteScheduler(shift=3.0)
    own.set_timesteps(4)
    sigma = own.sigmas.double().numpy()
    assert x.time.values[0] == 1000
    assert x.time.values[-1] == 0
    assert (np.diff(x.time.values) < 0).all()
    assert np.allclose(x.sigma.values, sigma)
    assert np.allclose(x.timestep.values[:-1], own.timesteps.double().numpy())
    assert np.isnan(x.timestep.values[-1])
    # Of a time that is whole, t is that time: sigma is t / T.
    whole = schedulers.scheduled(FLOW, {"shift": 1.0}, steps=1000, options={}).visited
    assert whole.states == tuple(range(1000, -1, -1))
    assert np.allclose(whole.noises, np.array(whole.states) / 1000, atol=1e-6)
    assert x.time.values.tolist() == [*np.ceil(np.round(x.timestep.values[:-1], 3)), 0]
    assert np.allclose(x.alpha_bar.values, (1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2))


class Knowing(nn.Module):
    """The velocity of a network that knows the one image there is; its time is T sigma."""

    def __init__(self, image):
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, x, t, label):
        return (x - self.image) / (t / 1000).view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def knowing():
    image = torch.linspace(-1, 1, 3 * 64).reshape(3, 8, 8)
    return fp.denoiser(Knowing(image), (3, 8, 8), classes=2, prediction="flow")


def test_a_network_that_knows_the_image_walks_straight_to_it_and_is_its_own_null(knowing, tmp_path):
    stages = {"trajectory": {}, "predicted_x0": {}, **MEASURES}
    tree = profile(knowing, tmp_path / "store", rule=FLOW, steps=6, stages=stages)
    x, image = tree["trajectory"]["x_t"].isel(intervention=0, label=0), knowing.module.image.numpy()
    assert np.abs(tree["predicted_x0"]["x0_hat"].values - image).max() <= 1e-5
    for t, sigma in zip(x.time.values, x.sigma.values, strict=True):
        straight = (1 - sigma) * image + sigma * noise_batch([0, 1, 2], 1000, (3, 8, 8))
        assert np.abs(x.sel(time=t).transpose("seed", ...).values - straight).max() <= 1e-5
    for name in ("step_ssim", "step_mse"):
        found = tree[f"measures/{name}"]
        assert np.abs(found["value"] - found["null"]).max() <= 1e-4


def test_velocity_and_image_turn_into_each_other_in_every_state_even_in_pure_noise():
    seen = schedulers.scheduled(FLOW, {}, steps=5, options={}).visited
    assert seen.signal(seen.states[0]) == 0.0
    x, x0 = np.linspace(-2, 2, 5), np.linspace(0, 1, 5)
    for t in seen.states[:-1]:
        velocity = eps_from_x0(x, x0, schedule=seen, t=t)
        assert np.allclose(x0_from_eps(x, velocity, schedule=seen, t=t), x0)
        noise = x + seen.signal(t) * velocity
        assert np.allclose(seen.signal(t) * x0 + seen.noise(t) * noise, x)


def test_a_step_that_draws_draws_the_noise_of_its_seed_and_time(model, tmp_path):
    tree = profile(model, tmp_path / "store", options={"stochastic_sampling": True})
    x, x0 = tree["trajectory"]["x_t"].isel(intervention=0, label=0), tree["predicted_x0"]["x0_hat"]
    for t in x.time.values[1:]:
        sigma = float(x.sigma.sel(time=t))
        image = x0.isel(intervention=0, label=0).sel(time=t).transpose("seed", ...).values
        wanted = (1 - sigma) * image + sigma * noise_batch([0, 1, 2], int(t), (3, 16, 16))
        assert np.abs(x.sel(time=t).transpose("seed", ...).values - wanted).max() <= 1e-5


def test_looking_inside_leaves_every_bit_and_a_row_does_not_know_the_others(model, tmp_path):
    bare = profile(model, tmp_path / "bare", stages={"trajectory": {}})["trajectory"]["x_t"]
    looked = profile(model, tmp_path / "looked", seeds="0:3", stages={
        "trajectory": {}, "activations": {"layers": ["mid_block"]}, "predicted_x0": {}})  # fmt: skip
    assert looked["trajectory"]["x_t"].values.tobytes() == bare.values.tobytes()
    alone = profile(model, tmp_path / "alone", seeds="2:3", stages={"trajectory": {}})["trajectory"]["x_t"]
    assert alone.values.tobytes() == bare.sel(seed=[2]).values.tobytes()


def test_a_gradient_volume_is_that_of_the_whole_step(model, tmp_path):
    """A row of d x_t / d x_{t_from} = I + (sigma_t - sigma_from) d v / d x, against a difference quotient."""
    states = list(schedulers.scheduled(FLOW, zoo.scheduler(model), steps=4, options={}).visited.states)
    stages = {"trajectory": {}, "gradient_volume": {"mask": {"rectangle": [3, 4, 4, 5]}, "keep": states[1:3]}}
    tree = profile(model, tmp_path / "store", seeds="0:1", stages=stages)
    volume = next(node for node in tree["gradients/gradient_volume"].subtree if "gradient" in node.data_vars)
    x_t, network = tree["trajectory"]["x_t"].isel(intervention=0, label=0, seed=0), zoo.load(model).module
    for t_from, t in itertools.pairwise(states[:3]):
        row = volume["gradient"].isel(intervention=0, label=0, seed=0, pixel=0).sel(time=t).values
        x, step = torch.from_numpy(x_t.sel(time=t_from).values)[None], float(
            x_t.sigma.sel(time=t) - x_t.sigma.sel(time=t_from))  # fmt: skip
        for y, width in ((3, 4), (3, 5), (8, 1)):
            quotient = 0.0
            for channel in range(3):
                h = torch.zeros_like(x)
                h[0, channel, y, width] = 0.05
                told = {"timestep": x_t.timestep.sel(time=t_from).item(), "class_labels": torch.tensor([1])}
                with torch.no_grad():
                    change = network(x + h, **told).sample - network(x - h, **told).sample
                quotient += step * float(change[0, :, 3, 4].sum()) / 0.1 + ((y, width) == (3, 4))
            assert row[y, width] == pytest.approx(quotient, abs=2e-3)


@pytest.mark.parametrize(("prediction", "sampler", "told"), [
    ("flow", {"rule": "ddpm"}, "trained by flow matching"),
    ("flow", {"rule": "ddim"}, FLOW),
    ("flow", {"rule": "EulerDiscreteScheduler"}, f"use {FLOW}"),
    ("flow", {"rule": FLOW, "options": {"invert_sigmas": True}}, "do not fall"),
    ("flow", {"rule": FLOW, "options": {"use_dynamic_shifting": True}}, "use_dynamic_shifting = false"),
    ("flow", {"rule": FLOW, "options": {"prediction_type": "epsilon"}}, "no option"),
    ("flow", {"rule": FLOW, "steps": 1001}, "fewer steps"),
    ("eps", {"rule": FLOW}, "steps along straight lines"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_before_anything_is_sampled(
    knowing, tmp_path, prediction, sampler, told
):
    model = knowing if prediction == "flow" else saved_folders.folder("UNet2DModel")
    with pytest.raises(DefinitionError) as caught:
        profile(model, tmp_path / "store", **{"steps": 4, **sampler})
    assert told in str(caught.value)
    assert not (tmp_path / "store").exists()


def test_a_folder_with_inverted_sigmas_is_refused_by_its_name(model, tmp_path):
    copied = saved_folders.save_unet(tmp_path / "m", FlowMatchEulerDiscreteScheduler(invert_sigmas=True))
    with pytest.raises(ModelError, match=f"The scheduler of {copied} says invert_sigmas"):
        zoo.card(copied)


def test_two_folders_of_equal_weights_are_two_models_if_one_is_of_flow_matching(model, tmp_path):
    other = saved_folders.save_unet(tmp_path / "m", DDIMScheduler())
    assert zoo.identity(other) != zoo.identity(model)
    assert (zoo.card(model).prediction, zoo.card(model).schedule) == ("flow", "flow")
    assert json.loads(zoo.card(model).to_json())["steps"] == 1000
