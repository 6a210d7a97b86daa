"""A bucket behind a proxy that loses requests, answers, and parts and bits of answers: nothing lost, nothing silent."""

import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import pytest
from acknowledged import Heard, Truth, contents, regions
from catalogue import times
from faulty_bucket import KINDS, SHORTENED

from flowprofile import running
from flowprofile.errors import BusyError, FlowProfileError, StoreError
from flowprofile.store import buckets, reading
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.layout import StoreLayout
from flowprofile.store.verify import repair
from pipelines import pipeline

LAYOUT = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
ATTEMPTS = 60
NAME = "S3: {}"
CUT = NAME.format("truncated")
READ = "S3: a bit flips in what is read"


def silent(method, path, query):
    """A good line."""


def sweep(seeds="0:3"):
    return pipeline(
        seeds=seeds, labels=(0,), steps=6, trajectory={}, step_ssim={"use": "ssim"}, l1={"use": "l1"}
    )


class Proxy:
    """Strikes about every so manieth request with the kinds in turn, as a seed draws."""

    def __init__(self, seed, every, kinds=KINDS):
        self.draw, self.every, self.kinds, self.struck = random.Random(seed), every, kinds, Counter()

    def __call__(self, method, path, query):
        kind = self.kinds[self.struck.total() % len(self.kinds)]
        if self.draw.random() * self.every >= 1 or (
            method == "HEAD" and kind in ("truncated", SHORTENED, "zeroed", "flipped")
        ):
            return None
        self.struck[kind] += 1
        return kind


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The client is patient for milliseconds instead of minutes."""
    backoff = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=5), "base": 2}
    monkeypatch.setattr(buckets, "RETRIES", {**buckets.RETRIES, "max_retries": 2, "backoff": backoff})
    monkeypatch.setattr(buckets, "AGAIN", (0.001, 0.002))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep in a folder, undisturbed."""
    url = tmp_path_factory.mktemp("whole") / "store"
    for seeds in ("0:3", "0:5"):
        running.run(sweep(seeds), into=url, layout=LAYOUT)
    return Truth(url)


def where(bucket, name):
    return BucketPlace(f"s3://{bucket}/stores/{name}", {"timeout": "0.3s"}, ttl=0.4)


def insisted(place, heard):
    """The same two commands until they end."""
    for seeds in ("0:3", "0:5"):
        for _ in range(ATTEMPTS):
            try:
                running.run(sweep(seeds), into=place, layout=LAYOUT, listen=heard)
                break
            except (StoreError, BusyError):
                continue
        else:
            pytest.fail(f"{ATTEMPTS} attempts did not end")


@pytest.mark.parametrize("kind", [*KINDS, SHORTENED])
def test_a_sweep_through_a_bad_line_ends_in_the_bytes_of_a_good_one(catalogue, bucket, server, whole, kind):
    with catalogue.row(CUT if kind == SHORTENED else NAME.format(kind), "I4") as row:
        for number in range(times(1, 10)):
            place, heard = where(bucket, str(number)), Heard()
            proxy = Proxy(number, 60 if kind in ("hang", "truncated") else 25, [kind])
            server.proxy = proxy
            insisted(place, heard)
            server.proxy = silent
            row.injected += proxy.struck.total()
            whole.judge(row, place, heard)
            assert contents(place) == whole.contents


def test_what_is_read_through_a_bad_line_is_right_or_an_error(catalogue, bucket, server, whole):
    place = where(bucket, "read")
    insisted(place, Heard())
    with catalogue.row(READ, "I3") as row:
        row.acknowledged += len(regions(place)[1])
        for number in range(times(2, 120)):
            right, errors, silently, struck = read_through(server, place, whole, number)
            row.injected += struck
            row.silent += silently
            assert right + errors == len(regions(place)[1])
        assert contents(place) == whole.contents  # and nothing of it was changed by reading


def read_through(server, place, whole, seed, kind="flipped"):
    """Regions that read right, with an error and silently wrong, and how often the line struck."""
    store, found = regions(place)
    right = errors = silently = 0
    server.proxy = proxy = Proxy(seed, 3, [kind])
    for region in found:
        try:
            wrong = whole.wrong(store, region) > 0
            right, silently = right + (not wrong), silently + wrong
        except FlowProfileError:
            errors += 1
    server.proxy = silent
    return right, errors, silently, proxy.struck.total()


def test_without_a_check_of_what_is_read_it_would_be_silently_wrong(
    catalogue, bucket, server, whole, monkeypatch
):
    place = where(bucket, "unchecked")
    insisted(place, Heard())
    monkeypatch.setattr(reading, "intact", lambda data, entry: True)
    for name, kind in ((READ, "flipped"), *((NAME.format(kind), kind) for kind in ("flipped", "zeroed"))):
        with catalogue.twin(name, "I3") as row:
            row.unprotected += sum(read_through(server, place, whole, seed, kind)[2] for seed in range(3))


def test_without_its_mark_a_lost_answer_would_be_taken_for_somebody_elses(
    catalogue, bucket, server, monkeypatch
):
    place, put = where(bucket, "unmarked"), BucketPlace._put_if
    server.proxy = Proxy(0, 1, ["lost"])
    with catalogue.row(NAME.format("lost"), "I4") as row:
        for number in range(4):
            server.proxy = once("lost")
            row.lost += not place.create(f"ledger/mark{number}", b"mine")
            row.injected += 1
    monkeypatch.setattr(
        BucketPlace,
        "_put_if",
        lambda self, key, data, mode, ours, mark="": put(self, key, data, mode, lambda found: False, mark),
    )
    with catalogue.twin(NAME.format("lost"), "I4") as row:
        server.proxy = once("lost")
        row.unprotected += not place.create("ledger/unmarked", b"mine")


def once(kind, which=lambda method, path: True):
    """A proxy that strikes the next such request alone."""
    struck = []
    return lambda method, path, query: None if struck or not which(method, path) else struck.append(1) or kind


@pytest.mark.parametrize("kind", ["503", "500", "reset", "hang"])
def test_without_errors_what_never_arrived_would_be_acknowledged(
    catalogue, bucket, server, whole, monkeypatch, kind
):
    """A writer that is content with silence."""
    write = BucketPlace.write

    def content(self, key, data, *, durable=False):
        with suppress(StoreError):
            write(self, key, data, durable=durable)

    monkeypatch.setattr(BucketPlace, "write", content)
    monkeypatch.setattr(buckets, "RETRIES", {**buckets.RETRIES, "max_retries": 0})
    place, heard = where(bucket, "swallowed"), Heard()
    data = once(kind, lambda method, path: method == "PUT" and "/x_t/c." in path)
    with catalogue.twin(NAME.format(kind), "I4") as row:
        server.proxy = data
        running.run(sweep(), into=place, layout=LAYOUT, listen=heard)
        row.unprotected += whole.lost(place, heard)


def always(kind, part):
    """A proxy that strikes every answer to a read of one object."""
    return lambda method, path, query: kind if method == "GET" and part in path else None


def repaired(server, place, whole, heard, proxy):
    """Repair a sound store through a bad line: how much of it was lost, and whether it was refused."""
    refused, server.proxy = False, proxy
    try:
        repair(place)
    except StoreError:
        refused = True
    finally:
        server.proxy = silent
    return whole.lost(place, heard), refused


def test_an_object_that_never_arrives_whole_is_not_taken_for_damaged(catalogue, bucket, server, whole):
    """The twin's line says of the half that it is all there is: then the client has nothing to compare."""
    place, heard = where(bucket, "cut"), Heard()
    insisted(place, heard)
    chunks = sorted(key for key in place.list("profile.zarr") if "/x_t/c." in key)
    with catalogue.row(CUT, "I4") as row:
        for chunk in chunks[: times(1, 5)]:
            lost, refused = repaired(server, place, whole, heard, always("truncated", chunk))
            assert refused
            row.injected, row.acknowledged = row.injected + 1, row.acknowledged + len(set(heard))
            row.lost += lost
        assert contents(place) == whole.contents
    with catalogue.twin(CUT, "I4") as row:
        row.unprotected += repaired(server, place, whole, heard, always(SHORTENED, chunks[0]))[0]
