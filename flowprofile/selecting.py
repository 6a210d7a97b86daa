"""Asking a profile things: ``tree.profile``.

Selection along all axes at once is more than `xarray.DataTree.sel`: nodes keep different states, a label may be said
in words, an intervention by a glob, and what does not exist is refused by name. Every argument first becomes a
`choices.Choice`, one value or a list of values of the axis' own kind; only then does it meet the nodes.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr

from flowprofile.axes import (
    GUIDANCE,
    IMAGE,
    INTERVENTION,
    LABEL,
    LAYER,
    PIXEL,
    PROMPT,
    SEED,
    STORED_AXES,
    TIME,
)
from flowprofile.choices import Choice, Labels, Names, choose, like, said_of, seeds_of_images, texts
from flowprofile.errors import DefinitionError, FlowProfileError, nearest
from flowprofile.store.lazy import STATUS, unchunked

_LOADED = 2**16
"""Arrays of at most this many cells are read when they are put side by side; larger ones stay lazy."""
PARTIAL = (TIME, LAYER, PIXEL, GUIDANCE)
"""Axes along which nodes hold different values; each gives those it has."""


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
        image: Names | None = None,
        label: Any = None,
        intervention: Any = None,
        layer: Any = None,
        pixel: Any = None,
        guidance: Any = None,
        objects: Names | None = None,
        measures: Names | None = None,
    ) -> xr.DataTree | xr.Dataset:
        """Select along all axes at once.

        A single value drops its axis, a collection (list, tuple, set, range, array, index) keeps it, in the order in
        which it was given; a set in the order of the profile.

        Parameters
        ----------
        time
            A state, states (each node gives those it has), or a slice in descending order: ``slice(800, 600)``.
        seed
            A number, numbers, or a slice of numbers, both ends included.
        image
            Instead of seeds, where they stand for given images: a file name, a glob, or several of these; all draws.
        label
            As seeds; or a bit string (``"0110"``), or the names of the attributes that are set (``["male",
            "smile"]`` is one label, ``[["male"], "0110", 7]`` are three).
        intervention
            A name, a glob (``"switch*"``), a title as the definition has it (all that it stands for), or several of
            these.
        layer
            A name, a glob, or several of these: along the ``layer`` axis of the nodes that have one, and among those
            that hold one layer each (``activations/mid_attn.fn``).
        pixel
            ``(y, x)``, a pixel's number, or several of these, for nodes with a ``pixel`` axis.
        guidance
            ``"uncond"`` or ``"cond"``, or both, for nodes that hold halves of a guided step.
        objects
            Globs over node names. Where all nodes found are one object at layers of one shape
            (``"activations/mid*.fn"``), the result is one dataset with a ``layer`` axis, in order of execution unless
            `layer` gives another.
        measures
            Names of measures; the result is then one dataset with a ``measure`` axis.

        A single object named in full is given as a dataset of its own, everything else as a tree. A store with
        several runs is asked run by run, and gives a tree with one child per run.

        Returns
        -------
        xarray.DataTree or xarray.Dataset
            Still lazy.

        Raises
        ------
        DefinitionError
            If there is no such value, label or node, or an argument is none of the above.
        """
        asked = {
            TIME: time, SEED: seed, LABEL: label, INTERVENTION: intervention, LAYER: layer, PIXEL: pixel,
            GUIDANCE: guidance, IMAGE: image,
        }  # fmt: skip
        asked = {axis: value for axis, value in asked.items() if value is not None}
        # An iterator can be walked once, but is asked of every run.
        asked = {axis: list(v) if isinstance(v, Iterator) else v for axis, v in asked.items()}
        runs = {name: node for name, node in self._tree.children.items() if "flowprofile_run" in node.attrs}
        if not runs:
            return self._sel(asked, objects, measures)
        found = {name: _in_run(name, node, asked, objects, measures) for name, node in runs.items()}
        return xr.DataTree.from_dict({"/": self._tree.to_dataset(), **found})

    def _sel(
        self, asked: Mapping[str, Any], objects: Names | None, measures: Names | None
    ) -> xr.DataTree | xr.Dataset:
        if IMAGE in asked:
            asked = {**self._by_image(asked[IMAGE], asked), **asked}
        choices = [
            choose(axis, value, lambda: labels_of(self._tree))
            for axis, value in asked.items()
            if axis != IMAGE
        ]
        wanted = self._wanted(objects, measures)
        parts = {path: _selected(path, unchunked(data), choices) for path, data in wanted.items()}
        nodes = {path: part for path, part in parts.items() if part is not None}
        _found_somewhere(choices, wanted)
        if measures is not None:
            return _stacked(nodes, "measure", list(nodes))
        if list(nodes) == [objects]:
            return nodes[str(objects)]
        layers = None if objects is None else _layers(nodes)
        if layers is not None:
            side_by_side = _stacked({path: nodes[path] for path in layers}, LAYER, list(layers.values()))
            return _along(side_by_side, [choice for choice in choices if choice.axis == LAYER])
        root = _selected("/", self._tree.to_dataset(), [c for c in choices if c.axis not in PARTIAL])
        assert root is not None
        bare = {
            path: part.drop_vars([c for c in part.coords if c in root.indexes])
            for path, part in nodes.items()
        }
        return xr.DataTree.from_dict({"/": root, **bare})

    def view(self, **shown: Any) -> Any:
        """The interface in a notebook: a frame on a server of this process (extra ``app``).

        Parameters
        ----------
        shown
            ``view`` (``"sample"``, ``"activations"``, ``"attention"``, ``"gradients"``, ``"measures"``, ``"compare"``,
            ``"sweep"``), ``label``, ``seed``, ``intervention``, ``time`` and ``layer`` at first, ``height`` in pixels.

        Returns
        -------
        flowprofile.app.notebook.View
            Shown where it is the last value of a cell; its text is the address, and ``close()`` ends the server.
        """
        return import_module("flowprofile.app.notebook").view(self._tree, **shown)

    @property
    def status(self) -> xr.DataTree:
        """Only the status of every node."""
        return xr.DataTree.from_dict({path: data[[STATUS]] for path, data in self._nodes()})

    def coverage(self) -> xr.Dataset:
        """How many cells are present, missing and not requested, per node."""
        counts = {path: _counted(data[STATUS], data[STATUS].dims) for path, data in self._nodes()}
        columns = ("present", "missing", "not_requested")
        table = {k: ("node", np.array([int(count[k]) for count in counts.values()])) for k in columns}
        return xr.Dataset(table, coords={"node": list(counts)})

    def coverage_along(self, axis: str) -> xr.DataTree:
        """The same counts along one of the four axes, per node."""
        if axis not in STORED_AXES:
            raise DefinitionError(f"A profile has no axis {axis!r}.", remedy=nearest(axis, STORED_AXES))
        return xr.DataTree.from_dict(
            {
                path: _counted(data[STATUS], [dim for dim in data[STATUS].dims if dim != axis])
                for path, data in self._nodes()
                if axis in data[STATUS].dims
            }
        )

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

    def _wanted(self, objects: Names | None, measures: Names | None) -> dict[str, xr.Dataset]:
        nodes = dict(self._nodes())
        if objects is not None and measures is not None:
            raise DefinitionError(
                "Both objects and measures are asked for.",
                consequence="Measures are given side by side in one dataset, which objects do not fit into.",
                remedy="ask twice; globs in objects find measures too: 'measures/*'",
            )
        if measures is not None:
            known = {path.removeprefix("measures/"): path for path in nodes if "measures/" in path}
            names = [name.removeprefix("measures/") for name in texts("measures", measures)]
            for name in names:
                if name not in known:
                    raise DefinitionError(f"No measure is named {name!r}.", remedy=nearest(name, known))
            return {name: nodes[known[name]] for name in names}
        if objects is None:
            return nodes
        found: dict[str, xr.Dataset] = {}
        for pattern in texts("objects", objects):
            here = {path: data for path, data in nodes.items() if path == pattern or like(path, pattern)}
            if not here:
                raise DefinitionError(f"No node is named {pattern!r}.", remedy=nearest(pattern, nodes))
            found |= here
        return found

    def _by_image(self, value: Names, asked: Mapping[str, Any]) -> dict[str, list[int]]:
        """The seeds of images."""
        if SEED in asked:
            raise DefinitionError(
                "Both images and seeds are asked for.",
                consequence="An image is the seeds of its draws.",
                remedy="name one of the two",
            )
        coords = self._tree.coords
        named = np.atleast_1d(coords[IMAGE].values).tolist() if IMAGE in coords else []
        seeds = np.atleast_1d(coords[SEED].values).tolist() if named else []
        return {SEED: seeds_of_images(value, dict(zip(seeds, named, strict=True)))}


def labels_of(tree: xr.DataTree) -> Labels:
    """The labels of the run that a tree is, or is a part of, as they may be said."""
    for node in (tree, *tree.parents):
        names = [str(name) for name in node.attrs.get("label_attributes", ())]
        known = {n: np.atleast_1d(node.coords[n].values) for n in names if node.coords[n].dtype == bool}
        if known:
            return Labels(np.atleast_1d(node.coords[LABEL].values), known)
        if PROMPT in node.coords:
            numbers = np.atleast_1d(node.coords[LABEL].values)
            texts = np.atleast_1d(node.coords[PROMPT].values)
            return Labels(numbers, {}, dict(zip(texts.tolist(), numbers.tolist(), strict=True)))
    return Labels(np.zeros(0, np.int64), {})


def _in_run(
    name: str, node: xr.DataTree, asked: Mapping[str, Any], objects: Names | None, measures: Names | None
) -> xr.DataTree | xr.Dataset:
    """One run's part; a refusal says whose it is."""
    try:
        return node.profile.sel(**asked, objects=objects, measures=measures)  # type: ignore[no-any-return]  # accessor
    except FlowProfileError as error:
        raise type(error)(
            f"In the run {name!r}: {error.fact}",
            consequence=error.consequence,
            remedy=f"{error.remedy}; or ask one run: tree[{name!r}].profile.sel(...)",
            evidence=error.evidence,
        ) from error


def _selected(path: str, data: xr.Dataset, choices: Sequence[Choice]) -> xr.Dataset | None:
    """A node's part of a selection; None where it has none of what was asked for along a partial axis."""
    key = {}
    for choice in choices:
        axis = choice.axis
        if axis not in data.dims:
            alone = _alone(data, axis)
            if alone is not None and not choice.positions(alone)[0]:
                return None
            _already(path, data, choice)
            continue
        places, strange = choice.positions(data)
        if axis in PARTIAL:
            if not places:
                return None
        elif strange:
            raise DefinitionError(
                f"{path!r} has no {axis} {strange[0]!r}.", remedy=nearest(strange[0], said_of(data, axis))
            )
        elif not places:
            raise DefinitionError(f"{path!r} has nothing at {choice}.", remedy=f"it has {_range(data, axis)}")
        key[axis] = choice.key(places, data)
    return data.isel(key)


def _alone(data: xr.Dataset, axis: str) -> xr.Dataset | None:
    """The one value along an axis that a node without the axis stands for: a group per layer has its layer as attr."""
    value = data.attrs.get(axis) if axis == LAYER and axis not in data.coords else None
    return xr.Dataset(coords={axis: [value]}) if isinstance(value, str) else None


def _along(data: xr.Dataset, choices: Sequence[Choice]) -> xr.Dataset:
    """Nodes that were put side by side, in the order in which they were asked for; a single value drops the axis."""
    for choice in choices:
        places, _ = choice.positions(data)
        data = data.isel({choice.axis: choice.key(places, data)})
    return data


def _already(path: str, data: xr.Dataset, choice: Choice) -> None:
    """Refuse another value along an axis of which one value was selected before."""
    if choice.axis in data.coords and data.coords[choice.axis].ndim == 0:
        places, strange = choice.positions(data)
        if strange or not places:
            raise DefinitionError(
                f"{path!r} holds only the {choice.axis} {data.coords[choice.axis].item()!r}, "
                "which was selected before.",
                consequence=f"A selection of {choice} would give the wrong cells.",
                remedy="select from the whole profile",
            )


def _range(data: xr.Dataset, axis: str) -> str:
    known = data.coords[axis].values
    return f"{len(known)} {axis}s, {known.min()} to {known.max()}"


def _found_somewhere(choices: Sequence[Choice], nodes: Mapping[str, xr.Dataset]) -> None:
    """Refuse what no node has, along the axes of which a node may have a part."""
    for choice in choices:
        if choice.axis not in PARTIAL:
            continue
        each = (data if choice.axis in data.dims else _alone(data, choice.axis) for data in nodes.values())
        holders = [data for data in each if data is not None]
        if not holders:
            _is_an_axis(choice, nodes)
            continue
        found = [choice.positions(data) for data in holders]
        strange = [v for v in choice.values if all(v in missing for _, missing in found)]
        nothing = not any(places for places, _ in found)
        # A list of states is a wish, since every stage keeps its own; a layer or a pixel is meant.
        if nothing or (strange and choice.axis != TIME):
            known = {v: None for data in holders for v in data.coords[choice.axis].values.tolist()}
            raise DefinitionError(
                f"Nothing stored has the {choice if nothing else f'{choice.axis} {strange[0]!r}'}.",
                remedy=f"{nearest(strange[0] if strange else '', known)}; "
                "see tree.profile.coverage() for what there is",
            )


def _is_an_axis(choice: Choice, nodes: Mapping[str, xr.Dataset]) -> None:
    """Refuse a selection along an axis that no node has, or had before one value along it was selected."""
    if choice.axis != TIME and not any(choice.axis in data.coords for data in nodes.values()):
        raise DefinitionError(
            f"The {choice} is asked for, and none of {', '.join(nodes) or 'the nodes'} has {choice.axis}s.",
            consequence="All of it would be given, whatever was asked for.",
            remedy=f"leave {choice.axis} out, or name objects that have {choice.axis}s",
        )


def _layers(nodes: Mapping[str, xr.Dataset]) -> dict[str, str] | None:
    """Path to layer in order of execution, if the nodes are one object at layers of one shape."""
    layers = {path: data.attrs.get("layer") for path, data in nodes.items()}
    if not nodes or not all(isinstance(layer, str) for layer in layers.values()):
        return None
    stems = {path.removesuffix(str(layer)) for path, layer in layers.items()}
    shapes = {
        tuple(
            (k, v.dtype, *((d, n) for d, n in v.sizes.items() if d != TIME))
            for k, v in data.data_vars.items()
        )
        for data in nodes.values()
    }
    if len(stems) > 1 or len(shapes) > 1 or any(path in stems for path in nodes):
        return None
    order = sorted(nodes, key=lambda path: int(nodes[path].attrs.get("layer_index", 0)))
    return {path: str(layers[path]) for path in order}


def _stacked(nodes: Mapping[str, xr.Dataset], dim: str, names: Sequence[str]) -> xr.Dataset:
    """Nodes side by side along a new axis; times one of them lacks are missing there."""
    parts = [
        part.assign({k: v.variable.chunk("auto") for k, v in part.data_vars.items() if v.size > _LOADED})
        for part in nodes.values()
    ]
    index = xr.Variable(dim, np.array(names, object))
    found = xr.concat(
        parts, dim=xr.DataArray(index, name=dim, coords={dim: index}), join="outer",
        data_vars="all", coords="minimal", compat="override", combine_attrs="drop_conflicts",
        fill_value={**{str(k): np.nan for part in parts for k in part.data_vars}, STATUS: 0},
    )  # fmt: skip
    if TIME not in found.dims:
        return found
    return found.isel({TIME: np.argsort(found[TIME].values)[::-1]})


def _counted(status: xr.DataArray, dims: Collection[Any]) -> xr.Dataset:
    """Cells by what became of them, counted along some axes."""
    here = status if status.chunks is not None else status.compute()
    flags = {"not_requested": 0, "missing": 1, "present": 2}
    return xr.Dataset({name: (here == flag).sum(dims) for name, flag in flags.items()}).compute()
