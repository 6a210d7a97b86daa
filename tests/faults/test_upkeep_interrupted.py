"""Drop, gc, merge and migrate that end at any of their writes: what stays is unharmed, and the same command ends the same."""

from itertools import count
from types import SimpleNamespace

import pytest
from acknowledged import Truth, contents
from catalogue import times
from kept_stores import FAST, Killed
from mortal import Mortal, copied

from flowprofile import running
from flowprofile.errors import FlowProfileError
from flowprofile.store.ledger import RECEIPTS
from flowprofile.store.places import TEMPORARY, MemoryPlace
from flowprofile.store.store import Store
from flowprofile.upkeep import drop as dropping
from flowprofile.upkeep import tidy
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.drop import drop
from flowprofile.upkeep.merge import merge
from flowprofile.upkeep.migrate import migrate
from flowprofile.upkeep.tidy import gc
from pipelines import pipeline

THINNED = Cells(stages=("trajectory", "measures/*"), but_times="::3", seeds=(0, 2))
NAMES = count()


def run(url, seeds):
    source = pipeline(seeds=seeds, labels=(0,), steps=8, trajectory={}, step_ssim={"use": "ssim"})
    running.run(source, into=url, layout=FAST)
    return MemoryPlace(url.removeprefix("memory://"))


def opened(place):
    return Store.open(place, layout=FAST)


def cells(place):
    """Every cell a store has, verified, and its value."""
    return Truth(place).cells


class Story:
    """A verb, the store it begins with, and what must be left of that store whenever it ends."""

    def __init__(self, begin, verb):
        self.begin, self.verb = begin, verb
        self.before, place = cells(self.fresh()), Mortal(self.fresh().name)
        self.verb(place)
        self.writes, self.whole = place.done, contents(place)
        after = cells(place)
        self.kept = {at: value for at, value in self.before.items() if at in after}
        self.values = {**self.before, **after}

    def fresh(self):
        return copied(self.begin, f"story{next(NAMES)}")

    def killed(self, at, *, torn=False):
        place = Mortal(self.fresh().name, at, torn=torn)
        with pytest.raises(Killed):
            self.verb(place)
        return MemoryPlace(place.name)


@pytest.fixture(scope="module")
def stories():
    """The four verbs, on small stores."""
    base, more = run("memory://upkeep-base", "0:3"), run("memory://upkeep-more", "2:5")

    def dropped(place):
        with opened(place) as store:
            drop(store, THINNED)

    def merged(place):
        with opened(place) as target:
            merge([Store.open(more)], target)

    def migrated(place):
        with opened(place) as target:
            migrate(Store.open(base), target)

    def collected(place):
        with opened(place) as store:
            gc(store)

    shrunk = Story(base.name, dropped)
    half = shrunk.killed(shrunk.writes * 2 // 3)
    (folder,) = {key.rpartition("/c.")[0] for key in half.list("profile.zarr") if "/x_t/c." in key}
    for number in range(6):
        half.write(f"{folder}/c.0.7.{number}.0.0.0.0", b"debris")
    half.write(f"{TEMPORARY}/1-old", b"debris")
    into = MemoryPlace("upkeep-into")
    return {
        "drop": shrunk,
        "gc": Story(half.name, collected),
        "merge": Story(base.name, merged),
        "migrate": SimpleNamespace(begin=into.name, verb=migrated, source=base),
    }


def judged(row, story, place):
    """Kept cells that are gone, and cells with another value than they ever had."""
    found = cells(place)
    row.acknowledged += len(story.kept)
    row.lost += len(story.kept.keys() - found.keys())
    row.silent += sum(story.values[at] != value for at, value in found.items())


@pytest.mark.parametrize("name", ["drop", "gc", "merge"])
def test_killed_at_any_write_a_verb_costs_no_kept_cell_and_ends_the_same(catalogue, stories, name):
    story = stories[name]
    with catalogue.row(f"interrupted {name}", "I4") as row:
        for at in range(0, story.writes, times(max(1, story.writes // 8), 1)):
            place = story.killed(at)
            row.injected += 1
            judged(row, story, place)
            story.verb(place)
            assert contents(place) == story.whole, at
            assert cells(place).keys() >= story.kept.keys()


def test_a_killed_migration_leaves_its_source_alone_and_goes_on(catalogue, stories):
    story = stories["migrate"]
    whole = Mortal("migrated-whole")
    story.verb(whole)
    source, values, expected = contents(story.source), cells(story.source), contents(whole)
    with catalogue.row("interrupted migrate", "I4") as row:
        for at in range(0, whole.done, times(max(1, whole.done // 8), 1)):
            place = Mortal(f"migrated{at}", at)
            with pytest.raises(Killed):
                story.verb(place)
            row.injected += 1
            row.acknowledged += len(values)
            row.lost += contents(story.source) != source
            there = MemoryPlace(place.name)
            if there.read("profile.zarr/zarr.json") is not None:
                row.silent += sum(values[one] != value for one, value in cells(there).items())
            story.verb(there)
            assert contents(there) == expected, at


def test_without_atomic_writes_merging_and_migrating_would_tear_what_is_there(catalogue, stories):
    story = stories["merge"]
    with catalogue.twin("interrupted merge", "I4") as row:
        for at in range(story.writes):
            row.unprotected += torn(lambda at=at: story.killed(at, torn=True), story.kept)
    verb, whole = stories["migrate"].verb, Mortal("torn-whole")
    verb(whole)
    with catalogue.twin("interrupted migrate", "I4") as row:
        for at in range(whole.done):
            place = Mortal(f"torn{at}", at, torn=True)
            with pytest.raises(Killed):
                verb(place)
            receipts = list(place.list(RECEIPTS))
            row.unprotected += receipts != [] and torn(lambda name=place.name: MemoryPlace(name), {})


def torn(place, kept):
    """1 if something kept cannot be read any more, or anything that claims to be there."""
    try:
        return int(not kept.keys() <= cells(place()).keys())
    except FlowProfileError:
        return 1


def test_a_drop_that_retires_before_it_writes_would_lose_what_stays(catalogue, stories, monkeypatch):
    def careless(store, loss, objects, listen):
        kept = [(one, dropping._block(store, one)) for one in dropping._regions(store, loss)]
        store.retire(loss.region)
        for one, block in kept:
            store.write(one, block)

    monkeypatch.setattr(dropping, "_shrink", careless)
    story = stories["drop"]
    with catalogue.twin("interrupted drop", "I4") as row:
        for at in range(0, story.writes, 2):
            place = Mortal(story.fresh().name, at)
            try:
                story.verb(place)
            except Killed:
                row.unprotected += torn(lambda name=place.name: MemoryPlace(name), story.kept)


def test_a_collection_that_asks_no_receipt_would_remove_everything(catalogue, stories, monkeypatch):
    monkeypatch.setattr(tidy, "_acknowledged", lambda store: iter(()))
    monkeypatch.setattr(tidy, "_tile_of", lambda store, key: None)
    story = stories["gc"]
    with catalogue.twin("interrupted gc", "I4") as row:
        place = story.fresh()
        story.verb(place)
        row.unprotected += torn(lambda: place, story.kept)
