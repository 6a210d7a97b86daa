"""The verbs of a place mean the same wherever it is."""

import pickle
import threading
import time

import pytest

from flowprofile.errors import BusyError, StoreError
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.foreign import ForeignPlace
from flowprofile.store.leases import Lease
from flowprofile.store.places import LocalPlace, MemoryPlace
from flowprofile.store.urls import place

KINDS = ["local", "memory", "s3", "fsspec"]


@pytest.fixture
def where(request, tmp_path):
    """An empty place of each kind."""
    kind = request.param
    if kind == "s3":
        return BucketPlace(f"s3://{request.getfixturevalue('bucket')}/stores/one", ttl=0.6)
    if kind == "fsspec":
        return ForeignPlace((tmp_path / "foreign").as_uri())
    return LocalPlace(tmp_path / "local") if kind == "local" else MemoryPlace(tmp_path.name)


each = pytest.mark.parametrize("where", KINDS, indirect=True)


@each
def test_objects_are_whole_or_not_there(where):
    assert not where.exists()
    assert where.read("a/b") is None
    assert where.size("a/b") is None
    where.write("a/b", b"0123456789")
    where.write("a/b", b"abcdefghij", durable=True)
    assert where.read("a/b") == b"abcdefghij"
    assert where.read("a/b", 2, 5) == b"cde"
    assert where.read("a/b", 4) == b"efghij"
    assert where.read("a/b", 8, 20) == b"ij"
    assert where.size("a/b") == 10
    assert where.exists()
    where.fsync(["a/b"])
    where.delete("a/b")
    where.delete("a/b")
    assert where.read("a/b") is None


@each
def test_what_is_below_is_listed_and_nothing_beside_it(where):
    for key in ("r/b/2", "r/b/1", "r/bb/1", "r/a", "q/1"):
        where.write(key, b"x")
    assert sorted(where.list("r")) == ["r/a", "r/b/1", "r/b/2", "r/bb/1"]
    assert list(where.list("r/b")) == ["r/b/1", "r/b/2"]
    assert list(where.list("nothing")) == []


@each
def test_a_key_stays_under_the_root(where):
    for key in ("../x", "/x", "a//b", "a/../b", "a\\b", ""):
        with pytest.raises(StoreError):
            where.write(key, b"x")


@each
def test_a_claim_is_for_one(where):
    first = where.claim("ledger/planner.lock", b"me")
    assert not isinstance(first, bytes)
    assert b"me" in where.claim("ledger/planner.lock", b"you")
    assert not where.exists()  # a planner that dies before its first object leaves no store behind
    first.held()
    first.release()
    second = where.claim("ledger/planner.lock", b"you")
    assert not isinstance(second, bytes)
    second.release()


@pytest.mark.parametrize("where", ["local", "memory", "s3"], indirect=True)
def test_a_lock_is_for_one_at_a_time(where):
    inside, most = [], []

    def work(place):
        for _ in range(3):
            with place.lock("ledger/locks/07"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.005)
                inside.pop()

    threads = [threading.Thread(target=work, args=(pickle.loads(pickle.dumps(where)),)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert len(most) == 9


@pytest.mark.parametrize("where", ["s3"], indirect=True)
class TestLeases:
    """What holds something where no file can be locked."""

    def test_a_held_one_outlives_its_time_by_being_renewed(self, where):
        first = where.claim("ledger/planner.lock", b"me")
        time.sleep(1.5)
        first.held()
        assert b"me" in where.claim("ledger/planner.lock", b"you")
        first.release()

    def test_one_that_is_not_renewed_is_taken_over_and_its_holder_learns_it(self, where):
        dead = Lease(where, "ledger/locks/1", b"dead", 0.6)
        dead.acquire(wait=False)
        dead._timer.cancel()  # it is suspended
        second = Lease(where, "ledger/locks/1", b"second", 0.6)
        began = time.monotonic()
        second.acquire(wait=True)
        assert time.monotonic() - began >= 0.6
        assert second.epoch == dead.epoch + 1
        with pytest.raises(BusyError, match="lost"):
            dead.held()
        dead.release()
        second.held()  # the loser took nothing back
        second.release()

    def test_who_lost_a_lock_writes_nothing_more(self, where):
        other = Lease(where, "ledger/locks/2", b"", 0.6)
        with where.lock("ledger/locks/2"):
            where._mine.leases[0]._timer.cancel()  # it is suspended
            other.acquire(wait=True)
            with pytest.raises(BusyError):
                where.write("a", b"x")
        other.release()
        assert where.read("a") is None

    def test_an_acknowledgement_that_was_lost_is_recognised(self, where):
        swap = where.swap

        def loses(key, data, before):
            swap(key, data, before)
            return swap(key, data, before)  # the client tries again, as it does after a reset connection

        where.swap = loses
        lease = Lease(where, "ledger/locks/3", b"me", 5.0)
        assert lease.acquire(wait=False) is None
        lease.held()
        lease.release()

    def test_nobody_takes_what_is_changing(self, where):
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


def test_credentials_are_refused_and_never_travel(bucket):
    for url in (
        "s3://key:secret@bucket/store",
        "s3://bucket/store?X-Amz-Signature=1",
        "sftp://me:pass@host/store",
    ):
        with pytest.raises(StoreError) as refused:
            place(url)
        assert "pass@" not in str(refused.value)
        assert "secret@" not in str(refused.value)
    with pytest.raises(StoreError, match="aws_secret_access_key"):
        place("s3://bucket/store", {"aws_secret_access_key": "hush"})
    with pytest.raises(StoreError, match="no folder"):
        place("s3://bucket")
    where = place(f"s3://{bucket}/store", {"region": "us-east-1"})
    where.write("a", b"x")
    kept = pickle.dumps(where)
    assert b"nobody" not in kept
    assert b"nothing" not in kept
    assert pickle.loads(kept).read("a") == b"x"
    assert "nothing" not in repr(where)


def test_a_bucket_that_is_not_there_is_a_refusal(bucket):
    with pytest.raises(StoreError, match="could not be"):
        place(f"s3://{bucket}x/store").write("a", b"x")


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(StoreError, match="s3://"):
        place("ftps://host/store")
