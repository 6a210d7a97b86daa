"""What an engine tells a store before it writes: which run, which stages, which cells.

A key is computed by the engine from what decides the result; the store only believes it, spells folders with it,
and refuses two different things under one key.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import xarray as xr

from flowprofile.axes import AXES
from flowprofile.cases import Sweep
from flowprofile.errors import StoreError
from flowprofile.store.promise import verified

RUN_KEY = 8
STAGE_KEY = 10
LONGEST = 240
"""Bytes of a name that a key of a stage still fits behind."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+,\-]*")
_HEX = re.compile(r"[0-9a-f]+")


@dataclass(frozen=True)
class RunDeclaration:
    """One run: a sweep of one recipe under one numerics class."""

    name: str
    """What a researcher calls it."""
    key: str
    """Hex, at least 8 digits: identity of the run's numerics class and recipe."""
    tile: tuple[int, int]
    """Labels and seeds a unit of work takes together; the seeds decide the chunks of small arrays."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: resolved definition, model card, numerics class. Plain JSON values."""
    label_coords: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)
    """Coordinate name to its value for every label of the sweep, for instance ``{"smile": {6: True}}``."""
    intervention_coords: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Coordinate name to its value (str, int or float) for every intervention of the sweep; the clean run may be
    left out, it has ``""`` or -1."""
    seed_coords: Mapping[str, Mapping[int, Any]] = field(default_factory=dict)
    """Coordinate name to its value for every seed of the sweep, where seeds stand for given images."""

    def __post_init__(self) -> None:
        _named(self.name, "run")
        _keyed(self.key, RUN_KEY)
        if min(self.tile) < 1:
            raise StoreError(
                f"The run's tile is {self.tile!r}.", remedy="give at least one label and one seed"
            )
        _short(self.name, "run")
        for name in (*self.label_coords, *self.seed_coords):
            _beside(name)
        for name in self.intervention_coords:
            if name in AXES or name in self.label_coords or name in self.seed_coords:
                raise StoreError(
                    f"The intervention coordinate {name!r} has the name of an axis or of another coordinate.",
                    consequence="A node of the profile could hold only one of them.",
                    remedy=f"call it {'intervention_' + name!r}",
                )

    @property
    def folder(self) -> str:
        """``name@key``, as `regions.Region.run` has it."""
        return f"{self.name}@{self.key[:RUN_KEY]}"


@dataclass(frozen=True)
class StageDeclaration:
    """One stage of a run."""

    group: str
    """Where its arrays are, for instance ``measures/step_ssim``; without the key."""
    key: str
    """Hex, at least 10 digits: identity of the recipe."""
    promise: xr.Dataset
    """See `promise`; its ``time`` holds the wanted states."""
    capacity: int
    """Length of the full time grid: how far the time axis may ever grow."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Version, params, needs, source digest, units. Plain JSON values.

    ``{"join": {"axis": "pixel", "of": digest}}`` shows the stages of one group and digest as one; see `joined`.
    """
    cases: Sweep | None = None
    """The cases it is asked for, some of the sweep's; None for all of them."""

    def __post_init__(self) -> None:
        for part in self.group.split("/"):
            _named(part, "stage")
        _short(self.group, "stage")
        _keyed(self.key, STAGE_KEY)
        verified(self.promise)
        if self.capacity < max(1, self.promise.sizes.get("time", 1)):
            raise StoreError(
                f"The stage {self.group!r} wants {self.promise.sizes.get('time', 1)} times of at most {self.capacity!r}.",
                remedy="declare the length of the full time grid as its capacity",
            )

    @property
    def folder(self) -> str:
        """``measures/step_ssim@key``, as `regions.Region.group` has it."""
        return f"{self.group}@{self.key[:STAGE_KEY]}"


def _named(name: str, what: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith("."):
        raise StoreError(
            f"{name!r} cannot name a {what} in a store.",
            consequence="It becomes a folder on file systems and object stores of every kind.",
            remedy="use letters, digits and . _ - = + , only, beginning with a letter or digit",
        )


def _short(name: str, what: str) -> None:
    if len(name.encode("utf-8", "replace")) > LONGEST:
        raise StoreError(
            f"{name!r} is too long to name a {what} in a store.",
            consequence="With its key behind it, it becomes the name of a folder, which has at most 255 bytes.",
            remedy=f"use a name of at most {LONGEST} bytes",
        )


def _beside(name: str) -> None:
    """Refuse a coordinate that could not stand beside the axes."""
    if name in (*AXES, "", ".", "..", "zarr.json") or {"/", "\\", "\0"} & set(name) or not _speakable(name):
        raise StoreError(
            f"{name!r} cannot name a coordinate in a store.",
            consequence="It would be taken for an axis, or for a folder elsewhere.",
            remedy="give the attribute another name, of one word that is no axis of a profile",
        )
    _short(name, "coordinate")


def _speakable(name: str) -> bool:
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _keyed(key: str, digits: int) -> None:
    if not _HEX.fullmatch(key) or len(key) < digits:
        raise StoreError(f"{key!r} is not a key.", remedy=f"give at least {digits} lower-case hex digits")
