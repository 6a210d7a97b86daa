"""A stage: one cached step of the extraction, as a value.

The engine knows stages only through this page. A stage says what it reads (`needs`), what it will produce
(`promise`), and how (`compute`); the engine decides when, for which cases and steps, and whether at all. Two
kinds exist. A *chain* produces states one after the other, each from the one before (the sampler, and the null
that is driven by the finished image). Everything else is *pointwise in time*: it maps a block of states to a
block of results, with at most `halo` states of history, so it can be computed while sampling, from a store,
resumed anywhere, and give the same bits.

What a network shows while it is asked (an activation, a predicted image) is an *output* of the chain: a stage that
takes outputs has them either from the steps that are taken anyway, or from replayed ones that start at states that
are known. Which of the two is the planner's choice and makes no difference to a single bit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, Protocol

import xarray as xr

from flowprofile.cases import Case
from flowprofile.flow.fingerprint import key
from flowprofile.flow.kin import Kin

_PROMISES: Final = 64
"""Promises a stage remembers: one for each block of states of a batch."""
View = Literal["block", "final", "start", "labels", "twin"]
ENDS: Final = ("final", "start")
"""Views of the last state of a chain alone."""
Scope = Literal["all", "clean", "changed"]
Outputs = Mapping[str, xr.DataArray]
"""Outputs by name, dims (case, time, ...); each at the states it was asked for."""


@dataclass(frozen=True)
class Need:
    """One thing a stage reads."""

    stage: str
    """Name of the stage that produces it."""
    view: View = "block"
    """Its results at the same steps; its last state only (then the stage waits until that is known), or that state as
    the one a chain begins with; those of every label of the same seed (then it waits for all of them); or those of the
    same sample with nothing done to it."""
    halo: int = 0
    """How many earlier states, in the order of generation, a result needs beside its own."""
    kept: bool = False
    """Whether `halo` counts the states that stage is asked for instead of all states of the chain."""


@dataclass(frozen=True)
class Given:
    """What a batch's steps may read besides its own states."""

    final: xr.Dataset | None = None
    """The last state of the chain named by a need with the view "final" or "start", dims (case, ...)."""
    sources: Mapping[tuple[Case, int], xr.Dataset] = field(default_factory=dict)
    """Results of other cases: by the case that reads and the number of the source, dims (time, ...)."""
    times: tuple[int, ...] = ()
    """The states that are wanted; a block holds others too, as their history."""


class Walker(Protocol):
    """Moves a batch of cases along a chain."""

    def advance(
        self,
        cases: tuple[Case, ...],
        start: xr.Dataset | None,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
        /,
    ) -> tuple[xr.Dataset, Outputs]:
        """The states at ``times`` (consecutive on the chain's grid), dims (case, time, ...), and outputs.

        ``start`` holds the state just before them, or is None when ``times`` begins with the noise itself.
        ``asked`` says at which states which outputs are wanted.
        """

    def replay(
        self,
        cases: tuple[Case, ...],
        before: xr.Dataset,
        times: tuple[int, ...],
        given: Given,
        asked: Mapping[str, frozenset[int]],
        /,
    ) -> Outputs:
        """Only the outputs of the steps into ``times``; ``before`` holds the state before each of them."""


@dataclass(frozen=True)
class Chain:
    """What makes a stage a chain."""

    grid: tuple[int, ...]
    """Every state it passes, in order of generation (descending t); the first is noise and costs nothing."""
    open: Callable[[], Walker] = field(compare=False)
    """Loads what it takes (a model), once per process; called only if a step must really be computed."""
    forwards_per_step: int = 1
    """Network evaluations of one case for one step; 0 for a closed form."""
    kin: Callable[[Case], Kin | None] = field(default=lambda case: None, compare=False)
    """What a case's states have to do with another case's; None for nothing."""
    crosses: bool = False
    """Whether some case reads one of another seed, so that all seeds must be computed side by side."""
    whole: bool = False
    """Whether a step reads earlier ones: its states are stepped through from the first, in one go."""
    apart: bool = False
    """Whether each state is given by itself, so that none needs the one before and none costs an evaluation; what the
    network shows is replayed from the state before."""

    @property
    def forwards_to_reach(self) -> int:
        """Network evaluations of one case to come to a further state."""
        return 0 if self.apart else self.forwards_per_step


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
    """Blocks (and final states) in the order of `needs` to a block; None for a chain. A stage that reads every
    label gets them all in one block, and as ``cases=`` those it is to answer for."""
    chain: Chain | None = field(default=None, compare=False)
    stored: bool = True
    """Whether its results are kept; otherwise they exist in flight only."""
    outputs: frozenset[str] = frozenset()
    """What it takes from its chain that exists only while the network is asked."""
    asks: int = 0
    """Network evaluations of its own for one case at one state; then `compute` also gets what was `Given`."""
    scope: Scope = "all"
    """Whether it is made of every case, of clean ones, or of those with an intervention."""
    source: str = ""
    """Digest of the source code behind it, for stages that are not ours."""
    attrs: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What a reader of the data should be told: units, meaning, window, range."""

    def __post_init__(self) -> None:
        # Asked for with the same states by every batch; making a dataset takes milliseconds.
        object.__setattr__(self, "promise", lru_cache(_PROMISES)(self.promise))

    def applies(self, case: Case) -> bool:
        """Whether it is made of this case."""
        return self.scope == "all" or (self.scope == "clean") == case.clean


def recipe(stage: Stage, upstream: Mapping[str, str], base: Mapping[str, Any]) -> str:
    """The stage's key, from the keys of what it needs and from ``base`` (model, sampler, noise scheme)."""
    return key(
        {
            "kind": stage.kind,
            "version": stage.version,
            "params": stage.params,
            "needs": [_read(need, upstream[need.stage]) for need in stage.needs],
            "base": base if stage.chain is not None else None,
        }
    )


def _read(need: Need, upstream: str) -> list[Any]:
    return [need.view, need.halo, upstream, *(["kept"] if need.kept else [])]
