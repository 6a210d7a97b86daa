"""One consistent view of a store's metadata, whoever is writing.

The root document is written last and its digest names the layout record it was rendered from. So whoever has read
a root document has a record that belongs to it, and a root document no record belongs to is a damaged one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from flowprofile.errors import IntegrityError, StoreError
from flowprofile.store.bounds import MOST_DOCUMENT, believed
from flowprofile.store.encoding import crc32c, digest
from flowprofile.store.ledger import FORMAT, sealed_json, unsealed_json
from flowprofile.store.objects import ROOT
from flowprofile.store.places import Place
from flowprofile.store.record import Record
from flowprofile.store.rendering import Rendered

SCHEMA = 1
ROOT_DOCUMENT = f"{ROOT}/zarr.json"
LAYOUTS = "ledger/layouts"
SPARES = "ledger/spares"
"""Where every layout record has a second copy: without one, no axis of the store would be known."""


@dataclass(frozen=True, slots=True)
class Object:
    """A rendered object: what it must be, and how much of it is this record's."""

    size: int
    digest: str
    prefix: int | None = None
    """Bytes of a coordinate chunk that hold values; what follows grows. None for a document."""
    values: str = ""
    """Digest of the prefix."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A record, and the objects that were rendered from it."""

    record: Record = field(default_factory=Record)
    root: str = ""
    """Digest of the root document; empty for a store without one."""
    objects: Mapping[str, Object] = field(default_factory=dict)
    """By key below ``profile.zarr``."""


def layout_key(root: str) -> str:
    """Where the record of a root document is."""
    return f"{LAYOUTS}/{root}.json"


def record_keys(root: str) -> tuple[str, str]:
    """The two places of a root document's record."""
    return layout_key(root), f"{SPARES}/{root}.json"


def layout_data(record: Record, rendered: Rendered) -> bytes:
    """The bytes of a layout record."""
    root = digest(rendered.root)
    objects = {
        key: asdict(_object(data, rendered.prefixes.get(key))) for key, data in rendered.objects.items()
    }
    return sealed_json({"schema": SCHEMA, "root": root, "record": record.value(), "objects": objects})


def _object(data: bytes, prefix: int | None) -> Object:
    return Object(len(data), digest(data), prefix, digest(data[:prefix]) if prefix is not None else "")


def check_format(place: Place, *, otherwise: str = "name an empty or new folder") -> bool:
    """Whether a store of ours is there; False where nothing is. `otherwise` is what to do where something else is.

    Raises
    ------
    StoreError
        If something else is there, or a store of a newer version.
    """
    data = place.read(FORMAT)
    if data is None:
        if place.exists():
            raise StoreError(
                f"{place.url!r} is not empty and not a FlowProfile store.",
                consequence="Nothing of it is read or changed.",
                remedy=otherwise,
                evidence=f"{FORMAT} is missing",
            )
        return False
    try:
        schema = json.loads(data)["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise IntegrityError(
            f"The store {place.url!r} does not say which version wrote it.",
            consequence="How to read it is not known, so nothing is read.",
            remedy=f"flowprofile verify --repair {place.url}",
            evidence=f"{FORMAT}: {data[:60]!r}",
        ) from None
    _ours(place, schema)
    return True


def newer(place: Place) -> None:
    """Refuse a store whose format document is whole, and of another schema; a damaged one says nothing."""
    try:
        schema = json.loads(place.read(FORMAT) or b"")["schema"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if type(schema) is int:
        _ours(place, schema)


def _ours(place: Place, schema: object) -> None:
    """Refuse another schema than this version's."""
    if type(schema) is not int or schema != SCHEMA:
        raise StoreError(
            f"The store {place.url!r} has schema {repr(schema)[:40]}, this version reads {SCHEMA!r}.",
            consequence="Its arrays or receipts may mean something else here; nothing is read or changed.",
            remedy='update flowprofile: pip install --upgrade "flowprofile"',
        )


def format_data() -> bytes:
    """The bytes of the format document."""
    return json.dumps({"kind": "flowprofile store", "schema": SCHEMA}, sort_keys=True).encode()


def snapshot(place: Place) -> Snapshot:
    """The store's metadata as of its current root document; an empty one where there is none yet.

    Raises
    ------
    IntegrityError
        If the root document or its record is damaged.
    """
    root = document(place, ROOT_DOCUMENT)
    if root is None:
        if next(place.list(LAYOUTS), None) is not None and _has_receipts(place):
            raise _damaged(place, ROOT_DOCUMENT, "is missing")
        return Snapshot()
    name = digest(root)
    found = [document(place, key) for key in record_keys(name)]
    if found == [None, None]:
        raise _damaged(place, ROOT_DOCUMENT, f"has the digest {name}, which no layout record knows")
    bodies = (unsealed_json(data) for data in found if data is not None)
    body = next((one for one in bodies if one is not None and one.get("root") == name), None)
    if body is None:
        raise _damaged(place, layout_key(name), "is damaged or belongs to another root document")
    _ours(place, body.get("schema"))
    try:
        objects = {key: Object(**value) for key, value in body["objects"].items()}
        return Snapshot(believed(body["record"]), name, objects)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(place, layout_key(name), f"says what no store holds: {error}") from error


def document(place: Place, key: str) -> bytes | None:
    """The bytes of a metadata object.

    Raises
    ------
    IntegrityError
        For one longer than any that is written.
    """
    if place.near and (place.size(key) or 0) > MOST_DOCUMENT:
        raise _damaged(place, key, f"has {place.size(key):,} bytes, where {MOST_DOCUMENT:,} are the most")
    return place.read(key)


def _has_receipts(place: Place) -> bool:
    return next(place.list("ledger/receipts"), None) is not None


def check_coordinates(place: Place, seen: Snapshot) -> None:
    """Compare every stored coordinate with the record; what a growing writer has appended behind is allowed.

    Raises
    ------
    IntegrityError
        Naming the first coordinate whose stored values are not the record's.
    """
    for key, expected in seen.objects.items():
        if expected.prefix is not None:
            data = place.read(f"{ROOT}/{key}")
            if data is None or not coordinate_holds(data, expected):
                raise _damaged(
                    place, f"{ROOT}/{key}", "does not hold the coordinate values that were written"
                )


def coordinate_holds(data: bytes, expected: Object) -> bool:
    """Whether a coordinate chunk still holds a record's values."""
    if digest(data) == expected.digest:
        return True
    whole = int.from_bytes(data[-4:], "little") == crc32c(data[:-4])
    return whole and digest(data[: expected.prefix]) == expected.values


def _damaged(place: Place, key: str, how: str) -> IntegrityError:
    return IntegrityError(
        f"The metadata object {key!r} of {place.url} {how}.",
        consequence="Cells would be given wrong seeds, labels or times; the store is not opened.",
        remedy=f"flowprofile verify --repair {place.url}",
    )
