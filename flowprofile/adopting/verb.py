"""Read a cache of activations that another program collected into a store, where it is shown like any profile.

    fp.adopt("SAeUron/activations", "out/adopted", prompts=Path("prompts.txt").read_text().splitlines())
    fp.open("out/adopted")["activations/up_blocks.1.attentions.1"]["activation"]

What FlowProfile did not compute it does not claim: the run's key is made of the files' digests and holds no recipe, so it
can never be that of a computed run, and nothing can be computed into it. What a cache does not say is not made up: `time`
is what the network was told, and a seed only counts the samples of a label unless seeds are given.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.adopting.arrows import arrow_layers
from flowprofile.adopting.layers import Cached, Grid, Values, finite
from flowprofile.adopting.tensors import tensor_layers
from flowprofile.axes import CASE, CHANNEL, PROMPT, TIME, X, Y
from flowprofile.cases import Case, Sweep
from flowprofile.conditioning.labels import prompt_number
from flowprofile.errors import DefinitionError, IntegrityError, StoreError
from flowprofile.flow.fingerprint import key
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.promise import promise
from flowprofile.store.regions import Region, cut
from flowprofile.store.store import Store
from flowprofile.store.urls import Where

VERSION: Final = 1
"""Of how caches are understood; part of the key."""
TOGETHER: Final = 2**24
"""Bytes of neighbouring seeds that are written together, at most, where a case is not larger."""
UNKNOWN: Final = "counts the samples of a label in the order of the cache; their noise seeds are not known"


@dataclass(frozen=True)
class Adopted:
    """What was done."""

    run: str
    """Folder of the run in the store."""
    layers: tuple[str, ...]
    cases: int
    regions: int
    """Regions written; none where everything was there."""


@dataclass(frozen=True)
class _Source:
    """A cache, all of it looked at, and none of its numbers read."""

    name: str
    layers: tuple[Cached, ...]
    cases: tuple[Case, ...]
    prompts: Mapping[int, str]
    digests: Mapping[str, str]
    """SHA-256 of every file, by its path within the cache."""
    stats: Mapping[Path, tuple[int, int]]
    """Size and time of change of every file, when it was digested."""
    about: Mapping[str, Any]

    @property
    def run(self) -> RunDeclaration:
        """The run that this cache is."""
        cases = [[case.label, case.seed] for case in self.cases]
        bytes_of = max(
            int(np.prod((len(each.timesteps), *each.shape))) * np.dtype(each.dtype).itemsize
            for each in self.layers
        )
        return RunDeclaration(
            name=self.name,
            key=key({"adopted": VERSION, "files": dict(self.digests), "cases": cases}),
            tile=(1, max(1, min(8, TOGETHER // bytes_of))),
            attrs={
                "model": {"name": self.name},
                "numerics": {},
                "definitions": [],
                "adopted": dict(self.about),
            },
            label_coords={PROMPT: dict(self.prompts)} if self.prompts else {},
        )

    def stage(self, number: int) -> StageDeclaration:
        """A layer, as the store should describe it."""
        layer = self.layers[number]
        channel, y, x = layer.shape
        told = np.array(layer.timesteps, np.int64)
        attrs = {
            "layer": layer.name,
            "layer_index": number,
            "long_name": f"activation of {layer.name}",
            "units": "1",
        }
        coords = {
            TIME: told,
            "timestep": (TIME, told, {"long_name": "what the network was told"}),
            CHANNEL: np.arange(channel),
            Y: np.arange(y),
            X: np.arange(x),
        }
        recipe = {"adopted": VERSION, "run": self.run.key, "layer": layer.name, **layer.about}
        return StageDeclaration(
            f"activations/{layer.name}",
            key(recipe),
            promise(
                {"activation": ((TIME, CHANNEL, Y, X), layer.dtype)},
                coords,
                variable_attrs={"activation": attrs},
            ),
            len(told),
            {
                "kind": "adopted",
                "version": VERSION,
                "params": {"layer": layer.name, **layer.about},
                "needs": [],
                **attrs,
            },
        )


def adopt(
    cache: str | PathLike[str],
    into: Where,
    *,
    prompts: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    grid: Grid | None = None,
    timesteps: Sequence[int] | None = None,
    dims: Sequence[str] | None = None,
    name: str | None = None,
    layout: StoreLayout | str | None = None,
) -> Adopted:
    """Write a cache into a store; repeating it writes nothing that is there.

    Parameters
    ----------
    cache
        A folder of data sets that Hugging Face `datasets` saved (SAeUron's layout: a folder per hook, columns
        ``activations`` and ``timestep``), a safetensors file, or a folder of those.
    into
        The store; a cache is a run of its own in it.
    prompts
        The text of every case, in the cache's order; without them every case has label 0.
    seeds
        The noise seed of every case, where it is known.
    grid
        Rows and columns that a layer's tokens fill; by default a square.
    timesteps
        What the network was told at each step, falling, for safetensors files that do not say it.
    dims
        The axes of safetensors tensors, among case, time, channel, y, x (or token, for y and x).
    name
        What the run is called; by default as the cache.
    layout
        How a new store is laid out.

    Raises
    ------
    DefinitionError
        For what is not said, or does not fit the cache (axes, timesteps, prompts, seeds, a grid); nothing is written.
    StoreError
        For what cannot be read, or not without guessing (shuffled rows, ragged shards), before anything is written.
    NonFiniteError
        For a value that is not finite, naming it.
    """
    source = _looked_at(Path(cache), prompts, seeds, grid, timesteps, dims, name)
    written = 0
    with Store.open(into, layout=layout) as store:
        stages = [source.stage(number) for number in range(len(source.layers))]
        for sweep in _boxes(source.cases):
            store.prepare(source.run, sweep, stages)
        for layer, stage in zip(source.layers, stages, strict=True):
            written += _written(store, source, layer, stage)
    return Adopted(source.run.folder, tuple(each.name for each in source.layers), len(source.cases), written)


def _looked_at(
    cache: Path,
    prompts: Sequence[str] | None,
    seeds: Sequence[int] | None,
    grid: Grid | None,
    timesteps: Sequence[int] | None,
    dims: Sequence[str] | None,
    name: str | None,
) -> _Source:
    layers = tuple(
        arrow_layers(cache, grid=grid) or tensor_layers(cache, grid=grid, dims=dims, timesteps=timesteps)
    )
    if not layers:
        raise DefinitionError(
            f"There is no cache of activations at {str(cache)!r}.",
            consequence="Nothing was adopted.",
            remedy="give a folder of data sets saved by Hugging Face's save_to_disk (each with its state.json), a"
            " .safetensors file, or a folder of those; pickles (.pt, .npy, .pkl) are not opened",
        )
    counts = {each.name: each.cases for each in layers}
    if len(set(counts.values())) > 1:
        raise StoreError(
            f"The layers of {cache.name!r} have different numbers of cases.",
            consequence="The cases of one are not those of another.",
            remedy="adopt each layer's folder by itself, or complete the shorter one",
            evidence=", ".join(f"{layer}: {count}" for layer, count in counts.items()),
        )
    cases = _told(layers[0].cases, prompts, seeds)
    files = sorted({file for each in layers for file in each.files})
    root = cache if cache.is_dir() else cache.parent
    stats = {file: _stat(file) for file in files}
    digests = {file.relative_to(root).as_posix(): _digest(file) for file in files}
    about = {
        "from": cache.name,
        "files": digests,
        "computed_by": "another program; FlowProfile read it and computed none of it",
        "time": "what the network was told",
        "seed": "as given" if seeds is not None else UNKNOWN,
        "label": "as given" if prompts is not None else "not known: 0",
    }
    told = {} if prompts is None else {prompt_number(text): text for text in prompts}
    return _Source(
        name or (cache.name if cache.is_dir() else cache.stem), layers, cases, told, digests, stats, about
    )


def _told(count: int, prompts: Sequence[str] | None, seeds: Sequence[int] | None) -> tuple[Case, ...]:
    """Label and seed of every case."""
    for what, values in (("prompts", prompts), ("seeds", seeds)):
        if values is not None and len(values) != count:
            raise DefinitionError(
                f"There are {len(values)} {what} for {count} cases.",
                consequence="It is not known which belongs to which.",
                remedy=f"give one of the {what} per case, in the order of the cache",
            )
    if not count:
        raise StoreError(
            "The cache holds no case.",
            consequence="There is nothing to adopt.",
            remedy="give a cache of at least one sample",
        )
    labels = [0] * count if prompts is None else [prompt_number(text) for text in prompts]
    seen: Counter[int] = Counter()
    found = []
    for number, label in enumerate(labels):
        found.append(Case(seen[label] if seeds is None else int(seeds[number]), label))
        seen[label] += 1
    if len(set(found)) < count or min(case.seed for case in found) < 0:
        twice = next((case for case, times in Counter(found).items() if times > 1), found[0])
        raise DefinitionError(
            f"Two cases are {twice}, or a seed is negative.",
            consequence="A cell of a profile is one sample.",
            remedy="give every sample of a prompt a seed of its own, or leave the seeds out: they are counted then",
        )
    return tuple(found)


def _boxes(cases: Sequence[Case]) -> Iterator[Sweep]:
    """The cases as products of labels and seeds: labels that have the same seeds together."""
    by_label: dict[int, list[int]] = {}
    for case in cases:
        by_label.setdefault(case.label, []).append(case.seed)
    by_seeds: dict[tuple[int, ...], list[int]] = {}
    for label, seeds in by_label.items():
        by_seeds.setdefault(tuple(seeds), []).append(label)
    for common, labels in by_seeds.items():
        yield Sweep(common, tuple(labels))


def _written(store: Store, source: _Source, layer: Cached, stage: StageDeclaration) -> int:
    """Write what is missing of a layer, tile by tile, in the order of the cache."""
    folder = source.run.folder
    where = store.positions(folder, stage.folder)
    record = store.runs()[folder]
    blocks = _tiles(source.cases, where, record.tile[1])
    times, depth = len(layer.timesteps), record.stages[stage.folder].block
    regions = [_regions(folder, stage.folder, block, times, depth) for block in blocks]
    lacking = [[region for region in each if store.receipt(region) is None] for each in regions]
    wanted = [
        bool(left) for block, left in zip(blocks, lacking, strict=True) for _ in range(block[1], block[2])
    ]
    if not any(wanted):
        return 0
    read, number = layer.read(wanted), 0
    for (_, first, stop), left in zip(blocks, lacking, strict=True):
        values = [_checked(source, layer, number + at, next(read)) for at in range(stop - first)]
        number += stop - first
        for region in left:
            part = np.stack([each for each in values if each is not None])[:, slice(*region.times)]
            _unchanged(source, layer)
            store.write(region, _block(layer, part, region))
    return sum(map(len, lacking))


def _tiles(
    cases: Sequence[Case], where: Mapping[str, Mapping[Any, int]], width: int
) -> list[tuple[int, int, int]]:
    """Label and range of seeds, as positions, of neighbouring cases that share a tile."""
    at = [(where["label"][case.label], where["seed"][case.seed]) for case in cases]
    # Neighbours have seeds that follow each other: seed and place then differ by the same number.
    runs = groupby(enumerate(at), key=lambda one: (one[1][0], one[1][1] - one[0], one[1][1] // width))
    found = []
    for _, members in runs:
        held = [place for _, place in members]
        found.append((held[0][0], held[0][1], held[-1][1] + 1))
    return found


def _regions(run: str, group: str, tile: tuple[int, int, int], times: int, depth: int) -> list[Region]:
    label, first, stop = tile
    whole = np.ones((1, 1, stop - first, times), bool)
    parts = cut(run, group, whole, seeds=stop - first, times=depth)
    return [Region(run, group, 0, label, (first, stop), part.times) for part in parts]


def _checked(source: _Source, layer: Cached, number: int, values: Values | None) -> Values | None:
    case = source.cases[number]
    return (
        None
        if values is None
        else finite(values, where=f"{layer.name!r}, case {number} of the cache ({case}),")
    )


def _block(layer: Cached, values: Values, region: Region) -> xr.Dataset:
    times = list(layer.timesteps[slice(*region.times)])
    return xr.Dataset({"activation": ((CASE, TIME, CHANNEL, Y, X), values)}, coords={TIME: times})


def _stat(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _unchanged(source: _Source, layer: Cached) -> None:
    """Refuse to write what is no longer the file that was digested."""
    for file in layer.files:
        if _stat(file) != source.stats[file]:
            raise IntegrityError(
                f"{file} changed while it was read.",
                consequence="Its digest would vouch for other bytes; what is written is from before.",
                remedy="let it be finished, then give the same command for a new store",
            )


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
