"""One mean over seeds and labels: of these labels, or of labels like these.

Every label is sampled with the same seeds, so the cells of values[seed, label] are not independent: a row shares
its noise, a column its meaning. Which of the two are a sample of something larger decides what a mean may claim:

- *labels fixed* (the default): "for these labels, whatever the seed". Only seeds vary.
- *labels random*: "for labels such as these". Both vary, and sixteen labels are a sample of sixteen, however many
  seeds each of them has.

Counting cells as independent, or resampling them or the seeds alone, gives intervals for the second claim that are
several times too narrow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from flowprofile.axes import LABEL
from flowprofile.errors import DefinitionError
from flowprofile.stats.curves import LEAST_SEEDS, Values, probability_of
from flowprofile.stats.samples import samples_of


@dataclass(frozen=True)
class MeanSquares:
    """The analysis of variance of values[seed, label ...]; arrays have the shape of what follows the label."""

    seeds: int
    """How many seeds."""
    labels: int
    """How many labels."""
    mean: Values
    """The grand mean."""
    seed: Values
    """Mean square between seeds; expected: labels x seed variance + residual variance."""
    label: Values
    """Mean square between labels; expected: seeds x label variance + residual variance."""
    residual: Values
    """Mean square of what is left; expected: residual variance (a seed's own liking for a label, and noise)."""


@dataclass(frozen=True)
class GrandMean:
    """A mean over all cells with an interval; arrays have the shape of what follows the label."""

    mean: Values
    """The grand mean."""
    standard_error: Values
    """Its standard error, for the claim of `design`."""
    degrees: Values
    """Degrees of freedom of the t interval."""
    lower: Values
    """Lower end of the interval."""
    upper: Values
    """Upper end of the interval."""
    alpha: float
    """Probability that the interval misses the mean that is claimed; both ends together."""
    design: str
    """What is claimed: the name of the design."""
    squares: MeanSquares
    """What it was worked out from."""

    @property
    def components(self) -> tuple[Values, Values, Values]:
        """Variance of seeds, of labels and of the rest, by the method of moments; never below 0."""
        ms = self.squares
        seed = np.maximum(0.0, (ms.seed - ms.residual) / ms.labels)
        label = np.maximum(0.0, (ms.label - ms.residual) / ms.seeds)
        return seed, label, ms.residual


Design = Callable[[MeanSquares], tuple[Values, Values]]
"""From mean squares to the variance of the grand mean and its degrees of freedom."""


def labels_fixed(squares: MeanSquares) -> tuple[Values, Values]:
    """Seeds are random, labels are the ones that matter: the t interval of the seeds' means over labels."""
    variance = squares.seed / (squares.seeds * squares.labels)
    return variance, np.full_like(variance, squares.seeds - 1)


def labels_random(squares: MeanSquares) -> tuple[Values, Values]:
    """Seeds and labels are both random and crossed.

    The unbiased variance of the grand mean is (MS_seed + MS_label - MS_residual) / cells (Searle, Casella &
    McCulloch 1992, section 4.3). By chance it may be less than either mean square alone would give, which cannot
    be true; then the larger of those is taken, so on average it is too large rather than too small. Degrees of
    freedom: Satterthwaite 1946, at most those of a pure effect of the factor that dominates.
    """
    ms = squares
    plain = ms.seed + ms.label - ms.residual
    total = np.maximum(plain, np.maximum(ms.seed, ms.label))
    rows, columns = ms.seeds - 1, ms.labels - 1
    spread = (
        np.square(ms.seed) / rows + np.square(ms.label) / columns + np.square(ms.residual) / (rows * columns)
    )
    degrees = np.divide(
        np.square(total), spread, out=np.full_like(total, min(rows, columns)), where=spread > 0
    )
    return total / (ms.seeds * ms.labels), degrees


def grand_mean(values: ArrayLike, *, alpha: float = 0.05, design: Design = labels_fixed) -> GrandMean:
    """The mean of values[seed, label ...] over both, with an interval for the claim of the design.

    `labels_fixed` claims something of these labels, `labels_random` of labels like these. Refused with fewer than
    3 seeds or, for random labels, fewer than 3 labels.
    """
    squares = mean_squares(values)
    if design is labels_random:
        _refuse_few_labels(squares.labels)
    probability_of(alpha)
    variance, degrees = design(squares)
    error = np.sqrt(variance)
    reach = stdtrit(degrees, 1 - alpha / 2) * error
    name = getattr(design, "__name__", repr(design))
    lower, upper = squares.mean - reach, squares.mean + reach
    return GrandMean(squares.mean, error, degrees, lower, upper, alpha, name, squares)


def mean_squares(values: ArrayLike) -> MeanSquares:
    """The two-way analysis of variance of values[seed, label ...], one value a cell.

    With a single label there is no residual to see; its mean square and the labels' are 0.
    """
    cells = samples_of(values, LABEL, name="values", least_seeds=LEAST_SEEDS, more=True)
    seeds, labels = cells.shape[:2]
    # Deviations from one cell first: then cells that all agree have exactly no spread.
    offset = cells - cells[:1, :1]
    centre = offset.mean(axis=(0, 1))
    rows = offset.mean(axis=1) - centre
    columns = offset.mean(axis=0) - centre
    left = offset - centre - rows[:, None] - columns
    free = max(labels - 1, 1)
    return MeanSquares(
        seeds,
        labels,
        cells[0, 0] + centre,
        labels * np.square(rows).sum(axis=0) / (seeds - 1),
        seeds * np.square(columns).sum(axis=0) / free,
        np.square(left).sum(axis=(0, 1)) / ((seeds - 1) * free),
    )


def _refuse_few_labels(labels: int) -> None:
    if labels < LEAST_SEEDS:
        raise DefinitionError(
            f"The values are of {labels} label(s).",
            consequence="Labels like these cannot be spoken of: how labels differ would be a guess.",
            remedy=f"sample at least {LEAST_SEEDS} labels (16 are a good start), or claim these labels only",
        )
