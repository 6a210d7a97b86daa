"""Regions are known of renders, counted into maps, and read off pictures by a network that states how well."""

import numpy as np
import pytest
import torch

from flowprofile.cases import Case
from flowprofile.datasets.faces import HAIR, LABELS, PARTS, faces
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import fidelity, regions, segmenter, weights, zoo
from flowprofile.models.regions import REGIONS, counted, frequency, renders

BARS = {
    "background": 0.95,
    "clothes": 0.86,
    "hair": 0.93,
    "skin": 0.88,
    "eyes": 0.9,
    "brows": 0.75,
    "mouth": 0.86,
}
BARS |= {"beard": 0.8, "nose": 0.84, "face": 0.95, "forehead": 0.82}
"""Little below what the shipped reader reached, so that a worse one does not slip in."""


@pytest.fixture(scope="module")
def reader():
    return segmenter.load("faces32")


@pytest.fixture(scope="module")
def truth():
    """Renders that neither the reader nor its card has seen."""
    return renders(6, range(96))


def test_the_parts_of_a_render_are_its_pixels_each_once(truth):
    assert truth.masks.shape == (192, len(REGIONS), 32, 32)
    assert np.array_equal(truth.masks[:, : len(PARTS)].sum(axis=1), np.ones((192, 32, 32)))
    person = 11
    drawn = faces(6, [person], labels=[8 + person % 8])
    assert np.array_equal(truth.images[96 + person], drawn.images[0])
    assert np.array_equal(truth.masks[96 + person, HAIR], drawn.parts[0] == HAIR)


def test_the_forehead_is_what_bangs_cover(truth):
    forehead, hair = (truth.masks[:, REGIONS.index(name)] for name in ("forehead", "hair"))
    bare, banged = hair[:96], hair[96:]
    assert np.array_equal(forehead[:96], forehead[96:])
    assert np.array_equal(forehead[:96], banged & ~bare)
    assert forehead.any(axis=(1, 2)).all()


def test_the_face_is_skin_and_all_that_lies_on_it(truth):
    mask = {name: truth.masks[:, number] for number, name in enumerate(REGIONS)}
    outside = mask["background"] | mask["clothes"] | mask["hair"]
    assert np.array_equal(mask["face"], ~outside)


def test_the_shipped_counts_are_those_of_any_other_renders():
    """Within five standard errors of a count of people, since the two pictures of a person are not independent."""
    people = 128
    found = counted(people=people, collection=9) / (2 * people)
    assert regions.regions("faces32") == REGIONS
    for number, name in enumerate(REGIONS):
        share = frequency("faces32", name)
        error = np.sqrt(np.maximum(share * (1 - share), 0.01) * (1 / people + 1 / 1024))
        assert (np.abs(found[number] - share) <= 5 * error).all(), name


def test_counts_are_written_as_they_are_counted(tmp_path):
    path = regions.save_counts("faces32", people=8, folder=tmp_path)
    counts = weights.load(path)["counts"].numpy()
    assert np.array_equal(counts, counted(people=8))
    assert counts[: len(PARTS)].sum(axis=0).tolist() == np.full((32, 32), 16).tolist()


def test_a_frequency_is_a_share_and_the_callers_own():
    share = frequency("faces32", "eyes")
    assert share.dtype == np.float32
    assert 0.9 < share.max() <= 1
    share[:] = 0
    assert frequency("faces32", "eyes").any()


def test_what_has_no_regions_says_so():
    with pytest.raises(DefinitionError, match=r"no named regions(.|\n)*models with regions: faces32"):
        regions.regions("digits")
    with pytest.raises(DefinitionError, match="no named regions"):
        segmenter.load("digits")
    with pytest.raises(DefinitionError, match="did you mean 'mouth'"):
        frequency("faces32", "moth")


def test_the_shipped_reader_agrees_with_renders_as_its_card_says(reader, truth):
    card, again = reader.card, segmenter.judged(reader, truth)
    assert card.held_out_n >= 1024
    assert card.regions == REGIONS == tuple(BARS)
    for name, bar in BARS.items():
        assert card.iou[name] >= bar, name
        assert abs(again.iou[name] - card.iou[name]) < 0.03, name
        assert card.missed[name] <= 0.01, name


def test_what_ships_is_small_and_its_digest_is_known_without_loading_it():
    path = regions.reader_path("faces32")
    assert path.stat().st_size < 150_000
    assert path.with_name("faces32-regions.safetensors").stat().st_size < 50_000
    assert regions.reader_digest("faces32") == weights.digest(weights.load(path))


def test_a_picture_has_the_same_masks_in_any_company(reader, truth):
    images = truth.images[:19] + np.float32(0.1) * np.random.default_rng(0).standard_normal(
        (19, 3, 32, 32), np.float32
    )
    together = reader.regions(images)
    assert together.shape == (19, len(REGIONS), 32, 32)
    assert together.dtype == np.bool_
    alone = np.concatenate([reader.regions(image[None]) for image in images])
    assert np.array_equal(together, alone)
    assert np.array_equal(together, reader.regions(images[::-1])[::-1])
    assert reader.regions(images[:0]).shape == (0, len(REGIONS), 32, 32)


def test_every_call_of_the_network_has_as_many_rows(reader, truth):
    """Last bits depend on the number of rows, and a mask turns where a last bit does: too rare to wait for."""
    rows = []
    with reader.register_forward_pre_hook(lambda _, given: rows.append(len(given[0]))):
        for count in (1, 8, 11):
            reader.regions(truth.images[:count])
    assert rows == [segmenter.BATCH] * 4


def test_a_region_that_is_not_there_has_no_pixel(reader):
    """Nearly always: what the reader invents stands in its card."""
    shaven, bearded = (faces(6, range(48), labels=[label] * 48).images for label in (0b0010, 0b0110))
    beard = REGIONS.index("beard")
    without, having = (reader.regions(images)[:, beard].any(axis=(1, 2)) for images in (shaven, bearded))
    assert having.all()
    assert not without.all()
    assert without.mean() < reader.card.invented["beard"] + 0.2
    assert set(reader.card.invented) <= {"beard", "clothes"}


def test_a_picture_of_another_size_or_with_a_hole_is_refused(reader, truth):
    with pytest.raises(ModelError, match=r"\(2, 3, 16, 16\)(.|\n)*\(3, 32, 32\)"):
        reader.regions(np.zeros((2, 3, 16, 16), np.float32))
    broken = truth.images[:3].copy()
    broken[1, 0, 5, 5] = np.nan
    with pytest.raises(ModelError, match=r"1 of 3 images(.|\n)*case 1"):
        reader.regions(broken)


def test_a_training_can_be_repeated_and_what_is_saved_is_what_was_judged(tmp_path):
    heard = []
    first = segmenter.train(
        steps=3, people=2, held_out=4, listen=lambda step, loss: heard.append((step, loss))
    )
    again = segmenter.train(steps=3, people=2, held_out=4)
    assert [step for step, _ in heard] == [0, 1, 2]
    path = segmenter.save(first, folder=tmp_path)
    loaded = segmenter.load("faces32", folder=tmp_path)
    assert loaded.card == first.card == again.card
    assert loaded.card.held_out_n == 8
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, first.state_dict()[name]), name
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert {entry.dtype for entry in weights.read_header(path).entries} == {"F16"}


def test_training_teaches():
    heard = []
    segmenter.train(steps=40, people=3, held_out=2, listen=lambda step, loss: heard.append(loss))
    assert np.mean(heard[-5:]) < 0.75 * np.mean(heard[:5])


def grown(masks):
    padded = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    return np.any([padded[:, dy : dy + 32, dx : dx + 32] for dy in range(3) for dx in range(3)], axis=0)


def test_lipstick_changes_a_sample_most_within_the_mouth_that_is_read_off_it(reader):
    """Samples have no truth, but two of them differ by one attribute, whose region is known."""
    denoiser = zoo.load("faces32")
    cases = [Case(seed, LABELS.parse(label)) for seed in range(4) for label in ("0010", "0011")]
    images = fidelity.draw(denoiser, cases, sampler="ddim", transitions=20, batch=8)
    change = np.abs(images[::2] - images[1::2]).mean(axis=1)
    read = reader.regions(images)[:, REGIONS.index("mouth")]
    mouth = grown(read[::2] | read[1::2])
    assert read.any(axis=(1, 2)).all()
    inside, outside = (np.where(part, change, 0).sum() / part.sum() for part in (mouth, ~mouth))
    assert inside > 4 * outside
