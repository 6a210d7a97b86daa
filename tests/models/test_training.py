"""A training can be stopped anywhere and ends in the same weights; readers and fidelity say what they measured."""

import os
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowprofile.datasets.digits import COUNT, digits
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import fidelity, reader, training, weights, zoo
from flowprofile.models.training import RECIPES, learning_rate, train

CONFIG = {**RECIPES["digits"].config, "dim": 8, "heads": 1, "head_dim": 4}
TINY = replace(RECIPES["digits"], name="tiny", config=CONFIG, steps=6, batch=4, warmup=2, checkpoint=100)


def test_an_interrupted_training_ends_in_the_weights_of_an_uninterrupted_one(tmp_path):
    whole = train(TINY, into=tmp_path / "whole")
    heard = []

    def stop(progress):
        heard.append(progress.step)
        if progress.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, into=tmp_path / "cut", listen=stop)
    assert signal.getsignal(signal.SIGINT) is before
    state = tmp_path / "cut" / "tiny.state.safetensors"
    assert weights.read_header(state).metadata["step"] == "3"
    assert sorted(training.averaged(state)) == sorted(weights.load(whole))
    cut = train(TINY, into=tmp_path / "cut", listen=stop)
    assert heard == [1, 2, 3, 4, 5, 6]
    assert not state.exists()
    assert weights.digest(cut) == weights.digest(whole)
    assert weights.card(cut) == weights.card(whole) == training.card(TINY)


def test_the_seed_and_the_steps_decide_the_weights(tmp_path):
    digests = {
        weights.digest(train(recipe, into=tmp_path / str(i), steps=2))
        for i, recipe in enumerate((TINY, TINY, replace(TINY, seed=1), replace(TINY, label_dropout=0.9)))
    }
    assert len(digests) == 3


def test_a_state_of_another_recipe_is_not_continued(tmp_path):
    run = training._Run(TINY)
    run.store(tmp_path / "tiny.state.safetensors")
    other = replace(TINY, learning_rate=1e-3)
    with pytest.raises(ModelError, match="another recipe"):
        train(other, into=tmp_path)
    assert train(other, into=tmp_path, resume=False, steps=1).exists()


def test_a_finished_model_is_not_made_again_and_never_replaced_by_another(tmp_path):
    path = train(TINY, into=tmp_path)
    made, heard = path.read_bytes(), []
    assert train(TINY, into=tmp_path, listen=heard.append) == path
    assert not heard
    other = replace(TINY, learning_rate=1e-3)
    with pytest.raises(ModelError, match=r"another recipe made it.*\n.*\n.*--fresh"):
        train(other, into=tmp_path, listen=heard.append)
    assert path.read_bytes() == made
    assert not heard
    assert weights.card(train(other, into=tmp_path, resume=False)).training["learning_rate"] == 1e-3
    path.write_bytes(weights_without_card())
    with pytest.raises(ModelError, match="another recipe made it"):
        train(TINY, into=tmp_path)


def weights_without_card():
    from safetensors.torch import save

    return save({"w": torch.zeros(2)})


def test_training_lowers_the_loss(tmp_path):
    losses = []
    train(replace(TINY, batch=16), into=tmp_path, steps=60, listen=lambda p: losses.append(p.loss))
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_a_trained_file_is_a_model(tmp_path):
    path = train(TINY, into=tmp_path, steps=1)
    denoiser = zoo.load(path)
    eps = denoiser(torch.zeros(2, 1, 8, 8), torch.tensor([0, 999]), torch.tensor([3, 10]))
    assert eps.shape == (2, 1, 8, 8)
    assert not any(p.requires_grad for p in denoiser.module.parameters())


def test_the_rate_grows_stays_and_falls():
    rates = [learning_rate(replace(TINY, steps=300, warmup=10), step) for step in range(300)]
    assert rates[0] == pytest.approx(2e-4)
    assert rates[9] == rates[199] == 2e-3
    assert rates[250] == pytest.approx(1e-3)
    assert 0 < rates[-1] < 3e-5


def test_a_wrong_recipe_is_refused():
    with pytest.raises(DefinitionError, match="did you mean 'faces32'"):
        train("faces", into=".")


def test_the_digits_are_there_and_their_absence_is_explained(monkeypatch):
    data = digits()
    assert data.images.shape == (COUNT, 1, 8, 8)
    assert data.images.min() == 0
    assert data.images.max() == 1
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DefinitionError, match=r"flowprofile\[train\]"):
        digits()


def test_a_reader_learns_and_survives_its_file(tmp_path):
    trained = reader.train_digits(steps=120)
    assert trained.card.held_out > 0.8
    assert trained.card.held_out_n == 359
    reader.save(trained, folder=tmp_path)
    back = reader.load("digits", folder=tmp_path)
    assert back.card == trained.card
    assert reader.digest(back) == reader.digest(trained)


def test_fidelity_says_what_it_measured(tmp_path):
    path = train(TINY, into=tmp_path, steps=1)
    heard = []
    found = fidelity.measure(
        zoo.load(path),
        reader.load("digits"),
        n=12,
        sampler="ddim",
        transitions=2,
        batch=8,
        listen=heard.append,
    )
    assert heard == [8, 12]
    assert found["sampler"] == "ddim-2"
    assert found["n"] == 12
    assert found["interval"][0] <= found["fidelity"] <= found["interval"][1]
    assert set(found["parts"]) == {str(digit) for digit in range(10)}
    with pytest.raises(DefinitionError, match="cannot judge"):
        fidelity.measure(zoo.load(path), reader.load("faces32"), n=12)


def test_the_interval_is_sound_at_the_ends():
    assert fidelity.wilson(0, 10)[0] == 0
    assert fidelity.wilson(10, 10)[1] == pytest.approx(1)
    assert fidelity.wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-4)
