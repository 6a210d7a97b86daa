"""Sums with one order of addition, on any device and in any company.

A library's `sum` chooses its order by shape, thread count and device, so the same row can have other last bits in
a larger array. Halving adds the same pairs whatever surrounds them.
"""

from typing import Any

import numpy as np


def ordered_sum(values: Any, *, lib: Any = np) -> Any:
    """Sum of values[row number] over the numbers, [row]. Overwrites `values`; cost about one pass over them.

    >>> ordered_sum(np.array([[1.0, 2.0, 3.0]])).tolist()
    [6.0]
    """
    length = values.shape[1]
    while length > 1:
        half = length // 2
        low = values[:, :half]
        lib.add(low, values[:, length - half : length], out=low)
        length -= half
    return values[:, 0]


def ordered_mean(values: Any, *, lib: Any = np) -> Any:
    """Mean of values[row number] over the numbers, [row]. Overwrites `values`."""
    return ordered_sum(values, lib=lib) / values.shape[1]
