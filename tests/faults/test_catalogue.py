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


def test_a_row_without_a_twin_fails_its_module_if_all_of_it_is_run(tmp_path):
    """The twin may stand anywhere in the module; and whoever chooses some of its tests is not asked for the others."""
    for name, source in {"alone": ROW + OTHER, "twin": TWIN + OTHER + ROW, "part": ROW + TWIN}.items():
        (tmp_path / f"test_{name}.py").write_text(source.replace("a fault", name))
    (tmp_path / "conftest.py").write_text("from catalogue import catalogue\n")
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
        [*command, "test_alone.py", "test_twin.py", "test_part.py::test_a_fault"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "support")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "6 passed, 1 error" in done.stdout
    assert "no negative twin: alone" in done.stdout


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
