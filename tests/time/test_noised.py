"""Noised images: the formula to the last bit, and noise that belongs to image, state and draw alone."""

import numpy as np
import pytest

from flowprofile.time.noise import noise
from flowprofile.time.noised import DRAWS, draw_of, image_noise, image_of, noised, seed_of
from flowprofile.time.schedule import linear

LINEAR = linear()
ONE, OTHER = "a" * 32, "b" * 32


def images(*numbers):
    return np.stack([noise(number, 0, (1, 8, 8), purpose="test") for number in numbers])


@pytest.mark.parametrize("t", [1000, 637, 1])
def test_a_state_is_the_formula_bit_for_bit(t):
    seeds = [seed_of(ONE), seed_of(ONE, 1), seed_of(OTHER)]
    x0 = images(1, 1, 2)
    found = noised(x0, seeds, t, levels=LINEAR)
    for row, seed in enumerate(seeds):
        z = noise(seed >> 10, t, (1, 8, 8), purpose="image", draw=seed & 1023)
        signal, sigma = np.float32(LINEAR.signal(t)), np.float32(LINEAR.noise(t))
        assert np.array_equal(found[row], signal * x0[row] + sigma * z)


def test_the_last_state_is_the_image():
    assert np.array_equal(noised(images(1), [seed_of(ONE)], 0, levels=LINEAR), images(1))


def test_noise_depends_on_image_state_and_draw_and_on_nothing_beside_them():
    names = [(digest, draw, t) for digest in (ONE, OTHER) for draw in (0, 1, 2) for t in (5, 6)]
    drawn = {name: image_noise([seed_of(name[0], name[1])], name[2], (1, 8, 8))[0] for name in names}
    assert len({values.tobytes() for values in drawn.values()}) == len(names)
    seeds = [seed_of(digest, draw) for digest, draw, t in names if t == 5]
    together = image_noise(seeds[::-1], 5, (1, 8, 8))[::-1]
    for name, values in zip([name for name in names if name[2] == 5], together, strict=True):
        assert np.array_equal(values, drawn[name])


def test_draws_of_an_image_are_neighbours_and_meet_no_other_image():
    seeds = [seed_of(digest, draw) for digest in (ONE, OTHER, "f" * 32, "0" * 32) for draw in (0, DRAWS - 1)]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) < 2**63
    assert [draw_of(seed) for seed in seeds] == [0, DRAWS - 1] * 4
    assert image_of(seeds[0]) == image_of(seeds[1]) != image_of(seeds[2])


def test_it_is_as_normal_as_noise_is():
    z = image_noise([seed_of(ONE, draw) for draw in range(8)], 300, (3, 32, 32)).astype(np.float64)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)
