"""Stores, checkpoints and folders as a malicious stranger would make them: every seal fits what it seals."""

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np

from flowprofile.comparing.keeping import FOLDER, SEAL, _rendered, _seal
from flowprofile.flow.fingerprint import canonical
from flowprofile.store.encoding import Seal, crc32c, digest
from flowprofile.store.ledger import Receipt, read_receipt, receipt_key, sealed_json, unsealed_json
from flowprofile.store.snapshot import record_keys
from flowprofile.store.store import Store

MANY = 10**18


class Payload:
    """A pickle that leaves a canary."""

    def __reduce__(self):
        return os.system, ('touch "$FLOWPROFILE_CANARY"',)


def weights_file(path, header, data=b"", length=None):
    """A safetensors file with a header of our words."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def changed_record(base, url, change):
    """A copy of a store whose layout record was changed, and sealed again."""
    shutil.copytree(base, url)
    where = Store.open(url).place
    keys = record_keys(digest(where.read("profile.zarr/zarr.json")))
    body = unsealed_json(where.read(keys[0]))
    change(body["record"])
    for key in keys:
        where.write(key, sealed_json(body))
    return url


def run_of(record):
    """The one run of a record."""
    return next(iter(record["runs"].values()))


def stage_of(record, name="trajectory"):
    """A stage of it."""
    return next(stage for group, stage in run_of(record)["stages"].items() if group.startswith(name))


def states_of(record):
    """The variable that holds states."""
    return stage_of(record)["variables"]["x_t"]


def _run(**values):
    return lambda record: run_of(record).update(values)


def _stage(**values):
    return lambda record: stage_of(record).update(values)


def _states(**values):
    return lambda record: states_of(record).update(values)


def _form(**values):
    return lambda record: states_of(record)["form"].update(values)


def _coordinate(**values):
    return lambda record: next(iter(stage_of(record)["coords"].values())).update(values)


RECORDS = {
    "10^12 seeds": _run(seeds=[[0, 10**12]]),
    "10^18 seeds": _run(seeds=[[0, MANY]]),
    "a million stretches of ten seeds": _run(seeds=[[10 * n, 10 * n + 10] for n in range(1_000_000)]),
    "seeds that are texts": _run(seeds=["0", "1"]),
    "a stretch backwards": _run(seeds=[[5, 0]]),
    "seeds of 10^30": _run(seeds=[[10**30, 10**30 + 2]]),
    "labels that are texts": _run(labels=["a", "b"]),
    "labels that are fractions": _run(labels=[0.5, 1]),
    "a tile of nothing": _run(tile=[1, 0]),
    "a tile of 10^18": _run(tile=[1, MANY]),
    "a name that leads out": _run(name="../../etc"),
    "no stages": _run(stages=None),
    "label coordinates too short": _run(label_coords={"male": [True]}),
    "a coordinate of 10^9 interventions": _run(intervention_coords={"kind": [""] * 3}),
    "times twice": _stage(time=[0, 0, 0]),
    "times that are NaN": _stage(time=[float("nan")]),
    "a capacity of 10^18": _stage(capacity=MANY),
    "a negative capacity": _stage(capacity=-1),
    "no variables": _stage(variables=None),
    "a request without ends": _stage(
        requests=[{"interventions": [0], "labels": [0], "seeds": [[0]], "times": []}]
    ),
    "a shape of 10^18": _states(tail=[MANY, MANY, MANY]),
    "a tail of nothing": _states(tail=[0, 0, 0]),
    "a tail longer than its chunk": _states(tail=[3, 10**6, 10**6]),
    "a tail of fractions": _states(tail=[1.5, 8, 8]),
    "axes of other names": _states(dims=["a", "b", "c", "time", "d", "e", "f"]),
    "too few axes": _states(dims=["intervention", "label", "seed"]),
    "chunks of 10^18": _form(chunk=[1, 1, 1, MANY, MANY, 16, 16], inner=[1, 1, 1, MANY, MANY, 16, 16]),
    "chunks of nothing": _form(chunk=[0] * 7),
    "inner chunks of nothing": _form(inner=[0] * 7),
    "negative chunks": _form(chunk=[-1] * 7),
    "inner chunks that do not divide": _form(inner=[1, 1, 1, 7, 1, 16, 16]),
    "an unknown codec": _form(codec="pickle"),
    "Python objects": _form(dtype="O"),
    "a type of a gigabyte": _form(dtype="V1000000000"),
    "a type that is none": _form(dtype="float33"),
    "a coordinate of a gigabyte a value": _coordinate(dtype="U250000000"),
    "a coordinate of Python objects": _coordinate(dtype="O", values=[{"a": 1}]),
    "a coordinate of a shape of its own": _coordinate(shape=[MANY]),
}
"""What a layout record may be made to say."""


def _sealed(base, url, change, data=None):
    """A copy of a store in which one region's objects are changed and its receipt sealed anew."""
    shutil.copytree(base, url)
    with Store.open(url) as store:
        ((run, record),) = store.runs().items()
        group = next(each for each in record.stages if each.startswith("trajectory"))
        from flowprofile.store.ledger import Ledger

        for region in Ledger(store.place, run, group).regions():
            receipt = read_receipt(store.place, region)
            changed = {key: change(seal) for key, seal in receipt.objects.items()}
            store.place.write(receipt_key(region), Receipt(region, changed).data())
            for key in changed if data is not None else ():
                store.place.write(f"profile.zarr/{run}/{group}/{key}", data)
    return url


def bombed(base, url, packed):
    """A copy in which every object of the states is one packed chunk that unpacks to more than it may."""
    body = packed + crc32c(packed).to_bytes(4, "little")
    seal = Seal(len(body), digest(body), ((0, len(body), crc32c(packed)),))

    def change(old):
        return Seal(seal.size, seal.digest, (seal.inner * max(1, len(old.inner))))

    return _sealed(base, url, change, body)


def stretched(base, url, size):
    """A copy whose objects are holes of a size, and whose receipts say so."""
    _sealed(base, url, lambda seal: Seal(size, seal.digest, tuple((0, size, 0) for _ in seal.inner)))
    for file in Path(url).rglob("x_t/c.*"):
        os.truncate(file, size)
    return url


def nonsense(base, url, value):
    """A copy whose receipts hold a value in place of their objects' seals."""
    shutil.copytree(base, url)
    for file in (Path(url) / "ledger" / "receipts").rglob("*.json"):
        body = unsealed_json(file.read_bytes())
        file.write_bytes(sealed_json({**body, "objects": value}))
    return url


def kept(base, url, change=lambda document, objects: None):
    """A copy with a comparison beside it, changed and sealed anew."""
    import xarray as xr

    shutil.copytree(base, url)
    data = xr.Dataset(
        {"a": ("t", np.zeros(8)), "s": ("t", np.array(["x"] * 8, object))}, attrs={"recipe": "0" * 16}
    )
    objects = _rendered(data)
    document = json.loads(objects["zarr.json"])
    change(document, objects)
    document["attributes"][SEAL] = _seal(document, objects)
    objects["zarr.json"] = canonical(document).encode("ascii")
    folder = Path(url) / FOLDER / ("0" * 16 + ".zarr")
    for name, content in objects.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return url


def array_of(document, name="a"):
    """The consolidated metadata of an array."""
    return document["consolidated_metadata"]["metadata"][name]
