"""What a set of curves is: finite numbers [seed, step], of enough seeds, in the order of generation.

Every statement of this room is over seeds, so the seed is the unit that is drawn, paired and counted; the steps of
one seed are never taken for independent samples.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flowprofile.errors import DefinitionError, NonFiniteError

Values = NDArray[np.float64]
Steps = NDArray[np.int64]

NEVER: Final = -1
"""Where a step is asked for that does not exist: it did not happen by the last step."""

LEAST_SEEDS: Final = 3
"""Fewer seeds say next to nothing about a spread: with two, a 95 % t interval is 18 standard errors wide."""


def curves_of(values: ArrayLike, *, name: str = "curves", least_seeds: int = LEAST_SEEDS) -> Values:
    """The values as float64[seed, step], refused unless they are finite and of enough seeds."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not array.shape[1]:
        raise DefinitionError(
            f"{name} have the shape {array.shape!r}.",
            consequence="Which of the axes are seeds and which are steps cannot be told.",
            remedy="pass an array [seed, step] with steps in the order of generation",
        )
    if len(array) < least_seeds:
        raise DefinitionError(
            f"{name} are of {len(array)} seed(s).",
            consequence="Their spread over seeds, and so every interval, would be a guess.",
            remedy=f"sample at least {least_seeds} seeds; 30 are a good start",
        )
    _refuse_not_finite(array, name)
    return array


def excess(curves: ArrayLike, null: ArrayLike) -> Values:
    """What the curves have beyond their null, seed by seed: curves - null, both [seed, step].

    Row i of both must be the same seed: what the two share (its noise, its image) then cancels.
    """
    ours, theirs = curves_of(curves), curves_of(null, name="null curves")
    refuse_unpaired(ours, theirs, "curves and null curves")
    return ours - theirs


def refuse_unpaired(first: NDArray[np.generic], second: NDArray[np.generic], names: str) -> None:
    """Refuse two arrays that cannot be compared seed by seed."""
    if first.shape != second.shape:
        raise DefinitionError(
            f"The {names} have the shapes {first.shape!r} and {second.shape!r}.",
            consequence="They cannot be paired by seed, and unpaired they would not share their noise.",
            remedy="pass the same seeds and steps of both, in the same order",
        )


def probability_of(alpha: float, *, name: str = "alpha") -> float:
    """A probability of error as a float, refused unless it lies between 0 and .5."""
    if not 0 < alpha < 0.5:
        raise DefinitionError(
            f"{name} is {alpha!r}.",
            consequence="A statement that may be wrong every second time is none.",
            remedy="pass a probability of error between 0 and .5, such as .05",
        )
    return float(alpha)


def window_of(width: int, steps: int) -> int:
    """A width in steps, refused unless a window of it has a slope and fits."""
    if not 2 <= width <= steps:
        raise DefinitionError(
            f"A window of {width!r} steps does not fit curves of {steps} steps.",
            consequence="There is no window to look at.",
            remedy=f"pass a width from 2 to {steps}",
        )
    return int(width)


def longest_run(holds: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last index of the longest run of True (the earliest of equals), or NEVER twice.

    >>> longest_run(np.array([True, False, True, True]))
    (2, 3)
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], holds, [False]))))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return NEVER, NEVER
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest]) - 1


def start_of_tail(holds: NDArray[np.bool_]) -> Steps:
    """First index along the last axis from which on everything is True; NEVER where the last one is False.

    >>> start_of_tail(np.array([[True, False, True, True], [True, True, True, False]]))
    array([ 2, -1])
    """
    tail = np.logical_and.accumulate(holds[..., ::-1], axis=-1).sum(axis=-1)
    return np.where(tail > 0, holds.shape[-1] - tail, NEVER).astype(np.int64)


def first_of(holds: NDArray[np.bool_]) -> Steps:
    """First index along the last axis that is True; NEVER where none is."""
    return np.where(holds.any(axis=-1), holds.argmax(axis=-1), NEVER).astype(np.int64)


def _refuse_not_finite(array: Values, name: str) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        seed, step = bad[0].tolist()
        raise NonFiniteError(
            f"{name} hold {array[seed, step]} at seed {seed}, step {step} (both counted from 0).",
            consequence="Every mean over seeds at that step would be no number.",
            remedy="compute what is missing, or select seeds and steps whose cells are stored",
            evidence=f"{len(bad)} of {array.size} values are not finite",
        )
