"""A selection as one table, in Arrow's file format or as Parquet: what polars, DuckDB, pandas, R and Julia read.

A row is a case at a state (and a layer, a measure, where there are such axes). Its coordinates are columns, and so is
each array: a tensor of fixed shape, whose shape and axes stand in the schema (Arrow's own `fixed_shape_tensor`, which
programs that do not know it read as a list). The table is written batch by batch, so a selection may be larger than
memory: what is held is one batch, or one row where a row is larger.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, LAYER, SEED, TIME
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.lazy import STATUS, unchunked

TABLES: Final = (".arrow", ".parquet")
ROWS: Final = (INTERVENTION, LABEL, SEED, TIME, LAYER, "measure")
"""Axes that rows are counted along, in their order; every other axis is inside a cell."""
BATCH: Final = 2**24
"""Bytes of one batch, at most, where a row is not larger."""
BESIDE: Final = 256
"""Bytes of a row's coordinates, roughly."""
METADATA: Final = b"flowprofile"
"""Key of the schema's metadata that holds axes, shapes, units and provenance as JSON."""


def arrow() -> Any:
    """The library, or what to install.

    Raises
    ------
    StoreError
        If pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise StoreError(
            "Arrow and Parquet need pyarrow, which is not installed.",
            consequence="Nothing was read or written.",
            remedy='pip install "flowprofile[arrow]"',
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    return pa


def write_table(selection: xr.DataTree, path: Path) -> None:
    """Write the one object of a selection to a file, whose ending says how.

    Raises
    ------
    StoreError
        If pyarrow is missing.
    DefinitionError
        If the selection holds several objects: they have different arrays, and a table has one shape per column.
    """
    pa, data = arrow(), unchunked(_one(selection))
    schema, rows = _schema(pa, data), _rows(data)
    with path.open("wb") as file, _writer(pa, file, schema, path.suffix) as writer:
        for block in _blocks([data.sizes[axis] for axis in rows], _row_bytes(data, rows)):
            part = data.isel(dict(zip(rows, block, strict=True))).load()
            columns = [_column(pa, part, name, rows, schema.field(name).type) for name in schema.names]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _one(selection: xr.DataTree) -> xr.Dataset:
    held = {node.path.strip("/"): node for node in selection.subtree if node.data_vars}
    if len(held) != 1:
        some = ", ".join(list(held)[:4]) + (", ..." if len(held) > 4 else "")
        raise DefinitionError(
            f"The selection holds {len(held)} objects, and a table holds one.",
            consequence="Their arrays have different shapes or axes; nothing was written.",
            remedy="name one: --objects trajectory; layers of one shape become one table: --objects 'activations/mid*'",
            evidence=some,
        )
    return next(iter(held.values())).to_dataset()


def _rows(data: xr.Dataset) -> list[str]:
    """The axes that rows are counted along."""
    held = {dim for name, variable in data.data_vars.items() if name != STATUS for dim in variable.dims}
    return [axis for axis in ROWS if axis in held]


def _inside(variable: xr.DataArray | xr.Variable, rows: Sequence[str]) -> list[str]:
    """The axes inside a cell."""
    return [str(dim) for dim in variable.dims if dim not in rows]


def _row_bytes(data: xr.Dataset, rows: Sequence[str]) -> int:
    """What a row takes in memory, with some room for its coordinates."""
    return BESIDE + sum(
        variable.dtype.itemsize * prod(variable.sizes[dim] for dim in _inside(variable, rows))
        for variable in data.data_vars.values()
    )


def _columns(data: xr.Dataset, rows: Sequence[str]) -> list[str]:
    """Coordinates of rows, those of their axes first, then the arrays."""
    beside = [
        str(name)
        for name, coord in data.coords.items()
        if name not in rows and not _inside(coord.variable, rows)
    ]
    return [*rows, *beside, *map(str, data.data_vars)]


def _schema(pa: Any, data: xr.Dataset) -> Any:
    rows = _rows(data)
    fields, shapes = [], {}
    for name in _columns(data, rows):
        variable = data[name].variable
        inside = _inside(variable, rows)
        kind = pa.string() if variable.dtype.kind in "OUT" else pa.from_numpy_dtype(variable.dtype)
        if inside:
            shape = [variable.sizes[dim] for dim in inside]
            kind, shapes[name] = (
                pa.fixed_shape_tensor(kind, shape, dim_names=inside),
                {"dims": inside, "shape": shape},
            )
        fields.append(pa.field(name, kind))
    axes = {
        str(name): coord.values.tolist()
        for name, coord in data.coords.items()
        if _inside(coord.variable, rows) and coord.ndim == 1
    }
    attrs = {str(name): dict(variable.attrs) for name, variable in data.variables.items() if variable.attrs}
    told = {"rows": rows, "tensors": shapes, "axes": axes, "attrs": attrs, "provenance": dict(data.attrs)}
    return pa.schema(fields, metadata={METADATA: json.dumps(told, default=_said, sort_keys=True).encode()})


def _said(value: object) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _writer(pa: Any, file: Any, schema: Any, suffix: str) -> Any:
    if suffix == ".arrow":
        return pa.ipc.new_file(file, schema)
    # Dictionaries for texts alone, which repeat: numbers hardly do, and are to keep whatever bits they have.
    texts = [field.name for field in schema if field.type == pa.string()]
    return pa.parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=texts)


def _blocks(sizes: Sequence[int], row_bytes: int) -> Iterator[tuple[slice, ...]]:
    """Stretches of rows, in order: whole along the last axes, a part of one, single along the first.

    >>> [tuple((s.start, s.stop) for s in block) for block in _blocks([2, 3], BATCH // 2)]
    [((0, 1), (0, 2)), ((0, 1), (2, 3)), ((1, 2), (0, 2)), ((1, 2), (2, 3))]
    """
    room, widths = max(1, BATCH // row_bytes), list[int]()
    for size in reversed(sizes):
        widths.insert(0, max(1, min(size, room)))
        room = room // size if size and room >= size else 1
    starts = (range(0, size, width) for size, width in zip(sizes, widths, strict=True))
    for at in product(*starts):
        yield tuple(
            slice(start, min(start + width, size))
            for start, width, size in zip(at, widths, sizes, strict=True)
        )


def _column(pa: Any, part: xr.Dataset, name: str, rows: Sequence[str], kind: Any) -> Any:
    """A column of one batch; what lacks an axis of the rows is repeated along it."""
    inside = _inside(part[name].variable, rows)
    sizes = {axis: part.sizes[axis] for axis in (*rows, *inside)}
    whole = part[name].variable.set_dims(sizes)  # type: ignore[no-untyped-call]  # xarray does not annotate it
    values: npt.NDArray[Any] = whole.transpose(*rows, *inside).values
    if values.dtype.kind in "OUT":
        return pa.array([str(value) for value in values.reshape(-1)], kind)
    flat = np.ascontiguousarray(values).reshape(-1)
    if not inside:
        return pa.array(flat, kind)
    return pa.ExtensionArray.from_storage(
        kind, pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.storage_type.list_size)
    )
