"""One wrong read while a store is repaired: a line, a cache or a memory that errs once has damaged nothing."""

from contextlib import suppress
from itertools import count

import pytest
from acknowledged import Truth, contents
from catalogue import times
from kept_stores import FAST
from mortal import copied

from flowprofile import running
from flowprofile.errors import FlowProfileError
from flowprofile.store import verify as verifying
from flowprofile.store.ledger import FORMAT, RECEIPTS
from flowprofile.store.places import MemoryPlace
from flowprofile.store.snapshot import LAYOUTS, ROOT_DOCUMENT, SPARES
from flowprofile.store.verify import repair
from pipelines import pipeline

FAULT = "one wrong read while a store is repaired"
READS = times(6, 8)
"""Of one object: four verifications, and what is looked at between them."""
PARTS = ("/x_t/c.", "/value/c.", "/seed/c", ROOT_DOCUMENT, RECEIPTS, LAYOUTS, SPARES, FORMAT)
NAMES = count()
WRONG = {
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "shortened": lambda data: data[: len(data) // 2],
    "zeroed": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
}  # fmt: skip


class Misread(MemoryPlace):
    """Gives wrong bytes for one object, once."""

    def __init__(self, name, key, number, wrong):
        super().__init__(name)
        self.key, self.number, self.wrong, self.struck = key, number, wrong, False

    def read(self, key, start=0, stop=None):
        data = super().read(key, start, stop)
        if key != self.key or data is None:
            return data
        self.number -= 1
        if self.number != -1:
            return data
        self.struck = True
        return self.wrong(data)


@pytest.fixture(scope="module")
def whole():
    """A store in which regions share objects."""
    place = MemoryPlace("misread-whole")
    source = pipeline(seeds="0:3", labels=(0, 1), steps=8, trajectory={}, step_ssim={"use": "ssim"})
    running.run(source, into=place, layout=FAST)
    return Truth(place)


def repaired(whole, key, number, how):
    """A copy that was repaired through a misreading: whether it struck, and which of the acknowledged objects are gone."""
    place = Misread(copied(whole.url.name, f"misread{next(NAMES)}").name, key, number, WRONG[how])
    with suppress(FlowProfileError):
        repair(place)
    place.key = ""
    kept = contents(place)
    place.forget()
    return place.struck, {at for at, value in whole.contents.items() if kept.get(at) != value}


def keys(whole):
    """One object of each kind; at night all of them."""
    found = sorted({*whole.contents, *whole.url.list("ledger")})
    return times([next(key for key in found if part in key) for part in PARTS], found)


def test_a_repair_that_misreads_once_takes_nothing_away(catalogue, whole):
    with catalogue.row(FAULT, "I3") as row:
        for key in keys(whole):
            for how in times(["flipped"], list(WRONG)):
                for number in range(READS):
                    struck, lost = repaired(whole, key, number, how)
                    row.injected += struck
                    row.acknowledged += len(whole.contents) * struck
                    row.lost += len(lost)
                    assert not lost, (key, how, number, lost)


@pytest.mark.parametrize(
    ("name", "careless", "part"),
    [
        ("_twice", lambda first, second: second.findings, "/x_t/c."),
        ("_claimed", lambda audit: set(), RECEIPTS),
    ],
)
def test_a_repair_that_believes_its_first_look_would(catalogue, whole, monkeypatch, name, careless, part):
    monkeypatch.setattr(verifying, name, careless)
    with catalogue.twin(FAULT, "I3") as row:
        key = next(key for key in keys(whole) if part in key)
        row.unprotected += sum(len(repaired(whole, key, number, "flipped")[1]) for number in range(READS))
