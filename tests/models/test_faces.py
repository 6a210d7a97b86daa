"""The renderer is a function of (seed, index), and an attribute changes the part it names and no other."""

import numpy as np
import pytest

from flowprofile.datasets.faces import BEARD, CONTRAST, HAIR, LABELS, MOUTH, PARTS, SKIN, faces
from flowprofile.errors import DefinitionError

MANY = faces(7, range(192))


def grown(mask):
    """The mask and its neighbours: an anti-aliased edge colours one pixel beyond the part."""
    padded = np.pad(mask, ((0, 0), (1, 1), (1, 1)))
    shifts = [padded[:, 1 + dy : 33 + dy, 1 + dx : 33 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return np.any(shifts, axis=0)


def pair(first, second, n=48):
    return (faces(3, range(n), labels=[LABELS.parse(label)] * n) for label in (first, second))


def test_a_picture_depends_on_seed_and_index_only():
    some = faces(7, [150, 3, 64])
    assert np.array_equal(some.images, MANY.images[[150, 3, 64]])
    assert np.array_equal(some.parts, MANY.parts[[150, 3, 64]])
    assert np.array_equal(some.labels, MANY.labels[[150, 3, 64]])
    assert not np.array_equal(faces(8, [3]).images, some.images[1:2])


def test_pictures_are_pictures():
    assert MANY.images.shape == (192, 3, 32, 32)
    assert MANY.images.dtype == np.float32
    assert MANY.images.min() >= 0
    assert MANY.images.max() <= 1
    assert set(np.unique(MANY.parts)) == set(range(len(PARTS)))
    assert np.unique(MANY.images.round(3), axis=0).shape[0] == 192


def test_every_label_is_drawn_and_the_parts_fill_the_frame():
    assert set(MANY.labels) == set(range(LABELS.count))
    sizes = {name: (MANY.parts == i).sum((1, 2)) for i, name in enumerate(PARTS)}
    assert sizes["eyes"].mean() > 20
    assert sizes["mouth"].mean() > 15
    assert sizes["mouth"].min() >= 6


def test_lipstick_changes_the_mouth_and_nothing_else():
    for off, on in (("0110", "0111"), ("0000", "0001")):
        plain, red = pair(off, on)
        changed = np.abs(plain.images - red.images).max(1) > 1e-6
        assert changed.any((1, 2)).all()
        assert not (changed & ~grown((plain.parts == MOUTH) | (red.parts == MOUTH))).any()


def test_a_smile_changes_the_mouth_and_nothing_else():
    still, smiling = pair("1000", "1010")
    changed = np.abs(still.images - smiling.images).max(1) > 1e-6
    assert not (changed & ~grown((still.parts == MOUTH) | (smiling.parts == MOUTH))).any()
    assert ((smiling.parts == MOUTH).sum((1, 2)) > 1.3 * (still.parts == MOUTH).sum((1, 2))).mean() > 0.95


def test_bangs_put_hair_where_the_forehead_was():
    bare, covered = pair("0000", "1000")
    forehead = (bare.parts == SKIN) & (covered.parts == HAIR)
    assert forehead.sum((1, 2)).min() > 40
    rows = np.nonzero(forehead)[1]
    assert rows.max() < 18


def test_only_men_have_a_beard():
    woman, man = pair("0000", "0100")
    assert not (woman.parts == BEARD).any()
    assert (man.parts == BEARD).sum((1, 2)).min() > 30
    assert ((woman.parts == HAIR).sum((1, 2)) > 1.4 * (man.parts == HAIR).sum((1, 2))).all()


def test_hair_can_be_told_from_skin():
    shown = faces(11, range(256), labels=[8] * 256)
    colours = [
        np.stack(
            [image[:, part == wanted].mean(1) for image, part in zip(shown.images, shown.parts, strict=True)]
        )
        for wanted in (HAIR, SKIN)
    ]
    distance = np.linalg.norm(colours[0] - colours[1], axis=1)
    assert np.quantile(distance, 0.02) > 0.6 * CONTRAST


def test_a_larger_picture_shows_the_same_face():
    small, large = faces(5, range(8)), faces(5, range(8), size=64)
    pooled = large.images.reshape(8, 3, 32, 2, 32, 2).mean((3, 5))
    assert np.abs(pooled - small.images).mean() < 0.03
    assert np.array_equal(small.labels, large.labels)


def test_wrong_requests_are_refused():
    with pytest.raises(DefinitionError, match="negative"):
        faces(-1, [0])
    with pytest.raises(DefinitionError, match="2 labels for 1"):
        faces(0, [0], labels=[1, 2])
    with pytest.raises(DefinitionError, match="out of range"):
        faces(0, [0], labels=[16])
