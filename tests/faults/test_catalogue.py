"""The catalogue insists on what makes it worth reading: nothing lost, nothing silent, and a twin that shows it would tell."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue import Catalogue, Row

ROW = """
def test_a_fault(catalogue):
    with catalogue.row("a fault", "I1") as row:
        row.injected += 1
"""
TWIN = """
def test_its_twin(catalogue):
    with catalogue.twin("a fault", "I1") as row:
        row.unprotected += 1
"""
OTHER = """
def test_something_else():
    pass
"""


def ended(folder, source, *chosen):
    """What pytest says of a module of tests that uses the catalogue."""
    (folder / "conftest.py").write_text("from catalogue import catalogue\n")
    (folder / "test_it.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
    ]
    done = subprocess.run(
        [*command, *(chosen or ["test_it.py"])],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_row_without_a_twin_fails_its_module(tmp_path):
    code, said = ended(tmp_path, ROW + OTHER)
    assert code == 1
    assert "no negative twin: a fault" in said


def test_a_row_with_a_twin_passes_wherever_the_twin_stands(tmp_path):
    assert ended(tmp_path, TWIN + OTHER + ROW)[0] == 0


def test_whoever_runs_a_part_of_a_module_is_not_asked_for_the_rest(tmp_path):
    assert ended(tmp_path, ROW + TWIN, "test_it.py", "-k", "a_fault")[0] == 0


def test_a_row_of_another_module_is_not_its_business():
    found = Catalogue()
    with found.row("early", "I1") as row:
        row.injected += 1
    before = found.injected()
    with found.row("late", "I1") as row, found.twin("late", "I1") as twin:
        row.injected, twin.unprotected = 1, 1
    found.insist(before)
    with pytest.raises(AssertionError, match=r"no negative twin: early$"):
        found.insist({})


@pytest.mark.parametrize("count", [{}, {"injected": 1, "lost": 1}, {"injected": 1, "silent": 1}])
def test_a_row_fails_by_itself_where_nothing_struck_or_something_was_lost(count):
    found = Catalogue()
    found.rows["a fault"] = Row("a fault", "I1", **count)
    with pytest.raises(AssertionError), found.row("a fault", "I1"):
        pass


def test_a_twin_that_loses_nothing_fails():
    with pytest.raises(AssertionError, match="shows nothing"), Catalogue().twin("a fault", "I1"):
        pass
