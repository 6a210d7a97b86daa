"""What a name means does not depend on which other masks a store has seen."""

import numpy as np
import pytest

import flowprofile as fp
from flowprofile import running


def tables(rectangle):
    return {
        "rows": {"use": "gradient_volume", "mask": {"rectangle": rectangle}, "keep": [500]},
        "influence": {"needs": ["rows"]},
    }


def profiled(rectangle, store, **more):
    settings = {"seeds": "0:1", "labels": [0], "sampler": {"steps": 10}, **more}
    return fp.profile("gaussian8", into=store, stages=tables(rectangle), **settings)


A, B, BOTH = [0, 0, 2, 2], [4, 4, 8, 8], [0, 0, 8, 8]


@pytest.mark.parametrize("before", [[B], [A, B], [BOTH], [B, BOTH], [BOTH, A, B]])
def test_the_same_table_gives_the_same_numbers_whatever_the_store_held(store, before):
    fresh = profiled(A, f"{store}-fresh")
    for rectangle in before:
        profiled(rectangle, store)
    grown = profiled(A, store)
    for node in ("gradients/rows", "measures/influence"):
        one, other = fresh[node].to_dataset().load(), grown[node].to_dataset().load()
        assert other["pixel"].values.tolist() == [0, 1, 8, 9]
        for name in one.data_vars:
            assert np.array_equal(one[name].values, other[name].values), (node, name)
        whole = grown[f"{node}[pixel=all]"]
        assert set(whole["pixel"].values) > set(other["pixel"].values)
        assert (whole["status"] == 2).all()


def test_asking_for_pixels_that_are_there_computes_nothing_and_shows_them(store):
    profiled(A, store)
    profiled(B, store)
    pipeline = fp.Pipeline(
        model="gaussian8",
        cases={"seeds": "0:1", "labels": [0]},
        sampler={"steps": 10},
        stages={"trajectory": {}, **tables(A)},
    )
    assert fp.open(store)["gradients/rows"].sizes["pixel"] == 16
    outcome = running.run(pipeline, into=store)
    assert (outcome.forwards, outcome.regions) == (0, 0)
    assert fp.open(store)["gradients/rows"].sizes["pixel"] == 4
    grown = profiled(A, store, seeds="0:2")["gradients/rows"]
    assert (grown.sizes["seed"], grown.sizes["pixel"]) == (2, 4)
