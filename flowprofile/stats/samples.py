"""What is compared over seeds: finite numbers along named axes, of enough seeds to say anything.

An array of this room begins with the seed, the unit that is drawn, paired and counted. What comes after it
(hypotheses, labels, features) is named, so that a refusal can say where a number is missing.
"""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from flowprofile.axes import SEED
from flowprofile.errors import DefinitionError, NonFiniteError
from flowprofile.stats.curves import Values

LEAST_FLIPPED: Final = 6
"""Seeds from which on a test by flipping signs can reach p < .05: its least p is 1 / 2^(seeds - 1)."""


def samples_of(values: ArrayLike, second: str, *, name: str, least_seeds: int, more: bool = False) -> Values:
    """The values as float64[seed, second], refused unless they are finite and of enough seeds.

    `more` lets further axes follow the second one.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 2 or (array.ndim > 2 and not more) or 0 in array.shape[1:]:
        raise DefinitionError(
            f"{name} have the shape {array.shape!r}.",
            consequence=f"Which of the axes are seeds and which are {second}s cannot be told.",
            remedy=f"pass an array [{SEED}, {second}{' ...' if more else ''}] with no empty axis",
        )
    refuse_few(len(array), name, least_seeds)
    refuse_not_finite(array, (SEED, second), name)
    return array


def refuse_few(seeds: int, name: str, least_seeds: int) -> None:
    """Refuse fewer seeds than a statement needs."""
    if seeds < least_seeds:
        raise DefinitionError(
            f"{name} are of {seeds} seed(s).",
            consequence="No statement about other seeds could ever be made from so few.",
            remedy=f"sample at least {least_seeds} seeds; 30 are a good start",
        )


def refuse_not_finite(array: Values, axes: tuple[str, ...], name: str) -> None:
    """Refuse numbers that are none, and say where the first one is."""
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = bad[0].tolist()
        words = [f"{axis} {index}" for axis, index in zip(axes, place, strict=False)]
        words += [f"then {place[len(axes) :]}"] if len(place) > len(axes) else []
        raise NonFiniteError(
            f"{name} hold {array[tuple(place)]} at {', '.join(words)} (counted from 0).",
            consequence="Every mean and every rank that includes it would be no number.",
            remedy="compute what is missing, or select cells that are stored",
            evidence=f"{len(bad)} of {array.size} values are not finite",
        )
