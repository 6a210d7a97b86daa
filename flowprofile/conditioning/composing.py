"""Which parts go together in one intervention, and the one way in which they are put down.

Parts go together where the order of doing them cannot matter: they meet at no step, no layer or no channel, or they
are of one kind that commutes. At a channel where two of them meet

============  ==========================================================================================
zero, zero    commute under any masks: both multiply every pixel by a number
scale, scale  commute under any masks, for the same reason
steer, steer  commute: both add
mean, mean    commute only under the same mask: a mean taken after another one's patch of mean is another
others        refused: patch and steer are not linear; zero leaves nothing for scale or mean to act upon,
              and a scaled mean is not to the last bit the mean of what was scaled
============  ==========================================================================================

What a mask covers is not known here, so masked parts are taken to meet.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

from flowprofile.conditioning.parts import Ablation, Part, Patch, Steer, Switch, layers_of
from flowprofile.errors import DefinitionError


def composed(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts in their one order, what can be said as one part said as one; DefinitionError where they clash."""
    given = tuple(parts)
    for part, count in Counter(given).items():
        if count > 1:
            raise _doubled(f"{str(part)!r} is part of one intervention twice.")
    united = _united(given)
    for one, other in combinations(united, 2):
        if not (_apart(one, other) or _alike(one, other)):
            raise _clash(one, other)
    return tuple(sorted(united, key=str))


def _united(parts: tuple[Part, ...]) -> list[Part]:
    """Ablations that differ in their channels only become one of all the channels."""
    found: list[Part] = []
    groups: dict[Ablation, set[int]] = {}
    for part in parts:
        if not isinstance(part, Ablation) or not isinstance(part.channels, tuple):
            found.append(part)
            continue
        channels = groups.setdefault(replace(part, channels=(0,)), set())
        twice = channels & set(part.channels)
        if part.mode == "scale" and twice:
            raise _doubled(f"{str(part)!r} scales the channels {sorted(twice)} a second time.")
        channels.update(part.channels)
    return [*found, *(replace(part, channels=tuple(channels)) for part, channels in groups.items())]


def _apart(one: Part, other: Part) -> bool:
    """Whether no step, no layer or no channel sees both."""
    if isinstance(one, Switch) or isinstance(other, Switch):
        return not (isinstance(one, Switch) and isinstance(other, Switch))
    if one.span.last > other.span.first or other.span.last > one.span.first:
        return True
    if not set(layers_of(one)) & set(layers_of(other)):
        return True
    mine, theirs = _channels(one), _channels(other)
    return mine is not None and theirs is not None and not mine & theirs


def _channels(part: Part) -> set[int] | None:
    """The channels it changes; None where it may be any."""
    if isinstance(part, Ablation) and isinstance(part.channels, tuple):
        return set(part.channels)
    if isinstance(part, Steer) and isinstance(part.vector, tuple):
        return {channel for channel, value in enumerate(part.vector) if value}
    return None


def _alike(one: Part, other: Part) -> bool:
    """Whether two parts that meet are of one kind whose order does not matter."""
    if isinstance(one, Ablation) and isinstance(other, Ablation) and one.mode == other.mode:
        same_mask = (one.mask, one.mask_digest) == (other.mask, other.mask_digest)
        return one.mode in ("zero", "scale") or same_mask
    return isinstance(one, Steer) and isinstance(other, Steer)


def _doubled(fact: str) -> DefinitionError:
    return DefinitionError(
        fact,
        consequence="It would not be clear whether it is meant once or twice.",
        remedy="leave one out; to act twice as strongly, give one part the product of the factors",
    )


def _clash(one: Part, other: Part) -> DefinitionError:
    if isinstance(one, Switch):
        return DefinitionError(
            f"{str(one)!r} and {str(other)!r} are two switches in one intervention.",
            consequence="From some step on there would be two labels.",
            remedy="keep one switch; a list of steps, at = [900, 800], makes one intervention of each",
        )
    where = ", ".join(repr(layer) for layer in layers_of(one) if layer in layers_of(other))
    patched = isinstance(one, Patch) or isinstance(other, Patch)
    return DefinitionError(
        f"{str(one)!r} and {str(other)!r} do not commute: they meet at {where}.",
        consequence="The result would depend on which is done first, or one of them would do nothing.",
        remedy="give them different layers or spans, or make two interventions of them"
        if patched
        else "give them different layers, channels or spans, or make two interventions of them",
    )
