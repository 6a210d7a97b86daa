"""The store an engine writes to.

Opening it costs nothing and locks nothing; any number of workers may write regions side by side. The first
`prepare` (growing axes) or `retire` makes the opener the planner, of which there is one at a time, until it closes.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import CASE, CASE_AXES, INTERVENTION, LABEL, SEED, TIME
from flowprofile.cases import Case, Sweep
from flowprofile.errors import BusyError, DefinitionError, StoreError, nearest
from flowprofile.store import layout as layouts
from flowprofile.store import writing
from flowprofile.store.bounds import bounded
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.growing import heal, settle
from flowprofile.store.growth import grown
from flowprofile.store.layout import StoreLayout
from flowprofile.store.ledger import Ledger, Receipt, covered, fills, read_receipt, receipt_key
from flowprofile.store.objects import ROOT, extents_of
from flowprofile.store.phases import Listen, silent
from flowprofile.store.places import Claim, Place
from flowprofile.store.promise import check
from flowprofile.store.reading import Box, read
from flowprofile.store.record import Record, RunRecord, StageRecord
from flowprofile.store.regions import Region, cut
from flowprofile.store.snapshot import check_format, snapshot
from flowprofile.store.turns import locked
from flowprofile.store.urls import BUCKETS, Where, place

PLANNER_LOCK = "ledger/planner.lock"
POLL = 0.2
"""Seconds between two looks at who holds a store."""


class Store:
    """A place, its layout, and the record that was last read of it."""

    def __init__(self, where: Place, layout: StoreLayout) -> None:
        self.place = where
        self.layout = layout
        self._record: Record | None = None
        self._claim: Claim | None = None
        self._ledgers: dict[tuple[str, str], Ledger] = {}

    @classmethod
    def open(
        cls,
        url: Where | None = None,
        *,
        layout: StoreLayout | str | None = None,
        storage_options: Mapping[str, str] | None = None,
        existing: bool = False,
    ) -> Self:
        """Open a store, or a place where there may be one; nothing is written before `prepare`.

        Parameters
        ----------
        url
            Where; the layout's own url when None.
        layout
            A layout, or the name of one in ``stores/``; by default the one named after the kind of place.
        storage_options
            How to connect; see `flowprofile.store.urls.place`.
        existing
            Whether there must be a store already.

        Raises
        ------
        DefinitionError
            If the address is none of a store.
        StoreError
            If something that is no store of ours is there, or nothing is and must be.
        """
        chosen = layouts.layout(layout) if isinstance(layout, str) else layout or _default(url)
        target = url if url is not None else chosen.url
        if target is None:
            raise DefinitionError("No place was given for the store.", remedy="give a folder or a url")
        where = place(target, storage_options)
        if not check_format(where) and existing:
            raise StoreError(
                f"There is no store at {where.url!r}.",
                consequence="Nothing was done.",
                remedy="correct the path; `flowprofile run PIPELINE --into STORE` makes a store",
            )
        return cls(where, chosen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the planner's lock back, if it was taken."""
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.release()

    @property
    def url(self) -> str:
        """The address."""
        return self.place.url

    @property
    def record(self) -> Record:
        """Axes, stages and requests, as last read; `refresh` reads again."""
        if self._record is None:
            self.refresh()
        assert self._record is not None
        return self._record

    def refresh(self) -> None:
        """Read the record again: another process may have grown the store."""
        self._record = snapshot(self.place).record

    def runs(self) -> Mapping[str, RunRecord]:
        """The stored runs by folder (``name@key``), with their attrs."""
        return self.record.runs

    def stages(self, run: str) -> Mapping[str, StageRecord]:
        """The stored stages of a run by folder (``group@key``), with their attrs, keys and times."""
        return self._run(run).stages

    def prepare(
        self,
        run: RunDeclaration,
        sweep: Sweep,
        stages: Sequence[StageDeclaration],
        *,
        listen: Listen = silent,
    ) -> RunRecord:
        """Create or grow the axes and arrays for a request; the caller becomes the planner.

        What an earlier crash left half done is finished or forgotten on the way. Asking again for the same
        changes nothing.

        Raises
        ------
        BusyError
            If another planner holds the store.
        """
        self.lock()
        self.refresh()
        self.settle(grown(self.record, run, sweep, stages, layout=self.layout), listen=listen)
        return self.record.runs[run.folder]

    def settle(self, record: Record, *, listen: Listen = silent) -> None:
        """Make a record that grew from the current one the store's; the caller is the planner."""
        self._held()
        try:
            bounded(record)
        except ValueError as error:
            raise StoreError(
                f"The store {self.url} would grow beyond what a store may hold.",
                consequence="No reader would believe it; nothing was written.",
                remedy="use several stores, or smaller chunks (`flowprofile stores`)",
                evidence=str(error),
            ) from error
        settle(self.place, record, layout=self.layout, listen=listen)
        heal(self.place, record, layout=self.layout, listen=listen)
        self._record = record

    def lock(self, *, wait: float = 0.0) -> None:
        """Become the planner, until `close`; if somebody else is, after at most `wait` seconds.

        Raises
        ------
        BusyError
            Naming who is.
        """
        until = monotonic() + wait
        while self._claim is None:
            try:
                self._lock()
            except BusyError:
                if not monotonic() < until:  # as it never is, should `wait` be NaN
                    raise
                sleep(min(POLL, max(0.0, until - monotonic())))

    def _lock(self) -> None:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        command = " ".join(sys.argv)[:200]
        content = {"pid": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}
        claim = self.place.claim(PLANNER_LOCK, json.dumps(content).encode())
        if isinstance(claim, bytes):
            raise BusyError(
                f"Another planner holds the store {self.url}.",
                consequence="Two planners would grow the same axes into different orders.",
                remedy="wait for it to end (--wait), or stop it; the lock ends with its process",
                evidence=claim.decode(errors="replace"),
            )
        self._claim = claim

    def _held(self) -> None:
        """Stop, if somebody else has become the planner meanwhile."""
        if self._claim is not None:
            self._claim.held()

    def positions(self, run: str, group: str) -> dict[str, dict[Any, int]]:
        """Value to position along every stored axis; ``time`` is empty for a stage without time."""
        record, stage = self._stage(run, group)
        axes = {name: record.axis(name) for name in CASE_AXES}
        axes[TIME] = stage.time or ()
        return {name: {value: at for at, value in enumerate(values)} for name, values in axes.items()}

    def present(self, run: str, group: str) -> npt.NDArray[np.bool_]:
        """Which cells are stored: ``(intervention, label, seed, time)``, read from the names of receipts."""
        record, stage = self._stage(run, group)
        ledger, seeds = Ledger(self.place, run, group), (0, len(record.seeds))
        found = np.zeros((*record.shape, stage.times), bool)
        for intervention, label, rows in ledger.all_rows(*record.shape[:2]):
            whole = fills(rows, seeds[1], stage.times)
            found[intervention, label] = whole or covered(rows, seeds, stage.times)
        return found

    def cut(self, run: str, group: str, wanted: npt.NDArray[np.bool_]) -> list[Region]:
        """Regions that cover wanted cells exactly, none crossing a tile of seeds or a shard of times."""
        record, stage = self._stage(run, group)
        return list(cut(run, group, wanted, seeds=record.tile[1], times=stage.block))

    def write(
        self, region: Region, block: xr.Dataset, *, listen: Listen = silent, trim: bool = False
    ) -> Receipt:
        """Commit a block: its objects, then the receipt.

        Parameters
        ----------
        region
            Where; its seeds are the block's cases in order.
        block
            Dataset with dims ``(case, time, ...)``, as promised.
        trim
            Whether objects the region already has lose what no receipt covers any more.

        Raises
        ------
        StoreError
            If the block breaks its promise or the region is outside the store's axes.
        IntegrityError
            If it would share an object that is damaged, or the region is stored with other values.
        """
        run, stage = self._stage(region.run, region.group)
        if not _inside(region, (*run.shape, stage.times)):
            self.refresh()
            run, stage = self._stage(region.run, region.group)
        if not _inside(region, (*run.shape, stage.times)):
            raise StoreError(
                f"The region {region} is outside the store's axes {(*run.shape, stage.times)!r}.",
                remedy="prepare the store for it first",
            )
        times = None if stage.time is None else stage.time[slice(*region.times)]
        check(block, promised(run, stage), cases=region.seeds[1] - region.seeds[0], times=times)
        return writing.write(
            self.place, run, stage, region, block, layout=self.layout, listen=listen, trim=trim
        )

    def read(
        self,
        run: str,
        group: str,
        cases: Sequence[Case],
        times: Sequence[int] | None = None,
        variables: Sequence[str] | None = None,
    ) -> xr.Dataset:
        """Stored cells as a block ``(case, time, ...)``, verified against their seals.

        Raises
        ------
        StoreError
            If a cell is not stored.
        IntegrityError
            If its bytes are not what was acknowledged.
        """
        _, stage = self._stage(run, group)
        where = self.positions(run, group)
        at = np.array([[_at(where, axis, case) for axis in CASE_AXES] for case in cases], np.int64).reshape(
            -1, 3
        )
        chosen = times if times is not None else stage.time
        moments = np.array([_position(where, TIME, t) for t in chosen or ()] if stage.time else [0], np.int64)
        ledger = self._ledgers.setdefault((run, group), Ledger(self.place, run, group))
        if _missing(ledger, at, moments):
            ledger.reload()
        _all_present(ledger, cases, at, moments)
        data = {}
        for name in variables if variables is not None else stage.variables:
            if name not in stage.variables:
                raise StoreError(f"{run}/{group} has no {name!r}.", remedy=nearest(name, stage.variables))
            dims = (CASE, *stage.variables[name].dims[3:])
            data[name] = (dims, _gather(ledger, stage, name, at, moments), dict(stage.variables[name].attrs))
        picked = None if stage.time is None else tuple(stage.time[m] for m in moments.tolist())
        return xr.Dataset(data, coords={**stage_coords(stage, picked), **_case_coords(cases)})

    def retire(self, region: Region) -> None:
        """Make a region missing again: its receipt goes first, then the objects no other region shares."""
        self.lock()
        self._ledgers.clear()
        run, stage = self._stage(region.run, region.group)
        with locked(self.place, run, region):
            self.place.delete(receipt_key(region))
            self.place.fsync([receipt_key(region)] if self.layout.durable else [])
            ledger = Ledger(self.place, region.run, region.group)
            for name, variable in stage.variables.items():
                for extent in extents_of(region, name, variable):
                    if not len(
                        ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
                    ):
                        self.place.delete(f"{ROOT}/{region.run}/{region.group}/{extent.key}")

    def receipt(self, region: Region) -> Receipt | None:
        """A region's receipt, None where it is missing."""
        return read_receipt(self.place, region)

    def _run(self, run: str) -> RunRecord:
        if run not in self.record.runs:
            self.refresh()
        if run not in self.record.runs:
            raise StoreError(f"{self.url} has no run {run!r}.", remedy=nearest(run, self.record.runs))
        return self.record.runs[run]

    def _stage(self, run: str, group: str) -> tuple[RunRecord, StageRecord]:
        record = self._run(run)
        if group not in record.stages:
            self.refresh()
            record = self._run(run)
        if group not in record.stages:
            raise StoreError(f"The run {run!r} has no stage {group!r}.", remedy=nearest(group, record.stages))
        return record, record.stages[group]


def _default(url: Where | None) -> StoreLayout:
    scheme = "" if url is None else place(url).url.partition("://")[0]
    if scheme in BUCKETS:
        return layouts.layout("s3")
    return StoreLayout(durability="none") if scheme == "memory" else StoreLayout()


def _inside(region: Region, shape: tuple[int, int, int, int]) -> bool:
    at = (region.intervention + 1, region.label + 1, region.seeds[1], region.times[1])
    return all(stop <= length for stop, length in zip(at, shape, strict=True))


def promised(run: RunRecord, stage: StageRecord) -> xr.Dataset:
    """The promise a stored stage stands for, at all its times."""
    data = {
        name: (
            variable.dims[3:],
            np.broadcast_to(np.zeros((), variable.form.dtype), run.array_shape(stage, variable)[3:]),
        )
        for name, variable in stage.variables.items()
    }
    return xr.Dataset(data, coords=stage_coords(stage, stage.time))


def stage_coords(stage: StageRecord, times: tuple[int, ...] | None) -> dict[str, Any]:
    """A stage's coordinates at some of its times."""
    where = {t: at for at, t in enumerate(stage.time or ())}
    picked = [where[t] for t in times or ()]
    result: dict[str, Any] = {} if times is None else {TIME: (TIME, np.array(times, np.int64))}
    for name, coordinate in stage.coords.items():
        values = coordinate.array[picked] if coordinate.dims == (TIME,) else coordinate.array
        result[name] = (coordinate.dims, values, dict(coordinate.attrs))
    return result


def _case_coords(cases: Sequence[Case]) -> dict[str, Any]:
    return {
        SEED: (CASE, np.array([case.seed for case in cases], np.int64)),
        LABEL: (CASE, np.array([case.label for case in cases], np.int64)),
        INTERVENTION: (CASE, np.array([case.intervention for case in cases], object)),
    }


def _at(where: Mapping[str, Mapping[Any, int]], axis: str, case: Case) -> int:
    return _position(where, axis, getattr(case, axis))


def _position(where: Mapping[str, Mapping[Any, int]], axis: str, value: Any) -> int:
    try:
        return where[axis][value]
    except KeyError:
        raise StoreError(f"The store has no {axis} {value!r}.", remedy=nearest(value, where[axis])) from None


def _tiles(at: npt.NDArray[np.int64]) -> Iterator[tuple[int, int, npt.NDArray[np.int64]]]:
    """Intervention, label and the cases (by their place in the list) that have them."""
    for i, label in np.unique(at[:, :2], axis=0).tolist():
        yield i, label, np.flatnonzero((at[:, 0] == i) & (at[:, 1] == label))


def _missing(ledger: Ledger, at: npt.NDArray[np.int64], moments: npt.NDArray[np.int64]) -> list[int]:
    """Which cases are not stored at every moment, by their place in the list."""
    missing = []
    for i, label, members in _tiles(at):
        rows = ledger.rows(i, label)
        for member in members.tolist():
            seed = at[member, 2]
            mine = rows[(rows[:, 0] <= seed) & (rows[:, 1] > seed)]
            covered = np.zeros(len(moments), bool)
            for _, _, start, stop in mine.tolist():
                covered |= (moments >= start) & (moments < stop)
            if not covered.all():
                missing.append(member)
    return missing


def _all_present(
    ledger: Ledger, cases: Sequence[Case], at: npt.NDArray[np.int64], moments: npt.NDArray[np.int64]
) -> None:
    missing = _missing(ledger, at, moments)
    if missing:
        raise StoreError(
            f"{len(missing)} of {len(cases)} cases of {ledger.run}/{ledger.group} are not stored at every wanted time.",
            consequence="A block with holes would be taken for results.",
            remedy="compute them first",
            evidence="; ".join(str(cases[member]) for member in missing[:3]),
        )


def _gather(
    ledger: Ledger, stage: StageRecord, name: str, at: npt.NDArray[np.int64], moments: npt.NDArray[np.int64]
) -> npt.NDArray[Any]:
    variable = stage.variables[name]
    lengths = (len(at), *((len(moments),) if variable.timed else ()), *variable.tail)
    out = np.empty(lengths, variable.form.dtype)
    for i, label, members in _tiles(at):
        box = Box(np.array([i]), np.array([label]), at[members, 2], moments)
        out[members] = read(ledger, name, variable, box)[0, 0]
    return out
