"""Where states wait between two passes when nobody asked for them to be stored.

A measure against the final image needs every state again once that image is known. Holding them in memory would
make it grow with the number of steps; a temporary file does not, and the page cache makes it nearly as fast. It is
written with plain writes, not through a memory map: a full disk is then an error, not a crash.
"""

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import numpy as np
import xarray as xr

from flowprofile.axes import TIME


class Scratch:
    """Blocks by stage and state, in a folder that is gone when the context ends."""

    def __init__(self, parent: Path | None = None) -> None:
        """`parent` is where the folder is made; by default the system's place for temporary files."""
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        self._folder = TemporaryDirectory(prefix="flowprofile-", dir=parent)
        self._files: dict[tuple[str, str], int] = {}
        self._slots: dict[str, dict[int, int]] = {}
        self._models: dict[str, xr.Dataset] = {}

    def __enter__(self) -> "Scratch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()
        self._folder.cleanup()

    def put(self, name: str, times: Sequence[int], block: xr.Dataset) -> None:
        """Keep those states of a block that are among `times`, the whole set that will ever be put."""
        if name not in self._slots:
            self._open(name, times, block)
        slots = self._slots[name]
        for variable in block.data_vars:
            rows = np.ascontiguousarray(block[variable].transpose(TIME, ...).values)
            handle = self._files[name, str(variable)]
            for t, row in zip(block[TIME].values.tolist(), rows, strict=True):
                if t in slots:
                    os.pwrite(handle, row.tobytes(), slots[t] * row.nbytes)

    def holds(self, name: str, t: int) -> bool:
        """Whether a state of a stage was put here."""
        return t in self._slots.get(name, {})

    def read(self, name: str, times: Sequence[int]) -> xr.Dataset:
        """The states at `times`, all of which were put here."""
        model = self._models[name]
        coords = {key: value for key, value in model.coords.items() if TIME not in value.dims}
        arrays = {
            variable: (
                (TIME, *(dim for dim in model[variable].dims if dim != TIME)),
                self._rows(name, variable, times),
            )
            for variable in model.data_vars
        }
        read = xr.Dataset(arrays, coords={**coords, TIME: list(times)}, attrs=model.attrs)
        return read.transpose(*model.dims)

    def _rows(self, name: str, variable: object, times: Sequence[int]) -> np.ndarray:
        model = self._models[name][variable].transpose(TIME, ...)
        handle, size = self._files[name, str(variable)], prod(model.shape[1:]) * model.dtype.itemsize
        data = b"".join(os.pread(handle, size, self._slots[name][t] * size) for t in times)
        return np.frombuffer(data, model.dtype).reshape(len(times), *model.shape[1:])

    def _open(self, name: str, times: Sequence[int], block: xr.Dataset) -> None:
        self._slots[name] = {t: slot for slot, t in enumerate(times)}
        self._models[name] = block.isel({TIME: slice(0, 0)})
        for number, variable in enumerate(block.data_vars):
            path = Path(self._folder.name) / f"{len(self._slots)}-{number}"
            self._files[name, str(variable)] = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
