"""Do two conditions give the same distribution of activations, when both were sampled with the same seeds?

Seeds differ from one another far more than conditions do, and both samples hold the same ones. So what is
rearranged here is never a seed: under the null the two conditions of a seed could as well be swapped, and nothing
else is assumed. Tests that shuffle all samples alike see the seeds' spread instead, and find nothing.

A distance between two finite samples of one distribution is not 0 but, with more features than seeds, large. MMD^2
and CKA have unbiased estimates; the Fréchet and the sliced Wasserstein distance have none, so theirs come with the
bias they have at equality.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from flowprofile.errors import DefinitionError
from flowprofile.stats.curves import Values, refuse_unpaired
from flowprofile.stats.keyed import DRAWS, Signs, signs
from flowprofile.stats.keyed import words as keyed_words
from flowprofile.stats.samples import LEAST_FLIPPED, samples_of

_AT_ONCE = 2**21
"""Numbers held at once: 16 MiB."""


@dataclass(frozen=True)
class Discrepancy:
    """Unbiased squared MMD with the p value of swapping conditions within seeds."""

    mmd2: float
    """Unbiased MMD^2: 0 on average if the distributions are the same, so it may be below 0."""
    p: float
    """Probability of an MMD^2 this large if the conditions of every seed could be swapped."""
    bandwidth: float
    """Width of the Gaussian kernel, in units of the activations."""
    n: int
    """How many seeds."""
    draws: int
    """How many ways of swapping, the observed one included; p is not below 1 / draws."""
    exact: bool
    """Whether these were all there are."""


@dataclass(frozen=True)
class Distance:
    """A distance of two samples, with what it would be without any difference."""

    value: float
    """The distance as computed; biased upwards."""
    bias: float
    """Its mean over swaps of conditions within seeds: what it is, at this number of seeds, without a difference."""
    p: float
    """Probability of a distance this large if the conditions of every seed could be swapped."""
    n: int
    """How many seeds."""
    draws: int
    """How many ways of swapping, the observed one included."""
    exact: bool
    """Whether these were all there are."""

    @property
    def excess(self) -> float:
        """Value less bias: 0 on average without a difference, and a little too small with one.

        Swapping seeds that do differ widens the samples, which adds to the bias about 1 / n of a squared distance.
        """
        return self.value - self.bias


def mmd(a: ArrayLike, b: ArrayLike, *, key: int = 0, draws: int = DRAWS) -> Discrepancy:
    """Compare a[seed, feature] with b[seed, feature] by maximum mean discrepancy: the test to use first.

    Gretton et al. 2012, Lemma 6, with a Gaussian kernel whose width is the median distance between pooled samples
    of different seeds. Pairs of one seed are left out of every sum, which keeps the estimate unbiased although the
    samples share their seeds.
    """
    first, second = _paired(a, b)
    n = len(first)
    squared = _squared_distances(np.concatenate([first, second]))
    width = _median_distance(squared, n)
    gram = np.exp(-squared / (2 * width * width))
    # Swapping a seed's conditions flips the sign of its row and its column, so a swap costs one quadratic form.
    pairs = gram[:n, :n] + gram[n:, n:] - gram[:n, n:] - gram[n:, :n]
    np.fill_diagonal(pairs, 0.0)
    swaps = signs(n, key=key, draws=draws)
    values = ((swaps.values @ pairs) * swaps.values).sum(axis=1) / (n * (n - 1))
    scale = np.abs(pairs).sum() / (n * (n - 1))
    return Discrepancy(float(values[0]), _p_value(values, scale), width, n, len(values), swaps.exact)


def debiased_cka(a: ArrayLike, b: ArrayLike) -> float:
    """Linear similarity of the geometry of a[seed, feature] and b[seed, other feature], free of the bias.

    1 for the same geometry up to rotation and scale, and 0 on average for independent ones (so it may be below 0),
    where the plain CKA comes close to 1 as features outnumber seeds. The unbiased HSIC of Song et al. 2012 (Eq. 4)
    in the place of the plain one: Nguyen, Raghu & Kornblith 2021; Murphy, Zylberberg & Fyshe 2024. Needs 4 seeds.
    """
    first = samples_of(a, "feature", name="a", least_seeds=4)
    second = samples_of(b, "feature", name="b", least_seeds=4)
    if len(first) != len(second):
        refuse_unpaired(first[:, :1], second[:, :1], "samples")
    grams = [_hollow_centred(values) for values in (first, second)]
    norms = [float(np.square(gram).sum()) for gram in grams]
    for name, norm in zip("ab", norms, strict=True):
        _refuse_constant(name, norm)
    return float((grams[0] * grams[1]).sum() / np.sqrt(norms[0] * norms[1]))


def sliced_wasserstein(
    a: ArrayLike, b: ArrayLike, *, key: int = 0, directions: int = 128, draws: int = 1000
) -> Distance:
    """Sliced 2-Wasserstein distance of a[seed, feature] and b[seed, feature], in units of the activations.

    Root of the mean, over random directions, of the squared 1-D distance of the sorted projections. Bonneel et al.
    2015. The directions are a function of (key, number of features) alone. Its bias is stated beside it.
    """
    first, second = _paired(a, b)
    n, features = first.shape
    seen = _directions(features, directions, key)
    ours, theirs = first @ seen, second @ seen
    swaps = signs(n, key=key, draws=draws)

    def distances(flips: Values) -> Values:
        keep = flips[:, :, None] > 0
        left = np.sort(np.where(keep, ours, theirs), axis=1)
        right = np.sort(np.where(keep, theirs, ours), axis=1)
        found: Values = np.sqrt(np.square(left - right).mean(axis=(1, 2)))
        return found

    return _distance(distances, swaps, n * directions)


def frechet(a: ArrayLike, b: ArrayLike, *, key: int = 0, draws: int = 1000) -> Distance:
    """Squared Fréchet distance of the Gaussians fitted to a[seed, feature] and b[seed, feature].

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)): Dowson & Landau 1982, the distance behind FID. The trace of the
    root is the sum of the singular values of the samples' cross products, so features may outnumber seeds. Its bias
    is stated beside it, and with few seeds it is most of the value.
    """
    first, second = _spanned(*_paired(a, b))
    n = len(first)
    swaps = signs(n, key=key, draws=draws)

    def distances(flips: Values) -> Values:
        keep = flips[:, :, None] > 0
        left, right = np.where(keep, first, second), np.where(keep, second, first)
        apart = np.square(left.mean(axis=1) - right.mean(axis=1)).sum(axis=1)
        left -= left.mean(axis=1, keepdims=True)
        right -= right.mean(axis=1, keepdims=True)
        cross = _trace_of_root(left, right)
        spread = np.square(left).sum(axis=(1, 2)) + np.square(right).sum(axis=(1, 2))
        found: Values = apart + (spread - 2 * cross) / (n - 1)
        return found

    return _distance(distances, swaps, n * max(first.shape[1], n))


def _trace_of_root(left: Values, right: Values) -> Values:
    """[draw] trace of (A B)^(1/2) for A = left' left and B = right' right, of samples [draw, seed, feature]."""
    if left.shape[2] < left.shape[1]:
        left, right = np.linalg.qr(left).R, np.linalg.qr(right).R
    crossed = left @ right.swapaxes(1, 2)
    return np.asarray(np.linalg.svd(crossed, compute_uv=False).sum(axis=1), dtype=np.float64)


def _paired(a: ArrayLike, b: ArrayLike) -> tuple[Values, Values]:
    first = samples_of(a, "feature", name="a", least_seeds=LEAST_FLIPPED)
    second = samples_of(b, "feature", name="b", least_seeds=LEAST_FLIPPED)
    refuse_unpaired(first, second, "samples")
    return first, second


def _distance(distances: Callable[[Values], Values], swaps: Signs, size: int) -> Distance:
    """The observed distance against those of all swaps, `size` numbers a swap."""
    rows = max(1, _AT_ONCE // size)
    flips = swaps.values
    values = np.concatenate([distances(flips[at : at + rows]) for at in range(0, len(flips), rows)])
    p = _p_value(values, float(np.abs(values).max()))
    return Distance(float(values[0]), float(values.mean()), p, flips.shape[1], len(values), swaps.exact)


def _p_value(values: Values, scale: float) -> float:
    """Share of rearrangements at least as large as the first; what differs by rounding is as large."""
    return float(np.mean(values >= values[0] - 1e-9 * scale))


def _squared_distances(samples: Values) -> Values:
    # Taken about the mean: far from the origin the difference of squares would lose its digits.
    centred = samples - samples.mean(axis=0)
    squares = np.square(centred).sum(axis=1)
    apart: Values = np.maximum(squares[:, None] + squares - 2 * centred @ centred.T, 0.0)
    return apart


def _median_distance(squared: Values, n: int) -> float:
    """Median distance of pooled samples of different seeds; the same whatever is swapped."""
    seed = np.arange(len(squared)) % n
    width = float(np.sqrt(np.median(squared[seed[:, None] < seed])))
    if width == 0:
        raise DefinitionError(
            "Most samples are the same.",
            consequence="Their median distance is 0, and no kernel has that width.",
            remedy="leave out features that never change, such as units that are never active",
        )
    return width


def _hollow_centred(values: Values) -> Values:
    """The U-centred Gram matrix over sqrt(n (n - 3)), whose products are unbiased HSICs. Székely & Rizzo 2014."""
    n = len(values)
    centred = values - values.mean(axis=0)
    largest = np.abs(centred).max()
    gram = (centred / (largest if largest > 0 else 1.0)) @ (centred / (largest if largest > 0 else 1.0)).T
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(axis=0)
    hollow = gram - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(hollow, 0.0)
    return np.asarray(hollow / np.sqrt(n * (n - 3)), dtype=np.float64)


def _refuse_constant(name: str, norm: float) -> None:
    if norm == 0:
        raise DefinitionError(
            f"The activations {name} do not vary over seeds.",
            consequence="They have no geometry that could be similar to another one.",
            remedy="leave out layers that never change, such as those behind an ablated channel",
        )


def _directions(features: int, count: int, key: int) -> Values:
    """[feature, direction] random unit vectors."""
    if count < 1:
        raise DefinitionError(
            f"{count!r} directions are asked for.",
            consequence="There is nothing to project on.",
            remedy="use at least 1; 128 are the default",
        )
    seeding = keyed_words(key, "slices", (features, 0), 2)
    drawn = np.random.Generator(np.random.Philox(key=seeding)).standard_normal((count, features)).T
    return np.asarray(drawn / np.linalg.norm(drawn, axis=0), dtype=np.float64)


def _spanned(first: Values, second: Values) -> tuple[Values, Values]:
    """The same samples in coordinates of the space they span, if that has fewer than there are features."""
    n, features = first.shape
    pooled = np.concatenate([first, second])
    pooled = pooled - pooled.mean(axis=0)
    if features > 2 * n:
        u, s, _ = np.linalg.svd(pooled, full_matrices=False)
        pooled = u * s
    return pooled[:n], pooled[n:]
