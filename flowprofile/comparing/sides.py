"""What is compared with what: two labels, two interventions, two stores, or all pairs of labels.

Whatever was asked for becomes groups of members (a run's samples under one intervention, for some labels) and pairs
of members. Nothing is read here but coordinates.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import xarray as xr

from flowprofile import opening
from flowprofile.axes import INTERVENTION, LABEL
from flowprofile.cases import CLEAN
from flowprofile.choices import Labels, choose, said_of
from flowprofile.errors import DefinitionError, StoreError, nearest
from flowprofile.store.lazy import unchunked
from flowprofile.store.places import Place
from flowprofile.store.urls import Where, place

Mode = Literal["labels", "interventions", "stores"]
Between: TypeAlias = Mapping[str, Collection[Any]] | str | None
"""``{"label": (6, 7)}``, ``{"intervention": ("none", "switch@600->7")}``, ``"labels"`` for all pairs, or nothing
where two stores are given."""
ALL_PAIRS: Final = "labels"
AXES: Final = (LABEL, INTERVENTION)
"""Axes along which two values may be compared."""


@dataclass(frozen=True)
class Held:
    """One run of a store, opened."""

    place: Place
    tree: xr.DataTree

    @property
    def run(self) -> str:
        """Folder of the run: model and numerics class."""
        return str(self.tree.attrs["flowprofile_run"])

    @cached_property
    def nodes(self) -> dict[str, xr.Dataset]:
        """Every stored node by its path; arrays lazily indexed, so that selecting reads only what is wanted."""
        return {
            node.path.removeprefix(self.tree.path).strip("/"): unchunked(node.to_dataset())
            for node in self.tree.subtree
            if node.data_vars
        }

    @cached_property
    def root(self) -> xr.Dataset:
        """The run's coordinates."""
        return self.tree.to_dataset()

    def values(self, axis: str) -> list[Any]:
        """What the run holds along a case axis."""
        return self.root.coords[axis].values.tolist()  # type: ignore[no-any-return]  # as NumPy says


@dataclass(frozen=True)
class Group:
    """Samples of one run under one intervention, for some labels."""

    held: Held
    intervention: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """Who is compared with whom."""

    mode: Mode
    groups: tuple[Group, ...]
    """One (labels), or the two sides (interventions, stores). Members are their labels, one group after the other."""
    pairs: tuple[tuple[int, int], ...]
    """Members that are compared. Of two sides all pairs are averaged into one curve per seed."""
    every: bool = False
    """Whether all pairs were asked for: the result then has a pair axis even if there is only one."""

    @property
    def averaged(self) -> int:
        """How many pairs of members make one curve of a seed."""
        return 1 if self.mode == "labels" else len(self.pairs)

    @property
    def labels(self) -> tuple[tuple[int, int], ...]:
        """The labels of each pair, where labels are compared."""
        known = self.groups[0].labels
        return tuple((known[one], known[other]) for one, other in self.pairs)

    def only(self, labels: Sequence[int]) -> "Question":
        """The same between two sides for some of their labels."""
        return _two_sides(self.mode, [replace(group, labels=tuple(labels)) for group in self.groups])

    def __str__(self) -> str:
        if self.mode == "labels":
            one, other = self.labels[0]
            return (
                f"all {len(self.pairs)} pairs of labels" if self.every else f"label {one} and label {other}"
            )
        first, second = self.groups
        if self.mode == "interventions":
            return f"{first.intervention!r} and {second.intervention!r}"
        return f"{first.held.place.url} ({first.held.run}) and {second.held.place.url} ({second.held.run})"


def held(url: Where, run: str | None, storage_options: Mapping[str, str] | None) -> Held:
    """Open one run; a store that holds several needs a name."""
    where = place(url, storage_options)
    tree = opening.open(where, run=run)
    return Held(where, opening.one_run(tree, consequence="Which of them is compared would be a guess."))


def question(runs: Sequence[Held], between: Between, *, label: Any, intervention: Any) -> Question:
    """The question that was asked, refused where it names what is not there or the same thing twice."""
    if len(runs) == 2:
        return _of_stores(runs, between, label=label, intervention=intervention)
    (run,) = runs
    if between == ALL_PAIRS:
        return _all_pairs(run, label=label, intervention=intervention)
    axis, values = _axis(between)
    if axis == LABEL:
        _refuse_besides(LABEL, label)
        labels = tuple(_label(run, value) for value in values)
        _refuse_twice(LABEL, labels)
        group = Group(run, _intervention(run, CLEAN if intervention is None else intervention), labels)
        return Question("labels", (group,), ((0, 1),))
    _refuse_besides(INTERVENTION, intervention)
    names = tuple(_intervention(run, value) for value in values)
    _refuse_twice(INTERVENTION, names)
    labels = _labels(run, label)
    return _two_sides("interventions", [Group(run, name, labels) for name in names])


def _all_pairs(run: Held, *, label: Any, intervention: Any) -> Question:
    labels = tuple(sorted(_labels(run, label)))
    if len(labels) < 2:
        raise DefinitionError(
            f"All pairs of labels are asked for, and there is one label ({labels[0]}).",
            consequence="There is no pair.",
            remedy="name at least two labels, or add some: flowprofile ensure STORE --labels 6,7",
        )
    group = Group(run, _intervention(run, CLEAN if intervention is None else intervention), labels)
    return Question("labels", (group,), tuple(combinations(range(len(labels)), 2)), every=True)


def _of_stores(runs: Sequence[Held], between: Between, *, label: Any, intervention: Any) -> Question:
    first, second = runs
    if between is not None:
        raise DefinitionError(
            f"Two stores are given, and {between!r} is to be compared within them.",
            consequence="Whether stores or labels are compared would be a guess.",
            remedy="leave `between` out, and say which labels of both with label=",
        )
    if (first.place, first.run) == (second.place, second.run):
        raise DefinitionError(
            f"The run {first.run!r} of {first.place.url!r} is compared with itself.",
            consequence="Every difference would be 0.",
            remedy="name two stores, or two runs of one: run=('one', 'other')",
        )
    shared = [value for value in first.values(LABEL) if value in second.values(LABEL)]
    labels = tuple(shared) if label is None else _labels(first, label)
    absent = [value for value in labels if value not in shared]
    if absent or not labels:
        raise DefinitionError(
            f"{second.place.url!r} has no label {absent[0] if absent else first.values(LABEL)!r}.",
            consequence="Samples of different labels would be compared.",
            remedy=f"name labels that both hold: {shared}" if shared else "sample a label in both",
        )
    name = CLEAN if intervention is None else intervention
    return _two_sides("stores", [Group(run, _intervention(run, name), labels) for run in runs])


def _two_sides(mode: Mode, sides: Sequence[Group]) -> Question:
    count = len(sides[0].labels)
    return Question(mode, tuple(sides), tuple((at, count + at) for at in range(count)))


def _axis(between: Between) -> tuple[str, tuple[Any, ...]]:
    """The axis of two values, and the values."""
    remedy = "write between={'label': (6, 7)}, {'intervention': ('none', NAME)} or 'labels' for all pairs of labels"
    if not isinstance(between, Mapping) or len(between) != 1:
        raise DefinitionError(
            f"What is to be compared is said as {between!r}.",
            consequence="A comparison is between two values of one axis, or between two stores.",
            remedy=remedy,
        )
    ((axis, values),) = between.items()
    if axis not in AXES:
        raise DefinitionError(
            f"Values of {axis!r} cannot be compared.",
            consequence="Only labels and interventions of one seed share its noise.",
            remedy=nearest(axis, AXES),
        )
    if isinstance(values, str) or len(values) != 2:
        raise DefinitionError(
            f"Between {axis}s stands {values!r}, which are not two.",
            consequence="A difference has two sides.",
            remedy=remedy,
        )
    return axis, tuple(values)


def _refuse_twice(axis: str, values: Sequence[Any]) -> None:
    if values[0] == values[1]:
        raise DefinitionError(
            f"The {axis} {values[0]!r} is compared with itself.",
            consequence="Every difference would be 0.",
            remedy=f"name two different {axis}s",
        )


def _refuse_besides(axis: str, value: Any) -> None:
    if value is not None:
        raise DefinitionError(
            f"{axis}={value!r} is given, and {axis}s are compared.",
            consequence="The two would contradict each other.",
            remedy=f"name the {axis}s in `between` only",
        )


def _labels(run: Held, label: Any) -> tuple[int, ...]:
    if label is None:
        return tuple(run.values(LABEL))
    choice = choose(LABEL, label, lambda: _attributes(run))
    places, strange = choice.positions(run.root)
    if strange or not places:
        raise _absent(run, LABEL, strange[0] if strange else label)
    known = run.values(LABEL)
    return tuple(known[at] for at in places)


def _label(run: Held, value: Any) -> int:
    # The command line knows no types, and "10" is a number where labels have no bits.
    plain = isinstance(value, str) and value.isdecimal() and not _attributes(run).attributes
    found = _labels(run, int(value) if plain else value)
    if len(found) != 1:
        raise DefinitionError(
            f"{value!r} stands for the labels {list(found)}.",
            consequence="A side of a comparison is one label.",
            remedy="name one of them",
        )
    return found[0]


def _intervention(run: Held, value: Any) -> str:
    choice = choose(INTERVENTION, value, lambda: _attributes(run))
    places, strange = choice.positions(run.root)
    if strange or not places:
        raise _absent(run, INTERVENTION, strange[0] if strange else value)
    names = [str(run.values(INTERVENTION)[at]) for at in places]
    if len(names) != 1:
        raise DefinitionError(
            f"{value!r} stands for {len(names)} interventions.",
            consequence="A side of a comparison is one of them.",
            remedy="name one of them: " + ", ".join(map(repr, names[:8])),
        )
    return names[0]


def _attributes(run: Held) -> Labels:
    names = [str(name) for name in run.tree.attrs.get("label_attributes", ())]
    bits = {name: run.root.coords[name].values for name in names if run.root.coords[name].dtype == bool}
    return Labels(np.asarray(run.values(LABEL), np.int64), bits)


def _absent(run: Held, axis: str, value: Any) -> StoreError:
    sample = f"; or sample it: flowprofile ensure {run.place.url} --labels {value}" if axis == LABEL else ""
    return StoreError(
        f"{run.place.url!r} has no {axis} {value!r}.",
        consequence="There is nothing to compare.",
        remedy=nearest(value, said_of(run.root, axis)) + sample,
    )
