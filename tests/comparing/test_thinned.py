"""Comparing stores that were thinned: dropped states are left out, said, and nothing else changes."""

from dataclasses import replace

import pytest
import xarray as xr
from compared_stores import FAST, sampled

import flowprofile as fp
from flowprofile.errors import StoreError
from flowprofile.store.store import Store
from flowprofile.upkeep.choosing import Cells
from flowprofile.upkeep.drop import drop

LAYOUT = replace(FAST, chunk="256 B", shard="4 KiB")
"""One state to a chunk, so that every dropped state frees its bytes."""
TWO = {"label": (0, 1)}
EVERY_FIFTH = list(range(1000, -1, -250))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A store, and a copy of it to thin."""
    folder = tmp_path_factory.mktemp("thinned")
    return [sampled(folder / name, stages={"trajectory": {}}, layout=LAYOUT) for name in ("whole", "thin")]


@pytest.fixture(scope="module", params=[(1, 2, 4, 5), (0, 3)], ids=["four seeds of six", "all six"])
def thinned(both, request):
    whole, url = both
    with Store.open(url, layout=LAYOUT) as store:
        assert drop(store, Cells(("trajectory",), seeds=request.param, but_times="::5"))
    return whole, url


def test_dropped_states_are_left_out_and_said(thinned):
    whole, url = thinned
    found = fp.compare(url, between=TWO)
    assert found["time"].values.tolist() == EVERY_FIFTH
    assert found.attrs["left_out"].startswith("16 of 21 states")
    same = fp.compare(whole, between=TWO, time=EVERY_FIFTH)
    assert "left_out" not in same.attrs
    for name in ("value", "null", "lower", "upper", "onset", "n"):
        xr.testing.assert_equal(found[name], same[name])


def test_a_range_is_answered_at_the_states_that_are_left_and_a_list_is_refused(thinned):
    _, url = thinned
    assert fp.compare(url, between=TWO, time=slice(900, 200))["time"].values.tolist() == [750, 500, 250]
    with pytest.raises(StoreError, match="--time"):
        fp.compare(url, between=TWO, time=[1000, 950, 0])


def test_workers_compare_the_same_states(thinned):
    _, url = thinned
    alone = fp.compare(url, between=TWO, remember=False)
    xr.testing.assert_identical(fp.compare(url, between=TWO, remember=False, cluster="processes:1"), alone)


def test_the_table_says_what_was_left_out(thinned, capsys):
    from flowprofile.cli.main import main

    with pytest.raises(SystemExit, match="0"):
        main(["compare", thinned[1], "--between", "label=0,label=1"])
    assert "left out are 16 of 21 states" in " ".join(capsys.readouterr().out.split())
