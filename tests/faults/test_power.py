"""The power fails after any operation of the real writer: what was acknowledged is on the disk, and right."""

import random
import shutil

import numpy as np
import pytest
import specimens
from catalogue import times
from disks import Recorded, watched
from powerloss import crashes, put
from specimens import COUNT, MEASURE, TRAJECTORY, House

from flowprofile.cases import Sweep
from flowprofile.errors import FlowProfileError
from flowprofile.opening import open as open_profile
from flowprofile.store import places
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace

REQUESTS = ((Sweep((0, 1, 2), (0,)), [12, 6, 0]), (Sweep((0, 1, 2, 5, 4), (0, 1)), [12, 9, 6, 3, 0]))
"""The second fills up a tile of seeds and a shard of times that the first began."""
LAYOUT = StoreLayout(chunk="2 KiB", shard="6 KiB", small="1 KiB", durability="fsync")
NODES = {
    TRAJECTORY: ("trajectory", "x_t"),
    MEASURE: ("measures/step_ssim", "value"),
    COUNT: ("measures/count", "count"),
}


class Acknowledging(House):
    """A house that says what is acknowledged, and what no longer is, between the operations it makes."""

    record: Recorded

    def fill(self, store):
        for region in self.order(self.missing(store)):
            store.write(region, specimens.block(store, region))
            self.record.mark((True, region, store.stages(region.run)[region.group].time))


def growth(house):
    """Two requests."""
    for sweep, moments in REQUESTS:
        house.request(sweep, moments)


def renewal(house):
    """A request, some regions of which are retired and computed again."""
    house.request(*REQUESTS[1])
    if isinstance(house, Acknowledging):
        with house.open() as store:
            for group in (TRAJECTORY, MEASURE, COUNT):
                for region in store.cut(house.run.folder, group, store.present(house.run.folder, group))[::2]:
                    house.record.mark((False, region, store.stages(region.run)[region.group].time))
                    store.retire(region)
    house.request(*REQUESTS[1])


def recorded(folder, story, *, layout=LAYOUT, seed=None):
    """The operations of a story told in a folder three folders deep, none of which is there yet."""
    folder.mkdir()
    record = Recorded(folder / "new" / "deep" / "store")
    pick = random.Random(seed)
    house = Acknowledging(str(record.root), layout=layout)
    if seed is not None:
        house.order = lambda regions: pick.sample(regions, len(regions))
    house.record = record
    with watched(folder, lambda call: None, record):
        story(house)
    return record


def cells(acknowledged):
    """The cells of acknowledged regions, by group: label position, seed position, t."""
    found = {group: set() for group in NODES}
    for there, region, time in acknowledged:
        own = {
            (region.label, seed, None if time is None else time[moment])
            for seed in range(*region.seeds)
            for moment in range(*region.times)
        }
        found[region.group] = found[region.group] | own if there else found[region.group] - own
    return found


TRUTH = {}
"""By group and cell."""


def truth(group, seed, label, t):
    """What a cell holds."""
    at = group, seed, label, t
    if at not in TRUTH:
        case = specimens.Case(seed, label)
        TRUTH[at] = specimens.count(case) if group == COUNT else specimens.state(case, t)
        TRUTH[at] = specimens.value(case, t) if group == MEASURE else TRUTH[at]
    return TRUTH[at]


def seen(url, wanted):
    """Wanted cells that are gone, and cells whose finite value is wrong."""
    tree = open_profile(url)
    lost = silent = 0
    for group, (node, name) in NODES.items():
        data = tree[node].to_dataset().load().isel(intervention=0)
        values, status = data[name].values, data["status"].values
        moments = data.time.values.tolist() if "time" in data.dims else [None]
        places_of = [
            (label, REQUESTS[1][0].seeds.index(seed), seed, t)
            for label in data.label.values.tolist()
            for seed in data.seed.values.tolist()
            for t in moments
        ]
        present = status.reshape(-1) == 2
        values = values.reshape(len(places_of), *values.shape[2 + (moments != [None]) :])
        there = {(label, at, t) for (label, at, _, t), here in zip(places_of, present, strict=True) if here}
        lost += len(wanted[group] - there)
        silent += sum(
            not np.array_equal(value, truth(group, seed, label, t))
            for value, (label, _, seed, t), here in zip(values, places_of, present, strict=True)
            if here
        )
    return lost, silent


def told(url, story, acknowledged, whole):
    """Cells lost and silent after a crash, and whether telling the story again ends in the same bytes."""
    wanted = cells(acknowledged)
    place = LocalPlace(url)
    lost = silent = 0
    if place.read("profile.zarr/zarr.json") is not None:
        lost, silent = seen(str(url), wanted)
    else:
        lost = sum(map(len, wanted.values()))
    house = House(str(url))
    story(house)
    return lost, silent, house.contents() == whole


@pytest.mark.parametrize(
    ("fault", "story"),
    [("power loss while a store grows", growth), ("power loss while regions are renewed", renewal)],
)
def test_power_loss(fault, story, catalogue, tmp_path, monkeypatch):
    whole = House(str(tmp_path / "whole"))
    story(whole)
    whole = whole.contents()
    limit = times(80, 3000)
    with catalogue.row(fault, "I1") as row:
        for seed in range(times(1, 40)):
            record = recorded(tmp_path / f"recorded{seed}", story, seed=seed or None)
            states = list(crashes(record, seed, some=times(2, 12)))
            states = states if len(states) <= limit else random.Random(seed).sample(states, limit)
            for number, objects, acknowledged in states:
                put(objects, tmp_path / "crashed")
                lost, silent, same = told(tmp_path / "crashed", story, acknowledged, whole)
                row.injected, row.acknowledged = (
                    row.injected + 1,
                    row.acknowledged + sum(a[0] for a in acknowledged),
                )
                row.lost, row.silent = row.lost + lost, row.silent + silent
                assert same, (seed, number)
                shutil.rmtree(tmp_path / "crashed")
            if row.injected >= limit:
                break
    assert row.injected >= limit
    unforced = StoreLayout(chunk="2 KiB", shard="6 KiB", small="1 KiB", durability="none")
    for name, layout in (("nothing forced", unforced), ("no name forced", LAYOUT)):
        if layout is LAYOUT:
            monkeypatch.setattr(places, "fsync_folder", lambda folder: None)
        record = recorded(tmp_path / name, story, layout=layout)
        moments = random.Random(0).sample(range(record.marks[0][0], len(record.operations)), 4)
        states = list(crashes(record, 0, some=0, moments=moments))
        with catalogue.twin(fault, "I1") as row:
            for _, objects, acknowledged in random.Random(0).sample(states, 8):
                put(objects, tmp_path / "crashed")
                try:
                    lost, silent, same = told(tmp_path / "crashed", story, acknowledged, whole)
                    row.unprotected += bool(lost or silent or not same)
                except FlowProfileError:
                    row.unprotected += 1
                shutil.rmtree(tmp_path / "crashed")
