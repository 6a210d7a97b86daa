"""A checkpoint or a model's folder from a stranger: nothing of it runs, and no number in it is believed unchecked."""

import io
import json
import os
import pickle
import shutil
import zipfile
from ast import literal_eval
from functools import cache
from pathlib import Path

import saved_folders
import torch
from catalogue import times
from forged import MANY, Payload, weights_file
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import counted, opened

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.models import weights as weights_files
from flowprofile.models.card import ModelCard
from flowprofile.models.unet import UNet
from flowprofile.models.zoo import unet_config

CARD = ModelCard(
    "m", "unet", {"dim": 8, "mults": [1, 2], "channels": 1}, (1, 8, 8), LabelSpace(classes=3), null_label=3
)


def _zipped(name="archive/data.pkl"):
    """What torch.save writes, with a payload in it."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr(name, pickle.dumps(Payload()))
        archive.writestr("archive/version", "3")
    return whole.getvalue()


def _saved():
    whole = io.BytesIO()
    torch.save({"model": Payload()}, whole)
    return whole.getvalue()


PICKLES = {
    **{f"protocol {n}": pickle.dumps(Payload(), protocol=n) for n in range(6)},
    "in a table": pickle.dumps({"weights": [Payload()]}),
    "a zip archive": _zipped(),
    "torch.save": _saved(),
    "behind a header's length": (8).to_bytes(8, "little") + pickle.dumps(Payload()),
}


def test_a_pickle_where_weights_belong_runs_nothing(tmp_path, catalogue):
    cases = []
    for n, (name, content) in enumerate(PICKLES.items()):
        for ending in ("pt", "safetensors", "bin", "pkl"):
            path = tmp_path / f"{n}.{ending}"
            path.write_bytes(content)
            cases.append((f"{name}.{ending}", "weights", str(path)))
    with catalogue.row("pickle where weights belong", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}
    with catalogue.twin("pickle where weights belong", "I6") as row:
        row.unprotected += sum(one.executed for one in opened(cases[:2], twin="any_weights"))


def test_converting_a_pickle_runs_nothing_of_it(tmp_path, catalogue):
    names = times(["protocol 2", "torch.save"], list(PICKLES))
    cases = []
    for n, name in enumerate(names):
        (tmp_path / f"{n}.pt").write_bytes(PICKLES[name])
        cases.append((name, "convert", str(tmp_path / f"{n}.pt")))
    with catalogue.row("pickle that is converted", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}
    with catalogue.twin("pickle that is converted", "I6") as row:
        row.unprotected += sum(
            one.executed
            for one in opened([one for one in cases if one[0] == "torch.save"], twin="any_pickle")
        )


def _entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


HEADERS = {
    "overlapping": ({"a": _entry(0, 4), "b": _entry(0, 4)}, bytes(4)),
    "half overlapping": ({"a": _entry(0, 8, (2,)), "b": _entry(4, 12, (2,))}, bytes(12)),
    "a gap": ({"a": _entry(0, 4), "b": _entry(8, 12)}, bytes(12)),
    "beyond the end": ({"a": _entry(0, 2**40, (2**38,))}, bytes(4)),
    "at 2^63": ({"a": _entry(2**63, 2**63 + 4)}, bytes(4)),
    "a shape of 10^18": ({"a": _entry(0, 4 * MANY, (MANY,))}, bytes(4)),
    "a shape that multiplies to 0 mod 2^64": ({"a": _entry(0, 0, (2**32, 2**32))}, b""),
    "negative offsets": ({"a": _entry(-4, 0)}, bytes(4)),
    "negative sizes": ({"a": _entry(0, 4, (-1, -1))}, bytes(4)),
    "backwards": ({"a": _entry(4, 0)}, bytes(4)),
    "an unknown type": ({"a": _entry(0, 4, dtype="PICKLE")}, bytes(4)),
    "a type that is a table": ({"a": _entry(0, 4, dtype={"F32": 1})}, bytes(4)),
    "a shape that is text": ({"a": {"dtype": "F32", "shape": "1", "data_offsets": [0, 4]}}, bytes(4)),
    "names twice": (b'{"a": %s, "a": %s}' % ((json.dumps(_entry(0, 4)).encode(),) * 2), bytes(4)),
    "a tensor that is a number": ({"a": 4}, bytes(4)),
    "a hundred thousand levels": (b'{"a":' * 100_000, b""),
    "a number of 10^4 digits": (b'{"a": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 4]}}' % (b"9" * 10_000), bytes(4)),
    "NaN offsets": (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [NaN, NaN]}}', bytes(4)),
    "no JSON": (b"{'a': 1}", b""),
    "no text": (b"{\xff\xfe\x00}", b""),
    "many tensors of nothing": (b"{" + b",".join(b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % n for n in range(times(10_000, 100_000))) + b"}", b""),
    "megabytes of spaces": (b"{" + b" " * (times(1, 15) << 20) + b"}", b""),
}  # fmt: skip


def test_a_lying_header_is_a_refusal(tmp_path, catalogue):
    cases = []
    for n, (name, (header, data)) in enumerate(HEADERS.items()):
        cases.append((name, "weights", str(weights_file(tmp_path / f"{n}.safetensors", header, data))))
    for n, length in enumerate((0, 1, 2**24 + 1, 2**31, 2**40, 2**63, 2**64 - 1)):
        path = weights_file(tmp_path / f"long{n}.safetensors", {"a": _entry(0, 4)}, bytes(4), length)
        cases.append((f"a header of {length} bytes", "weights", str(path)))
    hole = weights_file(tmp_path / "hole.safetensors", b"{}", length=2**40)
    os.truncate(hole, 2**40 + 8)
    cases.append(("a header of a terabyte that is there", "weights", str(hole)))
    with catalogue.row("lying header of weights", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}
    with catalogue.twin("lying header of weights", "I6") as row:
        row.unprotected += sum(one.lost for one in opened(cases[-1:], twin="unplausible"))


def _carded(path, **changes):
    """Weights that fit nothing, under a card of our words."""
    table = {**json.loads(CARD.to_json()), **changes}
    header = {"__metadata__": {"flowprofile": json.dumps(table)}, "a": _entry(0, 4)}
    return str(weights_file(path, header, bytes(4)))


CARDS = {
    "NaN range": {"pixel_range": [float("nan"), float("nan")]},
    "infinite range": {"pixel_range": [float("-inf"), float("inf")]},
    "a range of three": {"pixel_range": [0, 1, 2]},
    "a range of texts": {"pixel_range": ["a", "b"]},
    "a shape of 10^18": {"shape": [MANY, MANY, MANY]},
    "a shape of NaN": {"shape": [float("nan"), 8, 8]},
    "a shape of one": {"shape": [3]},
    "a width of 10^9": {"config": {"dim": 10**9, "mults": [1]}},
    "a million levels": {"config": {"dim": 8, "mults": [1] * 1_000_000}},
    "levels of 10^12": {"config": {"dim": 8, "mults": [10**12]}},
    "a width of NaN": {"config": {"dim": float("nan"), "mults": [1]}},
    "a width of text": {"config": {"dim": "8", "mults": [1]}},
    "a setting of its own": {"config": {"__class__": "os.system", "dim": 8}},
    "10^18 classes": {"labels": {"attributes": [], "classes": MANY}},
    "a hundred thousand attributes": {
        "labels": {"attributes": [str(n) for n in range(100_000)], "classes": 0}
    },
    "attributes that are tables": {"labels": {"attributes": [{}], "classes": 0}},
    "10^18 steps": {"steps": MANY},
    "no steps": {"steps": 0},
    "steps of NaN": {"steps": float("nan")},
    "a schedule of code": {"schedule": "os:system"},
    "a schedule of infinities": {"schedule": "linear(inf, nan)"},
    "an architecture of code": {"architecture": "os.system"},
    "another architecture": {"architecture": "UNet2DModel"},
    "a mixture": {"architecture": "mixture", "config": {"size": 10**9}},
    "a gaussian": {"architecture": "gaussian", "config": {"size": 10**9}},
    "a mixture of 10^12 steps": {
        "architecture": "mixture",
        "config": {
            "size": 8,
            "templates": 8,
            "groups": 2,
            "weights": [0.9, 0.1],
            "sd": 0.1,
            "template_seed": 0,
        },
        "steps": 10**12,
        "null_label": None,
        "labels": {"attributes": [], "classes": 2},
    },
    "a null label that is text": {"null_label": "x"},
    "fields of its own": {"os": "system"},
}


def test_a_strangers_card_is_checked_before_anything_is_built(tmp_path, catalogue):
    cases = [
        (name, "weights", _carded(tmp_path / f"{n}.safetensors", **change))
        for n, (name, change) in enumerate(CARDS.items())
    ]
    for n, text in enumerate(("", "{", "[" * 100_000, "null", "7" * 10_000, '{"labels": ' * 50_000)):
        header = {"__metadata__": {"flowprofile": text}, "a": _entry(0, 4)}
        path = weights_file(tmp_path / f"t{n}.safetensors", header, bytes(4))
        cases.append((f"the card {text[:9]!r}", "weights", str(path)))
    with catalogue.row("model card from a stranger", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"refused"}, [one for one in found if one.ended == "value"]
    with catalogue.twin("model card from a stranger", "I6") as row:
        steps = [case for case in cases if case[0] == "a mixture of 10^12 steps"]
        row.unprotected += sum(one.lost for one in opened(steps, twin="any_card"))


FOLDERS = {
    "Python beside the weights": {"unet/my_unet.py": b"import os"},
    "Python at the top": {"pipeline.py": b"import os"},
    "compiled Python": {"unet/__pycache__/x.pyc": b"\0"},
    "a library": {"unet/x.so": b"\x7fELF"},
    "a script of the shell": {"x.SH": b"#!/bin/sh"},
    "a notebook": {"x.ipynb": b"{}"},
    "a pickle": {"unet/diffusion_pytorch_model.bin": pickle.dumps(Payload())},
    "a pickle in capitals": {"unet/x.PT": pickle.dumps(Payload())},
    "an array of objects": {"scheduler/x.npy": pickle.dumps(Payload())},
}
CONFIGS = {
    "a class that is code": ("unet/config.json", {"_class_name": "os.system"}),
    "a class from a file": ("unet/config.json", {"_class_name": "my_unet.MyUNet"}),
    "auto_map": ("unet/config.json", {"auto_map": {"AutoModel": "evil.Unet"}}),
    "a denoiser from another module": ("model_index.json", {"unet": ["evil", "Unet"]}),
    "a pipeline of its own": ("model_index.json", {"_class_name": ["evil", "Pipeline"]}),
    "a scheduler that is code": ("scheduler/scheduler_config.json", {"_class_name": "os.system"}),
    "blocks that are code": ("unet/config.json", {"down_block_types": ["os.system", "evil"]}),
    "an activation that is code": ("unet/config.json", {"act_fn": "os.system"}),
    "a side of 10^9": ("unet/config.json", {"sample_size": 10**9}),
    "channels of 10^9": ("unet/config.json", {"block_out_channels": [10**9, 10**9]}),
    "10^9 layers": ("unet/config.json", {"layers_per_block": 10**9}),
    "10^18 classes": ("unet/config.json", {"num_class_embeds": MANY}),
    "a side of NaN": ("unet/config.json", {"sample_size": float("nan")}),
    "10^18 steps": ("scheduler/scheduler_config.json", {"num_train_timesteps": MANY}),
    "betas of NaN": ("scheduler/scheduler_config.json", {"beta_start": float("nan")}),
    "a table of betas": ("scheduler/scheduler_config.json", {"trained_betas": [0.1] * 9}),
    "a class that is a list": ("unet/config.json", {"_class_name": ["UNet2DModel"]}),
}


def _folder(target, files=None, config=None):
    shutil.copytree(saved_folders.folder("UNet2DModel"), target)
    for name, content in (files or {}).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(content)
    if config is not None:
        name, values = config
        known = json.loads((target / name).read_text())
        (target / name).write_text(json.dumps({**known, **values}))
    return str(target)


def _linked(target, name, to):
    _folder(target)
    (target / name).unlink()
    (target / name).symlink_to(to)
    return str(target)


def test_a_folder_of_a_stranger_runs_nothing(tmp_path, catalogue):
    secret = tmp_path / "secret.json"
    secret.write_text('{"word": "secret"}')
    weights = "unet/diffusion_pytorch_model.safetensors"
    index = {"weight_map": {"a": "../../secret.json", "b": "/etc/passwd"}}
    cases = [
        *((name, "folder", _folder(tmp_path / f"f{n}", files=files)) for n, (name, files) in enumerate(FOLDERS.items())),
        *((name, "folder", _folder(tmp_path / f"c{n}", config=config)) for n, (name, config) in enumerate(CONFIGS.items())),
        ("a configuration elsewhere", "folder", _linked(tmp_path / "l0", "unet/config.json", secret)),
        ("weights elsewhere", "folder", _linked(tmp_path / "l1", weights, secret)),
        ("weights that are a device", "folder", _linked(tmp_path / "l2", weights, "/dev/zero")),
        ("a scheduler that is a device", "folder", _linked(tmp_path / "l3", "scheduler/scheduler_config.json", "/dev/zero")),
        ("parts outside", "folder", _folder(tmp_path / "i", files={f"{weights}.index.json": json.dumps(index).encode()})),
    ]  # fmt: skip
    with catalogue.row("model folder with code or lies", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        told = [one for one in found if "secret" in one.told.replace("secret.json", "")]
        assert not told, told
        taken = {one.name for one in found if one.ended == "value"}
        assert taken <= {
            "a scheduler that is code",
            "auto_map",
            "a denoiser from another module",
            "a pipeline of its own",
        }, taken
    with catalogue.twin("model folder with code or lies", "I6") as row:
        row.unprotected += sum(one.ended == "value" for one in opened(cases[:1], twin="any_folder"))


def _network(path):
    """A small U-Net's checkpoint."""
    torch.manual_seed(0)
    weights_files.save(path, UNet(unet_config(CARD)).state_dict(), CARD)
    return path.read_bytes()


@cache
def _sound(path):
    return opened([("sound", "network", path)])[0]


def _taken(outcome):
    """What a checkpoint is taken for, and what it holds."""
    return literal_eval(outcome.told) if outcome.ended == "value" else None


def _deceived(sound, found):
    """How many checkpoints are taken for the sound one, and hold another network."""
    (identity, tensors), taken = _taken(sound), [one for one in map(_taken, found) if one]
    return sum(one[0] == identity and one[1] != tensors for one in taken)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=times(20, 300))
@given(content=st.binary(max_size=300), cut=st.floats(0, 1, allow_subnormal=False))
def test_any_bytes_are_weights_or_a_refusal(tmp_path, catalogue, content, cut):
    whole = tmp_path / "whole.safetensors"
    sound = whole.read_bytes() if whole.exists() else _network(whole)
    at = int(cut * len(sound))
    path = Path(tmp_path / "m.safetensors")
    path.write_bytes(sound[:at] + content + sound[at + len(content) :])
    with catalogue.row("damaged weights", "I6") as row:
        found = opened([("bytes", "network", str(path))])
        counted(row, found)
        row.silent += _deceived(_sound(str(whole)), found)


def test_one_bit_makes_another_model(tmp_path, catalogue):
    """Weights of which one bit is flipped are as good a network as the sound ones, so their identity must tell them apart."""
    sound = _network(tmp_path / "whole.safetensors")
    cases = [("sound", "network", str(tmp_path / "whole.safetensors"))]
    start = 8 + int.from_bytes(sound[:8], "little")
    for n, at in enumerate(range(start, len(sound), len(sound) // times(4, 40))):
        path = tmp_path / f"{n}.safetensors"
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        cases.append(("flipped", "network", str(path)))
    with catalogue.row("damaged weights", "I6") as row:
        first, *found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found} == {"value"}
        row.silent += _deceived(first, found)
    with catalogue.twin("damaged weights", "I6") as row:
        first, *found = opened(cases, twin="any_content")
        row.unprotected += _deceived(first, found)
