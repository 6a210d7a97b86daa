"""CelebA's layout as a stream: labels of the table, every picture once an epoch, and nothing kept decoded."""

import shutil
import tracemalloc

import numpy as np
import pytest
from celeba import THESIS, celeba
from photographs import picture, saved

from flowprofile.datasets.folder import MAX_ATTRIBUTES, labelled
from flowprofile.datasets.pictures import prepared
from flowprofile.errors import DefinitionError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return celeba(tmp_path_factory.mktemp("celeba") / "here")


@pytest.fixture
def own(folder, tmp_path):
    """A copy that may be damaged."""
    return shutil.copytree(folder[0], tmp_path / "own")


def test_labels_and_pictures_are_those_of_the_table(folder):
    where, drawn = folder
    data = labelled(where, THESIS)
    assert data.attributes == THESIS
    assert data.labels.tolist() == drawn.labels.tolist()
    images, labels = data.batch(np.array([4, 1]), (3, 32, 32))
    assert labels.tolist() == drawn.labels[[4, 1]].tolist()
    for image, face in zip(images, drawn.images[[4, 1]], strict=True):
        square = np.round(255 * face.transpose(1, 2, 0)).astype(np.uint8)
        assert np.abs(image - prepared(square, (32, 32))).mean() < 0.01, "but for what JPEG loses"
    assert images.shape == (2, 3, 32, 32)
    assert labelled(where, ("lipstick", "bangs")).labels.tolist() == [
        (label & 1) << 1 | label >> 3 for label in drawn.labels
    ]


def test_an_epoch_sees_each_picture_once_in_an_order_of_its_own(folder):
    data = labelled(folder[0], THESIS)
    seen = np.concatenate([data.places(3, step, 4) for step in range(6)]).reshape(4, 6)
    assert [sorted(epoch) for epoch in seen.tolist()] == [list(range(6))] * 4
    assert len({tuple(epoch) for epoch in seen.tolist()}) > 1
    assert np.array_equal(
        data.places(3, 4, 4), np.concatenate([data.places(3, step, 4) for step in range(5)])[-4:]
    )
    assert not np.array_equal(
        seen, np.concatenate([data.places(4, step, 4) for step in range(6)]).reshape(4, 6)
    )
    assert sorted(np.bincount(data.places(0, 0, 15))) == [2, 2, 2, 3, 3, 3], (
        "a batch may be larger than the folder"
    )


def test_what_is_decoded_is_not_kept(tmp_path):
    rows = []
    for number in range(30):
        saved(picture(number % 3, side=(400, 400), channels=3), tmp_path / f"{number}.png")
        rows.append(f"{number}.png 1")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(["30", "Bangs", *rows]))
    data = labelled(tmp_path, ("Bangs",))
    data.batch(data.places(0, 0, 2), (3, 16, 16))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for step in range(15):
        data.batch(data.places(0, step, 2), (3, 16, 16))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held - before < 200_000, "thirty pictures are 14 MB"
    assert peak - before < 8_000_000


def test_its_digest_changes_with_whatever_it_holds(own):
    digests = {labelled(own, THESIS).digest, labelled(own, THESIS[::-1]).digest}
    table = own / "list_attr_celeba.txt"
    text = table.read_text()
    table.write_text(text.replace("000001.jpg -1", "000001.jpg  1"))
    digests.add(labelled(own, THESIS).digest)
    table.write_text(text)
    assert labelled(own, THESIS).digest in digests
    first = own / "img_align_celeba" / "000001.jpg"
    first.write_bytes(first.read_bytes() + b"\0")
    digests.add(labelled(own, THESIS).digest)
    assert len(digests) == 4


def test_other_places_of_the_table_and_the_pictures(own):
    digest = labelled(own, THESIS).digest
    table, pictures = own / "list_attr_celeba.txt", own / "img_align_celeba"
    (own / "Anno").mkdir()
    table.rename(own / "Anno" / table.name)
    assert labelled(own, THESIS).digest == digest
    (own / "Anno" / table.name).rename(table)
    assert labelled(pictures, THESIS).digest == digest, "beside the folder"
    pictures.rename(own / "inner")
    pictures.mkdir()
    (own / "inner").rename(pictures / "img_align_celeba")
    assert labelled(own, THESIS).digest == digest, "twice, as an archive unpacks it"


def test_what_is_not_there_is_refused(own, tmp_path):
    with pytest.raises(DefinitionError, match="There is no folder"):
        labelled(tmp_path / "nowhere", THESIS)
    with pytest.raises(DefinitionError, match=r"no attribute 'Smilling'.*\n.*\n.*'Smiling'"):
        labelled(own, ("Bangs", "Smilling"))
    for names in ((), [f"a{n}" for n in range(MAX_ATTRIBUTES + 1)]):
        with pytest.raises(DefinitionError, match=f"1 to {MAX_ATTRIBUTES}"):
            labelled(own, names)
    (own / "img_align_celeba" / "000003.jpg").unlink()
    with pytest.raises(
        DefinitionError, match="1 of the 6 pictures that the table lists are not in"
    ) as refusal:
        labelled(own, THESIS)
    assert refusal.value.evidence == "'000003.jpg'"
    (own / "list_attr_celeba.txt").unlink()
    with pytest.raises(DefinitionError, match=r"There is no list_attr_celeba\.txt"):
        labelled(own, THESIS)


def test_an_attribute_cannot_have_the_name_of_an_axis(tmp_path):
    saved(picture(1, channels=3), tmp_path / "a.png")
    (tmp_path / "list_attr_celeba.csv").write_text("id,seed\na.png,1\n")
    with pytest.raises(DefinitionError, match="'seed', which is the name of an axis"):
        labelled(tmp_path, ("seed",))


def test_a_damaged_picture_is_named_when_it_is_its_turn(own):
    path = own / "img_align_celeba" / "000002.jpg"
    path.write_bytes(path.read_bytes()[:700])
    data = labelled(own, THESIS)
    with pytest.raises(DefinitionError, match=r"000002\.jpg.* is no sound PNG or JPEG"):
        data.batch(np.array([1]), (3, 16, 16))
