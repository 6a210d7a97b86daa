"""A run that is killed at any moment, and begun again, ends in the bytes of one that was not."""

from collections import Counter

import pytest
from killed_runs import kills


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
