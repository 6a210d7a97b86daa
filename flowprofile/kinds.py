"""Kinds of stages: what may stand behind ``use``, ours and other people's alike.

A definition names a kind and gives it parameters; the kind checks them and builds the stages. A kind of the
user's own comes from an entry point, or from ``module:name`` if she allowed code; from then on nothing in the
engine can tell it from one of ours.
"""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from flowprofile.compat import NONE, Compat
from flowprofile.conditioning.interventions import Difference, Intervention
from flowprofile.definitions import Sampler, Table, Text, refusal
from flowprofile.errors import DefinitionError, nearest
from flowprofile.flow.fingerprint import key
from flowprofile.flow.stage import Stage
from flowprofile.models.card import ModelCard
from flowprofile.models.sites import Site
from flowprofile.objects.masks import Mask
from flowprofile.objects.probes import Probe
from flowprofile.sourcing import Real
from flowprofile.time.rules import Rule, coefficients
from flowprofile.time.schedule import Levels
from flowprofile.time.sources import PHILOX, Noise

ENTRY_POINTS: Final = "flowprofile.stages"
"""Entry point group in which a package registers kinds of its own."""


@dataclass(frozen=True)
class Context:
    """What every kind may know about the pipeline it is built into."""

    card: ModelCard
    schedule: Levels
    grid: tuple[int, ...]
    """Every state the sampler passes, from noise to image."""
    sampler: Sampler
    rule: Rule = field(compare=False, repr=False)
    """One step of the sampler."""
    recipe: Mapping[str, Any]
    """All that decides the sampler's steps."""
    batch: int
    """The canonical batch."""
    open: Callable[[], Any] = field(compare=False, repr=False)
    """Loads the denoiser."""
    device: str = "cpu"
    """What the network is computed on, as `models.devices.named` calls it."""
    whole: bool = False
    """Whether the sampler's steps read earlier ones."""
    labels: tuple[int, ...] = ()
    """The labels of the sweep."""
    real: Real | None = None
    """The pictures that are given, instead of sampled."""
    noise: Noise = PHILOX
    """Where the noise comes from."""
    compat: Compat = NONE
    """What is done as published code does it."""
    identity: str = ""
    """Digest of the model's content."""
    reference: str | None = None
    """The folder of the whole pipeline that the model is a part of."""
    sites: Mapping[str, Site] = field(default_factory=dict)
    """Every module that can be looked at, in the order of the forward pass."""
    interventions: dict[str, Intervention] = field(default_factory=dict, compare=False)
    """What is done to the model, by name; `none` is not among them."""
    folder: Path | None = None
    """Where a definition's relative paths begin."""
    masks: dict[str, Mask] = field(default_factory=dict, compare=False)
    """Masks that interventions name."""
    vectors: dict[tuple[str, Difference], Any] = field(default_factory=dict, compare=False, repr=False)
    """Differences of group means, [channel] by layer, as far as they have been worked out."""
    built: dict[str, Stage] = field(default_factory=dict, compare=False)
    """Stages built so far, by name."""
    probes: dict[str, Probe] = field(default_factory=dict, compare=False)
    """What stages ask of the network while it is asked for eps."""
    splits: dict[str, Any] = field(default_factory=dict, compare=False)
    """Stages that grow by pixels (`stages.splitting.Split`), by name."""
    _loaded: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def before(self, t: int) -> int:
        """The state from which a step leads into t."""
        return self.grid[self.grid.index(t) - 1]

    def factors(self, t_from: int, t: int) -> tuple[float, float]:
        """d x_t / d x_{t_from} = first * identity + second * d eps / d x.

        Raises
        ------
        DefinitionError
            For a sampler whose step is not linear, or reads earlier ones.
        """
        bent = getattr(self.rule, "bent", None)
        if bent is not None:
            raise DefinitionError(
                f"The sampler {self.sampler.rule!r} {bent}.",
                consequence="A state's gradient with respect to the state before is not that of the network alone.",
                remedy="use the rule ddpm or ddim, or options = { clip_sample = false } with a scheduler of single steps",
            )
        found = coefficients(self.rule, schedule=self.schedule, t_from=t_from, t_to=t)
        return found.x, found.eps

    def probe(self, probe: Probe) -> str:
        """Ask for something; the name under which it will be among the outputs of the sampler's chain."""
        name = f"{type(probe).__name__}#{key({'probe': repr(probe)})[:12]}"
        self.probes[name] = probe
        return name

    def watched(self) -> Any:
        """The denoiser with its probes and interventions (`kernels.probing.Watched`); loaded once per process."""
        if "watched" not in self._loaded:
            from flowprofile.kernels.probing import Watched
            from flowprofile.models.denoiser import placed
            from flowprofile.models.numerics import settle

            device = settle(self.device)
            self._loaded["watched"] = Watched(
                placed(self.open(), device),
                self.probes,
                self.interventions,
                self.schedule,
                self.batch,
                device,
                masks={name: mask.array for name, mask in self.masks.items() if mask.array is not None},
                vectors=self.vectors,
                in_place=self.compat.in_place,
            )
        return self._loaded["watched"]


class NoParams(Table):
    """The parameters of a kind that has none."""


@dataclass(frozen=True)
class Request:
    """One ``[stages.NAME]`` table."""

    name: str
    needs: tuple[str, ...]
    """Stages it reads; filled in by the kind's default where the table does not say."""
    params: BaseModel
    context: Context
    place: str
    """Where the table stands, for refusals."""


@dataclass(frozen=True)
class Kind:
    """A way of making stages."""

    name: str
    version: int
    params: type[BaseModel]
    """The parameters a table may give, checked before anything is computed."""
    build: Callable[[Request], Sequence[Stage]] = field(compare=False)
    needs: tuple[str, ...] = ("trajectory",)
    """What it reads when the table does not say."""
    elsewhere: bool = False
    """Whether the table may name other stages for it to read, as many as it reads by default."""
    summary: str = ""
    trusted: Callable[[Request], Sequence[Stage]] | None = field(default=None, compare=False)
    """How it is built where code is allowed, for a kind whose parameters may name code; otherwise `build` refuses it."""


def lookup(use: str, ours: Mapping[str, Kind], *, place: str, allow_code: bool) -> Kind:
    """The kind behind ``use``: ours, an installed package's, or ``module:name`` where code is allowed."""
    if use in ours:
        kind = ours[use]
        return replace(kind, build=kind.trusted) if allow_code and kind.trusted is not None else kind
    registered = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    if use in registered:
        return _kind(use, registered[use].load(), place)
    if ":" not in use:
        raise DefinitionError(
            f"There is no stage kind {use!r} ({place}).",
            consequence="Nothing would be computed for it.",
            remedy=f'{nearest(use, [*ours, *registered])} or "module:name" for one of your own',
        )
    if not allow_code:
        raise not_allowed(use, place)
    return _kind(use, imported(use, place), place)


def not_allowed(use: str, place: str) -> DefinitionError:
    """The refusal of a name of code where no code is allowed."""
    return DefinitionError(
        f"{use!r} is code of your own ({place}), and code was not allowed.",
        consequence="A definition from a stranger could run anything on this machine.",
        remedy="if you trust it, run the same command with --allow-code (in Python: allow_code=True)",
    )


def imported(use: str, place: str) -> object:
    """What ``module:name`` names; only ever called where code is allowed."""
    module, _, attribute = use.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), attribute)):
        raise DefinitionError(
            f"{use!r} does not name something in a module ({place}).", remedy='write "package.module:name"'
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise DefinitionError(
            f"{use!r} cannot be imported ({place}).",
            consequence="Its stage cannot be computed.",
            remedy="the module must be importable from the working folder or installed, and the name defined in it",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _kind(use: str, found: object, place: str) -> Kind:
    kind = getattr(found, "kind", found)
    if not isinstance(kind, Kind):
        raise DefinitionError(
            f"{use!r} is a {type(found).__name__}, not a stage or measure ({place}).",
            remedy="decorate the function with @flowprofile.measure(...) or build a flowprofile.Stage(...)",
        )
    return kind


def checked(kind: Kind, name: str, table: Mapping[str, Any], text: Text) -> BaseModel:
    """The parameters of a stage table, or a refusal with its place."""
    try:
        return kind.params.model_validate(dict(table))
    except ValidationError as error:
        raise refusal(error, text, kind.params, under=("stages", name)) from None
