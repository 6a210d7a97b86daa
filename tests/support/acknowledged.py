"""What a store had acknowledged, what of it is gone, and what is silently wrong: measured against an undisturbed one."""

from hashlib import blake2b

import numpy as np

from flowprofile.errors import FlowProfileError
from flowprofile.flow.events import Committed
from flowprofile.store.ledger import RECEIPTS, Ledger
from flowprofile.store.store import Store
from flowprofile.upkeep.drop import region_cases


class Heard(list):
    """A listener that keeps the names of acknowledged regions, and passes everything on."""

    def __init__(self, then=lambda event: None):
        super().__init__()
        self.then = then

    def __call__(self, event):
        if isinstance(event, Committed):
            self.append((event.group, event.region))
        self.then(event)


def contents(url):
    """Digest of every object that a finished store is made of."""
    place = Store.open(url).place
    keys = [*place.list("profile.zarr"), *place.list(RECEIPTS)]
    return {key: blake2b(place.read(key)).hexdigest() for key in keys}


def regions(url):
    """Every region that a store has a receipt of, and the store."""
    store = Store.open(url)
    return store, [
        region
        for run in store.runs()
        for group in store.stages(run)
        for region in Ledger(store.place, run, group).regions()
    ]


def block(store, region):
    """A region's values, verified."""
    record, stage = store.runs()[region.run], store.stages(region.run)[region.group]
    times = None if stage.time is None else stage.time[slice(*region.times)]
    return store.read(region.run, region.group, region_cases(record, region), times)


class Truth:
    """The value of every cell of an undisturbed store."""

    def __init__(self, url):
        self.url, self.contents = url, contents(url)
        self.cells = {}
        store, found = regions(url)
        self.run = next(iter(store.runs()))
        for region in found:
            self.cells.update(self._cells(store, region))

    @staticmethod
    def _cells(store, region):
        values = block(store, region)
        for row, case in enumerate(region_cases(store.runs()[region.run], region)):
            for column, t in enumerate(values["time"].values if "time" in values.dims else [None]):
                for name, array in values.data_vars.items():
                    at = {"case": row} if t is None else {"case": row, "time": column}
                    yield (region.group, name, case, t), np.asarray(array.isel(at).values).tobytes()

    def wrong(self, store, region):
        """How many cells of a region read without an error and have another value."""
        return sum(self.cells.get(at) != value for at, value in self._cells(store, region))

    def judge(self, row, url, heard):
        """Add to a row what was acknowledged, what of it is lost, and what is silently wrong."""
        store, found = regions(url)
        names = {(region.group, region.name) for region in found}
        row.acknowledged += len(set(heard))
        row.lost += len(set(heard) - names)
        for region in found:
            try:
                row.silent += self.wrong(store, region) > 0
            except FlowProfileError:
                row.lost += (region.group, region.name) in heard

    def lost(self, url, heard):
        """How many acknowledged regions are gone, unreadable or wrong; for twins, whose stores may not even open."""
        try:
            store, found = regions(url)
        except FlowProfileError:
            return len(set(heard))
        good = set()
        for region in found:
            try:
                if not self.wrong(store, region):
                    good.add((region.group, region.name))
            except FlowProfileError:
                continue
        return len(set(heard) - good)
