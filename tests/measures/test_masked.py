"""Change inside and outside of a mask, counted pixel by pixel."""

import numpy as np
import pytest

from flowprofile.errors import DefinitionError
from flowprofile.measures import masked
from flowprofile.time.noise import noise

SHAPE = (4, 3, 6, 7)


def pair() -> tuple[np.ndarray, np.ndarray]:
    return noise(0, 1, SHAPE), noise(0, 2, SHAPE)


def eyes() -> np.ndarray:
    mask = np.zeros(SHAPE[-2:], dtype=bool)
    mask[1:3, 2:6] = True
    return mask


def own() -> np.ndarray:
    """A mask for every case, [case y x]."""
    masks = noise(1, 1, (SHAPE[0], *SHAPE[-2:])) > 0.3
    assert len({int(mask.sum()) for mask in masks}) > 1
    return masks


def slowly(a: np.ndarray, b: np.ndarray, mask: np.ndarray) -> float:
    chosen = [
        abs(float(a[c, y, x]) - float(b[c, y, x]))
        for c in range(len(a))
        for y, x in np.argwhere(mask).tolist()
    ]
    return sum(chosen) / len(chosen)


@pytest.mark.parametrize("mask", [eyes(), own()])
def test_both_means_and_both_counts(mask):
    a, b = pair()
    got = masked.change(a, b, mask)
    every = np.broadcast_to(mask, (SHAPE[0], *SHAPE[-2:]))
    assert got.inside == pytest.approx([slowly(*row) for row in zip(a, b, every, strict=True)], rel=1e-12)
    assert got.outside == pytest.approx([slowly(*row) for row in zip(a, b, ~every, strict=True)], rel=1e-12)
    assert got.pixels_inside.tolist() == mask.sum((-2, -1)).tolist()
    assert (got.pixels_inside + got.pixels_outside == 42).all()
    turned = masked.change(b, a, ~mask)
    assert turned.inside.tobytes() == got.outside.tobytes()


def test_a_change_inside_is_not_seen_outside():
    a, _ = pair()
    b = a + np.where(eyes(), np.float32(0.25), np.float32(0.0))
    got = masked.change(a, b, eyes())
    assert got.inside == pytest.approx(0.25, abs=1e-6)
    assert got.outside.tolist() == [0.0] * 4


def test_a_mask_per_case_serves_all_of_its_states_and_one_image_needs_no_case():
    a, b = (np.stack([image, 2 * image], axis=1) for image in pair())
    got = masked.change(a, b, own())
    assert got.inside.shape == (4, 2)
    for k in range(2):
        assert got.inside[:, k].tobytes() == masked.inside(a[:, k], b[:, k], own()).tobytes()
        assert got.outside[:, k].tobytes() == masked.outside(a[:, k], b[:, k], own()).tobytes()
    assert got.inside[1, 0].tobytes() == masked.inside(a[1, 0], b[1, 0], own()[1]).tobytes()


def test_a_true_zero_is_a_value_like_any_other():
    """The thesis' code took pixels whose value is 0 for pixels outside of the mask."""
    a = np.zeros((1, 4, 4))
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, :2] = True
    b = a.copy()
    b[0, 0, 0] = 1.0
    assert masked.change(a, b, mask).inside == pytest.approx(0.5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_lost_number_stays_on_its_side_of_the_edge(wrong):
    a, b = pair()
    clean = masked.change(a, b, eyes())
    a[2, 1, 0, 0] = wrong
    got = masked.change(a, b, eyes())
    assert np.isnan(got.outside).tolist() == [False, False, True, False]
    assert got.inside.tobytes() == clean.inside.tobytes()


def refused(call, says: str):
    with pytest.raises(DefinitionError, match=says):
        call()


def test_refusals():
    a, b = pair()
    none, every = np.zeros((6, 7), dtype=bool), np.ones((6, 7), dtype=bool)
    refused(lambda: masked.change(a, b, none), "no pixel inside")
    refused(lambda: masked.change(a, b, every), "no pixel outside")
    refused(lambda: masked.change(a, b, np.stack([eyes(), none, eyes(), eyes()])), "inside of it in case 1")
    refused(lambda: masked.change(a, b, 255 * eyes().astype(np.uint8)), "'uint8' is not boolean")
    refused(lambda: masked.change(a, b, eyes().T), "do not belong together")
    refused(lambda: masked.change(a, b, own()[:3]), "do not belong together")
    refused(lambda: masked.change(a, b[:2], eyes()), "do not belong together")
    refused(lambda: masked.change(a[0, 0], b[0, 0], eyes()), "do not belong together")
