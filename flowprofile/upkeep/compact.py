"""Writing the names of all regions into one file per stage; see `flowprofile.store.segments`."""

from dataclasses import dataclass

from flowprofile.store.ledger import RECEIPTS, Ledger, folder
from flowprofile.store.segments import segment_data, segment_key, settled
from flowprofile.store.store import Store


@dataclass(frozen=True)
class Compacted:
    """What was written."""

    stages: int
    regions: int
    unsettled: int
    """Folders that changed in the last seconds, and are still listed."""


def compact(store: Store) -> Compacted:
    """Write a segment for every stage; receipts stay where they are."""
    stages = regions = unsettled = 0
    for run, record in store.runs().items():
        for group in record.stages:
            where, found = folder(RECEIPTS, run, group), {}
            for intervention in range(len(record.interventions)):
                for label in range(len(record.labels)):
                    name = f"i{intervention}.l{label}"
                    changed = store.place.modified(f"{where}/{name}")
                    if changed is None:
                        continue
                    if not settled(changed):
                        unsettled += 1
                        continue
                    found[name] = (changed, Ledger(store.place, run, group).rows(intervention, label))
            if found:
                store.place.write(segment_key(run, group), segment_data(found))
                stages += 1
                regions += sum(len(rows) for _, rows in found.values())
    return Compacted(stages, regions, unsettled)
