"""Curves as they are kept beside the findings: a mean over seeds at every t, with its pointwise 95 % interval.

What a picture shows is drawn from this file, so that it can be drawn anew when the stores are long gone.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowprofile.stats.bounds import mean_bounds

Numbers = NDArray[np.float64]
Row = Sequence[object]


@dataclass(frozen=True)
class Band:
    """One curve of one network or attribute."""

    times: Numbers
    mean: Numbers
    lower: Numbers
    upper: Numbers
    n: int
    """How many seeds the mean is over."""


def rows(name: str, curve: str, values: Numbers, times: Numbers) -> list[Row]:
    """The lines of values[seed, time]."""
    bounds = mean_bounds(values, alpha=0.025)
    return [
        (name, curve, int(t), f"{m:.5f}", f"{low:.5f}", f"{high:.5f}", bounds.n)
        for t, m, low, high in zip(times, bounds.mean, bounds.lower, bounds.upper, strict=True)
    ]


def write(path: Path, what: str, lines: Iterable[Row]) -> None:
    """Keep curves; `what` heads the first column, which says whose they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([what, "curve", "t", "mean", "lower", "upper", "n"])
        writer.writerows(lines)


def read(path: Path) -> dict[tuple[str, str], Band]:
    """The curves that are kept, by whose and which they are, in the order of the file."""
    found: dict[tuple[str, str], list[list[str]]] = {}
    with path.open(newline="") as file:
        for name, curve, *numbers in list(csv.reader(file))[1:]:
            found.setdefault((name, curve), []).append(numbers)
    return {key: _band(lines) for key, lines in found.items()}


def _band(lines: Sequence[Sequence[str]]) -> Band:
    times, mean, lower, upper, n = np.array(lines, np.float64).T
    return Band(times, mean, lower, upper, int(n[0]))
