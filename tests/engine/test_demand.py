"""The planner's arithmetic, checked against a slow and obvious one."""

import numpy as np
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.cases import Case
from flowprofile.flow.demand import TWIN, Known, demand, dilated, reach, steps
from flowprofile.flow.graph import build
from flowprofile.flow.households import Survey
from flowprofile.flow.kin import Kin, Source
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
    run, read, replay = steps(states, outputs, have)
    for place in range(1, len(GRID)):
        if run[place]:
            assert run[place - 1] or read[place - 1], "a step needs the state before it"
        if replay[place]:
            assert read[place - 1], "a replay starts at a state that is known"
    assert not (run & read).any()
    assert not (run & replay).any()
    assert ((run | read) >= states).all()
    assert ((run | replay) >= outputs).all()
    assert not (read & ~have).any()
    # Minimal: whoever takes a step is asked for its state, its output, or the next step.
    for place in np.flatnonzero(run[1:]) + 1:
        follows = place + 1 < len(GRID) and (run[place + 1] or replay[place + 1])
        assert outputs[place] or (states[place] and not have[place]) or follows
    assert not (replay & ~outputs).any()


def test_a_step_is_taken_from_the_nearest_stored_state_above():
    states, have = np.zeros(13, dtype=bool), np.zeros(13, dtype=bool)
    states[8], have[5] = True, True
    run, read, replay = steps(states, np.zeros(13, dtype=bool), have)
    assert np.flatnonzero(run).tolist() == [6, 7, 8]
    assert np.flatnonzero(read).tolist() == [5]
    assert not replay.any()


def test_history_may_be_counted_in_kept_states():
    todo, kept = np.zeros(13, dtype=bool), np.isin(GRID, (12, 8, 4, 0))
    todo[GRID.index(4)] = True
    found = reach(Need("states", halo=1, kept=True), todo, kept)
    assert [GRID[place] for place in np.flatnonzero(found)] == [8, 4]


def test_an_empty_store_demands_one_walk_per_chain_and_level():
    graph = spine()
    found = demand(graph, Known(nothing(graph)))
    assert [(one.chain, one.level) for one in found.passes] == [("states", 0), ("states", 1), ("null", 1)]
    assert found.forwards == len(GRID) - 1
    assert not any(one.spill for one in found.passes), "what is stored need not wait in scratch"


def test_a_finished_store_demands_nothing():
    graph = spine()
    found = demand(graph, Known(everything(graph)))
    assert found.passes == ()
    assert found.forwards == 0


def test_a_new_measure_on_stored_states_demands_no_forward():
    graph = spine()
    present = everything(graph)
    present["between"][:] = False
    found = demand(graph, Known(present))
    assert found.forwards == 0
    assert [one.chain for one in found.passes] == ["states"]


def test_states_nobody_stores_wait_in_scratch_for_the_final_image():
    graph = spine(store_states=False)
    found = demand(graph, Known(nothing(graph)))
    assert found.forwards == len(GRID) - 1
    assert found.passes[0].spill["states"].all()


def test_only_states_outside_keep_wait_in_scratch():
    graph = spine(keep=(12, 6, 0))
    found = demand(graph, Known(nothing(graph)))
    assert found.forwards == len(GRID) - 1
    assert np.flatnonzero(~found.passes[0].spill["states"]).tolist() == [0, 6, 12]


def test_a_sampler_resumes_from_its_last_stored_state():
    graph = spine()
    present = nothing(graph)
    present["states"][:8] = True
    assert demand(graph, Known(present)).forwards == len(GRID) - 8


@given(st.lists(MASK, min_size=4, max_size=4))
def test_every_missing_cell_is_computed_whatever_is_there(masks):
    graph = spine()
    present = {
        one.name: mask & np.isin(GRID, one.times) for one, mask in zip(graph.stored(), masks, strict=True)
    }
    found = demand(graph, Known(present))
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
    assert demand(graph, Known(present)).forwards == 1


def inside(*, keep=(9, 6, 3), stored=True):
    """A sampler whose network shows something at some steps."""
    return build(
        [
            stage("states", chain=Chain(GRID, lambda: None, kin=kin), stored=stored),
            stage("shown", needs=[Need("states")], times=keep, outputs=["a"]),
            stage("asked", needs=[Need("states", halo=1)], times=keep),
        ],
        {},
    )


def kin(case):
    """Intervention "at5" begins in the step into 5; "donor" reads label 1's states from there on."""
    if case.clean:
        return None
    pairs = tuple((t, t + 1) for t in range(5, -1, -1))
    sources = (Source(Case(case.seed, 1), "states", pairs),) if case.intervention == "donor" else ()
    return Kin(case.twin, sum(t > 5 for t in GRID), sources)


def planned(graph, cases, present=None):
    def held(stage, cases):
        flags = np.zeros((len(cases), len(GRID)), dtype=bool)
        for row, case in enumerate(cases):
            flags[row] = (present or {}).get((stage.name, case), False)
        return flags

    return Survey(graph, held).demands(cases)


def test_what_the_network_shows_is_fused_with_sampling_and_replayed_from_stored_states():
    graph, case = inside(), Case(0, 0)
    assert planned(graph, [case])[case].forwards == len(GRID) - 1, "fused: no evaluation more than sampling"
    stored = planned(graph, [case], {("states", case): np.ones(13, dtype=bool)})[case]
    assert (stored.forwards, stored.replays) == (3, 3)
    assert np.flatnonzero(stored.passes[0].replay).tolist() == [3, 6, 9]
    assert not stored.passes[0].compute["states"].any(), "no state is sampled again"


def test_a_case_with_an_intervention_begins_where_it_parts_from_its_twin():
    graph, clean, changed = inside(), Case(0, 0), Case(0, 0, "at5")
    found = planned(graph, [clean, changed])
    assert found[clean].forwards == 12
    assert found[changed].forwards == 6, "the steps into 5 ... 0"
    walk = found[changed].passes[0]
    assert [GRID[place] for place in np.flatnonzero(walk.borrow["states"])] == [12, 11, 10, 9, 8, 7, 6]
    assert [GRID[place] for place in np.flatnonzero(walk.borrow["shown"])] == [9, 6], (
        "what it showed is the twin's"
    )
    assert [GRID[place] for place in np.flatnonzero(walk.compute["shown"])] == [3]


def test_a_twin_that_stores_nothing_keeps_what_is_borrowed_in_scratch():
    graph, clean, changed = inside(stored=False), Case(0, 0), Case(0, 0, "at5")
    found = planned(graph, [clean, changed])
    assert TWIN in {number for number, _ in found[changed].wants}
    kept = found[clean].passes[0].spill["states"]
    assert [GRID[place] for place in np.flatnonzero(kept)] == [6], (
        "the state at which they part, and no other"
    )


def test_a_donor_keeps_the_states_before_the_patched_steps():
    graph = inside(stored=False)
    clean, donor, changed = Case(0, 0), Case(0, 1), Case(0, 0, "donor")
    found = planned(graph, [clean, donor, changed])
    assert [GRID[place] for place in np.flatnonzero(found[donor].passes[0].spill["states"])] == [6, 5, 4]
    assert [GRID[place] for place in np.flatnonzero(found[clean].passes[0].spill["states"])] == [6]


def test_comparing_labels_waits_for_all_of_them_and_recomputes_none():
    graph = build(
        [
            stage("states", chain=Chain(GRID, lambda: None), stored=False),
            stage("pairs", needs=[Need("states", "labels")], times=(4, 2)),
        ],
        {},
    )
    cases = [Case(0, 0), Case(0, 1)]
    found = planned(graph, cases)
    assert graph.levels["pairs"] == 1
    for case in cases:
        assert found[case].forwards == 10, "the steps down to t = 2"
        assert [GRID[place] for place in np.flatnonzero(found[case].passes[0].spill["states"])] == [4, 2]
    one_done = {("pairs", cases[0]): np.isin(GRID, (4, 2))}
    again = planned(graph, cases, one_done)
    assert again[cases[0]].forwards == 10, "the other label still needs its states"
    assert not again[cases[0]].missing["pairs"].any()
