"""Caches that Hugging Face `datasets` saved: a folder per layer, of Arrow shards with a row per image and timestep.

This is what SAeUron's collection writes: columns `activations` (tokens by channels) and `timestep`, the rows of an image
one after the other in the sampler's order. Nothing in a row says which image it is of, so a cache that was shuffled cannot
be put together again, and is refused. Shards are mapped into memory, not loaded, and read batch by batch.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from flowprofile.adopting.layers import (
    FLOATS,
    Cached,
    Grid,
    Values,
    descending,
    grid_of,
    layer_name,
    unreadable,
)
from flowprofile.errors import StoreError
from flowprofile.upkeep.tables import arrow

STATE: Final = "state.json"
ACTIVATIONS: Final = "activations"
TIMESTEP: Final = "timestep"
TEXT_LIMIT: Final = 2**20
"""Longest state.json that is read, in bytes."""


@dataclass(frozen=True)
class _Scan:
    """What the rows of a layer are, all of them looked at."""

    timesteps: tuple[int, ...]
    rows: int
    shape: tuple[int, ...]
    """Of one row."""
    dtype: str


def arrow_layers(cache: Path, *, grid: Grid | None) -> list[Cached]:
    """The layers of a folder; empty where it holds no data set."""
    return [_layer(name, files, grid) for name, files in _shards(cache).items()]


def _shards(cache: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each layer, in order.

    A layer's folder is a data set, or holds `chunk_*` folders that are; a `rolling_buffer` beside those repeats them.
    """
    if (cache / STATE).is_file():
        return {layer_name(cache.name): _files(cache)}
    found: dict[str, tuple[Path, ...]] = {}
    for folder in sorted(path for path in cache.iterdir() if path.is_dir()) if cache.is_dir() else ():
        parts = [folder] if (folder / STATE).is_file() else sorted(folder.glob("chunk_*"))
        parts = [part for part in parts if (part / STATE).is_file()]
        if not parts and (folder / "rolling_buffer" / STATE).is_file():
            parts = [folder / "rolling_buffer"]
        if parts:
            found[layer_name(folder.name)] = tuple(file for part in parts for file in _files(part))
    return found


def _files(folder: Path) -> tuple[Path, ...]:
    state = folder / STATE
    try:
        if state.stat().st_size > TEXT_LIMIT:
            raise unreadable(state, f"{state.stat().st_size:,} bytes, where {TEXT_LIMIT:,} are the most")
        names = [str(each["filename"]) for each in json.loads(state.read_text("utf-8"))["_data_files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise unreadable(state, error) from error
    if any(Path(name).name != name for name in names):
        raise unreadable(state, "it names a file outside its folder")
    for name in names:
        if not (folder / name).is_file():
            raise unreadable(folder / name, f"{STATE} names it, and it is not there")
    return tuple(folder / name for name in names)


def _layer(name: str, files: tuple[Path, ...], grid: Grid | None) -> Cached:
    scan = _scanned(name, files)
    shape = scan.shape
    about: dict[str, Any] = {"column": ACTIVATIONS, "axes": ["channel", "y", "x"]}
    if len(shape) == 2:
        rows, columns = grid_of(shape[0], grid, where=f"{name!r}")
        about = {"column": ACTIVATIONS, "axes": ["token", "channel"], "grid": [rows, columns]}
        picture = (shape[1], rows, columns)
    else:
        picture = (shape[0], shape[1], shape[2])

    def read(wanted: Sequence[bool]) -> Iterator[Values | None]:
        return _cases(files, wanted, scan, picture)

    cases = scan.rows // len(scan.timesteps)
    return Cached(name, scan.dtype, picture, scan.timesteps, cases, files, about, read)


def _scanned(name: str, files: tuple[Path, ...]) -> _Scan:
    """Look at every row's timestep and shape, and at no number."""
    told: list[np.ndarray[Any, Any]] = []
    shapes: dict[tuple[tuple[int, ...], str], Path] = {}
    for file in files:
        for steps, values in _batches(file):
            told.append(steps)
            shapes.setdefault((values.shape[1:], str(values.dtype)), file)
    if len(shapes) > 1:
        (one, first), (other, second) = list(shapes.items())[:2]
        raise StoreError(
            f"{name!r} has rows of {one} in {first.name} and of {other} in {second.name}.",
            consequence="They are not one array.",
            remedy="adopt caches of one picture size and one type each",
        )
    steps = np.concatenate(told) if told else np.zeros(0, np.int64)
    if not len(steps):
        raise unreadable(files[0] if files else Path(name), "there is no row in it")
    ((shape, dtype),) = shapes
    if len(shape) not in (2, 3) or dtype not in FLOATS:
        raise StoreError(
            f"A row of {name!r} is {dtype} of shape {shape}.",
            consequence="What was cached is no picture: tokens by channels, or channels by rows by columns.",
            remedy=f"adopt activations with their places, as one of {', '.join(FLOATS)}",
        )
    return _Scan(_period(name, steps), len(steps), shape, dtype)


def _period(name: str, steps: "np.ndarray[Any, Any]") -> tuple[int, ...]:
    """The timesteps of one image, after which those of the next begin."""
    rising = np.flatnonzero(np.diff(steps) >= 0)
    count = int(rising[0]) + 1 if len(rising) else len(steps)
    pattern = steps[:count]
    wrong = np.flatnonzero(steps != np.resize(pattern, len(steps)))
    if len(wrong) or len(steps) % count:
        at = int(wrong[0]) if len(wrong) else len(steps)
        seen = f"has timestep {steps[at]}" if at < len(steps) else "is missing"
        raise StoreError(
            f"Row {at} of {name!r} {seen}, where {pattern[at % count]} follows.",
            consequence="Rows do not say which image they are of; they are told apart by all images having the same"
            " timesteps in the same order.",
            remedy="adopt the cache as it was collected: not shuffled, no timestep left out, none asked twice (SAeUron:"
            " the chunk_* folders, not rolling_buffer; a scheduler of one call per step, such as DDIM)",
            evidence=f"the first image has {count} timesteps: {pattern[:6].tolist()}{' ...' if count > 6 else ''}",
        )
    return descending(pattern.tolist(), where=f"{name!r}")


def _cases(
    files: tuple[Path, ...], wanted: Sequence[bool], scan: _Scan, picture: tuple[int, int, int]
) -> Iterator[Values | None]:
    """Images, put together from rows that may lie in several batches."""
    times, row, number = len(scan.timesteps), 0, 0
    held = np.empty((times, *scan.shape), scan.dtype)
    for file in files:
        for _, values in _batches(file):
            at = 0
            while at < len(values):
                part = values[at : at + times - row]
                if wanted[number]:
                    held[row : row + len(part)] = part
                row, at = row + len(part), at + len(part)
                if row == times:
                    yield _pictured(held, picture) if wanted[number] else None
                    row, number = 0, number + 1


def _pictured(held: Values, picture: tuple[int, int, int]) -> Values:
    """[time token channel] or [time channel y x] -> [time channel y x], a copy."""
    moved = np.moveaxis(held, -1, 1) if held.ndim == 3 else held
    return np.array(moved.reshape(len(held), *picture))


def _batches(file: Path) -> "Iterator[tuple[np.ndarray[Any, Any], Values]]":
    """Timesteps [row] and activations [row ...] of each batch, views of the mapped file."""
    pa = arrow()
    size = file.stat().st_size
    try:
        with pa.memory_map(str(file)) as source, _opened(pa, source) as reader:
            columns = [ACTIVATIONS, TIMESTEP]
            absent = [name for name in columns if name not in reader.schema.names]
            if absent:
                raise unreadable(file, f"it has no column {absent[0]!r}, but {reader.schema.names!r}")
            for batch in _each(reader):
                # A batch that is not compressed is part of the file; one that is larger than it is a trap.
                if batch.nbytes > size:
                    raise unreadable(file, f"a batch of {batch.nbytes:,} bytes in a file of {size:,}")
                batch.validate(full=True)
                steps = _dense(pa, batch.column(TIMESTEP), file)
                if steps.ndim != 1 or steps.dtype.kind not in "iu":
                    raise unreadable(file, f"{TIMESTEP!r} is {steps.dtype}, not one whole number a row")
                yield steps.astype(np.int64), _dense(pa, batch.column(ACTIVATIONS), file)
    except (pa.ArrowException, OSError) as error:
        raise unreadable(file, error) from error


def _opened(pa: Any, source: Any) -> Any:
    """Arrow's file format begins with its name; `datasets` writes streams."""
    magic = source.read(6)
    source.seek(0)
    return pa.ipc.open_file(source) if magic == b"ARROW1" else pa.ipc.open_stream(source)


def _each(reader: Any) -> Iterator[Any]:
    if hasattr(reader, "num_record_batches"):
        return (reader.get_batch(number) for number in range(reader.num_record_batches))
    return iter(reader)


def _dense(pa: Any, array: Any, file: Path) -> Values:
    """A column whose lists are all of one length, as one array [row ...].

    An extension type is its storage: `datasets` has types of its own, whose code is neither needed nor imported.
    """
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if array.null_count:
        raise unreadable(file, f"{array.null_count} rows, or lists in rows, are empty (null)")
    kind, shape = array.type, [len(array)]
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        if pa.types.is_fixed_size_list(kind):
            length = kind.list_size
        else:
            lengths = np.unique(np.diff(array.offsets.to_numpy()))
            if len(lengths) > 1:
                raise StoreError(
                    f"{file.name} has rows with {int(lengths[0])} and with {int(lengths[-1])} entries.",
                    consequence="Ragged rows are not one array.",
                    remedy="adopt caches of one picture size each",
                )
            length = int(lengths[0]) if len(lengths) else 0
        array, shape = array.flatten(), [*shape, length]
        kind = array.type
        if array.null_count:
            raise unreadable(file, f"{array.null_count} entries are empty (null)")
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise unreadable(file, f"a column of {kind}")
    values: Values = array.to_numpy(zero_copy_only=False)
    return values.reshape(shape)
