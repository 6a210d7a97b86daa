"""Weights files from elsewhere are read with suspicion, and ours come back as they were."""

import json
import pickle
import struct

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError
from flowprofile.models import weights
from flowprofile.models.card import ModelCard, thesis_card

CARD = ModelCard("m", "unet", {"dim": 8, "mults": [1, 2]}, (1, 8, 8), LabelSpace(classes=3), null_label=3)
TENSORS = {
    "b": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "a": torch.tensor(2.5, dtype=torch.float64),
    "c.half": torch.ones(3, dtype=torch.bfloat16),
    "d": torch.zeros((0, 4), dtype=torch.int64),
    "e": torch.tensor([True, False]),
}


def raw(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_tensors_card_and_digest_survive_the_file(tmp_path):
    path = tmp_path / "deep" / "m.safetensors"
    weights.save(path, TENSORS, CARD)
    back = weights.load(path)
    assert weights.card(path) == CARD
    assert sorted(back) == sorted(TENSORS)
    assert all(torch.equal(back[name], TENSORS[name]) for name in TENSORS)
    assert weights.digest(path) == weights.digest(TENSORS) == weights.digest(back)
    assert [p.name for p in path.parent.iterdir()] == ["m.safetensors"]


def test_the_digest_sees_every_change_of_a_tensor_and_none_of_the_card(tmp_path):
    before = weights.digest(TENSORS)
    assert weights.digest({**TENSORS, "b": TENSORS["b"].reshape(3, 2)}) != before
    assert weights.digest({**TENSORS, "b": TENSORS["b"].to(torch.int32).view(torch.float32)}) != before
    renamed = {("z" if name == "b" else name): tensor for name, tensor in TENSORS.items()}
    assert weights.digest(renamed) != before
    weights.save(tmp_path / "n.safetensors", dict(reversed(TENSORS.items())), thesis_card("other"))
    assert weights.digest(tmp_path / "n.safetensors") == before


@pytest.mark.parametrize("magic", [pickle.dumps({"a": 1}), b"PK\x03\x04" + b"\0" * 60])
def test_a_file_that_could_run_code_is_refused_by_kind(tmp_path, magic):
    path = tmp_path / "model.pt"
    path.write_bytes(magic)
    with pytest.raises(ModelError, match="can run code") as caught:
        weights.load(path)
    assert "pickle" in str(caught.value) or "zip" in str(caught.value)


def test_torch_save_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="zip archive"):
        weights.load(tmp_path / "a.safetensors")


HOSTILE = {
    "overlap": ({"a": entry(0, 4), "b": entry(0, 4)}, b"\0" * 4),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, b"\0" * 12),
    "beyond the end": ({"a": entry(0, 8, (2,))}, b"\0" * 4),
    "unclaimed bytes": ({"a": entry(0, 4)}, b"\0" * 8),
    "shape lies": ({"a": entry(0, 4, (2,))}, b"\0" * 4),
    "negative": ({"a": entry(4, 0, (-1,))}, b"\0" * 4),
    "negative sizes that multiply to a size": ({"a": entry(0, 4, (-1, -1))}, b"\0" * 4),
    "fraction": ({"a": entry(0, 4.0)}, b"\0" * 4),
    "truth": ({"a": entry(0, 4, (True,))}, b"\0" * 4),
    "dtype": ({"a": entry(0, 4, dtype="F33")}, b"\0" * 4),
    "huge shape": ({"a": entry(0, 4, (2**62, 2**62))}, b"\0" * 4),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, b"\0" * 4),
    "list": (b"[1, 2, 3]", b""),
    "not JSON": (b"{'a': 1}", b""),
    "twice": (b'{"a": {}, "a": {}}', b""),
    "deep": (b"{" + b'"a":{' * 100_000, b""),
    "metadata": ({"__metadata__": {"flowprofile": 3}}, b""),
    "bytes": (b"{\xff\xfe}", b""),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_lying_header_is_a_refusal(tmp_path, kind):
    header, data = HOSTILE[kind]
    with pytest.raises(ModelError, match="not a sound safetensors file"):
        weights.load(raw(tmp_path / "m.safetensors", header, data))


@pytest.mark.parametrize("length", [0, 1, 2**63, 2**40, 17 * 2**20, 10_000])
def test_a_header_length_is_never_believed(tmp_path, length):
    with pytest.raises(ModelError):
        weights.read_header(raw(tmp_path / "m.safetensors", b"{}", length=length))


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_refusal(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError):
        weights.read_header(path)


def test_every_cut_of_a_sound_file_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    weights.save(path, {"a": torch.arange(4.0)}, CARD)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError):
            weights.read_header(path)


def test_a_file_without_a_card_says_how_to_give_it_one(tmp_path):
    weights.write(tmp_path / "m.safetensors", TENSORS, {})
    with pytest.raises(ModelError, match="thesis_card"):
        weights.card(tmp_path / "m.safetensors")


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "m.safetensors"
    weights.save(path, TENSORS, CARD)
    before = path.read_bytes()
    with pytest.raises(AttributeError):
        weights.save(path, {"a": None}, CARD)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_card_is_refused_by_its_first_wrong_field():
    with pytest.raises(ModelError, match="not a model card"):
        ModelCard.from_json("{}")
    with pytest.raises(ModelError, match="not a model card"):
        ModelCard.from_json("[]")
    with pytest.raises(ModelError, match="did you mean 'unet'"):
        ModelCard("m", "unte", {}, (1, 8, 8), LabelSpace(classes=1))
    with pytest.raises(ModelError, match="real label"):
        ModelCard("m", "unet", {}, (1, 8, 8), LabelSpace(classes=10), null_label=0)
    with pytest.raises(ModelError, match="channel, y, x"):
        ModelCard("m", "unet", {}, (1, 0, 8), LabelSpace(classes=10))
