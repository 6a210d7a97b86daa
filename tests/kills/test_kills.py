"""A run that is killed at any moment, and begun again, ends in the bytes of one that was not."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("driver.py")


def kills(folder, **job):
    """Run the driver and return its rows."""
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps(
            {"folder": str(folder), "seed": 0, "model": "mixture16", "steps": 40, "durability": "none", **job}
        ),
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(rows):
    died = Counter(row["phase"] for row in rows if row["died"])
    print("kills by phase:", dict(died))
    assert all(died[phase] for phase in ("sampling", "writing", "receipt", "growth", "metadata")), died
    assert [row for row in rows if row["lost"]] == []
    assert [row for row in rows if not row["same"]] == []
    return died


def test_kills_in_every_phase_lose_nothing_and_end_byte_identical(tmp_path):
    rows = kills(tmp_path, per_phase=3, anywhere=4)
    assert check(rows).total() >= 20


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_many_kills(tmp_path):
    rows = kills(tmp_path, per_phase=45, anywhere=80, model="digits", steps=60, durability="fsync")
    assert check(rows).total() >= 150
