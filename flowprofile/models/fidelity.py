"""How often a sample shows the label it was asked for.

A profile of a model that ignores its label would be a profile of nothing, so the number stands in the model's card:
with its n, its interval, the sampler and the reader that judged. Seeds are 0 .. n - 1, none left out, label i mod
count, and a sample counts only when every bit of it is right.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowprofile.cases import Case
from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError
from flowprofile.models import reader as readers
from flowprofile.models.denoiser import Denoiser
from flowprofile.models.reader import Reader
from flowprofile.time.rules import rule
from flowprofile.time.sample import sample
from flowprofile.time.schedule import schedule
from flowprofile.time.steps import respaced


def draw(
    denoiser: Denoiser,
    cases: list[Case],
    *,
    sampler: str = "ddpm",
    transitions: int = 1000,
    batch: int = 32,
    listen: Callable[[int], None] = lambda done: None,
) -> NDArray[np.float32]:
    """The final images of the cases, in [0, 1] and clipped to it, [case channel y x]; listen hears how many are done."""
    card = denoiser.card
    times, step = schedule(card.schedule, card.steps), rule(sampler)
    grid = respaced(card.steps, transitions)
    low, high = card.pixel_range
    images = []
    for first in range(0, len(cases), batch):
        part = cases[first : first + batch]
        *_, last = sample(denoiser, part, schedule=times, grid=grid, rule=step, batch=batch)
        images.append(((last.x - low) / (high - low)).clamp(0.0, 1.0).numpy())
        listen(first + len(part))
    return np.concatenate(images)


def measure(
    denoiser: Denoiser,
    reader: Reader,
    *,
    n: int = 512,
    sampler: str = "ddpm",
    transitions: int = 1000,
    batch: int = 32,
    listen: Callable[[int], None] = lambda done: None,
) -> Mapping[str, Any]:
    """Fidelity of a model: the entry `fidelity` of its card.

    Parameters
    ----------
    denoiser, reader
        Who draws, and who judges; the reader must have been trained on other pictures than samples.
    n
        Samples; seeds 0 .. n - 1.
    sampler, transitions
        Rule and number of steps.
    batch
        Canonical batch; changes low bits only.
    """
    labels = denoiser.card.labels
    if n < 1 or math.prod(reader.card.heads) != labels.count:
        raise DefinitionError(
            f"A reader of {reader.card.heads!r} answers cannot judge n = {n!r} samples of {labels.count} labels.",
            consequence="The share of right answers would mean nothing.",
            remedy=f"use the reader of {denoiser.card.name!r} and n of at least 1",
        )
    cases = [Case(seed, seed % labels.count) for seed in range(n)]
    images = draw(denoiser, cases, sampler=sampler, transitions=transitions, batch=batch, listen=listen)
    asked = np.array([case.label for case in cases])
    read = reader.read(images)
    right = int((read == asked).sum())
    return {
        "fidelity": round(right / n, 4),
        "n": n,
        "interval": [round(end, 4) for end in wilson(right, n)],
        "parts": _parts(labels, asked, read),
        "sampler": f"{sampler}-{transitions}",
        "reader": readers.digest(reader),
        "reader_held_out": round(reader.card.held_out, 4),
        "reader_held_out_n": reader.card.held_out_n,
    }


def wilson(right: int, n: int, *, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share, 95 % by default; sound near 0 and 1, unlike the normal one.

    >>> low, high = wilson(97, 100)
    >>> round(low, 3), round(high, 3)
    (0.915, 0.99)
    """
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _parts(labels: LabelSpace, asked: NDArray[np.int64], read: NDArray[np.int64]) -> dict[str, float]:
    """Share of right answers for each bit, or for each class."""
    if labels.attributes:
        shifts = range(len(labels.attributes) - 1, -1, -1)
        shares = [(asked >> shift & 1) == (read >> shift & 1) for shift in shifts]
        return {
            name: round(float(share.mean()), 4) for name, share in zip(labels.attributes, shares, strict=True)
        }
    present = np.unique(asked)
    return {str(label): round(float((read[asked == label] == label).mean()), 4) for label in present}
