"""Removing what nobody acknowledges: the leavings of kills, of growth, and of what was dropped.

Parts of a job array write without a planner, so the planner's lock says nothing of them. An object is therefore looked
at again in its writer's turn: between a writer's object and its receipt nobody else has that turn. What is temporary is
left alone until it is a day old.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from time import time_ns
from typing import Final

from flowprofile.store.encoding import digest
from flowprofile.store.growing import heal
from flowprofile.store.ledger import Ledger, read_receipt
from flowprofile.store.objects import ROOT
from flowprofile.store.phases import Listen, Phase, silent
from flowprofile.store.places import TEMPORARY
from flowprofile.store.record import RunRecord
from flowprofile.store.regions import Region
from flowprofile.store.rendering import Rendered
from flowprofile.store.segments import SEGMENTS, segment_key
from flowprofile.store.snapshot import LAYOUTS, ROOT_DOCUMENT, SPARES, record_keys
from flowprofile.store.store import Store
from flowprofile.store.turns import locked
from flowprofile.upkeep.drop import finish

ABANDONED: Final = 24 * 3600 * 10**9
"""Nanoseconds after which nobody is still writing a temporary file."""


@dataclass(frozen=True)
class Removed:
    """What went."""

    keys: tuple[str, ...]
    bytes: int


def waste(store: Store) -> Removed:
    """What would go; nothing is touched. What a worker is about to acknowledge is among it, and stays."""
    store.refresh()
    rendered = Rendered(store.record)
    known = {
        ROOT_DOCUMENT,
        *record_keys(digest(rendered.root)),
        *(f"{ROOT}/{key}" for key in rendered.objects),
        *(segment_key(run, group) for run in store.runs() for group in store.stages(run)),
        *_acknowledged(store),
    }
    keys = [
        key
        for prefix in (ROOT, LAYOUTS, SPARES, SEGMENTS)
        for key in store.place.list(prefix)
        if key not in known
    ]
    keys += [key for key in store.place.list(TEMPORARY) if _abandoned(store, key)]
    return Removed(tuple(keys), _bytes(store, keys))


def gc(store: Store, *, listen: Listen = silent) -> Removed:
    """Remove it; the caller becomes the planner. Workers may go on writing."""
    store.lock()
    store.refresh()
    heal(store.place, store.record, layout=store.layout, listen=silent)
    finish(store, listen=listen)
    gone, size = [], 0
    for key in waste(store).keys:
        listen(Phase("writing", key))
        freed = _bytes(store, [key])
        if _remove(store, key):
            gone.append(key)
            size += freed
    return Removed(tuple(gone), size)


def _remove(store: Store, key: str) -> bool:
    """Delete an object, unless it has been acknowledged meanwhile."""
    found = _tile_of(store, key)
    if found is None:
        store.place.delete(key)
        return True
    run, region = found
    with locked(store.place, run, region):
        ledger = Ledger(store.place, region.run, region.group)
        rows = ledger.rows(region.intervention, region.label)
        rows = rows[(rows[:, 0] < region.seeds[1]) & (rows[:, 1] > region.seeds[0])]
        name = key.removeprefix(f"{ROOT}/{region.run}/{region.group}/")
        receipts = ledger.receipts(region.intervention, region.label, rows)
        if any(name in receipt.objects for receipt in receipts):
            return False
        store.place.delete(key)
    return True


def _tile_of(store: Store, key: str) -> tuple[RunRecord, Region] | None:
    """The run of a data object, and a region with its case axes: whoever writes it locks what that one locks."""
    for name, run in store.runs().items():
        for group, stage in run.stages.items():
            inside = key.removeprefix(f"{ROOT}/{name}/{group}/")
            variable, _, chunk = inside.partition("/c.")
            if inside == key or variable not in stage.variables:
                continue
            axes = chunk.split(".")[:3]
            if len(axes) == 3 and all(axis.isdecimal() for axis in axes):
                intervention, label, tile = map(int, axes)
                seeds = stage.variables[variable].form.chunk[2]
                return run, Region(
                    name, group, intervention, label, (tile * seeds, (tile + 1) * seeds), (0, 1)
                )
    return None


def _abandoned(store: Store, key: str) -> bool:
    """Whether nobody has touched a temporary file for a day; where that cannot be known, nobody keeps one."""
    changed = store.place.modified(key)
    return changed is None or time_ns() - changed[0] > ABANDONED


def _bytes(store: Store, keys: list[str]) -> int:
    return sum(store.place.size(key) or 0 for key in keys)


def _acknowledged(store: Store) -> Iterator[str]:
    for run in store.runs():
        for group in store.stages(run):
            for region in Ledger(store.place, run, group).regions():
                receipt = read_receipt(store.place, region)
                for key in receipt.objects if receipt is not None else ():
                    yield f"{ROOT}/{run}/{group}/{key}"
