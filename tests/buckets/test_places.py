"""The verbs of a place mean the same wherever it is."""

import pickle
import sys
import threading
import time

import numpy as np
import pytest

from flowprofile.errors import BusyError, DefinitionError, StoreError
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.foreign import ForeignPlace
from flowprofile.store.places import LocalPlace, MemoryPlace
from flowprofile.store.urls import place

KINDS = ["local", "memory", "s3", "fsspec", pytest.param("az", marks=pytest.mark.nightly)]


@pytest.fixture
def where(request, tmp_path):
    """An empty place of each kind."""
    kind = request.param
    if kind == "s3":
        return BucketPlace(f"s3://{request.getfixturevalue('bucket')}/stores/one", ttl=0.6)
    if kind == "az":
        return BucketPlace(f"az://{request.getfixturevalue('container')}/stores/one", ttl=0.6)
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
    assert where.read("a/b", 3, 3) == b""
    assert where.read("a/b", 10, 12) == b""
    assert where.read("a/c", 1, 3) is None
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


@each
def test_what_is_there_is_not_created(where):
    assert where.create("a/b", b"first")
    assert not where.create("a/b", b"first")
    assert not where.create("a/b", b"second")
    assert where.read("a/b") == b"first"
    assert list(where.list("a")) == ["a/b"]
    assert list(where.list("ledger")) == []
    where.delete("a/b")
    assert where.create("a/b", b"third")


@each
def test_of_many_who_create_one_does(where):
    won, ready = [], threading.Barrier(6)

    def work(number):
        ready.wait()
        if where.create("ledger/mark", b"the same bytes"):
            won.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


@each
def test_a_place_that_travelled_is_the_same_place(where):
    where.write("a/b", b"x")
    again = pickle.loads(pickle.dumps(where))
    assert again == where
    assert hash(again) == hash(where)
    assert again.url == where.url
    assert again.read("a/b") == b"x"


@each
def test_others_read_it_through_zarr(where):
    import zarr

    root = zarr.open_group({}, mode="w")
    root.create_array("x", data=np.arange(6), chunks=(2,))
    for key, value in root.store._store_dict.items():
        where.write(f"profile.zarr/{key}", value.to_bytes())
    found = zarr.open_group(where.zarr(), mode="r")
    assert found["x"][:].tolist() == list(range(6))
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(where.zarr(), mode="a").create_array("y", data=np.ones(1))


@each
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


def test_credentials_are_refused_and_never_travel(bucket):
    for url in (
        "s3://key:secret@bucket/store",
        "s3://bucket/store?X-Amz-Signature=1",
        "sftp://me:pass@host/store",
        "https://host/store?token=secret@",
    ):
        with pytest.raises(DefinitionError) as refused:
            place(url)
        assert "pass@" not in str(refused.value)
        assert "secret@" not in str(refused.value)
    for url, name, value in (
        ("s3://bucket/store", "aws_secret_access_key", "hush"),
        ("s3://bucket/store", "AWS_SESSION_TOKEN", "hush"),
        ("s3://bucket/store", "proxy_url", "http://me:hush@proxy:3128"),
        ("s3://bucket/store", "outer", {"password": "hush"}),
        ("sftp://host/store", "password", "hush"),
    ):
        with pytest.raises(DefinitionError, match=name) as refused:
            place(url, {name: value})
        assert "hush" not in str(refused.value)
    with pytest.raises(DefinitionError, match="no folder"):
        place("s3://bucket")
    where = place(f"s3://{bucket}/store", {"region": "us-east-1"})
    where.write("a", b"x")
    kept = pickle.dumps(where)
    assert b"nobody" not in kept
    assert b"nothing" not in kept
    assert pickle.loads(kept).read("a") == b"x"
    assert "nothing" not in repr(where)
    assert pickle.loads(kept).options == {"region": "us-east-1"}


@pytest.mark.parametrize(("profile", "key"), [("", "AKFIRST"), ("work", "AKSECOND")])
def test_keys_are_found_in_the_file_that_aws_keeps(bucket, server, monkeypatch, tmp_path, profile, key):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (tmp_path / "keys").write_text(
        "[default]\naws_access_key_id = AKFIRST\naws_secret_access_key = hush%hush\n"
        "[work]\naws_access_key_id = AKSECOND\naws_secret_access_key = hush\naws_session_token = t\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_PROFILE", profile)
    where = place(f"s3://{bucket}/store")
    where.write("a", b"x")
    assert all(f"Credential={key}/" in signed for signed in server.signed)
    assert server.signed
    assert b"hush" not in pickle.dumps(where)


def test_without_the_library_the_refusal_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    where = place("s3://bucket/store")
    for asked in (where.exists, lambda: where.read("a"), lambda: where.write("a", b"x"), where.zarr):
        with pytest.raises(StoreError, match=r"flowprofile\[cloud\]"):
            asked()


def test_a_lock_that_was_left_behind_is_named(tmp_path):
    where = ForeignPlace((tmp_path / "foreign").as_uri(), patience=0.2)
    assert where.create("ledger/locks/1", b"dead")
    with pytest.raises(BusyError, match=r"remove .*ledger/locks/1"), where.lock("ledger/locks/1"):
        pass


def test_a_bucket_that_is_not_there_is_a_refusal(bucket):
    with pytest.raises(StoreError, match="could not be"):
        place(f"s3://{bucket}x/store").write("a", b"x")


def test_an_unknown_scheme_lists_the_known():
    with pytest.raises(DefinitionError, match="s3://"):
        place("ftps://host/store")
