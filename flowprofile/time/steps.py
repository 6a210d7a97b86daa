"""Which states a sampler visits, and which of them are kept.

Time is presented from T down to 0, the direction of generation, so a slice counts generated states: "::50" keeps
T, T-50, ..., 0, and of a sampler with 20 steps only T. A filter that silently keeps nothing, nothing but noise, or
the same state twice, would surface as an empty or a doubled axis long after the forwards were paid for; every such
filter is refused here.
"""

from collections.abc import Mapping, Sequence

from flowprofile.errors import DefinitionError

Spec = int | str | Sequence[int] | Mapping[str, int]
"""A state, a list of states, a slice "a:b:c" over the descending grid, or {"exponential": n}."""

_FORMS = 'a list of states such as [1000, 500, 0], a slice such as "::50", or { exponential = 20 }'


def full(T: int) -> tuple[int, ...]:
    """Every state, from noise to image.

    >>> full(3)
    (3, 2, 1, 0)
    """
    return tuple(range(T, -1, -1))


def respaced(T: int, n: int) -> tuple[int, ...]:
    """The n + 1 states of a sampler with n transitions, as evenly spread as whole numbers allow.

    States keep their original number, so a profile of 50 steps lies on the axis of one of 1000.

    >>> respaced(1000, 4)
    (1000, 750, 500, 250, 0)
    """
    if not 1 <= n <= T:
        raise DefinitionError(
            f"A sampler of {n!r} transitions does not fit a model of {T} steps.",
            consequence="Some state would be visited twice, or none at all.",
            remedy=f"use 1 to {T} transitions",
        )
    return tuple((2 * T * (n - k) + n) // (2 * n) for k in range(n + 1))


def kept(spec: Spec, grid: Sequence[int]) -> tuple[int, ...]:
    """The states of the descending `grid` that `spec` keeps, descending.

    >>> kept("::2", full(5))
    (5, 3, 1)
    >>> kept({"exponential": 4}, full(1000))
    (1000, 99, 9, 0)
    """
    if isinstance(spec, str):
        chosen = tuple(grid[_slice(spec)])
    elif isinstance(spec, Mapping):
        chosen = _exponential(spec, grid)
    else:
        chosen = _listed((spec,) if isinstance(spec, int) else spec, grid)
    if not chosen:
        raise DefinitionError(
            f"The step filter {spec!r} keeps no state.",
            consequence="The time axis would be empty.",
            remedy=f"give {_FORMS}",
            evidence=_visits(grid),
        )
    return chosen


def generated(spec: Spec, grid: Sequence[int]) -> tuple[int, ...]:
    """As `kept`, for what a definition stores: a slice that passes over all but noise is refused.

    >>> generated("::10", respaced(1000, 20))
    (1000, 500, 0)
    """
    chosen = kept(spec, grid)
    if isinstance(spec, str) and chosen == (grid[0],) and len(grid) > 1:
        raise DefinitionError(
            f"The step filter {spec!r} keeps only t = {grid[0]}, which is noise.",
            consequence="A slice counts the states the sampler visits, not t: nothing of what it makes would be kept.",
            remedy=f'use a smaller stride, for instance "::{_tenth(grid)}" (t = {", ".join(map(str, grid[:: _tenth(grid)]))}),'
            f" or name the states: [{grid[0]}]",
            evidence=_visits(grid),
        )
    return chosen


def hundredth(grid: Sequence[int]) -> tuple[int, ...]:
    """Every hundredth generated state but noise itself; of a sampler with fewer steps the first it steps into.

    >>> hundredth(respaced(1000, 500))
    (800, 600, 400, 200, 0)
    >>> hundredth(respaced(1000, 20))
    (950,)
    """
    return tuple(grid[100::100]) or tuple(grid[1:2])


def stepped(spec: Spec, grid: Sequence[int]) -> tuple[int, ...]:
    """As `kept`, for what belongs to a step and not to a state: noise itself, which no step leads to, is left out.

    The same filter thus means the same states of the trajectory and of what the network showed on the way into them.

    >>> stepped("::2", full(5))
    (3, 1)
    """
    if isinstance(spec, str | Mapping):
        return tuple(t for t in generated(spec, grid) if t != grid[0])
    return kept(spec, grid[1:])


def _visits(grid: Sequence[int]) -> str:
    return f"the sampler visits {len(grid)} states from {grid[0]} down to {grid[-1]}"


def _tenth(grid: Sequence[int]) -> int:
    """A stride that keeps about ten of the states."""
    return max(1, (len(grid) - 1) // 10)


def _slice(text: str) -> slice:
    parts = text.split(":")
    try:
        start, stop, stride = ([int(part) if part.strip() else None for part in parts] + [None, None])[:3]
    except ValueError:
        parts = []
    if not 2 <= len(parts) <= 3:
        raise DefinitionError(
            f"The step filter {text!r} is not a slice.",
            consequence="It is not known which states to keep.",
            remedy=f"give {_FORMS}",
        )
    if stride is not None and stride < 1:
        raise DefinitionError(
            f"The step filter {text!r} has stride {stride}.",
            consequence="Time runs from T down to 0 and is never reversed or held.",
            remedy="use a stride of at least 1; time is already descending",
        )
    return slice(start, stop, stride)


def _exponential(spec: Mapping[str, int], grid: Sequence[int]) -> tuple[int, ...]:
    """Both ends and a geometric spacing between: dense near the image, where detail is made."""
    count = spec.get("exponential")
    if set(spec) != {"exponential"} or not isinstance(count, int) or not 2 <= count <= len(grid):
        raise DefinitionError(
            f"The step filter {dict(spec)!r} is not understood.",
            consequence="It is not known which states to keep.",
            remedy=f"write {{ exponential = n }} with n from 2 to {len(grid)}, the number of states visited",
        )
    position, ascending = -1, grid[::-1]
    chosen = []
    for k in range(count):
        # Near the image the geometric series is finer than whole positions; stepping by one there cannot overrun
        # the end, because the series is convex and has at most as many terms as there are positions.
        position = max(position + 1, round(len(grid) ** (k / (count - 1))) - 1)
        chosen.append(ascending[position])
    return tuple(reversed(chosen))


def _listed(states: Sequence[object], grid: Sequence[int]) -> tuple[int, ...]:
    chosen = [t for t in states if isinstance(t, int) and not isinstance(t, bool) and t in grid]
    if len(chosen) < len(states):
        wrong = next(t for t in states if isinstance(t, bool) or not isinstance(t, int) or t not in grid)
        near = sorted(grid, key=lambda t: abs(t - wrong))[:2] if isinstance(wrong, int) else list(grid[:2])
        raise DefinitionError(
            f"State {wrong!r} is not one the sampler visits.",
            consequence="It would stay empty for ever.",
            remedy=f"use states such as {near!r}",
            evidence=_visits(grid),
        )
    repeated = sorted({t for t in chosen if chosen.count(t) > 1}, reverse=True)
    if repeated:
        raise DefinitionError(
            f"The step filter names {', '.join(map(str, repeated))} twice.",
            consequence="The time axis would hold a state twice, and selecting it would be ambiguous.",
            remedy="name each state once",
        )
    return tuple(sorted(chosen, reverse=True))
