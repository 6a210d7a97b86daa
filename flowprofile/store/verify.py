"""Is everything that was acknowledged still there, bit for bit; and if not, put the store back to where a run can
simply continue.

Verifying reads every byte. Repairing never guesses data: metadata is rendered again from the record, regions whose
bytes are gone lose their receipts, and the engine computes what is then missing. It looks twice before anything goes:
a line that erred once has damaged nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from flowprofile.errors import IntegrityError, StoreError
from flowprofile.store.bounds import believed, largest
from flowprofile.store.encoding import Seal, digest
from flowprofile.store.growing import heal, settle
from flowprofile.store.ledger import (
    FORMAT,
    INTENTS,
    RECEIPTS,
    Receipt,
    intents,
    read_receipt,
    receipt_key,
    unsealed_json,
)
from flowprofile.store.objects import ROOT, extents_of, sound
from flowprofile.store.phases import silent
from flowprofile.store.places import TEMPORARY, Place
from flowprofile.store.record import Record
from flowprofile.store.regions import Region, region_of
from flowprofile.store.rendering import Rendered
from flowprofile.store.snapshot import (
    LAYOUTS,
    ROOT_DOCUMENT,
    SPARES,
    Object,
    coordinate_holds,
    document,
    format_data,
    layout_data,
    newer,
    record_keys,
    snapshot,
)
from flowprofile.store.store import Store
from flowprofile.store.urls import Where, place

Kind = Literal[
    "object damaged",
    "object missing",
    "object swapped",
    "receipt damaged",
    "receipts disagree",
    "metadata damaged",
    "torn growth",
    "open intent",
    "debris",
]
HARMLESS: tuple[Kind, ...] = ("torn growth", "open intent", "debris")
"""What a crash may leave: nothing acknowledged is touched, and the next run tidies up."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    kind: Kind
    key: str
    """The object, below the store."""
    regions: tuple[Region, ...] = ()
    """Regions whose cells it touches."""
    cells: str = ""
    """The same in a researcher's words."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.key}" + (f" ({self.cells})" if self.cells else "")


@dataclass(frozen=True)
class Report:
    """What a verification found."""

    url: str
    findings: tuple[Finding, ...]
    objects: int
    """Data objects checked."""
    receipts: int
    """Receipts checked."""
    size: int
    """Bytes of data read."""

    @property
    def sound(self) -> bool:
        """Whether everything acknowledged is intact; the leavings of a crash do not count against it."""
        return all(finding.kind in HARMLESS for finding in self.findings)


@dataclass(frozen=True)
class Repair:
    """What a repair did, and what a run must compute again."""

    before: Report
    after: Report
    retired: tuple[Region, ...]
    removed: tuple[str, ...]


@dataclass
class _Audit:
    place: Place
    record: Record
    findings: list[Finding] = field(default_factory=list)
    receipts: dict[Region, Receipt] = field(default_factory=dict)
    objects: int = 0
    size: int = 0

    def found(self, kind: Kind, key: str, regions: Iterable[Region] = ()) -> None:
        touched = tuple(regions)
        self.findings.append(Finding(kind, key, touched, "; ".join(cells(self.record, r) for r in touched)))


def verify(url: Where) -> Report:
    """Check every object, receipt and piece of metadata of a store.

    Returns
    -------
    Report
        One finding per object that is not what it should be, with the cells it touches.
    """
    where = place(url)
    _ours(where)
    record, findings = _record(where)
    audit = _Audit(where, record, findings)
    _metadata(audit)
    _receipts(audit)
    sealed = _sealed(audit)
    _data(audit, sealed)
    _debris(audit, sealed)
    return Report(where.url, tuple(audit.findings), audit.objects, len(audit.receipts), audit.size)


def _ours(where: Place) -> None:
    """Refuse a place where nothing of a store is left, so that a repair never makes one of a stranger's folder; and one
    that another version wrote, so that a repair never takes what it does not know for damage."""
    newer(where)
    if any(where.read(key) is not None for key in (FORMAT, ROOT_DOCUMENT)) or any(_records(where)):
        return
    raise StoreError(
        f"{where.url!r} is not a FlowProfile store.",
        consequence="Nothing of it was checked or changed.",
        remedy="correct the path; `flowprofile run PIPELINE --into STORE` makes a store",
        evidence=f"neither {FORMAT}, nor {ROOT_DOCUMENT}, nor a layout record is there",
    )


def _records(where: Place) -> list[str]:
    return [key for prefix in (LAYOUTS, SPARES) for key in where.list(prefix)]


def repair(url: Where) -> Repair:
    """Mend metadata, retire regions whose bytes are gone, and remove what belongs to nothing.

    Raises
    ------
    BusyError
        If a planner holds the store.
    IntegrityError
        If neither the root document nor any layout record is left to mend it from.
    """
    where = place(url)
    before = verify(url)
    record, _ = _record(where)
    if where.read(FORMAT) != format_data():
        where.write(FORMAT, format_data(), durable=True)
    with Store.open(url) as store:
        store.lock()
        settle(where, record, layout=store.layout, listen=silent)
        damaged = [f for f in _twice(before, verify(url)) if f.kind not in (*HARMLESS, "metadata damaged")]
        retired = sorted({region for finding in damaged for region in finding.regions})
        for region in retired:
            store.retire(region)
        heal(where, record, layout=store.layout, listen=silent)
        removed = [f.key for f in verify(url).findings if f.kind == "debris"]
        for key in removed:
            where.delete(key)
    return Repair(before, verify(url), tuple(retired), tuple(removed))


def _twice(first: Report, second: Report) -> list[Finding]:
    """What the second look found of what the first had found."""
    known = {finding.key for finding in first.findings}
    return [finding for finding in second.findings if finding.key in known]


def _record(where: Place) -> tuple[Record, list[Finding]]:
    """The record the store stands for, from the newest layout record where the root document is damaged."""
    findings: list[Finding] = []
    if where.read(FORMAT) != format_data():
        findings.append(Finding("metadata damaged", FORMAT))
    try:
        return snapshot(where).record, findings
    except IntegrityError:
        findings.append(Finding("metadata damaged", ROOT_DOCUMENT))
    records = [record for key in _records(where) if (record := _believed(where, key)) is not None]
    if not records:
        raise IntegrityError(
            f"No layout record that belongs to the root document of {where.url} is left.",
            consequence="Which seeds, labels and times its arrays hold is not known.",
            remedy="restore the store from a copy, or compute it again",
        )
    return max(records, key=_extent), findings


def _believed(where: Place, key: str) -> Record | None:
    """The record in a layout record, if it can be believed."""
    try:
        body = unsealed_json(document(where, key) or b"")
        return None if body is None else believed(body["record"])
    except (IntegrityError, ValueError, KeyError):
        return None


def _extent(record: Record) -> int:
    """Grows with every growth, since axes only ever grow."""
    return sum(
        sum(run.shape)
        + sum(stage.times + stage.order + len(stage.requests) + 1 for stage in run.stages.values())
        for run in record.runs.values()
    )


def _metadata(audit: _Audit) -> None:
    if not audit.record.runs and audit.place.read(ROOT_DOCUMENT) is None:
        return  # the first growth was cut short, and all that is there of it is debris
    rendered = Rendered(audit.record)
    expected_record = layout_data(audit.record, rendered)
    for key in record_keys(digest(rendered.root)):
        if audit.place.read(key) != expected_record:
            audit.found("metadata damaged", key)
    for key, data in rendered.objects.items():
        found = audit.place.read(f"{ROOT}/{key}")
        if found == data:
            continue
        prefix = rendered.prefixes.get(key)
        if found is not None and prefix is not None:
            expected = Object(len(data), digest(data), prefix, digest(data[:prefix]))
            grown = coordinate_holds(found, expected)
        else:
            grown = found is not None and _only_longer(found, data)
        audit.found("torn growth" if grown else "metadata damaged", f"{ROOT}/{key}")


def _only_longer(found: bytes, expected: bytes) -> bool:
    try:
        new, old = json.loads(found), json.loads(expected)
        a, b = new.pop("shape", []), old.pop("shape", [])
        return new == old and len(a) == len(b) and all(x >= y for x, y in zip(a, b, strict=True))
    except (ValueError, AttributeError, TypeError):
        return False


def _receipts(audit: _Audit) -> None:
    for key in audit.place.list(RECEIPTS):
        region = _region(key)
        if region is None or not _known(audit.record, region):
            audit.found("debris", key)
            continue
        try:
            receipt = read_receipt(audit.place, region)
        except IntegrityError:
            audit.found("receipt damaged", key, [region])
        else:
            if receipt is not None and receipt.objects.keys() != _expected(audit.record, region):
                audit.found("receipt damaged", key, [region])
            elif receipt is not None:
                audit.receipts[region] = receipt


def _expected(record: Record, region: Region) -> set[str]:
    """The objects that a region has cells in."""
    variables = record.runs[region.run].stages[region.group].variables
    return {extent.key for name, each in variables.items() for extent in extents_of(region, name, each)}


def _region(key: str) -> Region | None:
    parts = key.removeprefix(f"{RECEIPTS}/").split("/")
    if len(parts) != 4 or not parts[3].endswith(".json"):
        return None
    region = region_of(parts[0], parts[1].replace("~", "/"), parts[3].removesuffix(".json"))
    return region if region is not None and receipt_key(region) == key else None


def _known(record: Record, region: Region) -> bool:
    run = record.runs.get(region.run)
    stage = run.stages.get(region.group) if run else None
    if run is None or stage is None:
        return False
    at = (region.intervention + 1, region.label + 1, region.seeds[1], region.times[1])
    return all(stop <= length for stop, length in zip(at, (*run.shape, stage.times), strict=True))


def _sealed(audit: _Audit) -> dict[str, dict[Seal, list[Region]]]:
    """Every sealed object to its seals and who states them."""
    result: dict[str, dict[Seal, list[Region]]] = {}
    for region, receipt in audit.receipts.items():
        for key, seal in receipt.objects.items():
            result.setdefault(f"{ROOT}/{region.run}/{region.group}/{key}", {}).setdefault(seal, []).append(
                region
            )
    return result


def _data(audit: _Audit, sealed: Mapping[str, Mapping[Seal, list[Region]]]) -> None:
    intended = _intended(audit)
    owners = {seal.digest: key for key, seals in sealed.items() for seal in seals}
    for key, seals in sealed.items():
        data = _read(audit, key, next(iter(seals.values()))[0])
        audit.objects += 1
        audit.size += len(data or b"")
        regions = [region for stated in seals.values() for region in stated]
        holds = [s for s in seals if data is not None and sound(data, s)]
        new = [s for s in intended.get(key, ()) if data is not None and sound(data, s)]
        if not (holds or new):
            audit.found(_kind(key, data, owners), key, regions)
        elif len(seals) > 1 and not intended.get(key):
            stale = [region for seal, stated in seals.items() if seal not in holds for region in stated]
            audit.found("receipts disagree", key, stale)


def _read(audit: _Audit, key: str, region: Region) -> bytes | None:
    """An object's bytes; of one longer than any of its array, and of one of no array, as if nothing were there."""
    stage = audit.record.runs[region.run].stages[region.group]
    variable = stage.variables.get(key.removeprefix(f"{ROOT}/{region.run}/{region.group}/").partition("/")[0])
    if variable is None or (audit.place.size(key) or 0) > largest(variable.form):
        return None
    return audit.place.read(key)


def _intended(audit: _Audit) -> dict[str, list[Seal]]:
    result: dict[str, list[Seal]] = {}
    for run, record in audit.record.runs.items():
        for group in record.stages:
            for name, intent in intents(audit.place, run, group).items():
                result.setdefault(f"{ROOT}/{run}/{group}/{intent.key}", []).append(intent.new)
                audit.found("open intent", name)
    return result


def _kind(key: str, data: bytes | None, owners: Mapping[str, str]) -> Kind:
    if data is None:
        return "object missing"
    return "object swapped" if owners.get(digest(data), key) != key else "object damaged"


def _debris(audit: _Audit, sealed: Mapping[str, object]) -> None:
    rendered = {f"{ROOT}/{key}" for key in Rendered(audit.record).objects} | {ROOT_DOCUMENT}
    known_intents = {finding.key for finding in audit.findings if finding.kind == "open intent"}
    claimed = _claimed(audit)
    for key in _walk(audit.place):
        if not any(key in known for known in (rendered, sealed, known_intents, claimed)):
            audit.found("debris", key)


def _claimed(audit: _Audit) -> set[str]:
    """What receipts that cannot be read may seal: as long as they are there, it is not for anybody to remove."""
    return {
        f"{ROOT}/{region.run}/{region.group}/{key}"
        for finding in audit.findings
        if finding.kind == "receipt damaged"
        for region in finding.regions
        for key in _expected(audit.record, region)
    }


def _walk(where: Place) -> Iterator[str]:
    for prefix in (ROOT, TEMPORARY, INTENTS):
        yield from where.list(prefix)


def cells(record: Record, region: Region) -> str:
    """A region in a researcher's words."""
    run = record.runs.get(region.run)
    stage = run.stages.get(region.group) if run else None
    if run is None or stage is None or not _known(record, region):
        return str(region)
    seeds = run.seeds[slice(*region.seeds)]
    text = f"{region.group}: {_range('seed', seeds)}, label {run.labels[region.label]}"
    if run.interventions[region.intervention] != "none":
        text += f", intervention {run.interventions[region.intervention]!r}"
    return text if stage.time is None else f"{text}, {_range('time', stage.time[slice(*region.times)])}"


def _range(name: str, values: tuple[int, ...]) -> str:
    low, high = min(values), max(values)
    return f"{name} {low}" if low == high else f"{len(values)} {name}s {low}..{high}"
