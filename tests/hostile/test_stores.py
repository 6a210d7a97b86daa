"""A store of a stranger's: nothing of it runs, nothing of it takes more memory than is stated, and no link leads out."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from catalogue import times
from forged import RECORDS, array_of, bombed, changed_record, kept, nonsense, stretched
from numcodecs import GZip, Zstd
from strangers import counted, opened

from flowprofile.store.snapshot import SCHEMA

BOMB = 1 << 30
"""Bytes that a bomb unpacks to; it has 32 KiB itself, fewer than an honest chunk of the packed store may have."""


@pytest.fixture(scope="module")
def bomb():
    """A frame that says how much it unpacks to, and does."""
    import zstd_bomb

    return zstd_bomb.frame(BOMB)


def test_a_forged_record_is_refused_in_words(plain, tmp_path, catalogue):
    cases = [
        (name, "store", str(changed_record(plain, tmp_path / f"s{n}", change)))
        for n, (name, change) in enumerate(RECORDS.items())
    ]
    with catalogue.row("store with a forged record", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        harmless = {one.name for one in found if one.ended == "value"}
        assert harmless <= {"a name that leads out", "a capacity of 10^18", "a tile of 10^18"}, harmless
    with catalogue.twin("store with a forged record", "I6") as row:
        row.unprotected += sum(one.lost for one in opened(cases[:2], twin="any_record"))


def test_a_bomb_is_not_unpacked(packed, plain, bomb, tmp_path, catalogue):
    gzip = GZip(9).encode(bytes(1 << 20))
    cases = [
        ("zstd that unpacks to a gigabyte", "store", str(bombed(packed, tmp_path / "zstd", bomb))),
        ("gzip where zstd is said", "store", str(bombed(packed, tmp_path / "gzip", gzip))),
        ("half a frame", "store", str(bombed(packed, tmp_path / "half", Zstd().encode(bytes(99))[:-3]))),
        ("nothing", "store", str(bombed(packed, tmp_path / "empty", b""))),
        ("objects of a terabyte of holes", "store", str(stretched(plain, tmp_path / "holes", 1 << 40))),
        ("packed objects of a terabyte", "store", str(stretched(packed, tmp_path / "packed-holes", 1 << 40))),
        *(
            (f"seals that are {value!r}", "store", str(nonsense(plain, tmp_path / f"n{n}", value)))
            for n, value in enumerate(
                ([], 7, {"x_t/c.0": 3}, {"x_t/c.0": {"size": -1, "inner": [], "digest": ""}})
            )
        ),
    ]
    with catalogue.row("compression bomb in a store", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert {one.ended for one in found[:6]} == {"refused"}
    with catalogue.twin("compression bomb in a store", "I6") as row:
        row.unprotected += sum(one.lost for one in opened(cases[:1], twin="any_chunk"))


def _huge(document, objects):
    array_of(document).update(shape=[10**18])
    array_of(document)["chunk_grid"]["configuration"]["chunk_shape"] = [10**18]


def _codec(name):
    def change(document, objects):
        array_of(document)["codecs"].insert(1, {"name": name, "configuration": {"id": "pickle"}})

    return change


def _texts(document, objects):
    plain = (2**31).to_bytes(4, "little") + bytes(60)
    packed = Zstd(3).encode(plain)
    from flowprofile.store.encoding import with_crc

    objects["s/c/0"] = with_crc(bytes(packed))


def test_a_kept_comparison_is_looked_at_before_a_library_opens_it(plain, bomb, tmp_path, catalogue):
    from flowprofile.store.encoding import with_crc

    changes = {
        "as it was written": lambda document, objects: None,
        "a shape of 10^18": _huge,
        "a million chunks": lambda d, o: array_of(d)["chunk_grid"]["configuration"].update(chunk_shape=[1]),
        "chunks of nothing": lambda d, o: array_of(d)["chunk_grid"]["configuration"].update(chunk_shape=[0]),
        "an unknown codec": _codec("mystery"),
        "a codec of numcodecs'": _codec("numcodecs.pickle"),
        "Python objects": lambda d, o: array_of(d).update(data_type="object"),
        "a negative shape": lambda d, o: array_of(d).update(shape=[-8]),
        "a bomb": lambda d, o: o.update({"a/c/0": with_crc(bomb)}),
        "two billion texts": _texts,
        "a group in place of an array": lambda d, o: array_of(d).update(node_type="group"),
        "Zarr v2": lambda d, o: array_of(d).update(zarr_format=2, filters=[{"id": "pickle"}]),
    }
    cases = [
        (name, "kept", str(kept(plain, tmp_path / f"k{n}", change)))
        for n, (name, change) in enumerate(changes.items())
    ]
    with catalogue.row("foreign Zarr where a comparison belongs", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert [one.name for one in found if one.ended == "value"][:1] == ["as it was written"]
        assert all(one.ended == "refused" for one in found[1:-1])
    with catalogue.twin("foreign Zarr where a comparison belongs", "I6") as row:
        bombs = [case for case in cases if case[0] in ("a shape of 10^18", "a bomb", "two billion texts")]
        row.unprotected += sum(one.lost for one in opened(bombs, twin="any_kept"))


def _linked(base, folder, name, where):
    """A store in which something is a link, and what it leads to."""
    url, outside = folder / f"{name}-store", folder / f"{name}-outside"
    shutil.copytree(base, url)
    at = url / where
    if at.is_dir():
        shutil.move(at, outside)
    outside.mkdir(parents=True, exist_ok=True)
    (outside / "mine.txt").write_text("mine")
    for each in outside.rglob("*"):
        if each.is_file():
            os.utime(each, (time.time() - 10**6,) * 2)
    if at.exists() or not where.endswith("/"):
        at.unlink(missing_ok=True)
    at.parent.mkdir(parents=True, exist_ok=True)
    Path(str(at).rstrip("/")).symlink_to(outside if where.endswith("/") else outside / "mine.txt")
    return url, outside


def _contents(folder):
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


LINKS = {
    "temporary files": "ledger/tmp/",
    "the planner's lock": "ledger/planner.lock",
    "segments": "ledger/segments/",
    "spare records": "ledger/spares/",
    "receipts": "ledger/receipts/",
    "arrays": "profile.zarr/",
    "the root document": "profile.zarr/zarr.json",
    "the format": "ledger/format.json",
}


def test_no_link_of_a_store_is_followed_out_of_it(plain, tmp_path, catalogue):
    with catalogue.row("link out of a store", "I6") as row:
        for action in ("keep_house", "store"):
            made = {name: _linked(plain, tmp_path / action, name, where) for name, where in LINKS.items()}
            before = {name: _contents(outside) for name, (_, outside) in made.items()}
            found = opened([(name, action, str(url)) for name, (url, _) in made.items()])
            counted(row, found)
            row.acknowledged += sum(map(len, before.values()))
            for name, (_, outside) in made.items():
                row.lost += _contents(outside) != before[name]
    with catalogue.twin("link out of a store", "I6") as row:
        url, outside = _linked(plain, tmp_path / "twin", "lock", "ledger/tmp/")
        before = _contents(outside)
        opened([("lock", "keep_house", str(url))], twin="any_link")
        row.unprotected += _contents(outside) != before


def test_a_link_inside_a_store_is_a_file_like_others(plain, tmp_path):
    url = tmp_path / "store"
    shutil.copytree(plain, url)
    chunk = next(url.rglob("x_t/c.*"))
    shutil.move(chunk, url / "ledger" / "elsewhere")
    chunk.symlink_to(url / "ledger" / "elsewhere")
    (found,) = opened([("inside", "store", str(url))])
    assert (found.ended, found.told) == ("value", "'0 findings'")


def test_a_pipe_in_a_store_keeps_nobody_waiting(plain, tmp_path):
    url = tmp_path / "store"
    shutil.copytree(plain, url)
    chunk = next(url.rglob("x_t/c.*"))
    chunk.unlink()
    os.mkfifo(chunk)
    (found,) = opened([("pipe", "store", str(url))])
    assert (found.ended, found.told) == ("value", "'1 findings'")


def test_a_key_that_leaves_the_store_is_refused(tmp_path, catalogue):
    from flowprofile.errors import StoreError
    from flowprofile.store.places import LocalPlace, MemoryPlace, checked

    keys = [
        "../x",
        "a/../../x",
        "/etc/passwd",
        "a//b",
        ".",
        "..",
        "a/./b",
        "a\0b",
        "\0",
        "",
        "a\\b",
        "..\\x",
        "a/..",
        "//",
    ]
    keys += [f"{'a/' * n}{'../' * (n + 1)}x" for n in range(times(8, 200))]
    secret = tmp_path / "x"
    secret.write_text("mine")
    inside = tmp_path / "store"
    inside.mkdir()
    with catalogue.row("key that leaves a store", "I6") as row:
        for where in (LocalPlace(inside), MemoryPlace("keys")):
            for key in keys:
                for verb in (where.read, where.size, where.delete, lambda k, w=where: w.write(k, b"x")):
                    row.injected += 1
                    with pytest.raises(StoreError, match="not a key"):
                        verb(key)
        row.lost += secret.read_text() != "mine"
    with catalogue.twin("key that leaves a store", "I6") as row, pytest.MonkeyPatch.context() as patch:
        assert checked("a/b") == "a/b"
        patch.setattr("flowprofile.store.places.checked", lambda key: key)
        patch.setattr("flowprofile.store.places.within", lambda root, path: path)
        LocalPlace(inside).write("../x", b"theirs")
        row.unprotected += secret.read_text() != "mine"


def _zarr_2(folder):
    """A group of Zarr v2 whose one array has a filter that unpickles."""
    folder.mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    array = folder / "a"
    array.mkdir()
    (array / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "compressor": None, "fill_value": None,
        "order": "C", "filters": [{"id": "pickle"}],
    }))  # fmt: skip
    import pickle

    from forged import Payload

    (array / "0").write_bytes(pickle.dumps(np.array([Payload()], object)))
    return folder


def _many(folder):
    """A folder of a hundred thousand names."""
    (folder / "ledger").mkdir(parents=True)
    for n in range(times(2_000, 100_000)):
        (folder / f"c.{n}").touch()
    return folder


def test_what_is_no_store_of_ours_is_refused(plain, tmp_path, catalogue):
    def schema(value):
        url = tmp_path / f"schema-{value}".replace('"', "").replace("{", "").replace("[", "")[:40]
        shutil.copytree(plain, url)
        (url / "ledger" / "format.json").write_text(f'{{"schema": {value}}}')
        return url

    values = [SCHEMA + 1, 99, -1, '"1"', "1.5", "null", "[1]", "{}", "true", "1e400", "NaN", "9" * 5000]
    both = _zarr_2(tmp_path / "both" / "profile.zarr").parent
    (both / "ledger").mkdir()
    (both / "ledger" / "format.json").write_text('{"schema": 1}')
    cases = [
        ("Zarr v2", "store", str(_zarr_2(tmp_path / "v2"))),
        ("Zarr v2 in our folders", "store", str(both)),
        ("a hundred thousand names", "store", str(_many(tmp_path / "many"))),
        *(
            (f"schema {value[:9] if isinstance(value, str) else value}", "store", str(schema(value)))
            for value in values
        ),
    ]
    for n, text in enumerate(('{"schema": 1', "[" * 100_000, "", "\0" * 99, '{"schema": {"a": ' * 1000)):
        (schema(100 + n) / "ledger" / "format.json").write_text(text)
        cases.append((f"a format of {text[:9]!r}", "store", str(tmp_path / f"schema-{100 + n}")))
    with catalogue.row("foreign or newer store", "I6") as row:
        row.acknowledged += len(cases)
        found = opened(cases)
        counted(row, found)
        assert all(one.ended == "refused" for one in found), [one for one in found if one.ended != "refused"]
    with catalogue.twin("foreign or newer store", "I6") as row:
        row.unprotected += sum(one.ended == "value" for one in opened(cases[3:5], twin="any_schema"))


ADDRESSES = (
    "simplecache::s3://bucket/x", "filecache::https://example.org/x", "blockcache::file:///etc", "zip::file:///x.zip",
    "zip://a::https://example.org/x.zip", "tar://a::file:///x", "dir::file:///etc", "reference::https://example.org/x",
    "github://a:b@main/", "git://x", "ftp://example.org/x", "dbfs:/x://y", "s3a://b/x", "S3://b/x", "FILE:///etc",
    "javascript://x", "data://text/plain,x", "jar:file://x", "http+unix://x", "local:///etc", "file://evil.example/x",
    "file://user:word@localhost/x", "file://", "memory://", "file://\0", "s3://user:word@bucket/x",
    "https://user:word@127.0.0.1:1/x", "https://127.0.0.1:1/x?token=abc", "://x", " file:///etc",
)  # fmt: skip


def test_other_schemes_and_chains_are_refused_before_anything_is_fetched(plain, tmp_path, catalogue):
    cases = [(repr(text)[:40], "address", text) for text in ADDRESSES]
    with catalogue.row("chain of addresses, foreign scheme", "I6") as row:
        found = opened(cases)
        counted(row, found)
        row.lost += sum(one.ended == "value" for one in found)
    with catalogue.twin("chain of addresses, foreign scheme", "I6") as row:
        chained = [
            ("chain", "address", f"{chain}::file://{plain}") for chain in ("simplecache", "filecache", "dir")
        ]
        found = opened(chained, twin="any_scheme")
        row.unprotected += sum(one.ended == "value" for one in found)
