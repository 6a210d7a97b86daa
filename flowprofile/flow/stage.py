"""A stage: one cached step of the extraction, as a value.

The engine knows stages only through this page. A stage says what it reads (`needs`), what it will produce
(`promise`), and how (`compute`); the engine decides when, for which cases and steps, and whether at all. Two
kinds exist. A *chain* produces states one after the other, each from the one before (the sampler, and the null
that is driven by the finished image). Everything else is *pointwise in time*: it maps a block of states to a
block of results, with at most `halo` states of history, so it can be computed while sampling, from a store,
resumed anywhere, and give the same bits.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import xarray as xr

from flowprofile.cases import Case
from flowprofile.flow.fingerprint import key


@dataclass(frozen=True)
class Need:
    """One thing a stage reads."""

    stage: str
    """Name of the stage that produces it."""
    view: Literal["block", "final"] = "block"
    """Its results at the same steps, or its last state only (then the stage waits until that is known)."""
    halo: int = 0
    """How many earlier states, in the order of generation, a result needs beside its own."""


class Advance(Protocol):
    """Moves a batch of cases along a chain."""

    def __call__(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        final: xr.Dataset | None,
        /,
    ) -> xr.Dataset:
        """The states at ``times`` (consecutive on the chain's grid), dims (case, time, ...).

        ``start`` holds the state just before them, or is None when ``times`` begins with the noise itself.
        ``final`` is the last state of the chain named by the need with that view, if there is one.
        """


@dataclass(frozen=True)
class Chain:
    """What makes a stage a chain."""

    grid: tuple[int, ...]
    """Every state it passes, in order of generation (descending t); the first is noise and costs nothing."""
    open: Callable[[], Advance] = field(compare=False)
    """Loads what it takes (a model), once per process; called only if a step must really be computed."""
    forwards_per_step: int = 1
    """Network evaluations of one case for one step; 0 for a closed form."""


@dataclass(frozen=True)
class Stage:
    """One node of the pipeline."""

    name: str
    """Its name in the definition; unique there."""
    kind: str
    """What it is: a kind of ours or ``module:name``."""
    group: str
    """Where a profile shows it: ``trajectory``, ``measures/step_ssim``."""
    version: int
    """Declared by its author; raised whenever the same inputs give another result."""
    params: Mapping[str, Any]
    """What decides the result, defaults filled in."""
    needs: tuple[Need, ...]
    times: tuple[int, ...]
    """The states wanted of it, descending."""
    promise: Callable[[tuple[int, ...]], xr.Dataset] = field(compare=False)
    """The empty dataset, without case axes, that its results at given states will look like."""
    compute: Callable[..., xr.Dataset] | None = field(default=None, compare=False)
    """Blocks (and final states) in the order of `needs` to a block; None for a chain."""
    chain: Chain | None = field(default=None, compare=False)
    stored: bool = True
    """Whether its results are kept; otherwise they exist in flight only."""
    outputs: frozenset[str] = frozenset()
    """Variables it takes from a chain that exist only while the chain is being computed (network outputs)."""
    source: str = ""
    """Digest of the source code behind it, for stages that are not ours."""
    attrs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What a reader of the data should be told: units, meaning, window, range."""


def recipe(stage: Stage, upstream: Mapping[str, str], base: Mapping[str, Any]) -> str:
    """The stage's key, from the keys of what it needs and from ``base`` (model, sampler, noise scheme)."""
    return key(
        {
            "kind": stage.kind,
            "version": stage.version,
            "params": stage.params,
            "needs": [[need.view, need.halo, upstream[need.stage]] for need in stage.needs],
            "base": base if stage.chain is not None else None,
        }
    )
