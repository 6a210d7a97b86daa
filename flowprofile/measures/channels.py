"""The strongest channel of a layer, as defined: argmax over channels of a sum over positions (thesis, Eq 4.1.4)."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Literal["sum", "abs", "max", "mean_top"]


def strength(
    a: ArrayLike, *, weights: ArrayLike | None = None, statistic: Statistic = "sum", q: float = 0.1
) -> NDArray[np.float64]:
    """How strong each channel of a[... channel y x] is, [... channel].

    ``sum`` and ``abs`` weigh positions by `weights` [y x]; ``max`` and ``mean_top`` (the mean of the largest share
    q) look at the positions of positive weight only.
    """
    values = np.asarray(a, dtype=np.float64)
    shares = np.ones(values.shape[-2:]) if weights is None else np.asarray(weights, dtype=np.float64)
    if statistic in ("sum", "abs"):
        summed: NDArray[np.float64] = ((np.abs(values) if statistic == "abs" else values) * shares).sum(
            (-2, -1)
        )
        return summed
    seen = values[..., shares > 0]
    top = 1 if statistic == "max" else max(1, int(np.ceil(q * seen.shape[-1])))
    largest: NDArray[np.float64] = np.sort(seen, axis=-1)[..., -top:].mean(-1)
    return largest


def strongest(
    a: ArrayLike, *, weights: ArrayLike | None = None, statistic: Statistic = "sum", q: float = 0.1
) -> NDArray[np.int64]:
    """c* of a[... channel y x], int64 [...]: ties go to the lowest index, and a lost number gives -1."""
    found = strength(a, weights=weights, statistic=statistic, q=q)
    index = np.argmax(np.where(np.isnan(found), -np.inf, found), axis=-1)
    return np.where(np.isfinite(found).all(-1), index, -1).astype(np.int64)
