"""Training on a folder of pictures: resumed as if never stopped, and a model like any other afterwards."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from celeba import THESIS, celeba

import flowprofile as fp
from flowprofile import running
from flowprofile.cli import main
from flowprofile.datasets.folder import labelled
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import training, weights, zoo
from flowprofile.models.pictured import pictured
from flowprofile.models.training import RECIPES, train

SMALL = {"size": 16, "dim": 8, "mults": (1, 2), "steps": 5, "name": "mine"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return celeba(tmp_path_factory.mktemp("celeba") / "faces")[0]


def small(folder, **changes):
    recipe, data = pictured(folder, THESIS, **{**SMALL, **changes})
    return replace(recipe, batch=4, warmup=2), data


def test_an_interrupted_training_ends_in_the_weights_of_an_uninterrupted_one(folder, tmp_path):
    recipe, data = small(folder)
    whole = train(recipe, into=tmp_path / "whole", data=data)

    def stop(progress):
        if progress.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, into=tmp_path / "cut", data=data, listen=stop)
    again, fresh = small(folder)
    cut = train(again, into=tmp_path / "cut", data=fresh)
    assert weights.digest(cut) == weights.digest(whole)
    assert weights.card(cut) == weights.card(whole)


def test_each_step_sees_the_next_pictures_of_the_folder_from_black_to_white(folder):
    recipe, data = small(folder)
    batch, known = data(recipe), labelled(folder, THESIS)
    for step in (0, 1, 4):
        images, labels = batch(step)
        places = known.places(recipe.seed, step, recipe.batch)
        seen, told = known.batch(places, recipe.shape)
        assert np.array_equal(labels, told)
        assert np.array_equal(images, 2 * seen - 1)
        assert images.dtype == np.float32
    assert not np.array_equal(batch(0)[0], batch(1)[0])
    assert -1 <= images.min() < -0.5 < 0.5 < images.max() <= 1


def test_its_card_says_what_it_is_and_nothing_of_where_it_lay(folder, tmp_path):
    recipe, data = small(folder)
    card = zoo.card(train(recipe, into=tmp_path, data=data, steps=1))
    assert (card.name, card.shape, card.labels.attributes) == ("mine", (3, 16, 16), THESIS)
    assert card.training["source"] == recipe.source
    assert str(folder) not in card.to_json()


def test_a_profile_of_it_and_of_its_own_pictures(folder, tmp_path):
    recipe, data = small(folder)
    path = train(recipe, into=tmp_path, data=data, steps=1)
    tree = fp.profile(str(path), seeds=[0], labels=["0110"], into=tmp_path / "s", sampler={"steps": 4})
    assert (tree["measures/step_ssim"].status == 2).all()
    assert bool(tree["trajectory"].Male.sel(label=0b0110))
    own = {"images": folder / "img_align_celeba", "attributes": str(folder / "list_attr_celeba.txt")}
    tree = fp.profile(str(path), into=tmp_path / "t", sampler={"steps": 4}, source=own)
    assert (tree["predicted_x0"].status.max("label") == 2).all()
    assert set(tree.label.values.tolist()) == set(labelled(folder, THESIS).labels.tolist())


def test_other_pictures_are_another_recipe(folder, tmp_path):
    recipe, data = small(folder)
    other = replace(recipe, source="0" * 32)
    assert training.fingerprint(recipe) != training.fingerprint(other)
    training._Run(recipe).store(tmp_path / "mine.state.safetensors")
    with pytest.raises(ModelError, match="another recipe"):
        train(other, into=tmp_path, data=data)


def test_recipes_that_name_their_data_are_what_they_were():
    """Unfinished trainings of before can be continued."""
    found = {name: training.fingerprint(RECIPES[name]) for name in ("faces32", "digits")}
    assert found == {"faces32": "bd11fb60abbeafed", "digits": "5a63fc0ab84afc23"}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        (
            {"size": 18, "mults": (1, 2, 4)},
            r"18 x 18 cannot be halved 2 times.*\n.*\n.*multiple of 4, for instance 16 or 20",
        ),
        ({"size": 2, "mults": (1, 2, 4)}, r"cannot be halved.*\n.*\n.*instance 4 or 8"),
        ({"name": "faces32"}, "name of a shipped model"),
        ({"name": "../mine"}, "cannot be called"),
        ({"dim": 7}, r"cannot have dim = 7.*\n.*sines and as many cosines.*\n.*an even dim"),
        ({"dim": 9, "mults": (1, 2, 4)}, "cannot have dim = 9"),
        ({"mults": (1,)}, "two or more positive multiples"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_picture_is_looked_at(tmp_path, changes, fact):
    with pytest.raises((DefinitionError, ModelError), match=fact):
        pictured(tmp_path / "nowhere", THESIS, **{**SMALL, **changes})


def test_from_the_command_line_to_a_profile(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "--images",
        str(folder),
        "--attributes",
        ",".join(THESIS),
        "--steps",
        "2",
        "--size",
        "16",
    ]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--dim", "8", "--mults", "1,2"])
    assert not stop.value.code
    path = tmp_path / "out" / "train" / "faces-16" / "faces-16.safetensors"
    assert path.exists()
    assert (
        "flowprofile run first-profile --set model=out/train/faces-16/faces-16.safetensors"
        in capsys.readouterr().out
    )
    with pytest.raises(SystemExit) as stop:
        main([*command, "--dim", "8", "--mults", "1,2"])
    assert (stop.value.code, "is finished: nothing to train" in capsys.readouterr().err) == (0, True)
    stages = {"trajectory": {"keep": "::2"}}
    pipeline = fp.Pipeline(
        model=str(path),
        cases={"seeds": [0], "labels": [["Male", "Smiling"]]},
        sampler={"steps": 4},
        stages=stages,
    )
    assert running.run(pipeline, into=tmp_path / "s").forwards == 4


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ([], "Give either a RECIPE"),
        (["faces32", "--images", "here"], "Give either a RECIPE"),
        (["faces32", "--size", "16"], "--size belongs to --images"),
        (["--images", "here"], "--images needs --attributes"),
        (["--images", "here", "--attributes", "Male", "--mults", "1,x"], "give numbers such as 1,2,4"),
        (["--images", "here", "--attributes", "Male"], "There is no folder 'here'"),
    ],
)
def test_the_command_line_teaches(arguments, fact, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["train", *arguments])
    assert stop.value.code == 2
    assert fact in capsys.readouterr().err
