"""A comparison by workers: the same bits as in one process, whoever answers first and whoever is lost."""

import os
import shutil
from functools import partial

import pytest
import xarray as xr
from tallied_parts import always_lost, leaf, once_lost, refused, unread

import flowprofile as fp
from flowprofile import clusters
from flowprofile.comparing import spread as spreading
from flowprofile.comparing.spread import parts, spread
from flowprofile.comparing.tallying import Forests
from flowprofile.errors import ClusterError, DefinitionError


def asked(url, **how):
    shutil.rmtree(f"{url}/comparisons", ignore_errors=True)
    return fp.compare(url, between="labels", excess=True, time=slice(1000, 100), **how)


@pytest.mark.parametrize("cluster", ["processes:2", "local:2"])
def test_workers_give_the_bits_of_one_process(held, cluster, monkeypatch):
    alone = asked(held)
    monkeypatch.setattr(spreading, "WORK", 1)
    xr.testing.assert_identical(asked(held, cluster=cluster), alone)


def test_stretches_are_whole_subtrees_and_hold_every_seed_once():
    seeds = [5, 0, 1, 2, 9, 8, 30, 31, 17]
    for width in (0, 1, 2, 3, 8, 100):
        found = list(parts(seeds, width))
        assert sorted(seeds) == [seed for part in found for seed in part]
        level = max(1, width).bit_length() - 1
        assert all(len({seed >> level for seed in part}) == 1 for part in found)


def test_any_order_of_answers_adds_up_to_the_same_bits():
    seeds = list(range(3, 200, 2))
    whole = leaf(seeds).tallied().value
    for width in (1, 4, 64):
        backwards = Forests()
        for part in reversed(list(parts(seeds, width))):
            backwards = backwards + leaf(part)
        assert backwards.tallied().value == whole
    naive = sum(float(seed) ** 1.5 for seed in reversed(seeds)) / len(seeds)
    assert naive != whole.mean.item(), "a plain sum depends on the order"


def test_a_lost_worker_costs_nothing_but_time(tmp_path):
    found = spread(partial(once_lost, tmp_path), range(4), "local:2", weight=spreading.WORK)
    assert found.tallied().value == leaf(range(4)).tallied().value


def test_what_a_worker_refuses_is_refused_and_what_is_lost_again_and_again_is_named():
    with pytest.raises(DefinitionError, match="Refused here"):
        spread(refused, range(4), "processes:1", weight=1)
    with pytest.raises(ClusterError, match="Seeds 0 to 3 could not be tallied"):
        spread(always_lost, range(4), "processes:1", weight=1)


def test_an_answer_that_is_lost_on_its_way_is_named_and_waited_for_by_nobody():
    with pytest.raises(ClusterError, match="Seeds 0 to 3 could not be tallied") as refusal:
        spread(partial(unread, os.getpid()), range(4), "local:1", weight=1)
    assert "lost on its way" in refusal.value.evidence


def test_nobody_named_is_refused():
    with pytest.raises(DefinitionError, match="names no cluster"), clusters.pool("nowhere"):
        pass
