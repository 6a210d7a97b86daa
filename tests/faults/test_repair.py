"""Fifty faults of five kinds in one store: `flowprofile verify --repair` names all, mends all, and touches nothing else."""

import random
import re
import shutil

import pytest
from catalogue import times
from commands import contents, flowprofile

from flowprofile.store import verify as verifying
from flowprofile.store.ledger import receipt_key
from flowprofile.store.store import Store
from flowprofile.store.verify import verify

DEFINITION = """
model = "mixture16"
sampler = { steps = 20 }
numerics = { batch = 4 }
[cases]
seeds = "0:48"
labels = [0, 1]
[stages.trajectory]
[stages.step_ssim]
use = "ssim"
"""
LAYOUT = """
chunk = "4 KiB"
shard = "16 KiB"
small = "1 KiB"
durability = "none"
"""
EACH = 10
KINDS = ("flipped", "deleted", "swapped", "receipt", "metadata")
FAULT = "50 faults of five kinds in one store, repaired"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished store of some hundred objects."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "sweep.toml").write_text(DEFINITION)
    (folder / "small.toml").write_text(LAYOUT)
    asked = ("--layout", folder / "small.toml", "--quiet")
    assert flowprofile("run", folder / "sweep.toml", "--into", folder / "store", *asked) == 0
    return folder / "store"


def plant(folder, pick):
    """Ten faults of each kind, every one in an object of its own; the objects, by kind."""
    keys = sorted(contents(folder))
    chunks = [key for key in keys if re.search(r"/x_t/c\.", key)]
    drawn = pick.sample(chunks, 3 * EACH)
    found = {kind: drawn[at * EACH : (at + 1) * EACH] for at, kind in enumerate(KINDS[:3])}
    # Of a region whose receipt cannot be read nobody knows what its objects were: they are planted in elsewhere.
    tails = [f'"x_t/{key.rpartition("/")[2]}"' for key in drawn]
    receipts = [key for key in keys if key.startswith("ledger/receipts")]
    texts = {key: (folder / key).read_text() for key in receipts}
    free = [key for key in receipts if not any(tail in texts[key] for tail in tails)]
    found["receipt"] = pick.sample(free, EACH)
    found["metadata"] = pick.sample(
        [key for key in keys if "profile.zarr" in key and not re.search(r"/(x_t|value)/c\.", key)], EACH
    )
    for kind in ("flipped", "receipt", "metadata"):
        for key in found[kind]:
            data = bytearray((folder / key).read_bytes())
            data[pick.randrange(len(data))] ^= 1 << pick.randrange(8)
            (folder / key).write_bytes(data)
    for key in found["deleted"]:
        (folder / key).unlink()
    for one, other in zip(found["swapped"][::2], found["swapped"][1::2], strict=True):
        (folder / one).rename(folder / "kept")
        (folder / other).rename(folder / one)
        (folder / "kept").rename(folder / other)
    return found


def touched(whole, folder, planted):
    """Objects that are planted in, or that belong to a region that is: its receipt and whatever it seals."""
    found = {key for keys in planted.values() for key in keys}
    with Store.open(whole) as store:
        for region in {each for finding in verify(folder).findings for each in finding.regions}:
            found.add(receipt_key(region))
            found |= {
                f"profile.zarr/{region.run}/{region.group}/{key}" for key in store.receipt(region).objects
            }
    return found


def untouched(folder, keys):
    """The very files: bytes, number on the disk, and when they were written."""
    digests = contents(folder)
    seen = {key: (folder / key).stat() for key in keys if key in digests}
    return {key: (digests[key], one.st_ino, one.st_mtime_ns) for key, one in seen.items()}


def test_fifty_faults_are_named_and_repaired_and_the_rest_untouched(whole, catalogue, tmp_path, capsys):
    expected = contents(whole)
    for seed in range(times(1, 20)):
        folder = tmp_path / f"store{seed}"
        shutil.copytree(whole, folder)
        with catalogue.row(FAULT, "I3") as row:
            planted = plant(folder, random.Random(seed))
            assert [len(planted[kind]) for kind in KINDS] == [EACH] * 5
            rest = expected.keys() - touched(whole, folder, planted)
            assert len(rest) > len(expected) / 4
            before = untouched(folder, rest)
            assert before.keys() == rest
            capsys.readouterr()
            assert flowprofile("verify", "--repair", folder) == 0
            told = capsys.readouterr().out
            row.injected += 5 * EACH
            row.acknowledged += sum(key.startswith("ledger/receipts") for key in expected)
            row.silent += sum(
                f": {key} (" not in told and f": {key}\n" not in told
                for keys in planted.values()
                for key in keys
            )
            row.lost += len(expected.items() - contents(folder).items())
            assert ", 0 left" in told
            assert contents(folder) == expected
            assert untouched(folder, rest) == before
            assert flowprofile("verify", folder) == 0


def test_the_twin_names_less(whole, catalogue, tmp_path, monkeypatch, capsys):
    """Objects are not compared with their seals."""
    folder = tmp_path / "store"
    shutil.copytree(whole, folder)
    planted = plant(folder, random.Random(0))
    monkeypatch.setattr(verifying, "sound", lambda data, seal: True)
    flowprofile("verify", folder)
    told = capsys.readouterr().out
    with catalogue.twin(FAULT, "I3") as row:
        row.unprotected += sum(key not in told for key in (*planted["flipped"], *planted["swapped"]))
