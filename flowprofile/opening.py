"""Open a profile and ask it things. Read this first.

`open` gives a plain `xarray.DataTree`: one node per stored object or measure, under the names a researcher thinks
in, every array along ``(intervention, label, seed, time, ...)``, nothing loaded. Everything xarray can do works on
it; `tree.profile` (`selecting`) adds selection along all axes at once, and what is stored of what was asked for.

    tree = flowprofile.open("out/first")
    tree["measures/step_ssim"]["value"].sel(label=6).mean("seed")
    tree.profile.sel(time=slice(800, 600), label=["male", "smile"], measures=["step_ssim"])
"""

from collections.abc import Mapping
from uuid import uuid4

import xarray as xr

from flowprofile.errors import StoreError
from flowprofile.selecting import ProfileAccessor
from flowprofile.store.lazy import Missing
from flowprofile.store.snapshot import check_coordinates, check_format, snapshot
from flowprofile.store.tree import Opener
from flowprofile.store.urls import Where, place

__all__ = ["ProfileAccessor", "open"]


def open(
    url: Where,
    *,
    run: str | None = None,
    missing: Missing = "nan",
    storage_options: Mapping[str, str] | None = None,
) -> xr.DataTree:
    """Open a profile lazily.

    Parameters
    ----------
    url
        Where the store is.
    run
        Name (or folder, ``name@key``) of the run. Left out, a single run is the tree itself, and several are its
        children.
    missing
        ``"nan"``: cells that are not stored read as NaN (integers: -2), and ``status`` tells them apart;
        ``"raise"``: reading one is an error that names it.
    storage_options
        How to connect to a bucket (``endpoint``, ``region``, ...); credentials come from the environment.

    Returns
    -------
    xarray.DataTree
        Time descending, seeds and labels ascending. Each node has ``status``: 0 not requested, 1 missing,
        2 present. Arrays above 64 MB are dask-backed in blocks of whole shards.

    Raises
    ------
    StoreError
        If there is no store, or no such run.
    IntegrityError
        If metadata or coordinates are not what was written; when values are read, if those are not.
    """
    if missing not in ("nan", "raise"):
        raise StoreError(f"missing is {missing!r}.", remedy="use 'nan' or 'raise'")
    where = place(url, storage_options)
    if not check_format(where):
        raise StoreError(
            f"There is no store at {where.url!r}.", remedy="check the path, or run a pipeline into it"
        )
    seen = snapshot(where)
    # The tree's coordinates are the record's. Where a read costs money, `verify` compares what other readers see.
    if where.near:
        check_coordinates(where, seen)
    # Dask takes equal names for equal values, and a store that grows has other values at the next opening.
    version = f"{seen.root}-{uuid4().hex[:8]}"
    return Opener(where, seen.record, version=version, missing=missing).tree(run)
