"""Where a store may be, and where it may not."""

import json
import os
import pickle
from pathlib import Path

import pytest

from flowprofile import opening
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.places import LocalPlace, MemoryPlace, checked
from flowprofile.store.store import Store
from flowprofile.store.urls import place


@pytest.mark.parametrize(
    "text", ["s3a://bucket/x", "github://b", "ftp://x", "zip::file://x", "S3://bucket/x"]
)
def test_other_schemes_are_refused_with_the_allowed_list(text) -> None:
    with pytest.raises(DefinitionError, match="not allowed") as refusal:
        place(text)
    assert "file://" in refusal.value.remedy
    assert "memory://" in refusal.value.remedy


def test_paths_file_urls_and_names(tmp_path) -> None:
    assert (
        place(str(tmp_path))
        == place(f"file://{tmp_path}")
        == place(tmp_path)
        == LocalPlace(tmp_path.resolve())
    )
    assert place("memory://a") == MemoryPlace("a")
    for wrong in ("memory://", "file://elsewhere/x", "", "a\0b"):
        with pytest.raises(DefinitionError):
            place(wrong)


@pytest.mark.parametrize(
    "files", [["model_index.json"], ["config.json", "w.safetensors"], ["config.json", "w.bin"]]
)
def test_inside_a_checkpoint_is_refused(tmp_path, files) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(DefinitionError, match="checkpoint folder"):
        place(tmp_path / "deep" / "store")
    (tmp_path / files[-1]).unlink()
    place(tmp_path / "deep" / "store")


def test_a_file_and_a_foreign_folder_are_refused(tmp_path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(DefinitionError, match="is a file"):
        Store.open(tmp_path / "note.txt")
    with pytest.raises(StoreError, match="not a FlowProfile store"):
        Store.open(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_whoever_looks_is_told_what_to_open(tmp_path) -> None:
    """A folder to write into is no advice for somebody who reads; people name what lies beside a store."""
    store = tmp_path / "out" / "first"
    (store / "ledger").mkdir(parents=True)
    (store / "profile.zarr" / "none").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    (store / "ledger" / "format.json").write_text("{}")
    (store / "profile.zarr" / "zarr.json").touch()
    for folder in (store.parent, store / "profile.zarr"):
        with pytest.raises(StoreError, match="not a FlowProfile store") as caught:
            opening.open(folder)
        assert caught.value.remedy == f"open {str(store)!r}"
    with pytest.raises(StoreError, match="not a FlowProfile store") as caught:
        opening.open(tmp_path / "photos")
    assert "named as STORE" in caught.value.remedy


def test_opening_an_empty_place_writes_nothing(tmp_path) -> None:
    with Store.open(tmp_path / "new") as store:
        assert store.runs() == {}
    assert not (tmp_path / "new").exists()


def test_a_newer_schema_is_refused(filled) -> None:
    path = Path(filled.url) / "ledger" / "format.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 2}))
    with pytest.raises(StoreError, match="schema 2") as refusal:
        Store.open(filled.url)
    assert "update" in refusal.value.remedy


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "a\0b", "a\\b", "a/"]
)
def test_keys_stay_under_the_root(tmp_path, key) -> None:
    with pytest.raises(StoreError, match="not a key"):
        checked(key)
    for where in (LocalPlace(tmp_path), MemoryPlace("keys")):
        with pytest.raises(StoreError, match="not a key"):
            where.write(key, b"x")
        with pytest.raises(StoreError, match="not a key"):
            where.read(key)


@pytest.mark.parametrize(
    "make", [lambda path: LocalPlace(path / "p"), lambda path: MemoryPlace(f"verbs{path.name}")]
)
def test_the_verbs_of_a_place(tmp_path, make) -> None:
    where = make(tmp_path)
    assert not where.exists()
    assert where.read("a/b") is None
    assert where.size("a/b") is None
    where.write("a/b", b"0123456789", durable=True)
    where.write("a/c/d", b"")
    where.fsync(["a/b", "a/c/d"])
    assert where.exists()
    assert (where.read("a/b"), where.read("a/b", 3), where.read("a/b", 3, 5)) == (
        b"0123456789",
        b"3456789",
        b"34",
    )
    assert where.read("a/b", 8, 20) == b"89"
    assert where.size("a/b") == 10
    assert list(where.list("a")) == ["a/b", "a/c/d"]
    where.delete("a/b")
    where.delete("a/b")
    assert where.read("a") is None
    assert list(where.list("a")) == ["a/c/d"]
    assert pickle.loads(pickle.dumps(where)) == where
    claim = where.claim("locks/x", b"me")
    assert where.claim("locks/x", b"you") == b"me"
    claim.release()
    where.claim("locks/x", b"you").release()


def test_a_failed_write_leaves_the_old_object_and_no_debris(tmp_path, monkeypatch) -> None:
    where = LocalPlace(tmp_path)
    where.write("a", b"old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        where.write("a", b"new")
    monkeypatch.undo()
    assert where.read("a") == b"old"
    assert list(where.list("ledger/tmp")) == []
