"""Names of layers, and what stands for several of them.

Everything that is named is looked up before anything is attached: a hook that hangs on a network because a later
name was wrong changes every run that follows.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TypeAlias

from torch import Tensor, nn

from flowprofile.errors import DefinitionError, nearest
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.layers import layer_ids
from flowprofile.models.unet import UNet


@dataclass(frozen=True)
class Tap:
    """One place to listen at."""

    name: str
    """Name of a module inside the network, or a pattern that stands for several."""
    call: int | None = None
    """Keep this firing only, counted from 0 in every forward; None keeps all, and shows the latest."""
    select: int | str | None = None
    """Which part of an output that is a tuple, a mapping or an object."""
    reduce: Callable[[Tensor], Tensor | None] | None = None
    """What is taken of the output, where it is and before anything is copied; None takes all of it. One that returns
    None has put it away itself, and nothing is kept here."""


Wanted: TypeAlias = str | Tap | Callable[[str, nn.Module], bool]
"""A name, a pattern, a tap, or a choice among (name, module)."""


def resolve(model: nn.Module | Denoiser, taps: Wanted | Iterable[Wanted]) -> tuple[Tap, ...]:
    """Taps with the names of modules, each once, in the order they were asked for.

    A pattern's `*` also stands for dots. It is matched against a U-Net's layer ids, and against all modules where no
    id matches or the network is another one. A name is looked up directly, so resolving again costs next to nothing.
    """
    root = network(model)
    wanted = [taps] if isinstance(taps, str | Tap) or not isinstance(taps, Iterable) else list(taps)
    found: dict[Tap, None] = {}
    for one in wanted:
        found.update(dict.fromkeys(_expanded(root, one)))
    return tuple(found)


def network(model: nn.Module | Denoiser) -> nn.Module:
    """The module whose layers are meant; a closed form has none and is refused."""
    if isinstance(model, str):
        raise DefinitionError(
            f"The model {model!r} is a name.",
            consequence="There is no network in hand whose layers could be meant.",
            remedy=f"load it first: flowprofile.load({model!r})",
        )
    # A pipeline of diffusers' holds its denoiser under one of two names.
    parts = (getattr(model, name, None) for name in ("module", "unet", "transformer"))
    found = (
        model if isinstance(model, nn.Module) else next((part for part in parts if part is not None), None)
    )
    if found is None:
        name = getattr(getattr(model, "card", None), "name", type(model).__name__)
        raise DefinitionError(
            f"The model {name!r} is a formula and has no layers.",
            consequence="There is nothing to listen to and nothing to edit.",
            remedy="ask for what every model has (samples, eps, predicted images), or take a network such as 'digits'",
        )
    return found


def _expanded(root: nn.Module, wanted: Wanted) -> list[Tap]:
    if isinstance(wanted, Tap):
        names = named(root, wanted.name)
        return [wanted] if names == [wanted.name] else [replace(wanted, name=name) for name in names]
    if isinstance(wanted, str):
        return [Tap(name) for name in named(root, wanted)]
    if not callable(wanted):
        raise DefinitionError(
            f"{wanted!r} does not name a layer.",
            consequence="Nothing was attached.",
            remedy='give a name, a pattern ("*.fn"), a Tap, a function of (name, module), or a list of them; () for none',
        )
    chosen = [
        Tap(name) for name, module in root.named_modules() if name and wanted(name, module) and _runs(module)
    ]
    if not chosen:
        raise DefinitionError(
            "The function that chooses layers chose none.",
            consequence="Nothing would be listened to.",
            remedy="let it return True for the (name, module) of a layer; `named_modules()` lists them",
        )
    return chosen


def named(root: nn.Module, name: str) -> list[str]:
    """The module of that name, or those a pattern stands for."""
    try:
        module = root.get_submodule(name)
    except AttributeError:
        ids = layer_ids(root.config) if isinstance(root, UNet) else ()
        if any(fnmatchcase(known, name) for known in ids):
            return matches(name, ids)
        return matches(name, [known for known, module in root.named_modules() if known and _runs(module)])
    if not _runs(module):
        raise DefinitionError(
            f"{name!r} holds modules and does not run itself.",
            consequence="It never puts anything out.",
            remedy=f"name a module inside it, or all of them: '{name}.*'",
        )
    return [name]


def matches(pattern: str, names: Sequence[str]) -> list[str]:
    """Those of the names that a name or a pattern stands for; none is refused with the nearest."""
    found = [name for name in names if name == pattern] or [n for n in names if fnmatchcase(n, pattern)]
    if not found:
        raise DefinitionError(
            f"There is no layer {pattern!r}.",
            consequence="Nothing was attached.",
            remedy=nearest(pattern, names),
        )
    return found


def _runs(module: nn.Module) -> bool:
    """Whether a module has a forward at all; lists and dicts of modules have none."""
    return "forward" in vars(module) or type(module).forward is not nn.Module.forward
