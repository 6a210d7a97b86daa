"""Whatever is damaged in a store, nothing wrong is read without an error, and repairing and computing again ends in
the same bytes; for every codec that is written."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import specimens
import xarray as xr
from catalogue import times
from planting import ALL, FIRST, ROOT, TIMES, Fault, Objects, drop, faults, kind_of, put, read_all, silent

from flowprofile.errors import FlowProfileError
from flowprofile.store import ledger, reading, segments, snapshot
from flowprofile.store.encoding import crc32c, decode, digest, encode
from flowprofile.store.layout import layout, names
from flowprofile.store.ledger import sealed_json, unsealed_json
from flowprofile.store.places import MemoryPlace
from flowprofile.store.snapshot import LAYOUTS, SPARES
from flowprofile.store.verify import repair, verify
from flowprofile.upkeep import compact

CODECS = sorted({"zstd", *(layout(name).codec for name in names())})
KINDS = {
    ("chunk", "bit flip"): "bits flipped in a chunk",
    ("chunk", "truncation"): "chunk cut short",
    ("chunk", "deletion"): "chunk deleted",
    ("chunk", "swap"): "chunks swapped",
    ("chunk", "stale version"): "chunk of an earlier version",
    ("chunk", "forged checksum"): "chunk with a forged checksum",
    ("chunk", "forged content"): "chunk encoded anew with other values",
    ("coordinate", ""): "coordinates damaged, swapped or deleted",
    ("metadata", ""): "metadata edited, damaged or deleted",
    ("receipts", ""): "receipts damaged, swapped or emptied",
    ("layouts", ""): "a layout record damaged or deleted",
}


class Planted:
    """A store in memory, before and after it grew, into which faults are planted."""

    def __init__(self, codec: str) -> None:
        self.house = specimens.House(f"memory://damage-{codec}", replace(specimens.LAYOUT, codec=codec))
        self.place = MemoryPlace(f"damage-{codec}")
        self.place._objects.clear()
        self.house.request(FIRST, TIMES[::2])
        self.old = dict(self.place._objects)
        self.house.request(ALL, TIMES)
        self.now = dict(self.place._objects)
        self.truth = read_all(self.place.url)
        self.receipts = sum(key.startswith("ledger/receipts/") for key in self.now)

    def reset(self) -> Objects:
        """The store as it was."""
        self.place._objects.clear()
        self.place._objects.update(self.now)
        return self.place._objects

    def faults(self) -> Iterator[Fault]:
        """Every kind of fault on every kind of object, by the names of the rows."""
        forged = list(self._forged())
        yield from faults(self.old, self.now)
        yield from forged
        for key in sorted(self.now):
            if kind_of(key) == "receipts":
                body = unsealed_json(self.now[key])
                yield "receipts", "emptied", put(key, sealed_json({**body, "objects": {}}))

    def _forged(self) -> Iterator[Fault]:
        """Chunks of another content in every way well-formed, checksums and all."""
        self.reset()
        with self.house.open() as store:
            run = self.house.run.folder
            for group, stage in store.stages(run).items():
                for region in ledger.Ledger(self.place, run, group).regions():
                    for key, seal in store.receipt(region).objects.items():
                        form = stage.variables[key.partition("/")[0]].form
                        path = f"profile.zarr/{run}/{group}/{key}"
                        content = np.array(decode(form, self.now[path], seal))
                        content[np.isfinite(content)] += 1
                        touched = [at for at, entry in enumerate(seal.inner) if entry is not None]
                        yield "chunk", "forged content", put(path, encode(form, content, touched)[0])

    def read(self) -> str:
        """What a reader makes of it: refused, same, missing or silent."""
        try:
            found = read_all(self.place.url)
        except FlowProfileError as error:
            return "refused" if error.consequence and error.remedy else "refused without a word"
        if silent(found, self.truth):
            return "silent"
        return "same" if all(found[path].identical(self.truth[path]) for path in self.truth) else "missing"

    def recovers(self) -> bool:
        """Whether repairing and computing what is then missing ends in the same bytes."""
        repair(self.place.url)
        with self.house.open() as store:
            self.house.fill(store)
        return verify(self.place.url).findings == () and self.data(self.place._objects) == self.data(self.now)

    @staticmethod
    def data(objects: Objects) -> Objects:
        """What a store holds; how it is cut into regions depends on what was missing."""
        return {key: data for key, data in objects.items() if key.startswith("profile.zarr/")}


@pytest.fixture(scope="module", params=CODECS)
def planted(request):
    return Planted(request.param)


def row_of(kind: str, name: str) -> str:
    kind = "metadata" if kind == "format.json" else kind
    return KINDS.get((kind, name)) or KINDS[kind, ""]


def test_damage(planted, catalogue):
    total = 0
    for number, (kind, name, spoil) in enumerate(planted.faults()):
        if number % times(2, 1):
            continue
        with catalogue.row(row_of(kind, name), "I3") as row:
            spoil(planted.reset())
            row.injected, row.acknowledged = row.injected + 1, row.acknowledged + planted.receipts
            outcome = planted.read()
            row.silent += outcome == "silent"
            assert outcome != "refused without a word"
            if kind == "chunk" and name != "bit flip":
                assert outcome == "refused", (kind, name)
            if outcome == "missing":  # a region without a receipt is not there, and computed again
                assert (kind, name) == ("receipts", "deletion")
            if number % times(14, 2) == 0:
                row.lost += not planted.recovers()
        total += 1
    assert total >= 150


def unread(*_: object) -> dict[object, object]:
    """A reader that takes what is damaged for missing."""
    return {}


def without_crc(data, entry):
    return len(data) == entry[1] and int.from_bytes(data[-4:], "little") == entry[2]


def without_receipts(data, entry):
    return int.from_bytes(data[-4:], "little") == crc32c(memoryview(data)[:-4])


def unnamed_receipt(place, region, real=ledger.read_receipt):
    try:
        return real(place, region)
    except FlowProfileError:
        return None


TWINS = {
    "bit flip": (reading, "intact", without_crc),
    "truncation": (reading, "_fetch_any", unread),
    "deletion": (reading, "_fetch_any", unread),
    "swap": (reading, "intact", without_receipts),
    "stale version": (reading, "intact", without_receipts),
    "forged checksum": (reading, "intact", without_receipts),
    "forged content": (reading, "intact", without_receipts),
}
"""What each fault in a chunk is caught by, and what is put in its place."""


@pytest.mark.parametrize("name", TWINS)
def test_chunks_without_the_protection(name, catalogue, monkeypatch):
    planted = Planted("none")
    found = [spoil for kind, each, spoil in planted.faults() if (kind, each) == ("chunk", name)]
    monkeypatch.setattr(*TWINS[name])
    with catalogue.twin(KINDS["chunk", name], "I3") as row:
        for spoil in found[:8]:
            spoil(planted.reset())
            row.unprotected += planted.read() in ("silent", "missing")


def test_receipts_and_records_without_the_protection(catalogue, monkeypatch):
    """Damaged receipts are taken for none; a layout record has no second copy."""
    planted = Planted("none")
    receipts = [spoil for kind, name, spoil in planted.faults() if (kind, name) == ("receipts", "bit flip")]
    record = f"{LAYOUTS}/{digest(planted.now[ROOT])}.json"
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "read_receipt", unnamed_receipt)
        with catalogue.twin(KINDS["receipts", ""], "I3") as row:
            for spoil in receipts[:8]:
                spoil(planted.reset())
                row.unprotected += planted.read() == "missing"
    monkeypatch.setattr(snapshot, "record_keys", lambda root: (snapshot.layout_key(root),) * 2)
    with catalogue.twin(KINDS["layouts", ""], "I3") as row:
        drop(record)(planted.reset())
        row.unprotected += planted.read() == "refused"


def plain(place: MemoryPlace) -> xr.DataTree:
    """The store as a reader opens it who knows nothing of a ledger."""
    return xr.open_datatree(place.zarr(), engine="zarr").load()


def differs(place: MemoryPlace, truth: xr.DataTree) -> bool:
    """Whether a plain reader gets other values, without an error."""
    try:
        return not plain(place).identical(truth)
    except Exception:  # noqa: BLE001 - any refusal of theirs will do
        return False


def test_coordinates_and_metadata_without_the_protection(catalogue):
    """They are compared with the ledger: a reader that has none is misled."""
    planted = Planted("none")
    truth = plain(planted.place)
    for kind, names_of in (("coordinate", ("forged checksum", "swap")), ("metadata", ("edit",))):
        spoils = [spoil for each, name, spoil in planted.faults() if each == kind and name in names_of]
        with catalogue.twin(KINDS[kind, ""], "I3") as row:
            for spoil in spoils[:6]:
                spoil(planted.reset())
                row.unprotected += differs(planted.place, truth)


def debris(now: Objects) -> Iterator[tuple[str, bytes]]:
    """What other programs and killed writers leave in a folder."""
    chunks = [key for key in sorted(now) if kind_of(key) == "chunk"]
    receipts = [key for key in sorted(now) if kind_of(key) == "receipts"]
    for number, key in enumerate(chunks):
        folder, _, chunk = key.rpartition("/")
        head, *rest = chunk.split(".")
        yield f"ledger/tmp/{number}-{digest(key.encode())}", now[key][: len(now[key]) // 2]
        yield f"{folder}/{'.'.join([head, '0', '3', *rest[2:]])}", now[key]  # of a label that is not stored
        yield f"{folder}/{chunk}.part", now[key][:7]
        yield f"{folder}/.{chunk}.swp", b"b0VIM"
        yield f"{folder}/.DS_Store", b"\0\0\0\1Bud1"
    for key in receipts:
        folder, _, name = key.rpartition("/")
        yield f"{folder}/{name}.bak", now[key]
        yield f"{folder}/Thumbs.db", b"\xd0\xcf\x11\xe0"
    for key in (*receipts[:1], *chunks[:1]):
        stage = "/".join(key.split("/")[2:4])
        yield f"ledger/intents/{stage}/torn.json", now[receipts[0]][:40]
    for folder in (LAYOUTS, SPARES, "ledger", "profile.zarr", "profile.zarr/notes"):
        yield f"{folder}/README.txt", b"do not delete"
    yield "ledger/segments/first@abababab/nothing", b"garbage"


FOREIGN = "foreign files and half-written temporaries"


def test_debris(planted, catalogue):
    with catalogue.row(FOREIGN, "I2, I3") as row:
        for number, (key, data) in enumerate(debris(planted.now)):
            planted.reset()
            if key in planted.now or number % times(4, 1):
                continue
            planted.place.write(key, data)
            row.injected, row.acknowledged = row.injected + 1, row.acknowledged + planted.receipts
            outcome = planted.read()
            row.silent += outcome == "silent"
            assert outcome == "same", key
            assert verify(planted.place.url).sound
            if number % times(16, 1) == 0:
                row.lost += not planted.recovers()


def test_debris_without_the_protection(catalogue):
    """A chunk that nobody acknowledged is data to a reader without a ledger."""
    house, place = specimens.House("memory://damage-gap"), MemoryPlace("damage-gap")
    house.request(FIRST, TIMES[::2])
    house.request(ALL, TIMES, fill=False)
    read, truth = read_all(place.url), plain(place)
    chunk = next(key for key in place.list("profile.zarr") if "/x_t/c.0.1.2." in key)
    place.write(chunk.replace("/c.0.1.2.", "/c.0.1.3."), place.read(chunk))
    assert all(found.identical(read[path]) for path, found in read_all(place.url).items())
    with catalogue.twin(FOREIGN, "I2, I3") as row:
        row.unprotected += differs(place, truth)


STALE = "damaged, swapped or stale lists of regions"


def test_segments(catalogue, tmp_path, monkeypatch):
    """A list of regions is believed only with its digest, and only of folders that have not changed since.

    The twin is a list that was changed and given a fitting digest.
    """
    monkeypatch.setattr(compact, "settled", lambda changed: True)
    house = specimens.House(str(tmp_path / "store"))
    house.request(FIRST, TIMES[::2])
    with house.open() as store:
        compact.compact(store)
        lists = sorted(store.place.list(segments.SEGMENTS))
        old = {key: store.place.read(key) for key in lists}
    house.request(ALL, TIMES)
    with house.open() as store:
        compact.compact(store)
        now = {key: store.place.read(key) for key in lists}
        place = store.place
        truth = read_all(place.url)
        with catalogue.row(STALE, "I3") as row:
            for key in lists:
                data = now[key]
                flips = [
                    data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                    for at in range(0, len(data), times(29, 5))
                ]
                for spoiled in (
                    *flips,
                    data[: len(data) // 2],
                    b"",
                    old[key],
                    *(now[other] for other in lists),
                ):
                    if spoiled == data:
                        continue
                    place.write(key, spoiled)
                    row.injected, row.acknowledged = row.injected + 1, row.acknowledged + 22
                    row.silent += not all(
                        found.identical(truth[path]) for path, found in read_all(place.url).items()
                    )
                    row.lost += bool(house.missing(store))
                place.write(key, data)
        with catalogue.twin(STALE, "I3") as row:
            for key in lists:
                body = now[key][segments._DIGEST : -8] + bytes(8)
                place.write(key, digest(body).encode() + body)
                row.unprotected += bool(house.missing(store))
                place.write(key, now[key])
