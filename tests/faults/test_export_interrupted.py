"""An export that is killed at any byte: under its name there is all of it or nothing, and the same command ends the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue import times
from kept_stores import FAST, sweep

from flowprofile import running

FAULT = "interrupted export"
DRIVER = Path(__file__).with_name("export_driver.py")
ENDINGS = {".nc": "*", ".safetensors": "*", ".zarr": "*", ".arrow": "trajectory", ".parquet": "trajectory"}
"""And which objects are exported: a table has one."""
PARTS = times(1, 12)
"""At how many sizes it is killed."""
NAMING = {
    ending: times(("before", "after") if ending == ".nc" else (), ("before", "after")) for ending in ENDINGS
}
"""Which exports are killed when they get their name as well."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A small one."""
    url = tmp_path_factory.mktemp("export") / "store"
    running.run(sweep(seeds="0:2"), into=url, layout=FAST)
    return url


@pytest.fixture(scope="module")
def exported(store):
    """Exports to a file, killed at a moment if there is one: whether it was."""
    with subprocess.Popen(
        [sys.executable, str(DRIVER), str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def carried_out(target, moment=None, *, twin=False):
            job = {"target": str(target), "objects": ENDINGS[target.suffix], "moment": moment, "twin": twin}
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield carried_out
        process.stdin.close()


@pytest.fixture(scope="module")
def wanted(exported, tmp_path_factory):
    """Every export undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    assert not any(exported(folder / f"x{ending}") for ending in ENDINGS)
    return {ending: held(folder / f"x{ending}") for ending in ENDINGS}


def held(path):
    """What is in a file or in a folder; None where there is none."""
    if path.is_dir():
        return {file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    data = path.read_bytes() if path.exists() else None
    if data is None or path.suffix != ".safetensors":
        return data
    start = 8 + int.from_bytes(data[:8], "little")  # the header's entries come in any order
    return (json.loads(data[8:start]), data[start:]) if 8 < start <= len(data) else data


def sizes(content):
    """Sizes of a file, or of the largest of a folder, at which somebody is killed."""
    parts = content.values() if isinstance(content, dict) else content
    largest = len(content) if isinstance(content, bytes) else max(map(len, parts))
    return [largest * (part + 1) // (PARTS + 1) for part in range(PARTS)]


def test_killed_at_any_byte_an_export_leaves_all_or_nothing(catalogue, store, exported, wanted, tmp_path):
    before = held(store)
    with catalogue.row(FAULT, "I4") as row:
        for ending, content in wanted.items():
            for number, moment in enumerate([*sizes(content), *NAMING[ending]]):
                target = tmp_path / f"{number}{ending}"
                assert exported(target, moment)
                row.injected, row.acknowledged = row.injected + 1, row.acknowledged + len(before)
                row.silent += held(target) not in (None, content)
                row.lost += (moment == "after") != target.exists()
                if moment != "after":
                    assert not exported(target)
                    row.lost += held(target) != content
                    assert not target.with_name(f".{target.name}.part").exists()
        row.lost += held(store) != before
    left = {path.suffix for path in tmp_path.iterdir()} - {*wanted, ".part"}
    assert not left, "what a library had put beside it"


def test_written_where_it_will_be_it_would_be_there_in_part(catalogue, exported, wanted, tmp_path):
    with catalogue.twin(FAULT, "I4") as row:
        for ending, content in wanted.items():
            target = tmp_path / f"x{ending}"
            row.unprotected += exported(target, sizes(content)[-1], twin=True) and held(target) is not None
