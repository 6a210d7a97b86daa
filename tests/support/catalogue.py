"""The catalogue of faults: what was injected, what had been acknowledged, what of it was lost, and what was silent.

Every test of a fault writes one row; the whole table is printed when the tests end, and written as the README has it
with ``--catalogue FILE``. A row with anything lost or silent fails its test by itself, so that the table cannot lie. A
row without a twin fails the module that wrote it, when all of the module was run: a test that cannot fail shows nothing.
"""

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest


@dataclass
class Row:
    """One kind of fault."""

    fault: str
    promise: str
    """Which of the promises I1 to I7 it tries."""
    injected: int = 0
    acknowledged: int = 0
    """Regions (of hostile input: files) that had been acknowledged when it struck, or that must not be touched by it."""
    lost: int = 0
    """Of these, gone or changed afterwards; of hostile input, executed or allocated beyond the bound."""
    silent: int = 0
    """Finite wrong values without an error."""
    seconds: float = 0.0
    unprotected: int = 0
    """Of the negative twin: lost or silent with the protection removed. It must not be 0."""


@dataclass
class Catalogue:
    """Rows in the order in which they were first written."""

    rows: dict[str, Row] = field(default_factory=dict)

    @contextmanager
    def row(self, fault, promise):
        """A row to count in; afterwards nothing may be lost or silent, and something must have been injected."""
        found = self.rows.setdefault(fault, Row(fault, promise))
        began = time.perf_counter()
        try:
            yield found
        finally:
            found.seconds += time.perf_counter() - began
        assert found.injected, f"nothing was injected: {fault}"
        assert (found.lost, found.silent) == (0, 0), f"{fault}: {found.lost} lost, {found.silent} silent"

    @contextmanager
    def twin(self, fault, promise):
        """The same with its protection removed: it counts in `unprotected`, which must not stay 0."""
        found = self.rows.setdefault(fault, Row(fault, promise))
        before = found.unprotected
        yield found
        assert found.unprotected > before, f"the twin of {fault!r} lost nothing: the test shows nothing"

    def injected(self):
        """How often each fault was injected until now."""
        return {fault: row.injected for fault, row in self.rows.items()}

    def insist(self, before):
        """Every row in which something was injected since `before` has a twin that failed."""
        alone = [
            fault
            for fault, row in self.rows.items()
            if row.injected > before.get(fault, 0) and not row.unprotected
        ]
        assert not alone, f"no negative twin: {'; '.join(alone)}"

    def lines(self):
        """The table as Markdown, with a total."""
        yield "| fault | promise | injected | acknowledged | lost | silent | without the protection | seconds |"
        yield "|---|---|--:|--:|--:|--:|--:|--:|"
        for row in sorted(self.rows.values(), key=lambda row: (row.promise, row.fault)):
            twin = f"{row.unprotected} wrong" if row.unprotected else "–"
            yield (
                f"| {row.fault} | {row.promise} | {row.injected:,} | {row.acknowledged:,} | {row.lost} |"
                f" {row.silent} | {twin} | {row.seconds:.1f} |"
            )
        sums = [
            sum(getattr(row, name) for row in self.rows.values()) for name in ("injected", "acknowledged")
        ]
        lost, silent = (sum(getattr(row, name) for row in self.rows.values()) for name in ("lost", "silent"))
        seconds = sum(row.seconds for row in self.rows.values())
        yield (
            f"| **{len(self.rows)} kinds** | | **{sums[0]:,}** | **{sums[1]:,}** | **{lost}** | **{silent}** | |"
            f" **{seconds:.0f}** |"
        )


CATALOGUE = Catalogue()
"""The one of a session."""


@pytest.fixture(scope="module")
def catalogue(request):
    """Where every test of a fault writes its row, and its twin into the same: both are in one module."""
    before = CATALOGUE.injected()
    yield CATALOGUE
    if _whole(request):
        CATALOGUE.insist(before)


def _whole(request):
    """Whether every test of the module is run, and not some that were chosen among them."""
    there = {name for name in vars(request.module) if name.startswith("test")}
    return there == {
        item.originalname for item in request.session.items if getattr(item, "module", None) is request.module
    }


def times(short, long):
    """How often: the first number within minutes, the second at night (``make test-nightly``)."""
    return long if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else short
