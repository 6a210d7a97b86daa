"""Pictures of a folder: cropped, resized, bounded, and told by their content."""

import io
import random
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from photographs import photographs, picture, saved
from PIL import Image

from flowprofile.datasets import pictures
from flowprofile.errors import DefinitionError


def test_a_picture_of_the_models_size_passes_unchanged(tmp_path):
    values = picture(1, side=(32, 32), channels=3)
    one = pictures.looked_at(saved(values, tmp_path / "one.png"), channels=3)
    expected = values.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    assert np.array_equal(pictures.decoded(one, (3, 32, 32)), expected)


def test_celebas_pictures_lose_what_is_above_and_below_the_square_of_178():
    values = np.zeros((218, 178, 3), np.uint8)
    values[20:198] = 255
    assert (pictures.prepared(values, (64, 64)) > 1 - 1e-6).all()
    values[20], values[197] = 0, 0
    found = pictures.prepared(values, (64, 64))
    assert (found[:, 0] < 1).all()
    assert (found[:, -1] < 1).all()


@pytest.mark.parametrize(("old", "new"), [((178, 178), (64, 64)), ((40, 40), (32, 32)), ((8, 8), (32, 32))])
def test_resizing_is_pillows_antialiased_bilinear(old, new):
    values = picture(2, side=old)
    plane = Image.fromarray(values[..., 0].astype(np.float32) / 255)
    theirs = np.asarray(plane.resize(new[::-1], Image.Resampling.BILINEAR))
    assert np.abs(pictures.prepared(values, new)[0] - theirs).max() < 2e-6


def test_resizing_keeps_a_constant_and_nearly_the_mean():
    assert np.abs(pictures.prepared(np.full((50, 50, 1), 51, np.uint8), (16, 16)) - 0.2).max() < 1e-6
    values = picture(3, side=(64, 64))
    assert pictures.prepared(values, (16, 16)).mean() == pytest.approx(values.mean() / 255, abs=0.01)


def test_a_picture_turned_by_its_camera_is_looked_at_upright(tmp_path):
    values = picture(4, side=(8, 8), channels=3)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(np.rot90(values).copy())
    turned.save(tmp_path / "turned.png", exif=exif)
    found = pictures.decoded(pictures.looked_at(tmp_path / "turned.png", channels=3), (3, 8, 8))
    assert np.array_equal(np.round(found * 255), values.transpose(2, 0, 1))


def test_the_content_tells_pictures_apart_not_the_path(tmp_path):
    a, b = (saved(picture(1), tmp_path / name) for name in ("a.png", "b.png"))
    c = saved(picture(2), tmp_path / "c.png")
    digests = [pictures.looked_at(path, channels=1).digest for path in (a, b, c)]
    assert digests[0] == digests[1] != digests[2]


def test_a_picture_that_was_changed_after_it_was_looked_at_is_refused(tmp_path):
    one = pictures.looked_at(saved(picture(1), tmp_path / "a.png"), channels=1)
    saved(picture(2), tmp_path / "a.png")
    with pytest.raises(DefinitionError, match="has changed since this run began"):
        pictures.decoded(one, (1, 8, 8))


def test_a_folder_is_listed_by_name_without_what_is_hidden(tmp_path):
    photographs(tmp_path, (2, 0, 1))
    (tmp_path / ".thumbnails").write_bytes(b"nothing")
    (tmp_path / "more").mkdir()
    assert [path.name for path in pictures.listed(tmp_path)] == ["0.png", "1.png", "2.png"]


def test_folders_that_hold_no_pictures_are_refused(tmp_path):
    with pytest.raises(DefinitionError, match="There is no folder"):
        pictures.listed(tmp_path / "nowhere")
    with pytest.raises(DefinitionError, match="holds no pictures"):
        pictures.listed(tmp_path)
    (tmp_path / "img_align_celeba").mkdir()
    with pytest.raises(DefinitionError, match=r"not searched further.*img_align_celeba"):
        pictures.listed(tmp_path)
    (tmp_path / "notes.txt").write_text("eyes")
    with pytest.raises(DefinitionError, match=r"'notes\.txt'.* is no PNG or JPEG"):
        pictures.listed(tmp_path)


def header_of(width, height):
    """A PNG that claims a size and has next to no data."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [6000, 12_000, 60_000])
def test_a_picture_that_claims_too_many_pixels_is_refused_undecoded(tmp_path, side):
    path = tmp_path / "bomb.png"
    path.write_bytes(header_of(side, side))
    with pytest.raises(DefinitionError, match=r"bomb\.png.*pixels"):
        pictures.looked_at(path, channels=1)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path, monkeypatch):
    path = saved(picture(1), tmp_path / "a.png")
    monkeypatch.setattr(pictures, "MAX_BYTES", 10)
    with pytest.raises(DefinitionError, match="a picture may have 10"):
        pictures.looked_at(path, channels=1)


@pytest.mark.parametrize(
    ("mode", "channels", "fact"),
    [
        ("L", 3, "is L, and the model's images are colour"),
        ("RGB", 1, "is RGB, and the model's images are gray"),
        ("RGBA", 3, "is RGBA"),
        ("P", 3, "is P"),
        ("I;16", 1, "is I;16"),
    ],
)
def test_another_number_of_channels_is_refused_before_anything_is_decoded(tmp_path, mode, channels, fact):
    path = tmp_path / "a.png"
    Image.new(mode, (8, 8)).save(path)
    with pytest.raises(DefinitionError, match=fact):
        pictures.looked_at(path, channels=channels)


def test_whatever_is_done_to_a_file_it_is_a_picture_or_a_refusal(tmp_path):
    pick = random.Random(5)
    path = tmp_path / "a.jpg"
    for kind in ("PNG", "JPEG"):
        stream = io.BytesIO()
        Image.fromarray(picture(1, side=(24, 24), channels=3)).save(stream, kind)
        sound = stream.getvalue()
        for _ in range(150):
            data = bytearray(sound[: pick.randrange(len(sound))] if pick.random() < 0.3 else sound)
            for _ in range(pick.randrange(1, 6) if data else 0):
                data[pick.randrange(len(data))] = pick.randrange(256)
            path.write_bytes(bytes(data))
            with suppress(DefinitionError):
                found = pictures.decoded(pictures.looked_at(path, channels=3), (3, 8, 8))
                assert found.shape == (3, 8, 8)
