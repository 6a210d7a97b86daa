"""Where a batch finds results: in the store, in scratch, or at the end of a chain that has been walked.

A result is looked up by stage, case and state; whether it is stored or only waits for those who read it is not the
reader's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import xarray as xr

from flowprofile.axes import CASE, TIME
from flowprofile.cases import Case
from flowprofile.flow.blocks import joined, labelled
from flowprofile.flow.graph import Graph
from flowprofile.flow.scratch import Scratch


@dataclass(frozen=True)
class Cut:
    """A region to be written: which of the batch's cases, at which states, in the order of the store."""

    name: str
    cases: tuple[Case, ...]
    times: tuple[int, ...]


class Holder(Protocol):
    """The store as a batch sees it."""

    def read(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
        """Stored results, dims (case, time, ...), checked against what was acknowledged."""

    def cuts(self, path: str, cases: Sequence[Case], times: Sequence[int]) -> list[Cut]:
        """The regions that hold these cells."""

    def write(self, path: str, cut: Cut, block: xr.Dataset) -> int:
        """Commit a region; returns its size in bytes."""


@dataclass(frozen=True)
class Shelf:
    """What one batch can reach."""

    graph: Graph
    store: Holder
    scratch: Scratch
    finals: dict[str, xr.Dataset]
    """The last state of each chain that some stage waits for."""
    everyone: tuple[Case, ...]
    """All cases of the task."""

    def read(self, name: str, cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
        """Results of any cases of the task, dims (case, time, ...), labelled."""
        pieces = []
        for waiting, group in groupby(cases, key=lambda case: self.scratch.shelf(name, case, times)):
            members = tuple(group)
            pieces.append(self._rows(name, members, times, waiting=waiting is not None))
        block = pieces[0] if len(pieces) == 1 else _stacked(pieces)
        return block.assign_coords(
            {**labelled(cases), **self.graph.stages[name].promise(tuple(times)).coords}
        )

    def _rows(self, name: str, cases: tuple[Case, ...], times: Sequence[int], *, waiting: bool) -> xr.Dataset:
        parts = []
        for held, group in groupby(times, key=lambda t: waiting and self.scratch.holds(name, cases[0], t)):
            stretch = list(group)
            if held:
                parts.append(self.scratch.read(name, cases, stretch))
            else:
                parts.append(self.store.read(self.graph.path(name), cases, stretch))
        return joined([part.drop_vars([key for key in part.coords if key != TIME]) for part in parts])

    def siblings(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """Every case of the task with the seeds and interventions of these, whatever its label."""
        wanted = {(case.intervention, case.seed) for case in cases}
        return tuple(case for case in self.everyone if (case.intervention, case.seed) in wanted)

    def cuts(self, name: str, cases: Sequence[Case], times: Sequence[int]) -> list[Cut]:
        """The regions of a stage that hold these cells; none where there are no states."""
        return self.store.cuts(self.graph.path(name), cases, times) if times else []


def _stacked(pieces: Sequence[xr.Dataset]) -> xr.Dataset:
    return xr.concat(pieces, dim=CASE, data_vars="all", coords="minimal", compat="override", join="override")
