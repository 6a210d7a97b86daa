"""What a source of pictures refuses, before a model is loaded: each says what can be done instead."""

import re
import sys
from dataclasses import replace

import pytest
from photographs import looking, photographs, picture, saved
from PIL import Image

from flowprofile import projecting, running
from flowprofile.definitions import Pipeline, read
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.extension import measure


def refused(folder, *facts, **how):
    with pytest.raises(DefinitionError) as refusal:
        running.assembled(looking(folder, **how))
    text = str(refusal.value)
    for fact in facts:
        assert re.search(fact, text), text


@pytest.fixture
def folder(tmp_path):
    return photographs(tmp_path / "p")


def test_pictures_that_cannot_be_looked_at(tmp_path, folder):
    refused(tmp_path / "nowhere", "There is no folder", r"key source\.images")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no pictures")
    saved(picture(1, channels=3), folder / "colour.png")
    refused(folder, r"colour\.png.* is RGB, and the model's images are gray", r"convert\('L'\)")
    (folder / "colour.png").write_bytes(b"\x89PNG\r\n\x1a\n but no picture")
    refused(folder, r"colour\.png.*is no sound PNG or JPEG")
    (folder / "colour.png").rename(folder / "notes.txt")
    refused(folder, r"'notes\.txt'.* is no PNG or JPEG")


def test_a_decompression_bomb(folder):
    Image.new("L", (8192, 8192)).save(folder / "bomb.png")
    refused(folder, r"bomb\.png.*8192 x 8192 pixels", "any amount of memory")


def test_the_same_picture_twice(folder):
    saved(picture(0), folder / "copy.png")
    refused(folder, "'0.png' and 'copy.png' are the same picture")


def test_labels_that_are_missing_or_given_twice(tmp_path, folder):
    refused(
        folder, "What the network is told with each image is missing", 'labels = \\["0110"\\]', labels=None
    )
    table = tmp_path / "a.txt"
    table.write_text("1\nBangs Male Smiling Wearing_Lipstick\n0.png 1 1 1 1\n")
    faces = photographs(tmp_path / "f", side=(32, 32), channels=3)
    how = {"model": "faces32", "labels": None, "attributes": str(table)}
    refused(faces, "says nothing of '1.png', '2.png'", "2 of 3 pictures have no row", **how)
    refused(faces, "Labels are given twice", **{**how, "labels": [3]})
    refused(faces, "no attribute 'bang'", "'bangs'", columns={"bang": "Bangs"}, **how)
    refused(faces, "no attribute 'Bang'", "'Bangs'", columns={"bangs": "Bang"}, **how)
    refused(faces, "There is no attribute table", **{**how, "attributes": "none.txt"})
    refused(folder, "'digits' is told no attributes", labels=None, attributes=str(table))
    rows = "".join(f"{number}.png 1 1 {number - 1 or -1} 1\n" for number in range(3))
    table.write_text(f"3\nBangs Male Smiling Wearing_Lipstick\n{rows}")
    stages = {"apart": {"use": "layer_distance", "layers": "mid_attn.fn", "between": "labels"}}
    refused(faces, "every image has one label", **how, **stages)


def test_cases_that_are_missing_where_nothing_is_given():
    for cases, key in (({"labels": [3]}, "seeds"), ({"seeds": [0]}, "labels")):
        pipeline = Pipeline.model_validate({"model": "digits", "cases": cases, "stages": {"trajectory": {}}})
        with pytest.raises(DefinitionError, match=f"The key '{key}' is missing"):
            running.assembled(pipeline)


@measure(on="trajectory", version=1, halo=1)
def drift(x):
    """Mean change."""
    return (x - x.shift(time=1)).isel(time=slice(1, None)).mean(["channel", "y", "x"])


@pytest.mark.parametrize(
    "stage",
    [
        {"use": "ssim"},
        {"use": "mse", "between": "labels"},
        {"use": "l1", "between": "clean"},
        {"use": "layer_distance", "layers": "mid_attn.fn"},
        {"use": "change", "mask": {"rectangle": [0, 0, 2, 2]}},
    ],
)
def test_noised_states_are_no_chain(folder, stage):
    table = {"cut": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3}}
    refused(
        folder, r"the states of a noised image are no chain", r"stages\.compared", 'how = "inverted"',
        labels=[3, 5], interventions=table, compared=stage,
    )  # fmt: skip


def test_a_measure_of_ones_own_with_history_needs_a_chain(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "own_drift", sys.modules[__name__])
    pipeline = looking(folder, drift={"use": "own_drift:drift"})
    with pytest.raises(DefinitionError, match=r"reads 1 earlier state .*no chain"):
        projecting.assembled(pipeline, allow_code=True)
    inverted = looking(folder, how="inverted", drift={"use": "own_drift:drift"})
    assert "drift" in projecting.assembled(inverted, allow_code=True).graph.stages


def test_samplers_and_options_that_do_not_lead_back(folder):
    refused(folder, "the sampler is 'ddpm'", 'rule = "ddim"', how="inverted", sampler={"rule": "ddpm"})
    refused(folder, r"with eta = 0\.5", how="inverted", sampler={"eta": 0.5})
    refused(folder, "draws = 2 with inverted images", how="inverted", draws=2)
    refused(folder, "iterations = 3 with noised images", iterations=3)
    refused(folder, "noise = 'torch' is given beside a source", sampler={"noise": "torch"})


def test_seeds_of_pictures_that_are_gone(folder):
    seeds = running.assembled(looking(folder)).sweep.seeds
    assert running.assembled(looking(folder, seeds=seeds[1:])).sweep.seeds == seeds[1:]
    (folder / "0.png").unlink()
    refused(folder, f"No image of the source has the seed {seeds[0]}", "1 of 3 seeds", seeds=seeds)


def test_in_a_file_paths_begin_at_its_folder_and_a_refusal_names_the_line(tmp_path, folder):
    path = tmp_path / "given.toml"
    text = 'model = "digits"\n[source]\nimages = "p"\nhow = "noised"\n[cases]\nlabels = [3]\n[stages.trajectory]\n'
    path.write_text(text)
    assert len(running.assembled(path).sweep.seeds) == 3
    path.write_text(text.replace('"p"', '"q"'))
    with pytest.raises(DefinitionError, match=r"q'.* \(.*given\.toml, line 3, key source\.images\)"):
        running.assembled(path)
    path.write_text(text.replace('"noised"', '"blurred"'))
    with pytest.raises(DefinitionError, match=r"line 4, key source\.how"):
        read(path)
    path.write_text(text.replace("[cases]\nlabels = [3]\n", "[cases]\n"))
    with pytest.raises(DefinitionError, match="What the network is told"):
        read(path)


def test_a_picture_that_changes_while_a_run_goes_on_is_never_taken_for_the_old_one(tmp_path, folder):
    ready = running.assembled(looking(folder))
    saved(picture(9), folder / "1.png")
    with pytest.raises(DefinitionError, match=r"1\.png.* has changed since this run began"):
        running.run(ready, into=tmp_path / "s")


def test_two_pictures_under_one_seed_are_refused_by_the_store(tmp_path, folder):
    """The seed holds 53 bits of the digest; the store holds more of it and compares."""
    ready = running.assembled(looking(folder))
    running.run(ready, into=tmp_path / "s")
    real = ready.context.real
    forged = dict.fromkeys(real.coords["digest"], "0" * 32)
    other = replace(real, coords={**real.coords, "digest": forged})
    more = replace(ready.sweep, labels=(3, 5))
    with pytest.raises(StoreError, match="One seed would stand for two different images"):
        running.run(
            replace(ready, context=replace(ready.context, real=other), sweep=more), into=tmp_path / "s"
        )
