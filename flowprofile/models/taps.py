"""Listening to a network's layers, and changing what they put out, so that nothing is left behind.

A forward hook is easy to attach and easy to get wrong: one that is attached before a later name is refused stays;
one that writes in place edits the layer's *input* where the layer is an Identity; one that keeps a reference sees
what a later in-place operation made of it. So every name is resolved first, every hook lives in one `with`, edits
return new tensors, and what is kept is a copy. A layer's address is (name, call): a module may run several times in
one forward. A forward begins when the whole network is called; guidance, for one, is two forwards.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from flowprofile.conditioning.interventions import Intervention, Part
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import editing, outputs
from flowprofile.models.addresses import Tap as Tap
from flowprofile.models.addresses import Wanted as Wanted
from flowprofile.models.addresses import matches, named, network
from flowprofile.models.addresses import resolve as resolve
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.sites import Place

T = TypeVar("T")
PLAIN: Final = Place()
Edit: TypeAlias = Callable[[Tensor], Tensor]
"""An out-of-place change of a layer's output, [lane channel y x] -> the same shape."""


@dataclass
class _Site:
    """What happens at one module."""

    name: str
    module: nn.Module
    edits: list[tuple[int | str | None, Edit]] = field(default_factory=list)
    taps: list[Tap] = field(default_factory=list)
    place: Place = PLAIN
    """Where in its output the picture is."""


class _Ended(BaseException):
    """Ends a forward early. No Exception, so that a network's own `except Exception` does not swallow it."""

    def __init__(self, by: "Seen") -> None:
        self.by = by


class Seen(Mapping[str, Tensor]):
    """What the tapped layers put out in the latest forward; still readable after the `with`.

    `seen[name]` is a layer's latest firing, `seen[name, k]` its k-th, `seen[tap]` what that very tap took. Reading a
    layer that has not run is refused, so iterating never leaves one out silently.
    """

    def __init__(
        self, taps: Sequence[Tap], *, graph: bool, stop: bool, known: Mapping[str, int], in_place: bool
    ) -> None:
        self._taps: dict[str, list[Tap]] = {}
        for tap in taps:
            self._taps.setdefault(tap.name, []).append(tap)
        self._active = frozenset(self._taps)
        self._graph = graph
        self._stop = stop
        self._in_place = in_place
        self._known = dict(known)
        self._kept: dict[Tap, dict[int, Tensor]] = {}
        self._calls: dict[str, int] = {}
        self._fired: Counter[str] = Counter()
        self._left: dict[str, int] | None = None

    def __getitem__(self, key: str | tuple[str, int] | Tap) -> Tensor:
        name, call = key if isinstance(key, tuple) else (key, None)
        taps = self._meant(name, call)
        firings = {at: kept for tap in taps for at, kept in self._kept.get(tap, {}).items()}
        if not firings or (call is not None and call not in firings):
            raise self._absent(taps[0], call)
        return firings[max(firings) if call is None else call]

    def __iter__(self) -> Iterator[str]:
        ran = self.order
        return iter((*ran, *(name for name in self._taps if name in self._active and name not in ran)))

    def __len__(self) -> int:
        return len(self._active)

    def __contains__(self, key: object) -> bool:
        return any(key in (tap, tap.name) for tap in self._kept)

    @property
    def order(self) -> tuple[str, ...]:
        """The tapped layers that ran in the latest forward, in the order of their first firing."""
        return tuple(name for name in self._calls if name in self._active)

    @property
    def firings(self) -> Mapping[str, int]:
        """How often each layer fires in one `run`, as far as complete runs have shown; good as `probe=`."""
        return dict(self._known)

    def ran(self) -> tuple[str, ...]:
        """`order`, or a refusal that names the first layer that is listened to and did not run."""
        for name in self:
            if name not in self:
                raise self._absent(self._taps[name][0], None)
        return self.order

    def only(self, names: str | Iterable[str] | None = None) -> None:
        """Listen to these of the tapped layers only, from the next firing on; None: to all of them."""
        patterns = list(self._taps) if names is None else [names] if isinstance(names, str) else list(names)
        found: list[str] = []
        for pattern in patterns:
            found += matches(pattern, list(self._taps))
        self._active = frozenset(found)

    def run(self, call: Callable[[], T]) -> T | None:
        """Run `call` and return its result; None where `stop` ended it after the last layer listened to.

        The first run is complete, unless a probe was given: it shows how often each layer fires.
        """
        self._begin()
        self._fired.clear()
        if self._stop and self._active <= self._known.keys():
            self._left = {name: self._known[name] for name in self._active if self._known[name]}
        try:
            result = call()
        except _Ended as ended:
            if ended.by is not self:
                raise
            return None
        finally:
            self._left = None
        self._known.update({name: self._fired[name] for name in (*self._fired, *self._active)})
        return result

    def _begin(self, *_: object) -> None:
        """A forward of the whole network begins."""
        self._kept.clear()
        self._calls.clear()

    def _fire(self, site: _Site, module: nn.Module, given: object, out: Any) -> Any:
        """The one hook of a site: edits first, so that its taps see what the rest of the network gets."""
        for select, edit in site.edits:
            select = site.place.select if select is None else select
            before = outputs.on_grid(outputs.part(out, select, site.name), site.place.grid)
            new = outputs.edited(site.name, edit, before, in_place=self._in_place)
            out = outputs.replaced(out, select, outputs.off_grid(new, site.place.grid))
        if site.name not in self._active:
            return out
        call = self._calls.get(site.name, 0)
        self._calls[site.name] = call + 1
        for tap in site.taps:
            if tap.call in (None, call):
                out = self._keep(tap, call, out, site.place)
        self._passed(site.name)
        return out

    def _keep(self, tap: Tap, call: int, out: Any, place: Place) -> Any:
        select = place.select if tap.select is None else tap.select
        value = outputs.on_grid(outputs.part(out, select, tap.name), place.grid)
        if not self._graph:
            taken = outputs.taken(tap.name, tap.reduce, value)
            if taken is not None:
                self._kept.setdefault(tap, {})[call] = taken
            return out
        if not torch.is_grad_enabled():
            raise DefinitionError(
                f"{tap.name!r} ran where torch keeps no gradients.",
                consequence="graph=True has no graph to keep.",
                remedy="call the network outside torch.no_grad(), or leave graph=True out",
            )
        here, onwards = outputs.held(value)
        kept = here if tap.reduce is None else tap.reduce(here)
        if kept is not None:
            self._kept.setdefault(tap, {})[call] = kept
        return outputs.replaced(out, select, outputs.off_grid(onwards, place.grid))

    def _passed(self, name: str) -> None:
        """Count a firing; end the forward where nothing that is wanted can follow."""
        self._fired[name] += 1
        if self._left and name in self._left:
            self._left[name] -= 1
            if self._left[name] <= 0:
                del self._left[name]
            if not self._left:
                raise _Ended(self)

    def _meant(self, key: str | Tap, call: int | None) -> list[Tap]:
        """The taps a key stands for; they differ at most in the firing they keep."""
        name = key.name if isinstance(key, Tap) else key
        taps = [tap for tap in self._taps.get(name, ()) if key in (tap, name)]
        if not taps:
            raise DefinitionError(
                f"{key!r} is not tapped.",
                consequence="Nothing was kept of it.",
                remedy=nearest(name, self._taps),
            )
        if len({(tap.select, tap.reduce) for tap in taps}) > 1:
            raise DefinitionError(
                f"{len(taps)} taps listen to {name!r} and take different things of it.",
                consequence="Its name does not say which is meant.",
                remedy="read by the tap itself: seen[tap]",
            )
        return [tap for tap in taps if call is None or tap.call in (None, call)] or taps

    def _absent(self, tap: Tap, call: int | None) -> DefinitionError:
        ran = self._calls.get(tap.name, 0)
        asked = tap.call if call is None else call
        what = "did not run" if asked is None or not ran else f"has no firing {asked}: it ran {ran} times"
        if tap.name in self._taps and tap.name not in self._active:
            what = "was not listened to"
        return DefinitionError(
            f"{tap.name!r} {what} in the latest forward.",
            consequence="There is nothing to read.",
            remedy="call the network inside the `with`; `order` shows the layers that run, and `only` those wanted",
            evidence=f"ran: {', '.join(self.order) or 'no tapped layer'}",
        )


@dataclass(frozen=True)
class Prepared:
    """Taps whose modules have been found, for a listener who comes and goes with every forward."""

    taps: tuple[Tap, ...]
    modules: Mapping[str, nn.Module]


def prepared(model: nn.Module | Denoiser, taps: Wanted | Iterable[Wanted]) -> Prepared:
    """Find the modules of taps once; see `tapping`."""
    root, found = network(model), resolve(model, taps)
    return Prepared(found, {tap.name: root.get_submodule(tap.name) for tap in found})


@contextmanager
def tapping(
    model: nn.Module | Denoiser,
    taps: Wanted | Iterable[Wanted] | Prepared = (),
    *,
    interventions: Part | Intervention | Iterable[Part | Intervention] = (),
    edits: Mapping[str, Edit] | Mapping[str | Tap, Edit] | None = None,
    graph: bool = False,
    stop: bool = False,
    probe: Mapping[str, int] | None = None,
    in_place: bool = False,
) -> Iterator[Seen]:
    """Listen to layers, and edit them, while the `with` lasts.

    >>> with tapping(nn.Sequential(nn.Linear(2, 3), nn.ReLU()), "?") as seen:
    ...     out = seen.run(lambda: torch.zeros(1))
    >>> seen.order
    ()

    Parameters
    ----------
    model, taps
        A network, a denoiser or a pipeline of diffusers', and where to listen: see `resolve`, or `prepared` taps of the same network. Tokens of a
        denoiser's layer, [lane token channel], come as the picture they fill, [lane channel y x].
    interventions
        Parts, or whole interventions, applied to every lane of every call. They go together by the rules of an
        `Intervention`; a switch, a span, a mask, and what reads another run (a donor, an own channel) are refused.
    edits
        By the name of a layer (or by a Tap, whose `select` names the part of a tuple), after the interventions.
    graph
        Keep what autograd needs, so that gradients at the kept outputs exist, even where neither the input nor the
        weights ask for any. Otherwise outputs are detached copies.
    stop
        `seen.run(call)` ends the forward after the last layer listened to.
    probe
        What `firings` found, so that already the first run can stop.
    in_place
        Write edits into the layer's output as the thesis' code did (compat="thesis-2023"): where the layer is an
        Identity that changes its input too, and with it the skip.

    Raises
    ------
    DefinitionError
        For a name the network does not have, and for parts that cannot be carried out, before anything is attached.
    """
    root = network(model)
    ready = taps if isinstance(taps, Prepared) else prepared(root, taps)
    found = ready.taps
    known = _checked(found, probe, stop=stop)
    seen = Seen(found, graph=graph, stop=stop, known=known, in_place=in_place)
    changes = [*editing.everywhere(interventions).items(), *_callable(edits or {}).items()]
    sites = _sites(root, ready, changes, getattr(model, "places", {}))
    counted = [edit for _, edit in changes if isinstance(edit, editing.SiteEdit)]
    with ExitStack() as stack:
        stack.callback(root.register_forward_pre_hook(seen._begin).remove)
        if counted:
            stack.callback(root.register_forward_pre_hook(partial(_begin_edits, counted)).remove)
        for site in sites:
            stack.callback(site.module.register_forward_hook(partial(seen._fire, site)).remove)
        yield seen


def firings(
    model: nn.Module | Denoiser, layers: Wanted | Iterable[Wanted], call: Callable[[], object]
) -> dict[str, int]:
    """How often each layer fires in one `call`, in the order of first firings; one that does not run is refused."""
    found = resolve(model, layers)
    counts: Counter[str] = Counter()
    _watch(network(model), [tap.name for tap in found], call, lambda name, out: counts.update((name,)))
    for tap in found:
        if not counts[tap.name]:
            raise DefinitionError(
                f"{tap.name!r} did not run.",
                consequence="It has no place in the order of execution.",
                remedy="leave it out",
                evidence=f"ran: {', '.join(counts) or 'none of the layers'}",
            )
    return dict(counts)


def order(
    model: nn.Module | Denoiser, layers: Wanted | Iterable[Wanted], call: Callable[[], object]
) -> tuple[str, ...]:
    """The layers in the order in which they first fire in one `call`; registration order is another one."""
    return tuple(firings(model, layers, call))


def shapes(model: nn.Module | Denoiser, call: Callable[[], object]) -> dict[str, tuple[int, ...]]:
    """The shape of what every module that ran put out last, in the order of execution; works on the meta device.

    The tensors of a tuple stand under `name[0]`, `name[1]`, ..., whose numbers are a tap's `select`.
    """
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, out: Any) -> None:
        several = enumerate(out) if isinstance(out, tuple | list) else ()
        parts = {name: out, **{f"{name}[{number}]": part for number, part in several}}
        found.update({key: tuple(part.shape) for key, part in parts.items() if isinstance(part, Tensor)})

    root = network(model)
    _watch(root, [name for name, _ in root.named_modules() if name], call, note)
    return found


def _watch(
    root: nn.Module, names: Iterable[str], call: Callable[[], object], note: Callable[[str, Any], None]
) -> None:
    """Run `call`, noting every firing of these modules."""

    def hook(name: str, module: nn.Module, given: object, out: object) -> None:
        note(name, out)

    with ExitStack() as stack:
        for name in dict.fromkeys(names):
            module = root.get_submodule(name)
            stack.callback(module.register_forward_hook(partial(hook, name)).remove)
        call()


def _checked(found: Sequence[Tap], probe: Mapping[str, int] | None, *, stop: bool) -> Mapping[str, int]:
    if stop and not found:
        raise DefinitionError(
            "stop=True without a tap.",
            consequence="There is no last layer after which to end the forward.",
            remedy="name the layers to listen to, or leave stop=True out",
        )
    if probe is not None and not isinstance(probe, Mapping):
        raise DefinitionError(
            f"A probe of type {type(probe).__name__!r} does not say how often a layer fires.",
            consequence="Under guidance a forward would end before the conditional half.",
            remedy="pass what `firings(model, layers, call)` returns",
        )
    return probe or {}


def _begin_edits(edits: Sequence[editing.SiteEdit], *_: object) -> None:
    for edit in edits:
        edit.begin()


def _callable(edits: object) -> Mapping[str | Tap, Edit]:
    if isinstance(edits, Mapping) and all(callable(edit) for edit in edits.values()):
        return edits
    raise DefinitionError(
        f"edits={edits!r} does not say which function changes which layer.",
        consequence="There is nothing to attach.",
        remedy='give functions by layer: edits={"mid_attn.fn": lambda a: 0.5 * a}',
    )


def _sites(
    root: nn.Module,
    ready: Prepared,
    changes: Sequence[tuple[str | Tap, Edit]],
    places: Mapping[str, Place],
) -> list[_Site]:
    """The modules concerned; an edit of a tuple changes what the taps of that layer select, if they agree.

    Edits come first: a module may hang in the network under two names, edited by one and tapped by the other.
    """
    sites: dict[str, _Site] = {}
    for tap in ready.taps:
        sites.setdefault(
            tap.name, _Site(tap.name, ready.modules[tap.name], place=places.get(tap.name, PLAIN))
        ).taps.append(tap)
    for key, edit in changes:
        asked = key if isinstance(key, Tap) else Tap(key)
        for name in named(root, asked.name):
            site = sites.setdefault(
                name, _Site(name, root.get_submodule(name), place=places.get(name, PLAIN))
            )
            selects = {tap.select for tap in site.taps} if asked.select is None else {asked.select}
            select = selects.pop() if len(selects) == 1 else None
            site.edits.append((select, edit))
    return sorted(sites.values(), key=lambda site: not site.edits)
