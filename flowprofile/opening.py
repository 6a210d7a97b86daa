"""Open a profile and ask it things. Read this first.

`open` gives a plain `xarray.DataTree`: one node per stored object or measure, under the names a researcher thinks
in, every array along ``(intervention, label, seed, time, ...)``, nothing loaded. Everything xarray can do works on
it; `tree.profile` adds selection along the four axes at once, and what is stored of what was asked for.

    tree = flowprofile.open("out/first")
    tree["measures/step_ssim"]["value"].sel(label=6).mean("seed")
    tree.profile.sel(time=slice(800, 600), label=["male", "smile"], measures=["step_ssim"])
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr

from flowprofile.axes import INTERVENTION, LABEL, SEED, STORED_AXES, TIME
from flowprofile.errors import StoreError, nearest
from flowprofile.store.lazy import Missing, unchunked
from flowprofile.store.snapshot import check_coordinates, check_format, snapshot
from flowprofile.store.tree import STATUS, Opener
from flowprofile.store.urls import place

__all__ = ["ProfileAccessor", "open"]


def open(url: str | os.PathLike[str], *, run: str | None = None, missing: Missing = "nan") -> xr.DataTree:
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
    where = place(url)
    if not check_format(where):
        raise StoreError(
            f"There is no store at {where.url!r}.", remedy="check the path, or run a pipeline into it"
        )
    seen = snapshot(where)
    check_coordinates(where, seen)
    # Dask takes equal names for equal values, and a store that grows has other values at the next opening.
    version = f"{seen.root}-{uuid4().hex[:8]}"
    return Opener(where, seen.record, version=version, missing=missing).tree(run)


@xr.register_datatree_accessor("profile")  # type: ignore[no-untyped-call]  # xarray does not annotate it
class ProfileAccessor:
    """Questions to a profile as a whole: ``tree.profile``."""

    def __init__(self, tree: xr.DataTree) -> None:
        self._tree = tree

    def sel(
        self,
        *,
        time: Any = None,
        seed: Any = None,
        label: Any = None,
        intervention: Any = None,
        objects: str | Sequence[str] | None = None,
        measures: str | Sequence[str] | None = None,
    ) -> xr.DataTree | xr.Dataset:
        """Select along all four axes at once.

        Parameters
        ----------
        time
            A state, a list of states (each node gives those it has), or a slice in descending order:
            ``slice(800, 600)``.
        seed, intervention
            A value, a list, or a slice of values.
        label
            A number, a bit string (``"0110"``), the names of the attributes that are set (``["male", "smile"]``),
            or a list of numbers or bit strings.
        objects
            Globs over node names, for instance ``"activations/*.fn"``.
        measures
            Names of measures; the result is then one dataset with a ``measure`` axis.

        A single object named in full is given as a dataset of its own, everything else as a tree.

        Returns
        -------
        xarray.DataTree or xarray.Dataset
            Still lazy.
        """
        chosen = {
            SEED: seed,
            LABEL: None if label is None else self._label(label),
            INTERVENTION: intervention,
        }
        indexers = {axis: value for axis, value in chosen.items() if value is not None}
        wanted = dict(self._wanted(objects, measures))
        parts = {path: _selected(path, data, indexers, time) for path, data in wanted.items()}
        nodes = {path: part for path, part in parts.items() if part is not None}
        if not any(TIME in wanted[path].dims for path in nodes) and len(nodes) < len(parts):
            raise StoreError(
                f"Nothing stored has the time {time!r}.",
                remedy="see tree.profile.coverage() for what there is",
            )
        if measures is not None:
            return _stacked(nodes)
        if list(nodes) == [objects]:
            return nodes[str(objects)]
        root = _sel("/", self._tree.to_dataset(), indexers)
        bare = {
            path: part.drop_vars([c for c in part.coords if c in root.indexes])
            for path, part in nodes.items()
        }
        return xr.DataTree.from_dict({"/": root, **bare})

    @property
    def status(self) -> xr.DataTree:
        """Only the status of every node."""
        return xr.DataTree.from_dict({path: data[[STATUS]] for path, data in self._nodes()})

    def coverage(self) -> xr.Dataset:
        """How many cells are present, missing and not requested, per node."""
        nodes = dict(self._nodes())
        counts = {
            path: np.bincount(np.asarray(data[STATUS]).ravel(), minlength=3) for path, data in nodes.items()
        }
        table = np.array([count[:3] for count in counts.values()], np.int64).reshape(-1, 3)
        columns = {"present": table[:, 2], "missing": table[:, 1], "not_requested": table[:, 0]}
        return xr.Dataset({k: ("node", v) for k, v in columns.items()}, coords={"node": list(counts)})

    def coverage_along(self, axis: str) -> xr.DataTree:
        """The same counts along one of the four axes, per node."""
        if axis not in STORED_AXES:
            raise StoreError(f"A profile has no axis {axis!r}.", remedy=nearest(axis, STORED_AXES))
        result = {}
        for path, data in self._nodes():
            if axis in data[STATUS].dims:
                others = [dim for dim in data[STATUS].dims if dim != axis]
                flags = {"not_requested": 0, "missing": 1, "present": 2}
                result[path] = xr.Dataset(
                    {k: (data[STATUS] == flag).sum(others) for k, flag in flags.items()}
                )
        return xr.DataTree.from_dict(result)

    def provenance(self) -> Mapping[str, Any]:
        """Where the tree came from: attributes of the run and of every node."""
        return {
            "run": dict(self._tree.attrs),
            "nodes": {path: dict(data.attrs) for path, data in self._nodes()},
        }

    def _nodes(self) -> Iterator[tuple[str, xr.Dataset]]:
        for node in self._tree.subtree:
            if STATUS in node.data_vars:
                yield node.path.removeprefix(self._tree.path).strip("/") or node.name or "", node.to_dataset()

    def _wanted(
        self, objects: str | Sequence[str] | None, measures: str | Sequence[str] | None
    ) -> list[tuple[str, xr.Dataset]]:
        nodes = dict(self._nodes())
        if measures is not None:
            names = [measures] if isinstance(measures, str) else list(measures)
            return [(name, nodes[self._named(name, nodes)]) for name in names]
        if objects is None:
            return list(nodes.items())
        globs = [objects] if isinstance(objects, str) else list(objects)
        found = {
            path: data
            for path, data in nodes.items()
            if any(path == g or fnmatchcase(path, g) for g in globs)
        }
        if not found:
            raise StoreError(f"No node is named {objects!r}.", remedy=nearest(globs[0], nodes))
        return list(found.items())

    def _named(self, measure: str, nodes: Mapping[str, xr.Dataset]) -> str:
        known = {path.removeprefix("measures/"): path for path in nodes if "measures/" in path}
        path = known.get(measure.removeprefix("measures/"))
        if path is None:
            raise StoreError(f"No measure is named {measure!r}.", remedy=nearest(measure, known))
        return path

    def _label(self, label: Any) -> Any:
        """A label as a number, or a list of numbers."""
        if isinstance(label, str):
            return self._from_text(label)
        if isinstance(label, Sequence) and label and all(isinstance(part, str) for part in label):
            bits = all(set(part) <= {"0", "1"} for part in label)
            return [self._from_text(part) for part in label] if bits else self._from_names(label)
        return label

    def _attributes(self) -> list[str]:
        listed = [str(name) for name in self._tree.attrs.get("label_attributes", ())]
        names = [name for name in listed if self._tree.coords[name].dtype == bool]
        if not names:
            raise StoreError(
                "This run's labels have no attributes.",
                remedy="select labels by number, for instance label=6",
            )
        return names

    def _from_text(self, text: str) -> int:
        if set(text) - {"0", "1"}:
            return self._from_names([text])
        names = self._attributes()
        if len(text) != len(names):
            raise StoreError(
                f"The label {text!r} has {len(text)} bits, this run's labels have {len(names)}.",
                remedy=f"give one bit for each of {', '.join(names)}",
            )
        return self._match({name for name, bit in zip(names, text, strict=True) if bit == "1"}, text)

    def _from_names(self, names: Sequence[str]) -> int:
        known = self._attributes()
        for name in names:
            if name not in known:
                raise StoreError(
                    f"This run's labels have no attribute {name!r}.", remedy=nearest(name, known)
                )
        return self._match(set(names), names)

    def _match(self, wanted: set[str], shown: object) -> int:
        columns = {
            name: np.asarray(self._tree.coords[name], bool) == (name in wanted) for name in self._attributes()
        }
        labels = np.asarray(self._tree.coords[LABEL])
        found = labels[np.logical_and.reduce(list(columns.values()))]
        if len(found) != 1:
            raise StoreError(
                f"The label {shown!r} is not stored.",
                remedy=f"stored are {labels.tolist()}",
            )
        return int(found[0])


def _selected(path: str, data: xr.Dataset, indexers: Mapping[str, Any], time: Any) -> xr.Dataset | None:
    """A node's part of a selection; None where it has none of the wanted times."""
    part = _sel(path, unchunked(data), indexers)
    if time is not None and TIME not in part.dims:
        _already(path, part, TIME, time)
    if time is None or TIME not in part.dims:
        return part
    have = part.indexes[TIME].to_numpy()
    where = {t: at for at, t in enumerate(have.tolist())}
    if isinstance(time, slice):
        high, low = time.start, time.stop
        if high is not None and low is not None and high < low:
            raise StoreError(
                f"The times {high}:{low} ascend.", remedy=f"time descends: write slice({low}, {high})"
            )
        picked: Any = np.flatnonzero(_between(have, high, low))[:: time.step]
    elif np.ndim(time) == 0:
        picked = where.get(int(time))
    else:
        picked = [where[t] for t in np.asarray(time).tolist() if t in where]
    empty = picked is None or (np.ndim(picked) == 1 and len(picked) == 0)
    return None if empty else part.isel({TIME: picked})


def _already(path: str, data: xr.Dataset, axis: str, value: Any) -> None:
    """Refuse another value along an axis of which one value was selected before."""
    if axis not in data.coords or data.coords[axis].ndim or isinstance(value, slice):
        return
    held = data.coords[axis].item()
    if held not in np.atleast_1d(np.asarray(value)).tolist():
        raise StoreError(
            f"{path!r} holds only the {axis} {held!r}, which was selected before.",
            consequence=f"A selection of {axis} {value!r} would give the wrong cells.",
            remedy="select from the whole profile",
        )


def _between(times: Any, high: int | None, low: int | None) -> Any:
    keep = np.ones(len(times), bool)
    if high is not None:
        keep &= times <= high
    return keep & (times >= low) if low is not None else keep


def _sel(path: str, data: xr.Dataset, indexers: Mapping[str, Any]) -> xr.Dataset:
    for axis in [axis for axis in indexers if axis not in data.dims]:
        _already(path, data, axis, indexers[axis])
    usable = {axis: value for axis, value in indexers.items() if axis in data.dims}
    for axis, value in usable.items():
        known = data.indexes[axis]
        for one in [] if isinstance(value, slice) else np.atleast_1d(np.asarray(value)).tolist():
            if one not in known:
                raise StoreError(f"{path!r} has no {axis} {one!r}.", remedy=nearest(one, known.tolist()))
    return data.sel(usable)


def _stacked(nodes: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Measures side by side along a ``measure`` axis; times one of them lacks are missing there."""
    parts = [part.chunk() if any(v.size > 2**20 for v in part.values()) else part for part in nodes.values()]
    names = xr.Variable("measure", np.array(list(nodes), object))
    fill = {STATUS: 0}
    return xr.concat(
        parts, dim=xr.DataArray(names, name="measure", coords={"measure": names}), join="outer",
        data_vars="all", coords="minimal", compat="override", combine_attrs="drop_conflicts",
        fill_value={**{str(k): np.nan for part in parts for k in part.data_vars}, **fill},
    )  # fmt: skip
