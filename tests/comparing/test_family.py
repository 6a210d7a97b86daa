"""Many pairs at once: what holds for each alone does not hold for all of them."""

import numpy as np
import pytest
import xarray as xr

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.stats.onset import onset


def test_a_family_gives_every_pair_its_share_of_the_error(held):
    together = fp.compare(held, between="labels", alpha=0.06, family="pairs")
    alone = fp.compare(held, between="labels", alpha=0.06 / 3)
    assert together.attrs.pop("family") == "pairs"
    xr.testing.assert_identical(together, alone)
    wider = fp.compare(held, between="labels", alpha=0.06)
    assert ((together["upper"] - together["lower"]) >= (wider["upper"] - wider["lower"])).all()


def test_any_false_onset_among_many_pairs_is_as_rare_as_said_with_the_family_and_common_without():
    generator = np.random.default_rng(7)
    pairs, runs = 40, 150
    wrong = {1: 0, pairs: 0}
    for _ in range(runs):
        curves = generator.normal(0.1, 0.02, (pairs, 20, 6))  # exactly at the threshold: nothing to claim
        for share in wrong:
            wrong[share] += any(onset(each, [0.1], alpha=0.05 / share).claimed[0] for each in curves)
    assert wrong[pairs] / runs <= 0.05 + 2 * (0.05 * 0.95 / runs) ** 0.5
    assert wrong[1] / runs > 0.4, "each by itself"


def test_an_unknown_family_is_refused(held):
    with pytest.raises(DefinitionError, match="The family is 'layers'"):
        fp.compare(held, between="labels", family="layers")
