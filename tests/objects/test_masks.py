"""A mask is boolean, has a pixel, fits the image, and its shares on another grid lose no area."""

import subprocess
import sys
import zlib
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from flowprofile.errors import DefinitionError
from flowprofile.models import regions
from flowprofile.objects.masks import Mask, complement, fixed, parse, pixels, read_off, resampled

SHAPE = (32, 32)
SIDES = st.integers(1, 12)
BOOLS = st.tuples(SIDES, SIDES).flatmap(lambda shape: arrays(np.bool_, shape))


def meant(value, **settings):
    return parse(value, **{"shape": SHAPE, "model": "faces32", **settings})


@given(BOOLS, SIDES, SIDES)
def test_shares_are_areas_whatever_the_two_grids(mask, height, width):
    shares = resampled(mask, (height, width))
    fine = np.kron(mask, np.ones((height, width)))
    rows, columns = mask.shape
    brute = fine.reshape(height, rows, width, columns).mean(axis=(1, 3))
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares, brute, atol=1e-6)
    np.testing.assert_allclose(shares.mean(dtype=np.float64), mask.mean(), atol=1e-6)
    np.testing.assert_allclose(shares + resampled(~mask, (height, width)), 1.0, atol=1e-6)


@given(BOOLS)
def test_on_its_own_grid_a_mask_is_its_own_shares(mask):
    assert np.array_equal(resampled(mask, mask.shape), mask.astype(np.float32))


def test_masks_of_many_samples_are_resampled_at_once():
    masks = np.random.default_rng(0).random((3, 9, 7)) > 0.5
    together = resampled(masks, (4, 5))
    assert np.array_equal(together, np.stack([resampled(mask, (4, 5)) for mask in masks]))


@given(BOOLS.filter(lambda mask: bool(mask.any())))
def test_pixels_are_the_mask_row_by_row(mask):
    found = pixels(mask)
    assert found.dtype == np.int64
    assert [tuple(p) for p in found] == sorted(tuple(p) for p in found)
    back = np.zeros_like(mask)
    back[tuple(found.T)] = True
    assert np.array_equal(back, mask)


@given(BOOLS, BOOLS)
def test_two_masks_are_one_if_and_only_if_their_pixels_are(first, second):
    if not (first.any() and second.any()):
        return
    one, other = fixed("one", first), fixed("other", second)
    same = first.shape == second.shape and bool((first == second).all())
    assert (one == other) == same == (one.digest == other.digest) == (hash(one) == hash(other))


def test_equal_bits_in_another_shape_are_another_mask():
    shapes = [(1, 6), (6, 1), (2, 3), (3, 2), (1, 7)]
    ones = [np.ones(shape, bool) for shape in shapes]
    ones[-1][0, 6] = False  # the padding of six bits to a byte
    assert len({fixed("ones", array).digest for array in ones}) == len(shapes)


def test_a_mask_keeps_its_pixels_when_the_array_changes():
    array = np.eye(4, dtype=bool)
    mask = fixed("diagonal", array)
    array[:] = False
    assert mask.array.sum() == 4
    with pytest.raises(ValueError, match="read-only"):
        mask.array[0, 0] = False
    with pytest.raises(FrozenInstanceError):
        mask.digest = ""


@given(st.tuples(st.integers(0, 31), st.integers(0, 31)), st.tuples(st.integers(1, 32), st.integers(1, 32)))
def test_a_rectangle_is_half_open(begin, end):
    value = {"rectangle": [*begin, *end]}
    inside = [(y, x) for y in range(begin[0], end[0]) for x in range(begin[1], end[1])]
    if not inside:
        with pytest.raises(DefinitionError, match="no pixel"):
            meant(value)
        return
    mask = meant(value)
    assert [tuple(p) for p in pixels(mask.array)] == inside
    assert mask.name == f"[{begin[0]}:{end[0]}, {begin[1]}:{end[1]}]"
    assert mask == fixed("the same", mask.array)


@given(st.sets(st.integers(0, 32 * 32 - 1), min_size=1), st.randoms(use_true_random=False))
def test_numbers_of_pixels_are_the_boolean_array_of_them_in_any_order(numbers, random):
    array = np.zeros(SHAPE, bool)
    for number in numbers:
        array[divmod(number, 32)] = True
    shuffled = sorted(numbers)
    random.shuffle(shuffled)
    mask = meant({"pixels": shuffled})
    assert mask == meant(array)
    assert mask.digest == meant(array).digest
    assert (pixels(mask.array) @ (32, 1)).tolist() == sorted(numbers)
    assert mask.name == f"pixels {mask.digest[:8]}"


def test_a_number_of_a_pixel_counts_along_the_row_of_an_oblong_image():
    assert pixels(meant({"pixels": [7]}, shape=(3, 5)).array).tolist() == [[1, 2]]


def test_a_region_is_where_it_is_in_half_of_the_renders_or_in_the_share_asked_for():
    often = regions.frequency("faces32", "eyes")
    half, more = meant("eyes"), meant({"region": "eyes", "at_least": 0.3})
    assert np.array_equal(half.array, often >= 0.5)
    assert np.array_equal(more.array, often >= 0.3)
    assert meant({"region": "eyes"}) == half != more
    assert (half.name, more.name) == ("eyes", "eyes>=0.3")
    assert (more.array & ~half.array).any()


def test_a_region_that_is_read_has_no_pixels_and_the_readers_identity(monkeypatch):
    mask = meant({"region": "eyes", "read": True})
    assert (mask.name, mask.array, mask.region) == ("own eyes", None, "eyes")
    assert mask == read_off("faces32", "eyes")
    assert len({mask.digest, meant({"region": "mouth", "read": True}).digest, meant("eyes").digest}) == 3
    assert meant({"region": "eyes", "read": False}) == meant("eyes")
    monkeypatch.setattr(regions, "reader_digest", lambda model: "another network")
    assert meant({"region": "eyes", "read": True}) != mask


def test_the_complement_is_everything_else():
    eyes = meant("eyes")
    rest = complement(eyes)
    assert np.array_equal(rest.array, ~eyes.array)
    assert rest.name == "not eyes"
    assert complement(rest) == eyes
    with pytest.raises(DefinitionError, match="no pixel"):
        complement(fixed("all", np.ones(SHAPE, bool)))
    with pytest.raises(DefinitionError, match="frequency map, 'eyes'"):
        complement(read_off("faces32", "eyes"))


DRAWN = np.zeros(SHAPE, bool)
DRAWN[3:9, 4:20] = True


def strokes(alpha, colour=(200, 30, 90)):
    picture = np.zeros((*SHAPE, 4), np.uint8)
    picture[DRAWN, :3] = colour
    picture[..., 3] = alpha
    return Image.fromarray(picture)


def palette():
    """Index 0 is white, so the indices are not the mask."""
    picture = Image.fromarray((~DRAWN).astype(np.uint8)).convert("P")
    picture.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    return picture


def cut_out():
    """Black strokes on a white that is declared transparent."""
    picture = Image.fromarray((~DRAWN).astype(np.uint8) * 255)
    picture.info["transparency"] = 255
    return picture


WHITE = DRAWN.astype(np.uint8) * 255
PICTURES = {
    "bit": Image.fromarray(DRAWN),
    "gray": Image.fromarray(WHITE),
    "zero and one": Image.fromarray(DRAWN.astype(np.uint8)),
    "16 bits": Image.fromarray(DRAWN.astype(np.uint16) * 65535),
    "colour space": Image.fromarray(WHITE).convert("RGB"),
    "opaque": Image.fromarray(WHITE).convert("RGBA"),
    "palette": palette(),
    "cut out": cut_out(),
    "gray with alpha": Image.merge("LA", [Image.new("L", SHAPE), Image.fromarray(WHITE)]),
    "strokes": strokes(WHITE),
    "black strokes": strokes(WHITE, (0, 0, 0)),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_two_valued_picture_is_the_mask_that_was_drawn(kind, tmp_path, monkeypatch):
    PICTURES[kind].save(tmp_path / "Mask.PNG", format="PNG")
    mask = meant("Mask.PNG", folder=tmp_path)
    assert np.array_equal(mask.array, DRAWN)
    assert mask.name == f"Mask.PNG {mask.digest[:8]}"
    monkeypatch.chdir(tmp_path)
    assert meant({"png": "Mask.PNG"}) == mask == meant(DRAWN)


SMOOTH = np.where(DRAWN, np.arange(32) * 8, 0).astype(np.uint8)
REFUSED = {
    "gray strokes": (Image.fromarray(SMOOTH), "not two-valued(.|\n)*threshold it(.|\n)*values: 0, 32"),
    "one gray": (Image.fromarray(np.full(SHAPE, 128, np.uint8)), "not two-valued"),
    "smoothed strokes": (strokes(SMOOTH), "not two-valued"),
    "colours": (strokes(np.full(SHAPE, 255, np.uint8)), "not two-valued(.|\n)*colours"),
    "two colours": (strokes(np.maximum(WHITE, np.eye(32, dtype=np.uint8) * 255)), "strokes of several"),
    "nothing": (Image.new("L", SHAPE), "no pixel"),
    "transparent": (Image.new("RGBA", SHAPE, (255, 255, 255, 0)), "no pixel"),
    "other size": (Image.new("1", (64, 48), 1), "48 x 64 pixels and the image 32 x 32"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_picture_that_leaves_doubt_is_refused(kind, tmp_path):
    picture, told = REFUSED[kind]
    picture.save(tmp_path / "m.png")
    with pytest.raises(DefinitionError, match=told):
        meant("m.png", folder=tmp_path, place="stages.a")


def test_a_file_that_is_no_picture_is_refused(tmp_path):
    with pytest.raises(DefinitionError, match=r"no file .*absent.png(.|\n)*working folder"):
        meant("absent.png", folder=tmp_path)
    (tmp_path / "text.png").write_text("mask")
    Image.fromarray(WHITE).save(tmp_path / "lossy.png", format="JPEG")
    Image.fromarray(np.random.default_rng(0).random(SHAPE) > 0.5).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    for name in ("text.png", "lossy.png", "cut.png"):
        with pytest.raises(DefinitionError, match="not a sound PNG"):
            meant(name, folder=tmp_path)


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(tmp_path):
    """The header of a picture of 900 megapixels costs a hundred bytes; its pixels would cost the memory."""
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    chunk = (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(DefinitionError, match=r"30000 x 30000|not a sound PNG"):
        meant("bomb.png", folder=tmp_path)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("eye", "no region 'eye'(.|\n)*did you mean 'eyes'"),
        ("eyes.jpg", 'ends in ".png"'),
        ("beard", "no pixel(.|\n)*at_least = 0.48(.|\n)*48.5%"),
        ({"region": "eyes", "at_least": 0}, "share of 0"),
        ({"region": "eyes", "at_least": True}, "share of True"),
        ({"region": "eyes", "at_least": 0.3, "read": True}, "no region"),
        ({"region": "eyes", "read": "yes"}, "no region"),
        ({"region": "eyes", "atleast": 0.3}, "did you mean 'at_least'"),
        ({"rectangel": [0, 0, 1, 1]}, "did you mean 'rectangle'"),
        ({"rectangle": [0, 0, 1, 1], "png": "m.png"}, "no mask"),
        ({}, "no mask"),
        ({"png": 3}, "not a text"),
        ({"rectangle": [0, 0, 33, 4]}, "reaches out of the image of 32 x 32"),
        ({"rectangle": [-4, 0, 4, 4]}, "reaches out"),
        ({"rectangle": [0, 0, 4]}, "four whole numbers"),
        ({"rectangle": [0, 0, 4.0, 4]}, "four whole numbers"),
        ({"rectangle": [0, 0, True, 4]}, "four whole numbers"),
        ({"rectangle": 4}, "four whole numbers"),
        ({"pixels": [1024]}, "pixel 1024 is outside(.|\n)*0 to 1023"),
        ({"pixels": [3, -1]}, "pixel -1 is outside"),
        ({"pixels": [3, 4, 3]}, "pixel 3 is named twice"),
        ({"pixels": []}, "no pixel"),
        ({"pixels": [3.0]}, "3.0 is no number of a pixel(.|\n)*y \\* 32 \\+ x"),
        ({"pixels": [True]}, "True is no number"),
        ({"pixels": ["3"]}, "'3' is no number"),
        ({"pixels": "eyes"}, "'eyes' is no list of pixels"),
        ({"pixels": 489}, "489 is no list of pixels"),
        ({"pixels": [489], "region": "eyes"}, "no mask"),
        ({"pixel": [489]}, "did you mean 'pixels'"),
        (np.ones(SHAPE), "float64 and not booleans"),
        (np.full(SHAPE, 255, np.uint8), "uint8 and not booleans"),
        (np.ones((16, 16), bool), "\\(16, 16\\)(.|\n)*32 x 32"),
        (np.ones((1, *SHAPE), bool), "without a channel axis"),
        (np.zeros(SHAPE, bool), "no pixel"),
        ([[True], [True, False]], "no mask"),
        (7, "no mask"),
        (True, "no mask"),
    ],
)
def test_what_is_no_mask_is_refused_with_its_place(value, told):
    with pytest.raises(DefinitionError, match=told) as refusal:
        meant(value, place="stages.gradients.mask")
    assert "stages.gradients.mask" in str(refusal.value)


def test_a_value_of_zero_is_in_the_mask_that_chooses_it():
    """The thesis skipped pixels whose value is zero: here the values do not enter."""
    values = np.zeros(SHAPE)
    mask = meant(values == 0)
    assert len(pixels(mask.array)) == values.size


def test_a_model_without_regions_says_what_to_use_instead():
    for value in ("eyes", {"region": "eyes", "read": True}):
        with pytest.raises(DefinitionError, match=r"'digits' has no named regions(.|\n)*rectangle"):
            meant(value, model="digits", shape=(8, 8))
    assert meant({"rectangle": [0, 0, 2, 2]}, model="digits", shape=(8, 8)).array.sum() == 4


def test_a_region_of_another_size_is_refused_with_both():
    with pytest.raises(DefinitionError, match="32 x 32 and the image 64 x 64"):
        meant("eyes", shape=(64, 64))


def test_a_mask_passes_through_and_is_measured_again():
    mask = meant("eyes")
    assert meant(mask) == mask
    assert meant(read_off("faces32", "eyes")).region == "eyes"
    with pytest.raises(DefinitionError, match="8 x 8"):
        meant(mask, shape=(8, 8))
    assert isinstance(mask, Mask)


def test_equal_content_has_one_name_wherever_it_lies_and_other_content_another(tmp_path):
    for folder, drawn in (("a", DRAWN), ("b", DRAWN), ("c", ~DRAWN)):
        (tmp_path / folder).mkdir()
        Image.fromarray(drawn).save(tmp_path / folder / "m.png")
    names = [meant(f"{folder}/m.png", folder=tmp_path).name for folder in "abc"]
    assert names[0] == names[1] != names[2]
    one, again, other = meant(DRAWN), meant(DRAWN.tolist()), meant(~DRAWN)
    assert one.name == again.name != other.name


def test_a_mask_never_needs_torch(tmp_path):
    Image.fromarray(WHITE).save(tmp_path / "m.png")
    program = (
        "import sys; from flowprofile.objects.masks import parse, resampled, pixels\n"
        f"folder = {str(tmp_path)!r}\n"
        "for value in ('eyes', {'region': 'eyes', 'read': True}, 'm.png', {'rectangle': [0, 0, 2, 2]}, {'pixels': [9]}):\n"
        "    parse(value, shape=(32, 32), model='faces32', folder=folder)\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
