"""One plain function per sampling algorithm: from state t_from to state t_to < t_from.

All take (x, eps, z) and work on torch tensors, NumPy arrays and bare numbers alike, since every coefficient is a
Python float. Each rule is linear in its three arguments; `coefficients` reads the factors off, so that a gradient
or a null model never repeats a formula. Pairs with t_from > t_to + 1 are steps of a respaced sampler and use the
effective alpha = alpha_bar(t_from) / alpha_bar(t_to).
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Literal, NamedTuple, Protocol

from flowprofile.errors import DefinitionError, nearest
from flowprofile.time.schedule import Levels


class Rule(Protocol):
    """One step of a sampler with its options bound."""

    def __call__(self, x: Any, eps: Any, z: Any, *, schedule: Levels, t_from: int, t_to: int) -> Any: ...


class Coefficients(NamedTuple):
    """x_{t_to} = x * x_{t_from} + eps * eps + z * z."""

    x: float
    eps: float
    z: float


def ddpm(
    x: Any,
    eps: Any,
    z: Any,
    *,
    schedule: Levels,
    t_from: int,
    t_to: int,
    variance: Literal["posterior", "beta"] = "posterior",
) -> Any:
    """Ancestral sampling: Ho et al. 2020, Algorithm 2, without clipping of x_0.

    ``variance="posterior"`` adds beta (1 - abar_to) / (1 - abar_from), ``"beta"`` adds beta itself; with either
    the step into t = 0 adds nothing. The thesis' text says beta, its code the posterior variance.
    """
    abar_from, abar_to = _levels(schedule, t_from, t_to)
    alpha = abar_from / abar_to
    beta = 1.0 - alpha
    mean = (x - eps * (beta / math.sqrt(1.0 - abar_from))) * (1.0 / math.sqrt(alpha))
    if t_to == 0:
        return mean + z * 0.0
    added = beta if variance == "beta" else beta * (1.0 - abar_to) / (1.0 - abar_from)
    return mean + z * math.sqrt(added)


def ddim(x: Any, eps: Any, z: Any, *, schedule: Levels, t_from: int, t_to: int, eta: float = 0.0) -> Any:
    """Song et al. 2021, Eq. 12 with the variance of Eq. 16 scaled by eta: 0 is deterministic, 1 is DDPM's."""
    abar_from, abar_to = _levels(schedule, t_from, t_to)
    sigma = eta * math.sqrt((1.0 - abar_to) / (1.0 - abar_from) * (1.0 - abar_from / abar_to))
    x0 = (x - eps * math.sqrt(1.0 - abar_from)) * (1.0 / math.sqrt(abar_from))
    mean = x0 * math.sqrt(abar_to) + eps * math.sqrt(1.0 - abar_to - sigma**2)
    return mean + z * sigma


RULES: Final[Mapping[str, Callable[..., Any]]] = {"ddpm": ddpm, "ddim": ddim}


def parameters(name: str) -> dict[str, object]:
    """A rule's own parameters with their defaults.

    >>> parameters("ddim")
    {'eta': 0.0}
    """
    signature = inspect.signature(_named(name))
    return {
        p.name: p.default for p in signature.parameters.values() if p.default is not inspect.Parameter.empty
    }


def rule(name: str, **options: object) -> Rule:
    """The named rule with its options bound, each of them checked before any step is taken."""
    function, known = _named(name), parameters(name)
    for key, value in options.items():
        if key not in known:
            raise DefinitionError(
                f"The sampler rule {name!r} has no parameter {key!r}.",
                consequence="It would be ignored, and the run would not be the one asked for.",
                remedy=nearest(key, known) if known else "leave it out",
            )
        _check(name, key, value)
    bound: Rule = partial(function, **options)
    return bound


def coefficients(rule: Rule, *, schedule: Levels, t_from: int, t_to: int) -> Coefficients:
    """The three factors of a step, read off the rule itself by giving it unit vectors.

    d x_{t_to} / d x_{t_from} is therefore ``c.x * identity + c.eps * d eps / d x``.
    """
    step = partial(rule, schedule=schedule, t_from=t_from, t_to=t_to)
    return Coefficients(step(1.0, 0.0, 0.0), step(0.0, 1.0, 0.0), step(0.0, 0.0, 1.0))


def x0_from_eps(x: Any, eps: Any, *, schedule: Levels, t: int) -> Any:
    """The image predicted from state t: (x - noise eps) / signal, with signal = sqrt(abar), noise = sqrt(1 - abar).

    Where states lie on straight lines, what stands for eps is the velocity v = eps - x_0, and the image is x - noise v:
    the first state holds no signal, so eps would say nothing of the image there. A variance behind eps says nothing of it.
    """
    if schedule.says == "velocity":
        return x - eps * schedule.noise(t)
    if schedule.says == "eps and variance":
        eps = eps[..., : x.shape[-3], :, :]
    return (x - eps * schedule.noise(t)) * (1.0 / schedule.signal(t))


def eps_from_x0(x: Any, x0: Any, *, schedule: Levels, t: int) -> Any:
    """The noise that turns the image x_0 into x at state t >= 1: (x - signal x_0) / noise.

    Where states lie on straight lines it is the velocity (x - x_0) / noise.
    """
    if t == 0:
        raise DefinitionError(
            "State t = 0 holds no noise.",
            consequence="eps is undefined there.",
            remedy="ask at t >= 1",
        )
    return (x - x0 * (1.0 if schedule.says == "velocity" else schedule.signal(t))) * (1.0 / schedule.noise(t))


def _levels(schedule: Levels, t_from: int, t_to: int) -> tuple[float, float]:
    if t_to >= t_from:
        raise DefinitionError(
            f"A step from t = {t_from} to t = {t_to} does not go towards the image.",
            consequence="Samplers run from T down to 0.",
            remedy="give t_from > t_to",
        )
    return schedule.alpha_bar(t_from), schedule.alpha_bar(t_to)


def _named(name: str) -> Callable[..., Any]:
    if name not in RULES:
        raise DefinitionError(
            f"There is no sampler rule {name!r}.",
            consequence="It is not known how to step from one state to the next.",
            remedy=nearest(name, RULES),
        )
    return RULES[name]


def _check(name: str, key: str, value: object) -> None:
    if key == "variance" and value not in ("posterior", "beta"):
        raise DefinitionError(
            f"The variance {value!r} of rule {name!r} is unknown.",
            consequence="It is not known how much noise a step adds.",
            remedy='use "posterior" or "beta"',
        )
    if key == "eta" and not (isinstance(value, int | float) and 0.0 <= value <= 1.0):
        raise DefinitionError(
            f"eta = {value!r} of rule {name!r} is not between 0 and 1.",
            consequence="A step's noise would be more than the state's own, and its square root imaginary.",
            remedy="use 0 for a deterministic sampler, 1 for DDPM's noise",
        )
