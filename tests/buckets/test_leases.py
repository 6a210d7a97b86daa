"""What holds something where no file can be locked, and what becomes of who lost it."""

import pickle
import threading
import time

import pytest

from flowprofile.errors import BusyError, StoreError
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.leases import Lease


@pytest.fixture(params=["s3", pytest.param("az", marks=pytest.mark.nightly)])
def where(request):
    """An empty place, whose leases run out quickly."""
    name = request.getfixturevalue("bucket" if request.param == "s3" else "container")
    return BucketPlace(f"{request.param}://{name}/stores/one", ttl=0.6)


@pytest.fixture
def faulty(bucket):
    """The same, on the server that fails when it is told to."""
    return BucketPlace(f"s3://{bucket}/stores/one", ttl=0.6)


def test_a_held_one_outlives_its_time_by_being_renewed(where):
    first = where.claim("ledger/planner.lock", b"me")
    time.sleep(1.5)
    first.held()
    assert b"me" in where.claim("ledger/planner.lock", b"you")
    first.release()


def test_one_that_is_not_renewed_is_taken_over_and_its_holder_learns_it(where):
    dead = Lease(where, "ledger/locks/1", b"dead", 0.6)
    dead.acquire(wait=False)
    dead._timer.cancel()  # it is suspended
    second = Lease(where, "ledger/locks/1", b"second", 0.6)
    began = time.monotonic()
    second.acquire(wait=True)
    assert time.monotonic() - began >= 0.6
    assert second.epoch == dead.epoch + 1
    with pytest.raises(BusyError, match="number 2 by 'second'"):
        dead.held()
    dead.release()
    second.held()  # the loser took nothing back
    second.release()


def test_who_lost_a_lock_writes_nothing_more(where):
    other = Lease(where, "ledger/locks/2", b"", 0.6)
    with where.lock("ledger/locks/2"):
        where._mine.leases[0]._timer.cancel()  # it is suspended
        other.acquire(wait=True)
        with pytest.raises(BusyError):
            where.write("a", b"x")
    other.release()
    assert where.read("a") is None


def test_a_planner_that_died_is_followed_by_the_next(where):
    dead = where.claim("ledger/planner.lock", b"dead")
    dead._timer.cancel()  # it was killed
    second = pickle.loads(pickle.dumps(where)).claim("ledger/planner.lock", b"second")
    assert second.epoch == 2
    with pytest.raises(BusyError, match="second"):
        where.write("profile.zarr/zarr.json", b"x")
    with pytest.raises(BusyError, match="second"):
        where.delete("profile.zarr/zarr.json")
    dead.release()
    where.write("profile.zarr/zarr.json", b"x")
    second.release()


def test_who_waits_is_as_patient_as_the_holder_asks(where):
    dead = Lease(where, "ledger/locks/4", b"dead", 1.5)
    dead.acquire(wait=False)
    dead._timer.cancel()
    began = time.monotonic()
    second = Lease(where, "ledger/locks/4", b"second", 0.1)
    second.acquire(wait=True)
    assert time.monotonic() - began >= 1.5
    second.release()


def test_an_outage_that_ends_in_time_loses_nothing(where):
    held = where.claim("ledger/planner.lock", b"me")
    swap, failed = where.swap, []

    def fails_once(*asked):
        if not failed:
            failed.append(asked)
            raise StoreError("the network is down")
        return swap(*asked)

    where.swap = fails_once
    time.sleep(1.2)
    assert failed
    held.held()
    assert where.claim("ledger/planner.lock", b"you") == b"me"
    held.release()


def test_an_outage_that_does_not_is_a_loss(where):
    held = where.claim("ledger/planner.lock", b"me")

    def fails(*asked):
        raise StoreError("the network is down")

    where.swap = fails
    time.sleep(1.2)
    with pytest.raises(BusyError, match="network is down"):
        where.write("a", b"x")
    held.release()


@pytest.mark.parametrize("garbage", [b"", b"{}", b"[1]", b'{"epoch": "x"}', b"\xff"])
def test_one_that_cannot_be_read_is_nobodys(where, garbage):
    where.write("ledger/planner.lock", garbage)
    lease = where.claim("ledger/planner.lock", b"me")
    assert not isinstance(lease, bytes)
    lease.held()
    lease.release()


@pytest.mark.parametrize("fault", ["error", "silence"])
def test_an_answer_that_was_lost_is_recognised(faulty, server, fault):
    server.faults += [fault]
    assert faulty.create("ledger/mark", b"the same bytes")
    server.faults += [fault]
    assert not faulty.create("ledger/mark", b"the same bytes")
    server.faults += [fault]
    lease = faulty.claim("ledger/planner.lock", b"me")
    assert not server.faults
    server.faults += [fault]
    lease._renew()
    assert not server.faults
    lease.held()
    server.faults += [fault]
    lease.release()
    second = faulty.claim("ledger/planner.lock", b"you")
    assert second.epoch == 2
    second.release()


def test_an_answer_that_comes_too_late_is_recognised(bucket, server):
    where = BucketPlace(f"s3://{bucket}/stores/one", {"timeout": "1s"})
    server.faults += ["late"]
    assert where.create("ledger/mark", b"the same bytes")
    server.faults += ["late"]
    assert not where.create("ledger/mark", b"the same bytes")
    assert not server.faults


def test_a_server_that_ignores_conditions_is_refused(faulty, server):
    server.careless = True
    with pytest.raises(StoreError, match="If-Match"):
        faulty.claim("ledger/planner.lock", b"me")


def test_nobody_takes_what_is_changing(where):
    beating = where.claim("ledger/planner.lock", b"me")
    taken = []

    def wants():
        other = Lease(where, "ledger/planner.lock", b"you", 0.6)
        other.acquire(wait=True)
        taken.append(other)

    thread = threading.Thread(target=wants, daemon=True)
    thread.start()
    time.sleep(1.2)
    assert not taken
    beating.release()
    thread.join(5)
    assert taken[0].epoch == 2
    taken[0].release()
