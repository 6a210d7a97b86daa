"""What is not run is said where a person decides: in the plan, and when a run has ended."""

import flowprofile as fp
from flowprofile import running


def definition(**interventions):
    return fp.Pipeline(
        model="mixture16",
        cases={"seeds": "0:1", "labels": [0, 1]},
        sampler={"steps": 4},
        interventions=interventions,
        stages={"trajectory": {}},
    )


def test_cells_at_which_a_switch_would_be_none_are_named_by_the_plan_and_by_the_run(store):
    pipeline = definition(sw={"kind": "switch", "at": [750, 500], "to": 1})
    said = running.plan(pipeline).warnings
    assert "not run for label 1" in said["interventions.sw"]
    assert running.run(pipeline, into=store).warnings == said
    assert running.run(pipeline, into=store).warnings == said
    status = fp.open(store)["trajectory"]["status"].sel(intervention="switch@500->1")
    assert not status.sel(label=1).any()
    assert (status.sel(label=0) == 2).all()
