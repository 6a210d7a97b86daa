"""Stores that earlier versions wrote are read for ever, to the bit; what a later version wrote is refused in words."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from kept_stores import FAST

import flowprofile as fp
from flowprofile import running
from flowprofile.cli.main import group, main
from flowprofile.description import describe
from flowprofile.errors import StoreError
from flowprofile.store import snapshot
from flowprofile.store.encoding import digest
from flowprofile.store.ledger import sealed_json, unsealed_json
from flowprofile.store.snapshot import SCHEMA
from flowprofile.store.verify import repair, verify

HERE = Path(__file__).parent
SCHEMAS = sorted(int(path.name.removeprefix("schema-")) for path in HERE.glob("schema-*") if path.is_dir())
MOST = 300_000
"""Bytes that a golden store may have."""


def _making():
    spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=SCHEMAS, ids=lambda schema: f"schema-{schema}")
def golden(request, tmp_path):
    """A copy, and what must be read from it."""
    shutil.copytree(HERE / f"schema-{request.param}", tmp_path / "store")
    told = json.loads((HERE / f"schema-{request.param}.json").read_text("utf-8"))
    return tmp_path / "store", told


def _bytes(url):
    return {f.relative_to(url).as_posix(): f.read_bytes() for f in url.rglob("*") if f.is_file()}


def test_there_is_a_golden_store_of_every_schema():
    """Raising the number fails here, until `python tests/golden/make.py` has made one of the new schema."""
    assert list(range(1, SCHEMA + 1)) == SCHEMAS, (
        f"there is none of schema {SCHEMA}: python tests/golden/make.py"
    )
    for schema in SCHEMAS:
        files = [f for f in (HERE / f"schema-{schema}").rglob("*") if f.is_file()]
        assert sum(f.stat().st_size for f in files) < MOST
        assert (
            json.loads((HERE / f"schema-{schema}" / "ledger" / "format.json").read_text())["schema"] == schema
        )


def test_raising_the_schema_without_a_golden_store_is_noticed(monkeypatch):
    monkeypatch.setitem(globals(), "SCHEMA", SCHEMA + 1)
    with pytest.raises(AssertionError, match=r"make\.py"):
        test_there_is_a_golden_store_of_every_schema()


def test_every_value_is_read_to_the_bit_and_nothing_is_written(golden):
    url, told = golden
    before = _bytes(url)
    found = _making().values(str(url))
    assert found["stages"] == told["stages"]
    assert found["values"] == told["values"]
    assert _bytes(url) == before


def test_a_changed_byte_of_it_would_be_noticed(golden):
    """Negative twin of the digests: another value is not taken for the one that is written down."""
    url, told = golden
    key = next(iter(sorted(told["values"])))
    assert _making().values(str(url))["values"][key] != {**told["values"][key], "sha256": "0" * 64}
    chunk = next(url.rglob("x_t/c.*"))
    data = bytearray(chunk.read_bytes())
    data[9] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StoreError):
        _making().values(str(url))


def test_it_is_sound_and_shown_and_drawn(golden, tmp_path):
    url, _ = golden
    assert verify(url).findings == ()
    for command in (["status", str(url)], ["show", str(url), "--json"], ["verify", str(url)]):
        told = CliRunner().invoke(group, command)
        assert told.exit_code == 0, told.output
    assert "Nothing is missing" in CliRunner().invoke(group, ["status", str(url)]).output
    drawn = CliRunner().invoke(group, ["figures", str(url), "--into", str(tmp_path / "figures")])
    assert drawn.exit_code == 0, drawn.output
    assert len(list((tmp_path / "figures").glob("*.png"))) >= 3


def test_migrating_it_changes_nothing_that_is_read(golden, tmp_path):
    url, told = golden
    before = _bytes(url)
    for written in (True, False):
        done = CliRunner().invoke(group, ["migrate", str(url), "--into", str(tmp_path / "new")])
        assert done.exit_code == 0, done.output
        assert ("0 regions written" in done.output) != written
    assert _bytes(url) == before
    assert _making().values(str(tmp_path / "new"))["values"] == told["values"]
    assert verify(tmp_path / "new").findings == ()


def _newer_format(url):
    (url / "ledger" / "format.json").write_text(
        json.dumps({"kind": "flowprofile store", "schema": SCHEMA + 1})
    )


def _newer_root(url):
    """A root document and its record, as a later version might write them beside an old format document."""
    root = url / "profile.zarr" / "zarr.json"
    old = root.read_bytes()
    new = json.dumps({**json.loads(old), "attributes": {"flowprofile": {"schema": SCHEMA + 1}}}).encode()
    body = unsealed_json((url / "ledger" / "layouts" / f"{digest(old)}.json").read_bytes())
    data = sealed_json({**body, "schema": SCHEMA + 1, "root": digest(new), "record": {"something": "new"}})
    for folder in ("layouts", "spares"):
        (url / "ledger" / folder / f"{digest(new)}.json").write_bytes(data)
    root.write_bytes(new)


@pytest.mark.parametrize("make", [_newer_format, _newer_root])
def test_what_a_later_version_wrote_is_refused_in_words_by_everything(golden, make, tmp_path, capsys):
    url, _ = golden
    make(url)
    before = _bytes(url)
    asked = {
        "open": lambda: fp.open(url),
        "run": lambda: fp.profile(
            "mixture16", seeds=[0], labels=[0], into=url, stages={"trajectory": {}}, sampler={"steps": 20}
        ),
        "verify": lambda: verify(url),
        "repair": lambda: repair(url),
    }
    for name, ask in asked.items():
        with pytest.raises(StoreError, match=f"schema '?{SCHEMA + 1}'?.*this version reads") as refusal:
            ask()
        assert "update flowprofile" in refusal.value.remedy, name
    for command in (
        ["show"],
        ["status"],
        ["figures"],
        ["gc"],
        ["compact"],
        ["drop", "--yes"],
        ["export", "--into", str(tmp_path / "x.nc")],
    ):
        with pytest.raises(SystemExit) as ended:
            main([*command[:1], str(url), *(["*"] if command[0] == "drop" else []), *command[1:]])
        assert ended.value.code == 3
        assert "update flowprofile" in capsys.readouterr().err
    changed = {key for key, data in _bytes(url).items() if before.get(key) != data}
    assert changed <= {"ledger/planner.lock"}
    assert snapshot.SCHEMA == SCHEMA


def test_it_grows_on_under_the_keys_it_has(golden):
    """A store that an earlier version began is gone on with; on a machine of another kind, beside it."""
    url, told = golden
    making = _making()
    running.run(making.request("0:4", [0, 1], "::5"), into=url, layout=FAST)
    assert verify(url).sound
    for run in describe(url)["runs"]:
        assert {stage["group"]: stage["key"] for stage in run["stages"]} == {
            group: key for group, (key, _, _) in told["stages"].items()
        }, "what an earlier version computed would be computed again: a key has changed"
