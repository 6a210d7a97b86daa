"""The planner's arithmetic, checked against a slow and obvious one."""

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.flow.demand import demand, dilated, steps
from flowprofile.flow.graph import build
from flowprofile.flow.stage import Chain, Need, Stage

GRID = tuple(range(12, -1, -1))
MASK = st.lists(st.booleans(), min_size=len(GRID), max_size=len(GRID)).map(
    lambda flags: np.array(flags, dtype=bool)
)


def stage(name, *, needs=(), times=GRID, chain=None, stored=True, outputs=()):
    return Stage(
        name=name, kind=name, group=name, version=1, params={}, needs=tuple(needs), times=times,
        promise=lambda times: xr.Dataset({"value": ("time", np.zeros(len(times)))}), compute=lambda block: block,
        chain=chain, stored=stored, outputs=frozenset(outputs),
    )  # fmt: skip


def spine(*, store_states=True, keep=GRID):
    """A sampler, a measure between steps, one to the final image, and the null of the first."""
    return build(
        [
            stage("states", chain=Chain(GRID, lambda: None), stored=store_states, times=keep),
            stage("between", needs=[Need("states", halo=1)], times=GRID[1:]),
            stage("to_final", needs=[Need("states"), Need("states", "final")]),
            stage("null", needs=[Need("states", "final")], chain=Chain(GRID, lambda: None, 0), stored=False),
            stage("between.null", needs=[Need("null", halo=1)], times=GRID[1:]),
        ],
        {"model": "m"},
    )


def nothing(graph):
    return {one.name: np.zeros(len(GRID), dtype=bool) for one in graph.stored()}


def everything(graph):
    return {one.name: np.isin(GRID, one.times) for one in graph.stored()}


@given(MASK, MASK, MASK)
def test_steps_reach_every_demand_and_nothing_more(states, outputs, have):
    outputs[0] = False
    run, read = steps(states, outputs, have)
    for place in range(1, len(GRID)):
        if run[place]:
            assert run[place - 1] or read[place - 1], "a step needs the state before it"
    assert not (run & read).any()
    assert ((run | read) >= (states | outputs)).all()
    assert not (read & ~have).any()
    # Minimal: dropping any step leaves some demand unreachable.
    for place in np.flatnonzero(run[1:]) + 1:
        needed = outputs[place] or (states[place] and not have[place])
        assert needed or run[place + 1]


def test_a_step_is_taken_from_the_nearest_stored_state_above():
    states, have = np.zeros(13, dtype=bool), np.zeros(13, dtype=bool)
    states[8], have[5] = True, True
    run, read = steps(states, np.zeros(13, dtype=bool), have)
    assert np.flatnonzero(run).tolist() == [6, 7, 8]
    assert np.flatnonzero(read).tolist() == [5]


def test_an_empty_store_demands_one_walk_per_chain_and_level():
    graph = spine()
    found = demand(graph, nothing(graph))
    assert [(one.chain, one.level) for one in found.passes] == [("states", 0), ("states", 1), ("null", 1)]
    assert found.forwards == len(GRID) - 1
    assert not any(one.spill for one in found.passes), "what is stored need not wait in scratch"


def test_a_finished_store_demands_nothing():
    graph = spine()
    found = demand(graph, everything(graph))
    assert found.passes == ()
    assert found.forwards == 0


def test_a_new_measure_on_stored_states_demands_no_forward():
    graph = spine()
    present = everything(graph)
    present["between"][:] = False
    found = demand(graph, present)
    assert found.forwards == 0
    assert [one.chain for one in found.passes] == ["states"]


def test_states_nobody_stores_wait_in_scratch_for_the_final_image():
    graph = spine(store_states=False)
    found = demand(graph, nothing(graph))
    assert found.forwards == len(GRID) - 1
    assert found.passes[0].spill["states"].all()


def test_only_states_outside_keep_wait_in_scratch():
    graph = spine(keep=(12, 6, 0))
    found = demand(graph, nothing(graph))
    assert found.forwards == len(GRID) - 1
    assert np.flatnonzero(~found.passes[0].spill["states"]).tolist() == [0, 6, 12]


def test_a_sampler_resumes_from_its_last_stored_state():
    graph = spine()
    present = nothing(graph)
    present["states"][:8] = True
    assert demand(graph, present).forwards == len(GRID) - 8


@given(st.lists(MASK, min_size=4, max_size=4))
def test_every_missing_cell_is_computed_whatever_is_there(masks):
    graph = spine()
    present = {
        one.name: mask & np.isin(GRID, one.times) for one, mask in zip(graph.stored(), masks, strict=True)
    }
    found = demand(graph, present)
    for one in graph.stored():
        missing = np.isin(GRID, one.times) & ~present[one.name]
        assert (found.missing[one.name] == missing).all()
        done = np.zeros(len(GRID), dtype=bool)
        for walk in found.passes:
            if walk.level == graph.levels[one.name] and one.name in walk.compute:
                done |= walk.compute[one.name]
        assert (done >= missing).all()
    for walk in found.passes:
        for name, mask in walk.compute.items():
            for need in graph.stages[name].needs:
                if need.view == "block":
                    at_hand = walk.compute[need.stage] | walk.read[need.stage]
                    assert (at_hand >= dilated(mask, need.halo)).all()


def test_an_output_of_the_network_demands_its_own_step_only():
    graph = build(
        [
            stage("states", chain=Chain(GRID, lambda: None)),
            stage("guess", needs=[Need("states")], times=(6,), outputs=["x0"]),
        ],
        {},
    )
    present = nothing(graph)
    present["states"][:] = True
    assert demand(graph, present).forwards == 1
