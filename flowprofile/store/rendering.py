"""The metadata of a store, as the bytes of Zarr v3: a pure function of its record.

Spelled out here rather than by a library, so that the same record gives the same bytes whatever is installed; that
zarr-python, xarray and tensorstore read them is what the tests check. Coordinate chunks have a fixed shape and only
ever grow, so a reader with an older root document still reads its own part of them unchanged. Chunk keys are joined by dots:
nested folders would cost four more inodes per object.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowprofile.axes import AXES, CASE_AXES, INTERVENTION, LABEL, SEED, TIME
from flowprofile.store.encoding import with_crc
from flowprofile.store.layout import Form
from flowprofile.store.record import Coordinate, Record, RunRecord, StageRecord, Variable

AXIS_CHUNK = {INTERVENTION: 64, LABEL: 64, SEED: 1024}
ORDER_NOTE = "positions are in order of arrival and may not be sorted; flowprofile.open sorts"
_CRC: dict[str, Any] = {"name": "crc32c"}
_LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}


def document(value: Mapping[str, Any]) -> bytes:
    """A metadata object's bytes."""
    return json.dumps(value, sort_keys=True).encode()


def codecs(form: Form) -> list[dict[str, Any]]:
    """The codec chain of a form; every branch ends in crc32c."""
    chain = [_LITTLE, *_compressor(form), _CRC]
    if form.inner is None:
        return chain
    sharding = {
        "chunk_shape": list(form.inner),
        "codecs": chain,
        "index_codecs": [_LITTLE, _CRC],
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": sharding}]


def _compressor(form: Form) -> list[dict[str, Any]]:
    if form.codec == "none":
        return []
    if form.codec == "zstd":
        return [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}]
    item = np.dtype(form.dtype).itemsize
    block = math.prod(form.chunk if form.inner is None else form.inner) * item
    configuration = {
        "cname": "zstd", "clevel": 1, "shuffle": "bitshuffle", "typesize": item, "blocksize": block,
    }  # fmt: skip
    return [{"name": "blosc", "configuration": configuration}]


def array(
    shape: Sequence[int],
    chunk: Sequence[int],
    *,
    dtype: str,
    dims: Sequence[str],
    chain: Sequence[Mapping[str, Any]],
    fill: Any,
    attrs: Mapping[str, Any],
) -> dict[str, Any]:
    """The ``zarr.json`` of an array."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": fill,
        "codecs": list(chain),
        "attributes": dict(attrs),
        "dimension_names": list(dims),
    }


def group(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The ``zarr.json`` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attrs)}


def variable_document(run: RunRecord, stage: StageRecord, variable: Variable) -> dict[str, Any]:
    """The ``zarr.json`` of a stored variable."""
    kind = np.dtype(variable.form.dtype).kind
    fill: Any = "NaN" if kind == "f" else variable.form.fill.item()
    return array(
        run.array_shape(stage, variable), variable.form.chunk, dtype=variable.form.dtype, dims=variable.dims,
        chain=codecs(variable.form), fill=fill, attrs=variable.attrs,
    )  # fmt: skip


class Rendered:
    """The objects of a record, by key below ``profile.zarr``, in the order in which they must be written."""

    def __init__(self, record: Record) -> None:
        self.coordinates: dict[str, bytes] = {}
        """Chunks of coordinates."""
        self.prefixes: dict[str, int] = {}
        """How many bytes of a coordinate chunk hold this record's values; what follows may grow."""
        self.documents: dict[str, dict[str, Any]] = {}
        """``zarr.json`` of arrays and groups by node path."""
        for name, run in record.runs.items():
            self._run(name, run)
        self.root = document(
            {
                **group({"flowprofile": {"schema": 1, "order": ORDER_NOTE}}),
                "consolidated_metadata": {
                    "kind": "inline",
                    "must_understand": False,
                    "metadata": dict(sorted(self.documents.items())),
                },
            }
        )

    @property
    def objects(self) -> dict[str, bytes]:
        """Everything but the root document."""
        metadata = {f"{path}/zarr.json": document(value) for path, value in self.documents.items()}
        return {**self.coordinates, **metadata}

    def _run(self, name: str, run: RunRecord) -> None:
        for axis in CASE_AXES:
            values: npt.NDArray[Any] = np.array(run.axis(axis), object if axis == INTERVENTION else "int64")
            self._coordinate(
                f"{name}/{axis}", values, (axis,), chunk=(AXIS_CHUNK[axis],), attrs=_meaning(axis)
            )
        for key, per_label in run.label_coords.items():
            self._coordinate(
                f"{name}/{key}", axis_array(per_label), (LABEL,), chunk=(AXIS_CHUNK[LABEL],), attrs={}
            )
        for key, per_intervention in run.intervention_coords.items():
            self._coordinate(
                f"{name}/{key}",
                axis_array(per_intervention),
                (INTERVENTION,),
                chunk=(AXIS_CHUNK[INTERVENTION],),
                attrs={},
            )
        for key, per_seed in run.seed_coords.items():
            self._coordinate(
                f"{name}/{key}", axis_array(per_seed), (SEED,), chunk=(AXIS_CHUNK[SEED],), attrs={}
            )
        for folder, stage in run.stages.items():
            self._stage(name, folder, run, stage)
        attrs = {"flowprofile": {"name": run.name, "key": run.key, "tile": list(run.tile)}, **run.attrs}
        named = [*run.label_coords, *run.intervention_coords, *run.seed_coords]
        self.documents[name] = group(_with_coordinates(attrs, named))

    def _stage(self, run_name: str, folder: str, run: RunRecord, stage: StageRecord) -> None:
        path = f"{run_name}/{folder}"
        parts = folder.split("/")[:-1]
        for depth in range(len(parts)):
            self.documents[f"{run_name}/{'/'.join(parts[: depth + 1])}"] = group({})
        if stage.time is not None:
            times = np.array(stage.time, "int64")
            self._coordinate(f"{path}/{TIME}", times, (TIME,), chunk=(stage.capacity,), attrs=_meaning(TIME))
        for key, coordinate in stage.coords.items():
            shape = tuple(
                stage.capacity if dim == TIME else n
                for dim, n in zip(coordinate.dims, coordinate.shape, strict=True)
            )
            self._coordinate(
                f"{path}/{key}", coordinate.array, coordinate.dims, chunk=shape, attrs=coordinate.attrs
            )
        for key, variable in stage.variables.items():
            self.documents[f"{path}/{key}"] = variable_document(run, stage, variable)
        attrs = {"flowprofile": {"group": stage.group, "key": stage.key, "order": stage.order}}
        named = [key for key, coordinate in stage.coords.items() if coordinate.dims != (key,)]
        self.documents[path] = group(
            _with_coordinates({**stage.promise_attrs, **stage.attrs, **attrs}, named)
        )

    def _coordinate(
        self,
        path: str,
        values: npt.NDArray[Any],
        dims: Sequence[str],
        *,
        chunk: tuple[int, ...],
        attrs: Mapping[str, Any],
    ) -> None:
        text = values.dtype.kind == "O"
        self.documents[path] = array(
            values.shape, chunk or (), dtype="string" if text else str(values.dtype), dims=dims,
            chain=[{"name": "vlen-utf8"} if text else _LITTLE, _CRC],
            fill="" if text else _zero(values.dtype), attrs=attrs,
        )  # fmt: skip
        encode = _strings if text else _numbers
        if values.ndim != 1:
            self._chunk(
                f"{path}/{'.'.join(['c', *('0' for _ in chunk)])}", *encode(values.reshape(-1), values.size)
            )
            return
        for position in range(0, max(1, len(values)), chunk[0]):
            self._chunk(
                f"{path}/c.{position // chunk[0]}", *encode(values[position : position + chunk[0]], chunk[0])
            )

    def _chunk(self, key: str, data: bytes, prefix: int) -> None:
        self.coordinates[key] = with_crc(data)
        self.prefixes[key] = prefix


def axis_array(values: Sequence[Any]) -> npt.NDArray[Any]:
    """A coordinate of labels, interventions or seeds as an array: bool, int64, float64 or strings."""
    result = np.array(values)
    return result.astype(object) if result.dtype.kind in "OUT" else result


def _with_coordinates(attrs: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {**attrs, "coordinates": " ".join(sorted(names))} if names else dict(attrs)


def _meaning(axis: str) -> dict[str, Any]:
    return {"units": AXES[axis].unit, "long_name": AXES[axis].meaning}


def _zero(dtype: np.dtype[Any]) -> Any:
    return {"f": 0.0, "b": False}.get(dtype.kind, 0)


def _numbers(values: npt.NDArray[Any], length: int) -> tuple[bytes, int]:
    padded = np.zeros(length, values.dtype.newbyteorder("<"))
    padded[: len(values)] = values
    return padded.tobytes(), len(values) * values.dtype.itemsize


def _strings(values: npt.NDArray[Any], length: int) -> tuple[bytes, int]:
    """``vlen-utf8``: a count, then each string behind its own length; four-byte little-endian numbers."""
    texts = [str(value).encode() for value in values]
    used = length.to_bytes(4, "little") + b"".join(len(t).to_bytes(4, "little") + t for t in texts)
    return used + bytes(4 * (length - len(texts))), len(used)


def coordinate_of(name: str, stage: StageRecord) -> Coordinate:
    """A stage's coordinate, its time included."""
    if name == TIME and stage.time is not None:
        return Coordinate((TIME,), "int64", (len(stage.time),), stage.time, _meaning(TIME))
    return stage.coords[name]
