"""The ledger: which regions exist, and what the bytes of their objects must be.

A region exists if and only if its receipt does. A receipt is named after its region, so presence is read from names
alone, and it seals every object the region has cells in. Objects that several regions share (a measure's tile, a
shard filled in two goes) carry the same current seal in the receipt of each, so that the ledger is a function of
what is stored and not of the order in which it came. Before such an object is overwritten its new seal is
journalled as an intent; a crash in between leaves either the sealed or the intended bytes, and both are known.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.errors import IntegrityError, StoreError
from flowprofile.store.encoding import Seal, digest
from flowprofile.store.places import Place
from flowprofile.store.record import canonical
from flowprofile.store.regions import Region, region_of
from flowprofile.store.segments import Changed, segment

FORMAT = "ledger/format.json"
"""Says that a store is here, and of which schema."""
RECEIPTS = "ledger/receipts"
INTENTS = "ledger/intents"
_CACHED_RECEIPTS = 512
_HEAD = len(b'{"digest":"","body":') + 32


@dataclass(frozen=True, slots=True)
class Receipt:
    """A region's proof of existence."""

    region: Region
    objects: Mapping[str, Seal]
    """Key below the stage's folder to the seal of the object."""

    def data(self) -> bytes:
        """The receipt's bytes: a function of what is stored, without time, host or worker."""
        body = {
            "schema": 1,
            "run": self.region.run,
            "group": self.region.group,
            "region": self.region.name,
            "objects": {key: _seal_json(seal) for key, seal in self.objects.items()},
        }
        return sealed_json(body)


def sealed_json(body: Mapping[str, Any]) -> bytes:
    """JSON that begins with the digest of its body."""
    text = canonical(body).encode()
    return b'{"digest":"%s","body":%s}' % (digest(text).encode(), text)


def unsealed_json(data: bytes) -> dict[str, Any] | None:
    """The body of `sealed_json`, None where the bytes are not what was written."""
    text = data[_HEAD : -len(b"}")]
    if data[:_HEAD] != b'{"digest":"%s","body":' % digest(text).encode() or data[-1:] != b"}":
        return None
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _seal_json(seal: Seal) -> dict[str, Any]:
    return {"size": seal.size, "digest": seal.digest, "inner": seal.inner}


def _seal(value: Mapping[str, Any]) -> Seal:
    inner = tuple(None if entry is None else (entry[0], entry[1], entry[2]) for entry in value["inner"])
    numbers = [value["size"], *(n for entry in inner if entry is not None for n in entry)]
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a seal of {numbers[:4]!r}")
    return Seal(value["size"], value["digest"], inner)


def _seals(body: Mapping[str, Any] | None) -> dict[str, Seal] | None:
    """What a receipt says of its objects; None where it says nothing that could be."""
    try:
        return None if body is None else {key: _seal(value) for key, value in body["objects"].items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def folder(base: str, run: str, group: str) -> str:
    """Where a stage's receipts or intents are."""
    return f"{base}/{run}/{group.replace('/', '~')}"


def receipt_key(region: Region) -> str:
    """Where a region's receipt is."""
    return f"{folder(RECEIPTS, region.run, region.group)}/{region.tile}/{region.name}.json"


def read_receipt(place: Place, region: Region) -> Receipt | None:
    """A region's receipt, None where it has none.

    Raises
    ------
    IntegrityError
        If the file is not the receipt that was written for this region.
    """
    data = place.read(receipt_key(region))
    if data is None:
        return None
    body = unsealed_json(data)
    named = None if body is None else (body.get("run"), body.get("group"), body.get("region"))
    objects = _seals(body)
    if objects is None or named != (region.run, region.group, region.name):
        raise IntegrityError(
            f"The receipt of {region} in {place.url} is damaged or belongs to another region.",
            consequence="What its objects must be is not known, so they are not read.",
            remedy=f"flowprofile verify --repair {place.url}",
            evidence=receipt_key(region),
        )
    return Receipt(region, objects)


@dataclass(frozen=True, slots=True)
class Intent:
    """An overwrite that was about to happen."""

    key: str
    """Below the stage's folder."""
    old: str
    new: Seal

    def data(self) -> bytes:
        return sealed_json({"key": self.key, "old": self.old, "new": _seal_json(self.new)})

    def place_key(self, run: str, group: str) -> str:
        return f"{folder(INTENTS, run, group)}/{digest(self.key.encode())}.{self.new.digest}.json"


def intents(place: Place, run: str, group: str) -> dict[str, Intent]:
    """A stage's open intents by their own key; one that is torn was never followed by an overwrite."""
    found = {}
    for name in place.list(folder(INTENTS, run, group)):
        data = place.read(name)
        body = unsealed_json(data) if data is not None else None
        if body is not None:
            found[name] = Intent(body["key"], body["old"], _seal(body["new"]))
    return found


Rows = npt.NDArray[np.int64]
"""Regions of one label and intervention: columns seed start, seed stop, time start, time stop."""


class Ledger:
    """A stage's ledger as it was when each part of it was first looked at; `reload` looks again."""

    def __init__(self, place: Place, run: str, group: str) -> None:
        self.place, self.run, self.group = place, run, group
        self._rows: dict[tuple[int, int], Rows] = {}
        self._receipts: OrderedDict[Region, Receipt] = OrderedDict()
        self._intents: dict[str, Intent] | None = None
        self._segment: dict[str, tuple[Changed, Rows]] | None = None
        self._there = False

    def __reduce__(self) -> tuple[object, ...]:
        return Ledger, (self.place, self.run, self.group)

    def reload(self) -> None:
        """Forget what was read."""
        self.__init__(self.place, self.run, self.group)  # type: ignore[misc]

    def rows(self, intervention: int, label: int) -> Rows:
        """The present regions of one label and intervention, in order."""
        at = (intervention, label)
        if at not in self._rows:
            where = f"{folder(RECEIPTS, self.run, self.group)}/i{intervention}.l{label}"
            if self._segment is None:
                self._segment = segment(self.place, self.run, self.group)
            changed, known = self._segment.get(where.rpartition("/")[2], (None, None))
            if known is not None and changed == self.place.modified(where):
                self._rows[at] = known
                return known
            names = self.place.list(where)
            found = [
                (r.seeds + r.times)
                for r in map(self._region, names)
                if r is not None and (r.intervention, r.label) == at
            ]
            if not found:
                self._still_there()
            self._rows[at] = np.array(sorted(found), np.int64).reshape(-1, 4)
        return self._rows[at]

    def all_rows(self, interventions: int, labels: int) -> Iterator[tuple[int, int, Rows]]:
        """The present regions of every label and intervention: one listing, where a listing is a request."""
        if not self.place.near:
            found: dict[tuple[int, int], list[tuple[int, ...]]] = {}
            for region in self.regions():
                at = (region.intervention, region.label)
                found.setdefault(at, []).append(region.seeds + region.times)
            if not found:
                self._still_there()
            for at in np.ndindex(interventions, labels):
                self._rows[at] = np.array(sorted(found.get(at, [])), np.int64).reshape(-1, 4)
        for intervention, label in np.ndindex(interventions, labels):
            yield intervention, label, self.rows(intervention, label)

    def _still_there(self) -> None:
        """Nothing found may mean nothing stored, or no store: a folder that is gone lists as empty."""
        self._there = self._there or self.place.read(FORMAT) is not None
        if not self._there:
            raise StoreError(
                f"The store {self.place.url!r} is not there any more.",
                consequence="Its values would all read as missing.",
                remedy="mount it again, or open it where it was moved to",
                evidence=f"{FORMAT} cannot be read",
            )

    def _region(self, key: str) -> Region | None:
        name = key.rpartition("/")[2]
        return region_of(self.run, self.group, name.removesuffix(".json")) if name.endswith(".json") else None

    def regions(self) -> Iterator[Region]:
        """All present regions."""
        for key in self.place.list(folder(RECEIPTS, self.run, self.group)):
            region = self._region(key)
            if region is not None and key == receipt_key(region):
                yield region

    def overlapping(
        self, intervention: int, label: int, seeds: tuple[int, int], times: tuple[int, int]
    ) -> Rows:
        """The rows that have cells in a box."""
        rows = self.rows(intervention, label)
        hit = (
            (rows[:, 0] < seeds[1])
            & (rows[:, 1] > seeds[0])
            & (rows[:, 2] < times[1])
            & (rows[:, 3] > times[0])
        )
        return rows[hit]

    def receipts(self, intervention: int, label: int, rows: Rows) -> list[Receipt]:
        """The receipts of some rows; one that has been retired in between is left out."""
        found = []
        for s0, s1, t0, t1 in rows.tolist():
            region = Region(self.run, self.group, intervention, label, (s0, s1), (t0, t1))
            receipt = self._receipt(region)
            if receipt is not None:
                found.append(receipt)
        return found

    def _receipt(self, region: Region) -> Receipt | None:
        receipt = self._receipts.get(region)
        if receipt is None:
            receipt = read_receipt(self.place, region)
            if receipt is not None:
                self._receipts[region] = receipt
                if len(self._receipts) > _CACHED_RECEIPTS:
                    self._receipts.popitem(last=False)
        return receipt

    def seals(self, key: str, receipts: Sequence[Receipt]) -> list[Seal]:
        """What an object may be: what its receipts agree on, and what an open intent was about to make of it.

        Raises
        ------
        IntegrityError
            If receipts disagree and no intent explains why, or one does not know the object at all.
        """
        stated = list(dict.fromkeys(receipt.objects.get(key) for receipt in receipts))
        intended = self._intended(key) if len(stated) != 1 else []
        known = [seal for seal in stated if seal is not None]
        if len(known) != len(stated) or (len(stated) > 1 and not intended):
            raise IntegrityError(
                f"The receipts of {self.run}/{self.group} in {self.place.url} disagree about the object {key!r}.",
                consequence="Which bytes were acknowledged is not known, so none are read.",
                remedy=f"flowprofile verify --repair {self.place.url}",
                evidence=", ".join(receipt.region.name for receipt in receipts),
            )
        return list(dict.fromkeys([*known, *intended]))

    def _intended(self, key: str) -> list[Seal]:
        if self._intents is None:
            self._intents = intents(self.place, self.run, self.group)
        return [intent.new for intent in self._intents.values() if intent.key == key]

    def intended(self, key: str) -> list[Seal]:
        """The seals that open intents give an object."""
        return self._intended(key)


def fills(rows: Rows, seeds: int, times: int) -> bool:
    """Whether the rows, in order, lie edge to edge over all of a box: the quick answer for a finished sweep.

    False says nothing: rows that overlap may still cover the box.
    """
    if not len(rows):
        return False
    s0, s1, t0, t1 = rows.T
    same = (s0[1:] == s0[:-1]) & (s1[1:] == s1[:-1])
    inside = np.where(same, t0[1:] == t1[:-1], (s0[1:] == s1[:-1]) & (t0[1:] == 0) & (t1[:-1] == times))
    ends = s0[0] == 0 and t0[0] == 0 and s1[-1] == seeds and t1[-1] == times
    return bool(ends and inside.all())


def covered(rows: Rows, seeds: tuple[int, int], times: int) -> npt.NDArray[np.bool_]:
    """Which cells of a stretch of seeds some rows cover, [seed time]."""
    result = np.zeros((seeds[1] - seeds[0], times), bool)
    for s0, s1, t0, t1 in rows[(rows[:, 0] < seeds[1]) & (rows[:, 1] > seeds[0])].tolist():
        result[max(0, s0 - seeds[0]) : s1 - seeds[0], t0:t1] = True
    return result
