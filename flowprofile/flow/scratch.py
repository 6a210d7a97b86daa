"""Where results wait when nobody asked for them to be stored: for a later pass, or for another case.

A measure against the final image needs every state again once that image is known. Holding them in memory would
make it grow with the number of steps; a temporary file does not, and the page cache makes it nearly as fast. It is
written with plain writes, not through a memory map: a full disk is then an error, not a crash.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

import numpy as np
import xarray as xr

from flowprofile.axes import CASE, TIME
from flowprofile.cases import Case


@dataclass
class _Shelf:
    """The results of one stage and one batch."""

    rows: dict[Case, int]
    slots: dict[int, int]
    model: xr.Dataset
    """An empty block: dims, types and coordinates."""
    files: dict[str, int] = field(default_factory=dict)


class Scratch:
    """Blocks by stage, batch and state, in a folder that is gone when the context ends."""

    def __init__(self, parent: Path | None = None) -> None:
        """`parent` is where the folder is made; by default the system's place for temporary files."""
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(mkdtemp(prefix="flowprofile-", dir=parent))
        self._shelves: dict[tuple[str, Case], _Shelf] = {}
        self._handles: list[int] = []

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            os.close(handle)
        self._handles.clear()
        shutil.rmtree(self._folder, ignore_errors=True)  # what cannot be removed now, the next run sweeps up

    def put(self, name: str, cases: Sequence[Case], times: Sequence[int], block: xr.Dataset) -> None:
        """Keep those states of a batch's block that are among `times`, the whole set that will ever be put."""
        shelf = self._shelves.get((name, cases[0])) or self._open(name, cases, times, block)
        for variable, handle in shelf.files.items():
            states = np.ascontiguousarray(block[variable].transpose(TIME, CASE, ...).values)
            for t, rows in zip(block[TIME].values.tolist(), states, strict=True):
                if t in shelf.slots:
                    _write_all(handle, rows.tobytes(), shelf.slots[t] * rows.nbytes)

    def holds(self, name: str, case: Case, t: int) -> bool:
        """Whether a case's result of a stage was put here."""
        shelf = self._shelves.get((name, case))
        return shelf is not None and t in shelf.slots

    def shelf(self, name: str, case: Case, times: Sequence[int]) -> int | None:
        """A number that is equal for cases whose results wait together; None where none of `times` waits."""
        found = self._shelves.get((name, case))
        return None if found is None or not any(t in found.slots for t in times) else id(found)

    def read(self, name: str, cases: Sequence[Case], times: Sequence[int]) -> xr.Dataset:
        """The results of cases of one batch at `times`, all of which were put here; dims (case, time, ...)."""
        shelf = self._shelves[name, cases[0]]
        arrays = {}
        for variable, handle in shelf.files.items():
            model = shelf.model[variable].transpose(CASE, TIME, ...)
            size = prod(model.shape[2:]) * model.dtype.itemsize
            data = b"".join(self._states(shelf, handle, size, cases, t) for t in times)
            values = np.frombuffer(data, model.dtype).reshape(len(times), len(cases), *model.shape[2:])
            arrays[variable] = (model.dims, np.swapaxes(values, 0, 1))
        fixed = {key: v for key, v in shelf.model.coords.items() if not {TIME, CASE} & set(v.dims)}
        return xr.Dataset(arrays, coords={**fixed, TIME: list(times)})

    @staticmethod
    def _states(shelf: _Shelf, handle: int, size: int, cases: Sequence[Case], t: int) -> bytes:
        """One state of some of the batch's cases."""
        start = shelf.slots[t] * len(shelf.rows) * size
        if tuple(cases) == tuple(shelf.rows):
            return os.pread(handle, len(cases) * size, start)
        return b"".join(os.pread(handle, size, start + shelf.rows[case] * size) for case in cases)

    def _open(self, name: str, cases: Sequence[Case], times: Sequence[int], block: xr.Dataset) -> _Shelf:
        rows = {case: row for row, case in enumerate(cases)}
        shelf = _Shelf(rows, {t: slot for slot, t in enumerate(times)}, block.isel({TIME: slice(0, 0)}))
        for variable in block.data_vars:
            path = self._folder / str(len(self._handles))
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            shelf.files[str(variable)] = handle
            self._handles.append(handle)
        self._shelves.update({(name, case): shelf for case in cases})
        return shelf


def _write_all(handle: int, data: bytes, start: int) -> None:
    """Put bytes at a place in a file; a disk that is nearly full takes some of them and says so only by their number."""
    written = 0
    while written < len(data):
        written += os.pwrite(handle, data[written:], start + written)
