"""Radii of influence: right on rows drawn by hand, blind to scale, and the law that a fixed threshold turns around."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.errors import DefinitionError
from flowprofile.measures import influence
from flowprofile.measures.nulls import gaussian_rows
from flowprofile.time.noise import noise
from flowprofile.time.rules import coefficients, ddpm
from flowprofile.time.schedule import linear

LINEAR = linear()
PIXELS = np.array([(0, 0), (3, 4), (6, 1)])
WEIGHTS = ("squared", "absolute")
TIMES = (999, 800, 600, 400, 200, 100, 50, 20)


def rows(count: int = 5, seed: int = 0) -> np.ndarray:
    return noise(seed, 1, (count, len(PIXELS), 7, 6))


def off_diagonal(row: np.ndarray, pixel: tuple[int, int], weight: str) -> list[tuple[float, float]]:
    """(distance, weight) of every other pixel, nearest first."""
    found = []
    for (y, x), value in np.ndenumerate(row.astype(np.float64)):
        if (y, x) != tuple(pixel):
            found.append((math.dist((y, x), pixel), value**2 if weight == "squared" else abs(value)))
    return sorted(found)


def slow_radius(row: np.ndarray, pixel: tuple[int, int], weight: str) -> float:
    found = off_diagonal(row, pixel, weight)
    return math.sqrt(math.fsum(r * r * w for r, w in found) / math.fsum(w for _, w in found))


def slow_mass_radius(row: np.ndarray, pixel: tuple[int, int], weight: str, share: float) -> float:
    found = off_diagonal(row, pixel, weight)
    total = math.fsum(w for _, w in found)
    for radius in sorted({r for r, _ in found}):
        if math.fsum(w for r, w in found if r <= radius) >= share * total * (1 - 1e-14):
            return radius
    raise AssertionError


@pytest.mark.parametrize("weight", WEIGHTS)
def test_radii_agree_with_the_definition(weight):
    a = rows()
    wanted = [[slow_radius(row, p, weight) for row, p in zip(case, PIXELS, strict=True)] for case in a]
    assert influence.radius(a, PIXELS, weight=weight) == pytest.approx(np.array(wanted), rel=1e-12)
    shares = (0.1, 0.5, 0.9, 1.0)
    got = influence.mass_radii(a, PIXELS, shares=shares, weight=weight)
    assert got.shape == (5, 3, 4)
    for k, case in enumerate(a):
        for p, pixel in enumerate(PIXELS):
            slow = [slow_mass_radius(case[p], pixel, weight, share) for share in shares]
            assert got[k, p] == pytest.approx(slow, rel=1e-12)


def test_the_pixel_itself_and_so_the_identity_does_not_count():
    a = rows()
    changed = a.copy()
    for p, (y, x) in enumerate(PIXELS):
        changed[:, p, y, x] += 100.0
    assert influence.radius(changed, PIXELS).tobytes() == influence.radius(a, PIXELS).tobytes()
    assert influence.mass_radii(changed, PIXELS).tobytes() == influence.mass_radii(a, PIXELS).tobytes()


@given(st.integers(0, 99), st.sampled_from(WEIGHTS), st.integers(-60, 60))
def test_a_row_s_scale_and_sign_do_not_matter(seed: int, weight: str, power: int):
    a = rows(2, seed).astype(np.float64)
    for measure in (influence.radius, influence.mass_radii):
        scaled = measure(-(2.0**power) * a, PIXELS, weight=weight)
        assert scaled.tobytes() == measure(a, PIXELS, weight=weight).tobytes()


@given(st.data())
def test_a_row_has_the_same_bits_in_any_company(data):
    count, weight = data.draw(st.integers(1, 6)), data.draw(st.sampled_from(WEIGHTS))
    a = rows(count, data.draw(st.integers(0, 99)))
    case = data.draw(st.integers(0, count - 1))
    chosen = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
    for measure in (influence.radius, influence.mass_radii):
        part = measure(a[case, chosen].copy(), PIXELS[chosen], weight=weight)
        assert part.tobytes() == measure(a, PIXELS, weight=weight)[case, chosen].tobytes()
    assert influence.thesis_count(a[case]).tolist() == influence.thesis_count(a)[case].tolist()


def test_a_ring_is_taken_whole_and_shares_grow_outwards():
    row = np.zeros((1, 9, 9))
    row[0, 4, 4] = 50.0
    row[0, [3, 5, 4, 4], [4, 4, 3, 5]] = 1.0
    row[0, [1, 7], [4, 4]] = 1.0
    assert influence.mass_radii(row, [(4, 4)], shares=(0.01, 4 / 6, 0.7, 1.0)).tolist() == [
        [1.0, 1.0, 3.0, 3.0]
    ]
    assert influence.radius(row, [(4, 4)]) == pytest.approx(math.sqrt((4 * 1 + 2 * 9) / 6))


def test_no_influence_has_no_reach_and_a_lost_number_is_loud():
    a = np.zeros((2, 1, 5, 5))
    a[:, 0, 2, 2] = 1.0
    assert influence.radius(a, [(2, 2)]).tolist() == [[0.0], [0.0]]
    assert influence.mass_radii(a, [(2, 2)]).tolist() == [[[0.0, 0.0]], [[0.0, 0.0]]]
    for wrong in (np.nan, np.inf, -np.inf):
        for place in ((2, 2), (0, 1)):
            spoilt = a.copy()
            spoilt[1, 0, *place] = wrong
            assert np.isnan(influence.radius(spoilt, [(2, 2)])).tolist() == [[False], [True]]
            assert np.isnan(influence.mass_radii(spoilt, [(2, 2)])).all((1, 2)).tolist() == [False, True]
            assert influence.thesis_count(spoilt).tolist() == [[1], [-1]]


def test_the_thesis_count_is_of_what_exceeds_the_row_s_mean_by_a_thousandth():
    a = np.zeros((1, 10, 10))
    a[0, 0, :3] = 1.0, 0.0125, 0.011
    mean = a.mean()
    assert influence.thesis_count(a).tolist() == [2]
    assert influence.thesis_count(a, above_mean=0.0125 - mean).tolist() == [1]


def test_pooling_weighs_cases_by_their_weight():
    a = np.zeros((2, 1, 5, 5))
    a[0, 0, 2, 3], a[1, 0, 2, 4] = 3.0, 1.0
    measure = influence.pooled_radius()
    totals = {s: type("T", (), {"mean": s(a, [(2, 2)]).mean(0)}) for s in measure.statistics}
    assert measure(totals) == pytest.approx([math.sqrt((9 * 1 + 1 * 4) / 10)])
    assert influence.radius(a, [(2, 2)]).tolist() == [[1.0], [2.0]]


def gaussian_film(length_scale: float, sd: float, correlation: str, channels: int) -> np.ndarray:
    """The middle pixel's row of an exact Gaussian denoiser on 64x64 pixels, at every one of TIMES."""
    found = []
    for t in TIMES:
        c = coefficients(ddpm, schedule=LINEAR, t_from=t + 1, t_to=t)
        found.append(
            gaussian_rows(
                [(31, 31)],
                (64, 64),
                length_scale=length_scale,
                sd=sd,
                alpha_bar=LINEAR.alpha_bar(t + 1),
                factors=(c.x, c.eps),
                correlation=correlation,
                channels=channels,
            )
        )
    return np.stack(found)


def test_the_fixed_threshold_says_spread_while_the_radius_shrinks_from_23_to_10():
    """METHODS 7, without any network: mask-sized for t >= 200, growth at t <= 100, and a true radius of 23 -> 10 px.

    Correlation exp(-(|dy| + |dx|) / 30 px), sd .35, three colours; weighed by absolute value.
    """
    film = gaussian_film(30.0, 0.35, "exponential", 3)
    count = dict(zip(TIMES, influence.thesis_count(film)[:, 0].tolist(), strict=True))
    assert all(count[t] == 1 for t in TIMES if t >= 200)
    assert 1 < count[100] < count[50] < count[20]
    for weight in WEIGHTS:
        radius = influence.radius(film, [(31, 31)], weight=weight)[:, 0]
        assert (np.diff(radius) < 0).all()
    assert radius[0] == pytest.approx(22.6, abs=0.1)
    assert radius[TIMES.index(50)] == pytest.approx(12.2, abs=0.1)
    assert radius[TIMES.index(20)] == pytest.approx(8.4, abs=0.1)
    # By absolute value the outermost tenth lies on the ringing near the edges and is not monotone: 27.3, then 28.1.
    assert (np.diff(influence.mass_radii(film, [(31, 31)])[:, 0], axis=0) < 0).all()


@pytest.mark.parametrize(("length_scale", "first", "last"), [(4.0, 4.0, 2.6), (24.0, 20.5, 11.2)])
def test_smooth_images_obey_the_same_law_at_any_length_scale(length_scale: float, first: float, last: float):
    """RBF, sd .25, one channel. At high noise the radius is the length scale, cut off by the image."""
    film = gaussian_film(length_scale, 0.25, "rbf", 1)
    radius = influence.radius(film, [(31, 31)])[:, 0]
    assert (np.diff(radius) < 0).all()
    assert radius[[0, -1]] == pytest.approx([first, last], abs=0.1)
    count = influence.thesis_count(film)[:, 0]
    assert (np.diff(count) >= 0).all()
    assert (count[: TIMES.index(100)] == 1).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda a: influence.radius(a, PIXELS, weight="square"), "did you mean 'squared'"),
        (lambda a: influence.radius(a, PIXELS[:2]), "do not belong together"),
        (lambda a: influence.radius(a, PIXELS * 1.0), "do not belong together"),
        (lambda a: influence.radius(a[0, 0], PIXELS), "do not belong together"),
        (
            lambda a: influence.radius(a, PIXELS + np.array([0, 2])),
            r"Pixel \(3, 6\) lies outside of rows of 7x6",
        ),
        (lambda a: influence.radius(a, PIXELS - 1), "lies outside"),
        (lambda a: influence.mass_radii(a, PIXELS, shares=(0.5, 90.0)), "not all between 0 and 1"),
        (lambda a: influence.mass_radii(a, PIXELS, shares=()), "not all between 0 and 1"),
    ],
)
def test_refusals(call, says: str):
    with pytest.raises(DefinitionError, match=says):
        call(rows())
