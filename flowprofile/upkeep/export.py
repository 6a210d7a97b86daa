"""A selection, in a file that other programs read: NetCDF, safetensors, plain Zarr, or a table."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.lazy import STATUS
from flowprofile.upkeep.tables import TABLES, arrow, write_table

FORMATS = (".nc", ".safetensors", ".zarr", *TABLES)
PRESENT = 2
"""The status of a cell that is stored."""


def export(selection: xr.DataTree | xr.Dataset, into: str | os.PathLike[str]) -> Path:
    """Write what was selected.

    Parameters
    ----------
    selection
        What `tree.profile.sel(...)` gave, a node, or the tree.
    into
        A file or folder that does not exist yet and ends in ``.nc``, ``.safetensors`` or ``.zarr``; or, of one
        object, a table: ``.arrow`` or ``.parquet`` (`flowprofile.upkeep.tables`), which is written batch by batch.

    Raises
    ------
    DefinitionError
        If the ending is another one, or something is there.
    StoreError
        If what writes it is not installed.
    """
    path = Path(into)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise DefinitionError(
            f"{str(path)!r} ends in none of {', '.join(FORMATS)}.",
            consequence="It is not known what to write.",
            remedy="choose .nc for xarray, R, Julia and Matlab, .safetensors for torch, .zarr for large selections,"
            " .arrow or .parquet for tables",
        )
    if path.exists():
        raise DefinitionError(
            f"{str(path)!r} exists.", consequence="Nothing is overwritten.", remedy="name another file"
        )
    tree = _tree(selection)
    if kind in TABLES:
        arrow()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _aside(path) as temporary:
        if kind in TABLES:
            write_table(tree, temporary)
        else:
            _whole(tree, temporary)
    return path


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """A name that becomes `path` when all of it is written.

    It lies in a folder of its own, with whatever the libraries need beside it: what an export that was killed leaves
    there goes with the next one of that name.
    """
    folder = path.with_name(f".{path.name}.part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder / path.name
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _whole(tree: xr.DataTree, path: Path) -> None:
    """Write a tree whose arrays fit in memory, or by blocks where they are dask's."""
    # Zarr has no fixed-width text that every reader knows; the others have nothing else.
    tree = tree.map_over_datasets(partial(_plain, text=object if path.suffix == ".zarr" else str))
    if path.suffix == ".nc":
        _netcdf(tree, path)
    elif path.suffix == ".zarr":
        tree.to_zarr(path, mode="w", consolidated=False)
    else:
        _safetensors(tree, path)


def missing(selection: xr.DataTree | xr.Dataset) -> tuple[int, int]:
    """Cells of a selection that are not stored, and all its cells: the former are NaN in what is exported."""
    flags = [node[STATUS] for node in _tree(selection).subtree if STATUS in node.data_vars]
    return sum(int((each != PRESENT).sum()) for each in flags), sum(each.size for each in flags)


def _tree(selection: xr.DataTree | xr.Dataset) -> xr.DataTree:
    return xr.DataTree(selection) if isinstance(selection, xr.Dataset) else selection


def _plain(data: xr.Dataset, *, text: type) -> xr.Dataset:
    """Attributes and text as every format can hold them."""
    plain = data.copy()
    plain.attrs = _told(plain.attrs)
    for name, variable in list(plain.variables.items()):
        values = variable.values.astype(text) if variable.dtype == object else variable.data
        plain[name] = xr.Variable(variable.dims, values, _told(variable.attrs))
    return plain


def _told(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(k): v if isinstance(v, str | int | float) else repr(v) for k, v in attrs.items()}


def _netcdf(tree: xr.DataTree, path: Path) -> None:
    try:
        tree.to_netcdf(path, engine="h5netcdf", mode="w")
    except (ImportError, ValueError) as error:
        path.unlink(missing_ok=True)
        raise StoreError(
            "NetCDF cannot be written.",
            consequence="Nothing was exported.",
            remedy='pip install "flowprofile[export]"',
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _safetensors(tree: xr.DataTree, path: Path) -> None:
    """Arrays by ``node/variable``, their coordinates beside them; text as JSON in the file's own metadata."""
    arrays: dict[str, np.ndarray] = {}
    told: dict[str, str] = {}
    for node in tree.subtree:
        for name, variable in node.to_dataset(inherit=False).variables.items():
            key = f"{node.path.strip('/')}/{name}".strip("/")
            values = np.ascontiguousarray(variable.values)
            if values.dtype.kind in "biuf":
                arrays[key] = values
                told[f"{key}.dims"] = " ".join(map(str, variable.dims))
            else:
                told[key] = json.dumps(values.astype(str).tolist())
    _saved(arrays, told, path)


def _saved(arrays: dict[str, np.ndarray], told: dict[str, str], path: Path) -> None:
    """The file as any other of ours: the library makes one that only its owner may read, and wraps the system's errors.

    It writes without a copy; `safetensors.numpy.save` into a file of ours would hold everything twice.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(arrays, path, metadata=told)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
    path.chmod(mode)
