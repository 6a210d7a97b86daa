"""Samplers of the diffusers library as rules: their steps, their time grid, and our noise wherever they draw.

A scheduler is given eps, whatever its network predicts (one of flow matching its velocity), and noise that is a function of (seed, t); everything else of
it is as its configuration says. Those of several steps remember what the network said before, so their states are
walked through in one go and never taken up in between.
"""

import copy
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from torch import Tensor

from flowprofile.errors import DefinitionError, nearest
from flowprofile.models.flows import FLOWS
from flowprofile.models.libraries import EXTRA, library
from flowprofile.models.variances import LEARNED, VARIED, learned
from flowprofile.time.schedule import Levels
from flowprofile.time.visited import Visited, numbered

SCHEDULERS: Final[Mapping[str, bool]] = MappingProxyType({
    "DDPMScheduler": False,
    "DDIMScheduler": False,
    "PNDMScheduler": True,
    "EulerDiscreteScheduler": False,
    "EulerAncestralDiscreteScheduler": False,
    "DPMSolverMultistepScheduler": True,
    "FlowMatchEulerDiscreteScheduler": False,
})  # fmt: skip
"""Schedulers that there is an adapter for, and whether a step reads earlier ones."""
SCALED: Final = "is_scale_input_called"
"""By this the Euler schedulers know that the network saw states at their scale, as ours does (`Visited.scales`); they
warn at every step otherwise."""
Spacing: TypeAlias = Callable[[Mapping[str, Any], int], dict[str, Any]]
"""Of a scheduler's whole configuration and a number of steps: what else a pipeline tells it when it sets them."""


@dataclass
class Scheduled:
    """A scheduler as the rule of a sampler: called like any rule, in the order of its states."""

    scheduler: Any
    """The scheduler with its steps set, never stepped itself."""
    visited: Visited
    remembers: bool
    """Whether a step reads what the network said in earlier ones."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of its `step`."""
    spacing: Mapping[str, Any] = field(default_factory=dict)
    """What it was told besides the number of steps."""
    _stepping: Any = None
    _place: int = 0
    """Position of the state that the scheduler in hand steps from next."""

    @property
    def bent(self) -> str | None:
        """Why a step is no linear function of the state before and its eps alone; None if it is."""
        config = self.scheduler.config
        if self.remembers:
            return "reads what the network said in earlier steps"
        if self.visited.says == "eps and variance":
            return "adds noise of a variance that the network says"
        clipping = next((name for name in ("clip_sample", "thresholding") if config.get(name)), None)
        return f"has {clipping} = true" if clipping is not None else None

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides its steps."""
        return {
            "class": type(self.scheduler).__name__,
            "diffusers": importlib.import_module("diffusers").__version__,
            "config": {name: _plain(value) for name, value in sorted(self.scheduler.config.items())
                       if not name.startswith("_")},
            "steps": len(self.visited.timesteps),
            "options": dict(self.options),
            **({"spacing": dict(self.spacing)} if self.spacing else {}),
        }  # fmt: skip

    def __call__(self, x: Any, eps: Any, z: Any, *, schedule: Levels, t_from: int, t_to: int) -> Any:
        """x_{t_to} of x_{t_from}, for tensors, arrays and numbers alike."""
        place = self.visited.place(t_from)
        if self.visited.states[place + 1] != t_to:
            raise DefinitionError(
                f"{type(self.scheduler).__name__} does not step from t = {t_from} to t = {t_to}.",
                consequence="Its steps have sizes of their own.",
                remedy=f"from {t_from} it steps to {self.visited.states[place + 1]}",
            )
        if place == 0 or not self.remembers:
            self._stepping = copy.deepcopy(self.scheduler)
            if hasattr(self._stepping, SCALED):
                setattr(self._stepping, SCALED, True)
        elif self._stepping is None or self._place != place:
            raise DefinitionError(
                f"{type(self.scheduler).__name__} reads earlier steps, and was asked to begin at t = {t_from}.",
                consequence="What the network said before is not known.",
                remedy=f"begin at t = {self.visited.states[0]}",
            )
        given = [_tensor(one) for one in (x, eps, z)]
        if self.visited.says == "eps and variance":
            given = _with_variance(*given)
        with _drawing(type(self.scheduler), given[2]):
            told = self.scheduler.timesteps[place]
            out = self._stepping.step(given[1], told, given[0], return_dict=False, **self.options)[0]
        self._place = place + 1
        return out if isinstance(x, Tensor) else out.numpy() if isinstance(x, np.ndarray) else float(out)


def scheduled(
    kind: str, config: Mapping[str, Any], *, steps: int, options: Mapping[str, Any], eta: float | None = None,
    spacing: Spacing = lambda config, steps: {},
) -> Scheduled:  # fmt: skip
    """The scheduler of this class, as a model's folder configures it, with so many steps.

    Parameters
    ----------
    kind
        A class of `SCHEDULERS`.
    config
        A scheduler's configuration; what the class does not know is left out, as diffusers does.
    steps
        Calls of the network; a scheduler may add one of its own.
    options
        Arguments of the class that are other than in the configuration.
    eta
        Of DDIM: share of DDPM's noise.
    spacing
        What else it is told when its steps are set.

    Raises
    ------
    ModelError, DefinitionError
        If diffusers is not installed, or the class, an option or the number of steps is not known to it.
    """
    made = _made(kind, config, options)
    told = spacing(dict(made.config), steps)
    try:
        made.set_timesteps(steps, **told)
    except (ValueError, RuntimeError, IndexError) as error:
        raise DefinitionError(
            f"{kind} cannot be set to {steps} steps.",
            consequence="There are no states to visit.",
            remedy=f"use 1 to {made.config.num_train_timesteps} steps",
            evidence=f"{type(error).__name__}: {error}",
        ) from error
    known = inspect.signature(type(made).step).parameters
    if eta is not None and "eta" not in known:
        raise DefinitionError(
            f"{kind} has no eta.",
            consequence="It would be ignored, and the run would not be the one asked for.",
            remedy="leave it out, or use DDIMScheduler",
        )
    return Scheduled(made, _visited(made), SCHEDULERS[kind], {} if eta is None else {"eta": eta}, told)


def _made(kind: str, config: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    if kind not in SCHEDULERS:
        raise DefinitionError(
            f"There is no adapter for the scheduler {kind!r}.",
            consequence="It is not known what its states hold.",
            remedy=f"{nearest(kind, SCHEDULERS)}, or the rules ddpm and ddim",
        )
    told = f"{kind} is one of its schedulers."
    found = getattr(
        library("diffusers", consequence=told, remedy=f"{EXTRA}, or use the rules ddpm and ddim"), kind
    )
    known = [name for name in inspect.signature(found.__init__).parameters if name != "self"]
    for name in options:
        if name not in known or name == "prediction_type":
            raise DefinitionError(
                f"{kind} has no option {name!r} that can be set here.",
                consequence="It would be ignored, and the run would not be the one asked for.",
                remedy="what the network predicts stands in its folder"
                if name in known
                else nearest(name, known),
            )
    taken = {name: value for name, value in config.items() if name in known}
    asked: dict[str, Any] = {"prediction_type": "epsilon"} if "prediction_type" in known else {}
    if kind != VARIED and {**taken, **options}.get("variance_type") in LEARNED:
        # It would cut three channels off what it is given, which holds no variance.
        asked["variance_type"] = None
    try:
        return found(**{**taken, **options, **asked})
    except (TypeError, ValueError, NotImplementedError) as error:
        raise DefinitionError(
            f"{kind} cannot be built from its configuration.",
            consequence="There is no sampler.",
            remedy="look at the options given, and at scheduler_config.json",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _visited(scheduler: Any) -> Visited:
    told = [float(one) for one in scheduler.timesteps]
    T = int(scheduler.config.num_train_timesteps)
    if type(scheduler).__name__ in FLOWS:
        return _straight(scheduler, told, T)
    probe = copy.deepcopy(scheduler)
    one = torch.ones(1, dtype=torch.float64)
    scales = []
    for timestep in scheduler.timesteps:
        if hasattr(probe, "_step_index"):
            probe._step_index = None
        scales.append(float(probe.scale_model_input(one, timestep)))
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and hasattr(scheduler, SCALED):
        noises = [float(sigma) for sigma in sigmas]
        signals = [1.0] * len(noises)
    else:
        bars = _bars(scheduler, sigmas)
        signals, noises = np.sqrt(bars).tolist(), np.sqrt(1.0 - bars).tolist()
    return Visited(
        T=T,
        states=numbered(told, T),
        signals=tuple(signals),
        noises=tuple(noises),
        timesteps=tuple(told),
        scales=tuple(scales),
        start=float(scheduler.init_noise_sigma),
        says="eps and variance" if learned(type(scheduler).__name__, scheduler.config) else "eps",
    )


def _with_variance(x: Tensor, said: Tensor, z: Tensor) -> list[Tensor]:
    """What a network says with its variance, [row channel y x].

    Where there is eps alone it is that of somebody who knows the image. Then the variance is the posterior's, the lower
    end of the range, which the network would say as -1.
    """
    if said.shape == x.shape:
        said = torch.cat([said, torch.full_like(said, -1.0)], dim=1)
    return [x, said, z]


def _straight(scheduler: Any, told: list[float], T: int) -> Visited:
    """States on straight lines from noise to image, shown to the network as they are.

    Their times are T sigma, so they are numbered by those, and not by one more.
    """
    sigmas = [float(sigma) for sigma in scheduler.sigmas]
    if any(after >= before for before, after in pairwise(sigmas)):
        raise DefinitionError(
            f"{type(scheduler).__name__} has sigmas that do not fall from noise to image.",
            consequence="Its states have no order in time.",
            remedy="leave out invert_sigmas, and look at the other options given",
            evidence=f"sigma: {', '.join(f'{sigma:.4g}' for sigma in sigmas[:6])}, ...",
        )
    return Visited(
        T=T,
        # A float32 of 0.7 T may be a little more than that, and would be a state further up.
        states=numbered([math.ceil(round(one, 3)) - 1 for one in told], T),
        signals=tuple(1.0 - sigma for sigma in sigmas),
        noises=tuple(sigmas),
        timesteps=tuple(told),
        scales=(1.0,) * len(told),
        says="velocity",
    )


def _bars(scheduler: Any, sigmas: Tensor | None) -> np.ndarray:
    """alpha-bar of every state, the image among them."""
    if sigmas is not None:
        return 1.0 / (1.0 + np.array([float(sigma) for sigma in sigmas]) ** 2)
    bars = [float(scheduler.alphas_cumprod[int(told)]) for told in scheduler.timesteps]
    return np.array([*bars, float(getattr(scheduler, "final_alpha_cumprod", 1.0))])


@contextmanager
def _drawing(kind: type, z: Tensor) -> Iterator[None]:
    """While it lasts, the one draw that a scheduler of this class may make gives z."""
    module: Any = importlib.import_module(kind.__module__)
    before = getattr(module, "randn_tensor", None)
    left = [z]

    def draw(shape: Any, *_: Any, **how: Any) -> Tensor:
        if not left or tuple(shape) != tuple(z.shape):
            raise DefinitionError(
                f"{kind.__name__} draws more noise in a step than there is of its states.",
                consequence="It would come from a generator that no seed decides.",
                remedy="use another scheduler",
            )
        return left.pop().to(how.get("dtype") or z.dtype)

    if before is not None:
        module.randn_tensor = draw
    try:
        yield
    finally:
        if before is not None:
            module.randn_tensor = before


def _tensor(value: Any) -> Tensor:
    """A number is one pixel of one channel: a scheduler may look for channels."""
    if isinstance(value, Tensor):
        return value
    return (
        torch.from_numpy(value)
        if isinstance(value, np.ndarray)
        else torch.full((1, 1, 1, 1), value, dtype=torch.float64)
    )


def _plain(value: Any) -> Any:
    """A value of a configuration as JSON can hold it."""
    if isinstance(value, np.ndarray | Tensor):
        return np.asarray(value).tolist()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
