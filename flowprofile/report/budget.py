"""How many seeds each experiment can afford: a budget of minutes, shared out by what a plan says they will cost.

What is left is shared again before each of them, so that one which took less leaves the rest to the others.
"""

from collections.abc import Callable, Sequence

from flowprofile.errors import DefinitionError


def shares(full: Sequence[float], least: Sequence[float], total: float) -> list[float]:
    """What each may take of a total: as much as all others, but no more than it needs and no less than its least.

    >>> shares([10.0, 100.0, 100.0], [1.0, 1.0, 1.0], 110.0)
    [10.0, 50.0, 50.0]
    """
    low, high = 0.0, max(full, default=0.0)
    if sum(full) <= total:
        return list(full)
    for _ in range(64):
        level = (low + high) / 2
        if sum(_at(level, full, least)) > total:
            high = level
        else:
            low = level
    return [round(each, 6) for each in _at(low, full, least)]


def _at(level: float, full: Sequence[float], least: Sequence[float]) -> list[float]:
    return [min(most, max(few, level)) for most, few in zip(full, least, strict=True)]


def affordable(cost: Callable[[int], float], seconds: float, *, least: int, most: int) -> int:
    """The largest number of seeds from least to most whose cost, which never falls, is within the seconds.

    The least is given even where it costs more: a page without an item would hide that it was asked.

    >>> affordable(lambda n: 10.0 * n, 75.0, least=4, most=30)
    7
    """
    if least > most:
        raise DefinitionError(f"There is no number of seeds from {least} to {most}.")
    if cost(most) <= seconds:
        return most
    low, high = least, most
    while high - low > 1:
        middle = (low + high) // 2
        if cost(middle) <= seconds:
            low = middle
        else:
            high = middle
    return low
