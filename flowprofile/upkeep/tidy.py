"""Removing what nobody acknowledges: the leavings of kills, of growth, and of what was dropped."""

from collections.abc import Iterator
from dataclasses import dataclass

from flowprofile.store.encoding import digest
from flowprofile.store.growing import heal
from flowprofile.store.ledger import Ledger, read_receipt
from flowprofile.store.objects import ROOT
from flowprofile.store.phases import silent
from flowprofile.store.places import TEMPORARY
from flowprofile.store.rendering import Rendered
from flowprofile.store.segments import SEGMENTS
from flowprofile.store.snapshot import LAYOUTS, ROOT_DOCUMENT, SPARES, record_keys
from flowprofile.store.store import Store


@dataclass(frozen=True)
class Removed:
    """What went."""

    keys: tuple[str, ...]
    bytes: int


def waste(store: Store) -> Removed:
    """What would go; nothing is touched. No worker may be writing, or its unacknowledged objects are among it."""
    known = set(_acknowledged(store))
    rendered = Rendered(store.record)
    known |= {f"{ROOT}/{key}" for key in rendered.objects} | {
        ROOT_DOCUMENT,
        *record_keys(digest(rendered.root)),
    }
    stages = {
        f"{SEGMENTS}/{run}/{group.replace('/', '~')}" for run in store.runs() for group in store.stages(run)
    }
    keys = [
        key
        for prefix in (ROOT, TEMPORARY, LAYOUTS, SPARES, SEGMENTS)
        for key in store.place.list(prefix)
        if key not in known and key not in stages
    ]
    return Removed(tuple(keys), sum(store.place.size(key) or 0 for key in keys))


def gc(store: Store) -> Removed:
    """Remove it; the caller becomes the planner."""
    store.lock()
    heal(store.place, store.record, layout=store.layout, listen=silent)
    found = waste(store)
    for key in found.keys:
        store.place.delete(key)
    return found


def _acknowledged(store: Store) -> Iterator[str]:
    for run in store.runs():
        for group in store.stages(run):
            for region in Ledger(store.place, run, group).regions():
                receipt = read_receipt(store.place, region)
                for key in receipt.objects if receipt is not None else ():
                    yield f"{ROOT}/{run}/{group}/{key}"
