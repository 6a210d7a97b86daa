"""Networks of diffusers' learn from the same pictures as the thesis' U-Net, by the same rules, and become its folders."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowprofile.errors import ModelError
from flowprofile.models import architectures, folders, training, zoo
from flowprofile.models.training import RECIPES, train

SMALL = {
    "faces32-unet2d": {"block_out_channels": (8, 8, 8), "attention_head_dim": 8, "norm_num_groups": 4},
    "faces32-dit": {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8},
}


def tiny(name):
    whole = RECIPES[name]
    return replace(whole, name="tiny", config={**whole.config, **SMALL[name]}, steps=4, batch=8, warmup=2)


@pytest.mark.parametrize("name", SMALL)
def test_a_trained_folder_is_a_model_and_an_interrupted_training_ends_in_its_weights(name, tmp_path):
    recipe = tiny(name)
    whole = train(recipe, into=tmp_path / "whole")

    def stop(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, into=tmp_path / "cut", listen=stop)
    cut = train(recipe, into=tmp_path / "cut")
    assert folders.digest(cut) == folders.digest(whole)
    assert sorted(p.name for p in (tmp_path / "cut").iterdir()) == ["tiny"]
    heard = []
    assert train(recipe, into=tmp_path / "cut", listen=heard.append) == cut
    with pytest.raises(ModelError, match="another recipe made it"):
        train(replace(recipe, seed=1), into=tmp_path / "cut", listen=heard.append)
    assert not heard
    card = zoo.card(whole)
    assert (card.architecture, card.prediction, card.shape) == (recipe.architecture, "v", (3, 32, 32))
    assert (card.labels.count, card.null_label) == (16, recipe.null_label)
    x, index, label = torch.randn(3, 3, 32, 32), torch.tensor([0, 500, 999]), torch.tensor([0, 6, 15])
    network = architectures.fresh(recipe.architecture, recipe.config)
    network.load_state_dict(zoo.load(whole).module.state_dict())
    with torch.no_grad():
        v = architectures.predicted(recipe.architecture, network, x, index, label)
        bars = training._Run(recipe).bars[index.numpy()]
        root, sigma = (
            torch.tensor(np.sqrt(b), dtype=torch.float32)[:, None, None, None] for b in (bars, 1 - bars)
        )
        torch.testing.assert_close(zoo.load(whole)(x, index, label), sigma * x + root * v)


def test_a_transformer_begins_by_saying_nothing_and_learns():
    recipe = replace(tiny("faces32-dit"), steps=200)
    run, batch = training._Run(recipe), training.SOURCES["faces"](recipe)
    first = run.advance(*batch(0))
    assert first == pytest.approx(float(_target(run, batch(0)).square().mean()), rel=1e-5), (
        "it says 0 of everything"
    )
    losses = [run.advance(*batch(step)) for step in range(1, 150)]
    assert np.mean(losses[-20:]) < 0.9 * np.mean([first, *losses[:5]])


def _target(run, batch):
    run.step -= 1
    *_, target = run._examples(*batch)
    run.step += 1
    return target


def test_a_recipe_of_the_thesis_layout_has_the_fingerprint_it_had():
    assert training.fingerprint(RECIPES["faces32"]) == "bd11fb60abbeafed"
    other = replace(RECIPES["faces32"], architecture="UNet2DModel")
    assert training.fingerprint(other) != training.fingerprint(RECIPES["faces32"])
