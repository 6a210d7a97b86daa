"""Caches in safetensors files: a tensor per layer, with the axes it is said to have.

Five axes are taken for case, time, channel, y, x. Anything else is said: by `dims`, or by the file's own metadata under
``NAME.dims``. Several files of a folder hold further cases, in the order of their names.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from flowprofile.adopting.layers import Cached, Grid, Values, descending, grid_of, layer_name, unreadable
from flowprofile.errors import DefinitionError, ModelError, StoreError
from flowprofile.models.weights import Entry, Header, read_header

AXES: Final = ("case", "time", "channel", "y", "x")
TOKENS: Final = ("case", "time", "token", "channel")
TIMESTEPS: Final = ("timestep", "timesteps")
DTYPES: Final = {"F16": "float16", "F32": "float32", "F64": "float64", "BF16": "uint16"}
"""NumPy's types; bfloat16 is the upper half of a float32."""
WHOLE: Final = {"I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "F32": "float32"}


def tensor_layers(
    cache: Path, *, grid: Grid | None, dims: Sequence[str] | None, timesteps: Sequence[int] | None
) -> list[Cached]:
    """The layers of a file or folder; empty where there is no safetensors file."""
    files = (
        (cache,)
        if cache.suffix == ".safetensors"
        else tuple(sorted(cache.glob("*.safetensors")))
        if cache.is_dir()
        else ()
    )
    if not files:
        return []
    headers = {file: _header(file) for file in files}
    told = descending(timesteps or _timesteps(headers), where=f"{cache.name!r}")
    names = [
        entry.name
        for entry in headers[files[0]].entries
        if entry.dtype in DTYPES and entry.name not in TIMESTEPS
    ]
    if not names:
        raise unreadable(files[0], "it holds no tensor of floating-point numbers")
    return [_layer(name, headers, told, grid, dims) for name in names]


def _header(file: Path) -> Header:
    try:
        return read_header(file)
    except ModelError as error:
        raise unreadable(file, error.fact) from error


def _timesteps(headers: dict[Path, Header]) -> list[int]:
    """What the files say the network was told, all of them the same."""
    found = {
        file: entry for file, header in headers.items() for entry in header.entries if entry.name in TIMESTEPS
    }
    values = [
        _mapped(file, entry).tolist()
        for file, entry in found.items()
        if len(entry.shape) == 1 and entry.dtype in WHOLE
    ]
    if len(values) == len(headers) and all(
        each == values[0] and all(t == int(t) for t in each) for each in values
    ):
        return [int(t) for t in values[0]]
    file = next(iter(headers))
    raise DefinitionError(
        f"{file.name} does not say at which timesteps its tensors were taken.",
        consequence="Time is an axis of a profile, and a place on it cannot be guessed.",
        remedy="say what the network was told at each step: --timesteps 981,961,... (timesteps=[...]), or store a tensor"
        " 'timestep' [time] of whole numbers, the same in every file",
        evidence=f"tensors: {', '.join(entry.name for entry in headers[file].entries[:6])}",
    )


def _layer(
    name: str,
    headers: dict[Path, Header],
    told: tuple[int, ...],
    grid: Grid | None,
    dims: Sequence[str] | None,
) -> Cached:
    entries = {file: _entry(name, file, header) for file, header in headers.items()}
    first, one = next(iter(entries.items()))
    axes = _axes(name, one, headers[first], dims)
    tails = {
        tuple(n for n, axis in zip(entry.shape, axes, strict=False) if axis != "case")
        for entry in entries.values()
    }
    if len(tails) > 1 or len({(entry.dtype, len(entry.shape)) for entry in entries.values()}) > 1:
        raise StoreError(
            f"{name!r} has other shapes or types from file to file.",
            consequence="They are not one array.",
            remedy="adopt caches of one picture size and one type each",
        )
    sizes = dict(zip(axes, one.shape, strict=True))
    if sizes["time"] != len(told):
        raise DefinitionError(
            f"{name!r} has {sizes['time']} states along time, and there are {len(told)} timesteps.",
            consequence="It is not known which states they are.",
            remedy="give one timestep per state, or other --dims",
            evidence=f"axes {' '.join(axes)}, shape {one.shape}",
        )
    about: dict[str, Any] = {"tensor": name, "axes": list(axes)}
    place = (sizes.get("y", 1), sizes.get("x", 1))
    if "token" in sizes:
        place = grid_of(sizes["token"], grid, where=f"{name!r}")
        about["grid"] = list(place)
    counts = {
        file: dict(zip(axes, entry.shape, strict=True)).get("case", 1) for file, entry in entries.items()
    }
    picture = (sizes["channel"], *place)
    wide = "float32" if one.dtype == "BF16" else DTYPES[one.dtype]

    def read(wanted: Sequence[bool]) -> Iterator[Values | None]:
        number = 0
        for file, entry in entries.items():
            values = _mapped(file, entry)
            for at in range(counts[file]):
                yield _case(values, axes, at, picture, one.dtype) if wanted[number] else None
                number += 1

    return Cached(layer_name(name), wide, picture, told, sum(counts.values()), tuple(entries), about, read)


def _entry(name: str, file: Path, header: Header) -> Entry:
    found = next((entry for entry in header.entries if entry.name == name), None)
    if found is None:
        raise unreadable(file, f"it has no tensor {name!r}, which the first file has")
    return found


def _axes(name: str, entry: Entry, header: Header, dims: Sequence[str] | None) -> tuple[str, ...]:
    """What the axes of a tensor are."""
    told = tuple(dims or header.metadata.get(f"{name}.dims", "").split())
    axes = told or (AXES if len(entry.shape) == len(AXES) else ())
    known = set(axes) <= {*AXES, "token"} and len(set(axes)) == len(axes)
    where = {"y", "x"} <= set(axes) if "token" not in axes else not {"y", "x"} & set(axes)
    if known and where and {"time", "channel"} <= set(axes) and len(axes) == len(entry.shape):
        return axes
    raise DefinitionError(
        f"What the axes of {name!r} {entry.shape} are is not known{f', they were said to be {told}' if told else ''}.",
        consequence="Read in the wrong order, every number would stand in a wrong place.",
        remedy=f'say it: --dims "{" ".join(TOKENS)}", or any order of {", ".join(AXES)} with token for y and x; one name'
        " per axis, case may be left out",
    )


def _mapped(file: Path, entry: Entry) -> Values:
    """A tensor, mapped and not loaded."""
    kind = {**WHOLE, **DTYPES}[entry.dtype]
    if 0 in entry.shape:
        raise unreadable(file, f"the tensor {entry.name!r} is empty: {entry.shape}")
    return np.memmap(file, dtype=kind, mode="r", offset=entry.begin, shape=entry.shape)


def _case(
    values: Values, axes: tuple[str, ...], at: int, picture: tuple[int, int, int], dtype: str
) -> Values:
    """One case as [time channel y x], a copy."""
    one = values[(slice(None),) * axes.index("case") + (at,)] if "case" in axes else values
    left = [axis for axis in axes if axis != "case"]
    order = [
        left.index(axis) for axis in ("time", "channel", *(("token",) if "token" in left else ("y", "x")))
    ]
    case = np.ascontiguousarray(one.transpose(order))
    if dtype == "BF16":
        case = (case.astype(np.uint32) << 16).view(np.float32)
    return np.array(case.reshape(len(case), *picture))
