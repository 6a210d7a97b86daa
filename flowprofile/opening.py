"""Open a profile and ask it things. Read this first.

`open` gives a plain `xarray.DataTree`: one node per stored object or measure, under the names a researcher thinks
in, every array along ``(intervention, label, seed, time, ...)``, nothing loaded. Everything xarray can do works on
it; `tree.profile` (`selecting`) adds selection along all axes at once, and what is stored of what was asked for.

    tree = flowprofile.open("out/first")
    tree["measures/step_ssim"]["value"].sel(label=6).mean("seed")
    tree.profile.sel(time=slice(800, 600), label=["male", "smile"], measures=["step_ssim"])
"""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Final
from uuid import uuid4

import xarray as xr

from flowprofile.cases import CLEAN
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.selecting import ProfileAccessor
from flowprofile.store.joined import MASKS, narrowed
from flowprofile.store.lazy import Missing
from flowprofile.store.ledger import FORMAT
from flowprofile.store.places import LocalPlace, Place
from flowprofile.store.record import Record, RunRecord
from flowprofile.store.snapshot import check_coordinates, check_format, snapshot
from flowprofile.store.tree import Opener
from flowprofile.store.urls import Where, place

__all__ = ["ProfileAccessor", "open"]

RUN: Final = "flowprofile_run"
"""Attribute of a run's own tree: its folder."""
SCALING: Final = ("scale", "steer")
"""Kinds of interventions that have a factor."""


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
        2 present. Arrays above 64 MB are dask-backed in blocks of whole shards. Where a store holds the rows of more
        pixels than the mask that was asked for last has, the plain name shows that mask's, and ``NAME[pixel=all]``
        all of them.

    Raises
    ------
    StoreError
        If there is no store.
    DefinitionError
        If it has no such run.
    IntegrityError
        If metadata or coordinates are not what was written; when values are read, if those are not.
    """
    if missing not in ("nan", "raise"):
        raise DefinitionError(f"missing is {missing!r}.", remedy="use 'nan' or 'raise'")
    where = place(url, storage_options)
    if not check_format(where, otherwise=_meant(where)):
        raise StoreError(
            f"There is no store at {where.url!r}.", remedy="check the path, or run a pipeline into it"
        )
    seen = snapshot(where)
    # The tree's coordinates are the record's. Where a read costs money, `verify` compares what other readers see.
    if where.near:
        check_coordinates(where, seen)
    # Dask takes equal names for equal values, and a store that grows has other values at the next opening.
    version = f"{seen.root}-{uuid4().hex[:8]}"
    return _as_asked(Opener(where, _spoken(seen.record), version=version, missing=missing).tree(run))


def one_run(tree: xr.DataTree, *, consequence: str) -> xr.DataTree:
    """The tree, refused where it is one of several runs and the question is to one."""
    names = [name for name, node in tree.children.items() if RUN in node.attrs]
    if not names:
        return tree
    raise DefinitionError(
        f"{tree.attrs.get('flowprofile_url', 'The store')!r} holds {len(names)} runs, and none is named.",
        consequence=consequence,
        remedy=f"name one: --run {shlex.quote(names[0])} (in Python: run={names[0]!r})",
        evidence=f"runs: {', '.join(names)}",
    )


def _meant(where: Place) -> str:
    """What to open where something else is: a store above or below a folder, for people name what lies beside it."""
    root = Path(where.url)
    if isinstance(where, LocalPlace):
        near = [*root.parents, *(path for path in sorted(root.glob("*")) if path.is_dir())]
        found = [str(path) for path in near if (path / FORMAT).is_file()]
        if found:
            return f"open {' or '.join(map(repr, found[:3]))}"
    return f"give the folder that was named as STORE when it was computed; it holds {FORMAT}"


def _as_asked(tree: xr.DataTree) -> xr.DataTree:
    """The tree with the rows of the mask that was asked for last under the plain names."""
    for run in (tree, *tree.children.values()):
        for group, asked in run.attrs.get(MASKS, {}).items():
            folder, _, name = group.partition("/")
            parent = run.children.get(folder)
            if parent is not None and name in parent.children:
                _narrow(parent, name, asked)
    return tree


def _narrow(parent: xr.DataTree, name: str, asked: Mapping[str, list[int]]) -> None:
    whole = parent.children[name].to_dataset(inherit=False)
    part = narrowed(whole, asked)
    if part is whole:
        return
    if not any(other.startswith(f"{name}[") for other in parent.children):
        parent[f"{name}[pixel=all]"] = xr.DataTree(whole)
    parent.children[name].dataset = part


def _spoken(record: Record) -> Record:
    """The record with coordinates of interventions that can be computed with: on disk -1 stands for several things."""
    return replace(record, runs={folder: _told(run) for folder, run in record.runs.items()})


def _told(run: RunRecord) -> RunRecord:
    """No factor is NaN, and an intervention in force from the beginning has the first step's state as ``t_first``."""
    coords, model = run.intervention_coords, run.attrs.get("model")
    if "kind" not in coords:
        return run
    told, steps = dict(coords), model.get("steps") if isinstance(model, Mapping) else None
    if "factor" in coords:
        rows = zip(coords["kind"], coords["factor"], run.interventions, strict=True)
        told["factor"] = tuple(f if _has_factor(kind, f, name) else nan for kind, f, name in rows)
    if "t_first" in coords and steps:
        spans = zip(coords["kind"], coords["t_first"], strict=True)
        told["t_first"] = tuple(steps - 1 if t == -1 and kind != CLEAN else t for kind, t in spans)
    return replace(run, intervention_coords=told)


def _has_factor(kind: str, factor: float, name: str) -> bool:
    """Whether a factor was given; of several parts -1 is one only where a name says so."""
    return kind in SCALING or factor != -1.0 or "scale(-1)" in name or "+-1*" in name
