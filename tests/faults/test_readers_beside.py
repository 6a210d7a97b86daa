"""Readers that open a store at every moment at which others grow it, drop from it, collect and compact it."""

import numpy as np
import pytest
from catalogue import times
from kept_stores import FAST, sweep

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import FlowProfileError
from flowprofile.store import growing
from flowprofile.store import store as stores
from flowprofile.store.phases import Phase
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.compact import compact
from flowprofile.upkeep.drop import drop
from flowprofile.upkeep.tidy import gc

GROWTH, UPKEEP = "readers during growth", "readers during drop, gc and compact"
NODES = ("trajectory", "predicted_x0", "measures/step_ssim")
SWEEPS = ({"seeds": "0:2"}, {"seeds": "0:3"}, {"seeds": "0:6", "wide": {"use": "ssim", "window": 11}})
THINNED = Cells(stages=("trajectory", "measures/*"), but_times="::5", seeds=(0, 2, 3))


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """Every value, by node."""
    url = tmp_path_factory.mktemp("whole") / "store"
    running.run(sweep(), into=url, layout=FAST)
    tree = fp.open(url)
    return {name: array(tree, name).load() for name in NODES}


def array(tree, name):
    """A node's values where it has any."""
    data = tree[name].to_dataset()
    found = data["x_t" if "x_t" in data else "value" if "value" in data else next(iter(data.data_vars))]
    return found.where(data["status"] == 2)


class Reader:
    """Opens the store and reads a part of it; every other time with a tree it had opened before."""

    def __init__(self, url, values, row, every):
        self.url, self.values, self.row, self.every = url, values, row, every
        self.moments, self.opened, self.failed, self.old = 0, 0, [], None

    def __call__(self, event):
        if not isinstance(event, Phase):
            return
        self.moments += 1
        if self.moments % self.every == 0:
            self.look(str(event))

    def look(self, moment):
        self.opened += 1
        try:
            tree = fp.open(self.url)
            self.read(tree, NODES[self.opened % len(NODES)])
            if self.old is not None:
                self.read(self.old, NODES[(self.opened + 1) % len(NODES)])
        except (FlowProfileError, ValueError, KeyError, OSError) as error:
            self.failed.append((moment, error))
            return
        self.old = tree if self.opened % 5 == 0 else self.old

    def read(self, tree, name):
        found = array(tree, name).load()
        like = self.values[name].sel({dim: found[dim] for dim in ("intervention", "label", "seed", "time")})
        there = np.isfinite(found.values)
        self.row.acknowledged += int(there.any())
        self.row.silent += int((found.values[there] != like.values[there]).any())


def grown(url, reader):
    for changes in SWEEPS:
        running.run(sweep(**changes), into=url, layout=FAST, listen=reader)


def kept_house(url, reader):
    with Store.open(url, layout=FAST) as store:
        compact(store)
        reader.look("compacted")
        drop(store, THINNED, listen=reader)
        gc(store, listen=reader)
        compact(store)
        reader.look("compacted again")


def test_a_store_that_grows_opens_at_every_moment(catalogue, values, tmp_path):
    with catalogue.row(GROWTH, "I2") as row:
        for number in range(times(1, 3)):
            url = tmp_path / f"s{number}"
            running.run(sweep(seeds="0:1"), into=url, layout=FAST)
            reader = Reader(url, values, row, times(11, 1))
            grown(url, reader)
            row.injected += reader.opened
            assert not reader.failed


def test_a_store_that_is_tidied_opens_at_every_moment(catalogue, values, tmp_path):
    with catalogue.row(UPKEEP, "I2") as row:
        for number in range(times(1, 3)):
            url = tmp_path / f"s{number}"
            running.run(sweep(), into=url, layout=FAST)
            (url / "profile.zarr" / "debris").write_bytes(b"x")
            reader = Reader(url, values, row, times(17, 1))
            kept_house(url, reader)
            row.injected += reader.opened
            assert not reader.failed


def upside_down(place, record, look, *, layout):
    """Growth that shows the root document first."""
    kept = []

    class Later:
        read = staticmethod(place.read)
        sure = staticmethod(place.sure)

        def write(self, key, data, *, durable=False):
            kept.append((key, data))

    growing.settle(Later(), record, layout=layout, listen=lambda phase: None)
    for number, (key, data) in enumerate(reversed(kept)):
        place.write(key, data)
        if number < 6:
            look(key)


def test_with_the_root_first_some_would_fail(catalogue, values, tmp_path, monkeypatch):
    url = tmp_path / "s"
    running.run(sweep(seeds="0:1"), into=url, layout=FAST)
    with catalogue.twin(GROWTH, "I2") as row:
        reader = Reader(url, values, row, 10**9)
        monkeypatch.setattr(
            stores,
            "settle",
            lambda place, record, *, layout, listen: upside_down(place, record, reader.look, layout=layout),
        )
        running.run(sweep(), into=url, layout=FAST)
        row.unprotected += len(reader.failed)


def test_with_the_receipt_last_some_would_fail(catalogue, values, tmp_path, monkeypatch):
    url = tmp_path / "s"
    running.run(sweep(), into=url, layout=FAST)
    retire = Store.retire

    def careless(self, region):
        for key in self.receipt(region).objects:
            self.place.delete(f"profile.zarr/{region.run}/{region.group}/{key}")
        reader.look(str(region))
        retire(self, region)

    monkeypatch.setattr(Store, "retire", careless)
    with catalogue.twin(UPKEEP, "I2") as row:
        reader = Reader(url, values, row, 10**9)
        with Store.open(url, layout=FAST) as store:
            drop(store, Cells(stages=("trajectory",), labels=(1,)))
        row.unprotected += len(reader.failed)
