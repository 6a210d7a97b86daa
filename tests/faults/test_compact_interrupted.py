"""A compaction that ends at any of its writes: whatever lists of regions it left, none of them hides what was acknowledged.

The store goes on growing afterwards, so that a list which was written before the kill is soon older than its folder.
"""

import os
import shutil

import pytest
from acknowledged import Truth, contents
from catalogue import times
from kept_stores import FAST, Killed, sweep
from mortal import MortalFolder

from flowprofile import running
from flowprofile.errors import FlowProfileError
from flowprofile.store.ledger import RECEIPTS
from flowprofile.store.places import LocalPlace
from flowprofile.store.segments import segment
from flowprofile.store.store import Store
from flowprofile.upkeep.compact import compact

FAULT = "interrupted compact"
BEGIN, GROWN = {"seeds": "0:2"}, {"seeds": "0:3", "l1": {"use": "l1"}}


def compacted(place):
    """Compact a store whose folders have not changed for long, which is not waited for."""
    for folder in (place.root / RECEIPTS).rglob("i*.l*"):
        os.utime(folder, ns=(0, 0))
    with Store.open(place, layout=FAST) as store:
        return compact(store)


def lost(place, wanted):
    """How many cells are not what they were."""
    try:
        found = Truth(place).cells
    except FlowProfileError:
        return len(wanted)
    return sum(found.get(at) != value for at, value in wanted.items())


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """A store, what it grows to, both undisturbed, and how many lists a compaction writes."""
    folder = tmp_path_factory.mktemp("compact")
    running.run(sweep(**BEGIN), into=folder / "begin", layout=FAST)
    begun = Truth(folder / "begin")
    shutil.copytree(folder / "begin", folder / "grown")
    running.run(sweep(**GROWN), into=folder / "grown", layout=FAST)
    shutil.copytree(folder / "begin", folder / "counted")
    return begun, Truth(folder / "grown"), compacted(LocalPlace(folder / "counted")).stages


def story(folder, stores, at, *, torn):
    """Killed, looked at, grown, looked at, compacted again, looked at: the cells that are lost at each look."""
    begun, grown, _ = stores
    shutil.copytree(begun.url, folder)
    with pytest.raises(Killed):
        compacted(MortalFolder(folder, at, torn=torn))
    place = LocalPlace(folder)
    yield lost(place, begun.cells)
    running.run(sweep(**GROWN), into=place, layout=FAST)
    yield lost(place, grown.cells)
    compacted(place)
    yield lost(place, grown.cells) + (contents(place) != grown.contents)


def test_killed_at_any_write_a_compaction_hides_nothing(catalogue, stores, tmp_path):
    begun, grown, writes = stores
    assert writes > 2
    with catalogue.row(FAULT, "I4") as row:
        for number in range(times(1, 5)):
            for at in range(writes):
                for torn in times((at % 2 == 0,), (False, True)):
                    row.injected += 1
                    row.acknowledged += len(begun.cells) + len(grown.cells)
                    row.lost += sum(story(tmp_path / f"s{number}.{at}.{torn}", stores, at, torn=torn))


def test_lists_that_are_believed_for_ever_would_hide_what_came_later(
    catalogue, stores, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        LocalPlace, "modified", lambda place, key: (0, 0) if (place.root / key).exists() else None
    )
    with catalogue.twin(FAULT, "I4") as row:
        for at in range(1, stores[2]):
            row.unprotected += sum(story(tmp_path / f"s{at}", stores, at, torn=False)) > 0


def test_a_compaction_that_ends_is_believed(stores, tmp_path):
    """Or nothing of the above would be about lists."""
    shutil.copytree(stores[0].url, tmp_path / "s")
    place = LocalPlace(tmp_path / "s")
    compacted(place)
    run = stores[0].run
    for group in Store.open(place).stages(run):
        (folder, (changed, rows)), *_ = segment(place, run, group).items()
        assert len(rows)
        assert changed == place.modified(f"{RECEIPTS}/{run}/{group.replace('/', '~')}/{folder}")
