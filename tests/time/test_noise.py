"""Noise is a function of its names, the same on every machine, and normal."""

import hashlib
import os
import subprocess
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flowprofile.errors import DefinitionError
from flowprofile.time import noise as module
from flowprofile.time.noise import SCHEME, noise, noise_batch, words
from flowprofile.time.sources import Remembered

GOLDEN = {
    ("step", 0, 1000, 0, (3, 64, 64)): "3f22ce319605af23",
    ("step", 0, 0, 0, (1, 16, 16)): "9631c9e1b632de6e",
    ("step", 2**63 - 1, 2**31 - 1, 0, (3, 32, 32)): "8dc85280cc111624",
    ("step", 7, 500, 1, (1, 3, 5)): "f76cae988d2947f3",
    ("probe", 7, 500, 0, (1, 3, 5)): "455b5c88103e1ac2",
}
"""Digests of the scheme's bits. A change here needs a new name of the scheme, since it changes every sample."""


@pytest.mark.parametrize("name", GOLDEN, ids=str)
def test_the_bits_are_those_of_the_named_scheme(name):
    purpose, seed, t, draw, shape = name
    values = noise(seed, t, shape, purpose=purpose, draw=draw)
    assert SCHEME == "philox-box-muller-1"
    assert (values.dtype, values.shape) == (np.dtype(np.float32), shape)
    assert hashlib.blake2b(values.astype("<f4").tobytes(), digest_size=8).hexdigest() == GOLDEN[name]


def test_box_muller_is_computed_as_if_exactly_and_rounded_once():
    raw = words(3, 9, 3 * 512, purpose="step").astype("<u8")
    k = raw.view("<u4")[:2048].astype(np.float64)
    turns = (raw.view("<u2")[4096:6144].astype(np.float64) + 0.5) / 2**16
    r = np.sqrt(-2 * np.log(k / 2**32))
    wanted = np.concatenate([r * np.cos(2 * np.pi * turns), r * np.sin(2 * np.pi * turns)])
    # Half a unit in the last place of float32 is the rounding itself.
    assert np.abs(noise(3, 9, (4096,)) - wanted).max() <= 1.001 * np.spacing(np.float32(4.0)) / 2


def test_the_tables_do_not_depend_on_a_mathematics_library():
    tables = module._tables()
    # Exact rational arithmetic: 2 artanh(s) for the centre of one table row, 24 terms.
    row = (31 << 11) + 1234
    centre = Fraction(1 + Fraction(2 * 1234 + 1, 2 << 11)) * 2**31
    ratio = (centre / 2**32 - 1) / (centre / 2**32 + 1)
    log = 2 * sum((ratio ** (2 * n + 1) / (2 * n + 1) for n in range(24)), Fraction(0))
    assert tables.log[row] == pytest.approx(float(-1 - 2 * log), abs=1e-14)
    turns = (np.arange(2**16) + 0.5) / 2**16
    assert np.abs(tables.cos - np.cos(2 * np.pi * turns)).max() < 2e-15
    assert np.abs(tables.sin - np.sin(2 * np.pi * turns)).max() < 2e-15


def test_the_radius_is_finite_and_positive_for_every_word():
    ends = np.array([0, 1, 2, 2**31, 2**32 - 2, 2**32 - 1], dtype=np.uint32)
    buffers = [np.empty(len(ends)) for _ in range(3)]
    r = module._radius(ends, *buffers, np.empty(len(ends), dtype=np.int64))
    assert r[1:] == pytest.approx(np.sqrt(-2 * np.log(ends[1:] / 2**32)), rel=1e-2)
    assert r[0] == pytest.approx(6.88, abs=0.01)
    assert r[-1] > 0


def test_the_bits_do_not_depend_on_the_instruction_set():
    core = np._core._multiarray_umath
    features = " ".join(name for name in core.__cpu_dispatch__ if core.__cpu_features__[name])
    program = "from flowprofile.time.noise import noise; import sys; sys.stdout.write(noise(5, 5, (9999,)).tobytes().hex())"
    environment = {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    plain = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert plain.stdout.decode() == noise(5, 5, (9999,)).tobytes().hex()


def test_it_is_normal():
    values = np.concatenate([noise(seed, 11, (3, 32, 32)).ravel() for seed in range(300)]).astype(np.float64)
    n = len(values)
    assert abs(values.mean()) < 4 / np.sqrt(n)
    assert abs(values.var() - 1) < 4 * np.sqrt(2 / n)
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert stats.normaltest(values).pvalue > 0.001
    assert (
        stats.kstest(
            np.abs(values[np.abs(values) > 3]), lambda z: 1 - stats.norm.sf(z) / stats.norm.sf(3)
        ).pvalue
        > 0.001
    )


def test_neighbouring_names_are_independent():
    names = [(seed, t, draw) for seed in (0, 1, 2**32) for t in (0, 1, 2**16) for draw in (0, 1)]
    rows = np.stack([noise(seed, t, (4096,), draw=draw) for seed, t, draw in names]).astype(np.float64)
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    pairs = len(rows) * (len(rows) - 1) / 2
    assert np.abs(correlation).max() < stats.norm.isf(0.0005 / pairs) / np.sqrt(4096)
    squares = np.corrcoef(rows**2) - np.eye(len(rows))
    assert np.abs(squares).max() < stats.norm.isf(0.0005 / pairs) / np.sqrt(4096)


def test_neighbouring_names_share_no_word_at_any_place():
    names = [(seed, t, draw) for seed in (0, 1) for t in (0, 1, 2) for draw in (0, 1)]
    drawn = [words(seed, t, 512, purpose="step", draw=draw) for seed, t, draw in names]
    assert len(np.unique(np.concatenate(drawn))) == 512 * len(names)


def test_cosines_and_sines_of_one_draw_are_independent():
    values = np.concatenate([noise(seed, 5, (2, 2048)) for seed in range(50)], axis=1).astype(np.float64)
    n = values.shape[1]
    for power in (1, 2, 3):
        r = np.corrcoef(values**power)[0, 1]
        assert abs(r) < 4 / np.sqrt(n)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["step", "probe", "pets"]),
            st.sampled_from([0, 1, 2**31, 2**32, 2**63 - 1]),
            st.sampled_from([0, 1, 999, 1000, 2**31 - 1]),
            st.sampled_from([0, 1, 2**31 - 1]),
        ),
        unique=True,
        min_size=2,
        max_size=12,
    )
)
def test_distinct_names_never_share_numbers(names):
    drawn = {noise(seed, t, (8,), purpose=purpose, draw=draw).tobytes() for purpose, seed, t, draw in names}
    assert len(drawn) == len(names)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 1000))
def test_a_batch_is_its_cases(seeds: list[int], t: int):
    batch = noise_batch(seeds, t, (2, 3, 3))
    assert batch.shape == (len(seeds), 2, 3, 3)
    for row, seed in zip(batch, seeds, strict=True):
        assert row.tobytes() == noise(seed, t, (2, 3, 3)).tobytes()


def test_an_array_handed_out_is_not_written_again():
    first = noise(1, 1, (64,))
    before = first.copy()
    noise(2, 2, (64,))
    assert first.tobytes() == before.tobytes()


def test_threads_draw_the_same_numbers():
    wanted = [noise(seed, 3, (3, 16, 16)).tobytes() for seed in range(64)]
    found: dict[int, list[bytes]] = {}

    def work(k: int) -> None:
        found[k] = [noise(seed, 3, (3, 16, 16)).tobytes() for seed in range(64)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[k] == wanted for k in range(4))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 1, 5), (0,)])
def test_any_shape_is_filled(shape):
    values = noise(4, 4, shape)
    assert values.shape == shape
    assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((-1, 0), {}),
        ((2**63, 0), {}),
        ((0, -1), {}),
        ((0, 2**31), {}),
        ((0, 0), {"draw": -1}),
        ((0, 0), {"purpose": ""}),
        ((0, 0), {"purpose": "ninechars"}),
        ((0, 0), {"purpose": "schön"}),
    ],
)
def test_names_that_could_collide_are_refused(arguments, options):
    with pytest.raises(DefinitionError):
        noise(*arguments, (2,), **options)


class Counting:
    """The default source, and what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, seeds, t, shape):
        self.asked.append((tuple(seeds), t))
        return noise_batch(seeds, t, shape)


def test_what_is_asked_again_is_remembered_and_cannot_be_spoiled_by_who_got_it():
    source = Counting()
    remembered = Remembered(source, room=3 * 2 * 4 * 4)
    for _ in range(2):
        for t in (4, 3, 2, 1):
            got = remembered((7, 8), t, (4,))
            assert np.array_equal(got, noise_batch((7, 8), t, (4,)))
            got[...] = np.nan
    assert [t for _, t in source.asked] == [4, 3, 2, 1, 1], "three states fit"
    assert np.array_equal(remembered((8, 7), 4, (4,)), noise_batch((8, 7), 4, (4,)))
    assert np.array_equal(remembered((7, 8), 4, (2, 2)), noise_batch((7, 8), 4, (2, 2)))
