"""The layout record: everything about a store but its data, in one value.

Axes, coordinates, how arrays are cut, and what was asked for. All metadata is rendered from it, so damaged metadata
can be mended; readers take shapes and coordinates from it, so a damaged coordinate cannot mislead them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.axes import CASE_AXES, TIME
from flowprofile.store.layout import Form

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Coordinate:
    """A coordinate of a stage: what xarray needs of it, as JSON values."""

    dims: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]
    """In C order."""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def array(self) -> npt.NDArray[Any]:
        kind: Any = object if self.dtype == "str" else self.dtype
        return np.array(self.values, dtype=kind).reshape(self.shape)


@dataclass(frozen=True)
class Variable:
    """A stored variable; its dims and shapes begin with the case axes."""

    dims: tuple[str, ...]
    tail: tuple[int, ...]
    """Lengths of the axes behind the case axes and time."""
    form: Form
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def timed(self) -> bool:
        return TIME in self.dims

    @property
    def padded(self) -> bool:
        """Whether an object has room for more than the array has along the first axis behind time."""
        return self.form.chunk[len(self.form.chunk) - len(self.tail) :] != self.tail


@dataclass(frozen=True)
class Request:
    """A box of cells that was asked for, as positions."""

    interventions: tuple[int, ...]
    labels: tuple[int, ...]
    seeds: Ranges
    times: Ranges


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run."""

    group: str
    key: str
    order: int
    """Counts declarations: among stages of one name the highest is the latest."""
    capacity: int
    attrs: Mapping[str, Any]
    promise_attrs: Mapping[str, Any]
    time: tuple[int, ...] | None
    """The stored states in order of arrival, None for a stage without time."""
    coords: Mapping[str, Coordinate]
    variables: Mapping[str, Variable]
    requests: tuple[Request, ...]

    @property
    def times(self) -> int:
        """Length of the time axis; 1 for a stage without time."""
        return 1 if self.time is None else len(self.time)

    @property
    def block(self) -> int:
        """States per region: those of one shard, so that no two regions of a case share an object."""
        shards = [v.form.chunk[3] for v in self.variables.values() if v.timed and v.form.inner is not None]
        return min(shards, default=self.capacity)


@dataclass(frozen=True)
class RunRecord:
    """One run."""

    name: str
    key: str
    tile: tuple[int, int]
    attrs: Mapping[str, Any]
    interventions: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    label_coords: Mapping[str, tuple[Any, ...]]
    label_order: tuple[str, ...]
    """Names of the label coordinates, most significant bit first."""
    stages: Mapping[str, StageRecord]
    intervention_coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    seed_coords: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """What stands beside the seeds of given images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Lengths of the case axes."""
        return len(self.interventions), len(self.labels), len(self.seeds)

    def axis(self, name: str) -> tuple[Any, ...]:
        """Values along a case axis."""
        return dict(zip(CASE_AXES, (self.interventions, self.labels, self.seeds), strict=True))[name]

    def array_shape(self, stage: StageRecord, variable: Variable) -> tuple[int, ...]:
        """The shape of a stored array."""
        return (*self.shape, *((stage.times,) if variable.timed else ()), *variable.tail)


@dataclass(frozen=True)
class Record:
    """A store."""

    runs: Mapping[str, RunRecord] = field(default_factory=dict)

    def value(self) -> dict[str, Any]:
        """The record as a JSON value; what a run without interventions or images does not have is left out.

        Seeds are written as half-open stretches, so that a sweep of ten thousand is read as fast as one of a hundred.
        """
        value = asdict(self)
        for run in value["runs"].values():
            run["seeds"] = _stretches(run["seeds"])
            for name in ("intervention_coords", "seed_coords"):
                if not run[name]:
                    del run[name]
        return value

    def text(self) -> str:
        """Canonical JSON."""
        return canonical(self.value())


def canonical(value: Any) -> str:
    """JSON with one spelling per value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def plain(value: Any) -> Any:
    """A JSON value of the same meaning: tuples become lists, NumPy scalars numbers, mappings dicts."""
    return json.loads(json.dumps(value, default=_native, sort_keys=True))


def _native(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r} is not a JSON value")


def record_from(value: Mapping[str, Any]) -> Record:
    """The record a JSON value stands for."""
    return Record({name: _run(run) for name, run in value["runs"].items()})


def _run(value: Mapping[str, Any]) -> RunRecord:
    return RunRecord(
        value["name"], value["key"], _pair(value["tile"]), value["attrs"], tuple(value["interventions"]),
        tuple(value["labels"]), _seeds(value["seeds"]),
        {name: tuple(values) for name, values in value["label_coords"].items()}, tuple(value["label_order"]),
        {name: _stage(stage) for name, stage in value["stages"].items()},
        {name: tuple(values) for name, values in value.get("intervention_coords", {}).items()},
        {name: tuple(values) for name, values in value.get("seed_coords", {}).items()},
    )  # fmt: skip


def _stage(value: Mapping[str, Any]) -> StageRecord:
    return StageRecord(
        value["group"], value["key"], value["order"], value["capacity"], value["attrs"], value["promise_attrs"],
        None if value["time"] is None else tuple(value["time"]),
        {name: _coordinate(coordinate) for name, coordinate in value["coords"].items()},
        {name: _variable(variable) for name, variable in value["variables"].items()},
        tuple(_request(request) for request in value["requests"]),
    )  # fmt: skip


def _coordinate(value: Mapping[str, Any]) -> Coordinate:
    return Coordinate(
        tuple(value["dims"]), value["dtype"], tuple(value["shape"]), tuple(value["values"]), value["attrs"]
    )


def _variable(value: Mapping[str, Any]) -> Variable:
    form = value["form"]
    inner = None if form["inner"] is None else tuple(form["inner"])
    return Variable(
        tuple(value["dims"]), tuple(value["tail"]),
        Form(form["dtype"], tuple(form["chunk"]), inner, form["codec"]), value["attrs"],
    )  # fmt: skip


def _request(value: Mapping[str, Any]) -> Request:
    return Request(
        tuple(value["interventions"]), tuple(value["labels"]),
        tuple(_pair(pair) for pair in value["seeds"]), tuple(_pair(pair) for pair in value["times"]),
    )  # fmt: skip


def _stretches(seeds: Iterable[int]) -> list[list[int]]:
    """Seeds, in their order, as half-open stretches of consecutive ones."""
    found: list[list[int]] = []
    for seed in seeds:
        if found and found[-1][1] == seed:
            found[-1][1] = seed + 1
        else:
            found.append([seed, seed + 1])
    return found


def _seeds(value: Sequence[Any]) -> tuple[int, ...]:
    """Seeds from stretches; stores of earlier versions list them one by one."""
    if value and isinstance(value[0], int):
        return tuple(value)
    return tuple(chain.from_iterable(range(*_pair(stretch)) for stretch in value))


def _pair(value: Any) -> tuple[int, int]:
    first, second = value
    return first, second
