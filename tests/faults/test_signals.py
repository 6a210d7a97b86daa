"""Ctrl-C, Ctrl-C twice and SIGTERM, of a command and of a part of a job array, at named moments."""

import json
import signal
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path

import pytest
from catalogue import times

DRIVER = Path(__file__).with_name("signal_driver.py")
PHASES = {"sampling": 1, "writing": 9, "receipt": 4, "metadata": 4, "replace": 9}
"""Where a signal strikes, and how many such moments every command has at least."""
PARTS = {"sampling": 1, "writing": 4, "receipt": 2, "replace": 4}
STOPPED = 130
SWALLOWED = "SIGINT while something is finalised"
TORN = "SIGINT"


def case(how="once", number=signal.SIGINT, *, parts=False, twin="", command=0, phase="writing", nth=1):
    return {
        "how": how, "signal": int(number), "parts": parts, "twin": twin, "command": command, "phase": phase, "nth": nth,
    }  # fmt: skip


def moments(first, count, parts):
    """Different commands, phases and places in them, in a fixed order."""
    phases = PARTS if parts else PHASES
    ordered = islice(cycle(phases.items()), first, first + count)
    for number, (phase, few) in enumerate(ordered, first):
        command = (1, 4)[number % 2] if parts else number % 2
        yield {"phase": phase, "nth": 1 + number * 3 % few, "command": command}


ROWS = {
    "SIGINT": {"number": signal.SIGINT},
    "SIGINT twice": {"how": "twice", "number": signal.SIGINT},
    "SIGTERM": {"number": signal.SIGTERM},
    "SIGINT of a part": {"number": signal.SIGINT, "parts": True},
    "SIGTERM of a part": {"number": signal.SIGTERM, "parts": True},
    SWALLOWED: {"how": "swallowed", "number": signal.SIGINT},
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """What became of every command that was stopped, by row, and of the twins."""
    count = times(2, 40)
    cases = [
        (name, case(**kind, **moment))
        for row, (name, kind) in enumerate(ROWS.items())
        for moment in moments(2 * row, count, kind.get("parts", False))
    ]
    cases += [("torn", case(twin="torn", command=1, phase="torn"))]
    cases += [("unheeded", case(how="swallowed", twin="heeding", phase="sampling", command=1))]
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps(
            {"folder": str(tmp_path_factory.mktemp("signals")), "cases": [each for _, each in cases]}
        ),
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for (name, _), line in zip(cases, done.stdout.splitlines(), strict=True):
        found.setdefault(name, []).append(json.loads(line))
    return found


@pytest.mark.parametrize("name", ROWS)
def test_a_command_that_is_stopped_loses_nothing_and_ends_the_same(catalogue, stopped, name):
    with catalogue.row(name, "I4" if "part" in name else "I1") as row:
        for one in stopped[name]:
            assert one["code"] == STOPPED, one
            assert one["same"] is True, one
            row.injected += 1
            row.acknowledged += one["acknowledged"]
            row.lost += one["lost"]
            row.seconds += one["seconds"]


def test_a_writer_that_writes_in_place_would_lose_what_it_had_begun_to_overwrite(catalogue, stopped):
    lost = sum(one["lost"] for one in stopped["torn"])
    for name in ROWS:
        if name != SWALLOWED:
            with catalogue.twin(name, "I1") as row:
                row.unprotected += lost


def test_a_wish_that_nobody_remembers_would_be_lost(catalogue, stopped):
    with catalogue.twin(SWALLOWED, "I1") as row:
        row.unprotected += sum(one["code"] == 0 for one in stopped["unheeded"])
