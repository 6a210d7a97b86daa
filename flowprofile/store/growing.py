"""Making a place agree with a record, in the one order that never shows a reader a torn store.

Coordinates first (longer ones are still right for old readers), then arrays and groups, then the layout record, and
the root document last: whichever of them was the last before a crash, the old root document and everything it
speaks of still hold.
"""

from collections.abc import Mapping

from flowprofile.store.encoding import digest
from flowprofile.store.layout import StoreLayout
from flowprofile.store.ledger import FORMAT, INTENTS, Ledger, Receipt, receipt_key, unsealed_json
from flowprofile.store.objects import ROOT
from flowprofile.store.phases import Listen, Phase
from flowprofile.store.places import Place
from flowprofile.store.record import Record, StageRecord
from flowprofile.store.regions import Region
from flowprofile.store.rendering import Rendered
from flowprofile.store.snapshot import ROOT_DOCUMENT, format_data, layout_data, record_keys
from flowprofile.store.turns import locked


def settle(place: Place, record: Record, *, layout: StoreLayout, listen: Listen) -> None:
    """Write whatever metadata of a record the place does not hold yet.

    Every object is compared with the bytes that are there, not with what an earlier record says of them, so the
    leavings of a torn growth and damaged metadata are overwritten on the way.
    """
    rendered = Rendered(record)
    documents = rendered.objects.items() - rendered.coordinates.items()
    arrays = {key: data for key, data in documents if b'"array"' in data}
    groups = {key: data for key, data in documents if key not in arrays}
    steps: dict[str, Mapping[str, bytes]] = {
        "format": {FORMAT: format_data()},
        "coordinates": _rooted(rendered.coordinates),
        "arrays": _rooted(arrays),
        "groups": _rooted(groups),
        "record": dict.fromkeys(record_keys(digest(rendered.root)), layout_data(record, rendered)),
        "root": {ROOT_DOCUMENT: rendered.root},
    }
    for step, objects in steps.items():
        new = {key: data for key, data in sorted(objects.items()) if place.read(key) != data}
        if new:
            listen(Phase("growth", step))
        for key, data in new.items():
            listen(Phase("metadata", key))
            place.sure()
            place.write(key, data, durable=layout.durable)
        if layout.durable:
            place.fsync(new)


def _rooted(objects: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{ROOT}/{key}": data for key, data in objects.items()}


def heal(place: Place, record: Record, *, layout: StoreLayout, listen: Listen) -> None:
    """Finish or forget the overwrites a crash interrupted.

    The object holds either the sealed or the intended bytes. In the second case the receipts that share it get its
    new seal, exactly as the writer would have given it to them; then the intent has served.
    """
    for name in list(place.list(INTENTS)):
        data = place.read(name)
        body = unsealed_json(data) if data is not None else None
        run, _, group = name.removeprefix(f"{INTENTS}/").rpartition("/")[0].partition("/")
        stage = record.runs[run].stages.get(group.replace("~", "/")) if run in record.runs else None
        if body is not None and stage is not None:
            region = _around(run, group.replace("~", "/"), stage, body["key"])
            # Workers of a coordinator that died may be writing still: the intent is theirs until their turn is over.
            with locked(place, record.runs[run], region):
                ledger = Ledger(place, region.run, region.group)
                _finish(ledger, body["key"], body["new"]["digest"], layout=layout, listen=listen)
                place.delete(name)
        else:
            place.delete(name)


def _around(run: str, group: str, stage: StageRecord, key: str) -> Region:
    """A region with the case axes of an object: whoever writes the object locks what this one locks."""
    name, _, chunk = key.rpartition("/")
    intervention, label, seed = (int(part) for part in chunk.split(".")[1:4])
    seeds = stage.variables[name].form.chunk[2]
    return Region(run, group, intervention, label, (seed * seeds, (seed + 1) * seeds), (0, 1))


def _finish(ledger: Ledger, key: str, intended: str, *, layout: StoreLayout, listen: Listen) -> None:
    data = ledger.place.read(f"{ROOT}/{ledger.run}/{ledger.group}/{key}")
    new = next((seal for seal in ledger.intended(key) if seal.digest == intended), None)
    if data is None or new is None or digest(data) != intended:
        return
    tile = [int(part) for part in key.rpartition("/")[2].split(".")[1:3]]
    for receipt in ledger.receipts(tile[0], tile[1], ledger.rows(tile[0], tile[1])):
        if key in receipt.objects and receipt.objects[key] != new:
            updated = Receipt(receipt.region, {**receipt.objects, key: new})
            put_receipt(ledger.place, updated, layout=layout, listen=listen)


def put_receipt(place: Place, receipt: Receipt, *, layout: StoreLayout, listen: Listen) -> None:
    """Write a receipt, durably."""
    key = receipt_key(receipt.region)
    listen(Phase("receipt", key))
    place.sure()
    place.write(key, receipt.data(), durable=layout.durable)
    if layout.durable:
        place.fsync([key])
