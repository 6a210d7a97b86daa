"""What every test runs under: one thread, laws checked on the same examples everywhere, shapes checked."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
from catalogue import CATALOGUE, catalogue
from hypothesis import settings

__all__ = ["catalogue"]

settings.register_profile("dev", max_examples=20, deadline=None, derandomize=True)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True)
settings.register_profile("nightly", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture
def store(tmp_path):
    """Where a store may be."""
    return str(tmp_path / "store")


def pytest_addoption(parser):
    """Where the table of faults is written."""
    parser.addoption("--catalogue", metavar="FILE", help="write the table of injected faults as Markdown")


def pytest_terminal_summary(terminalreporter, config):
    """The table of faults, if any was injected."""
    if not CATALOGUE.rows:
        return
    lines = list(CATALOGUE.lines())
    terminalreporter.section("catalogue of faults")
    for line in lines:
        terminalreporter.write_line(line)
    if config.getoption("--catalogue"):
        Path(config.getoption("--catalogue")).write_text("\n".join(lines) + "\n", encoding="utf-8")
