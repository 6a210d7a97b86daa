"""What a plan promises grows with what is done, not only with how many cells there are."""

import pytest

from flowprofile import rates, running
from pipelines import pipeline


def stages(side, probes=8):
    mask = {"rectangle": [0, 0, side, side]}
    made = pipeline(
        model="gaussian8",
        labels=[0],
        volume={"use": "gradient_volume", "mask": mask, "keep": [500]},
        energy={"use": "gradient_energy", "mask": mask, "keep": [500], "probes": probes},
        pull={"use": "gradient_sum", "mask": mask, "keep": [500]},
    )
    return running.assembled(made).graph.stages


def test_rows_of_a_gradient_volume_and_probes_are_promised_one_by_one():
    few, many = stages(1), stages(8, probes=80)
    known = rates.told(few, {"volume": 2.0, "energy": 0.9, "pull": 0.5, "trajectory": 0.25})
    assert rates.seconds(few["volume"], 3, known) == pytest.approx(6.0), "as it was measured"
    assert rates.seconds(many["volume"], 3, known) == pytest.approx(3 * 1.0 * 65), (
        "one forward and 64 backward passes"
    )
    assert rates.seconds(many["energy"], 3, known) == pytest.approx(3 * 0.1 * 81)
    assert rates.seconds(many["pull"], 3, known) == pytest.approx(1.5), "one backward pass, whatever the mask"
    assert rates.seconds(many["trajectory"], 4, known) == 1.0


def test_a_rate_of_cells_that_did_not_say_how_many_rows_they_had_is_not_used():
    assert rates.seconds(stages(8)["volume"], 3, {"gradient_volume": 2.0}) is None


def test_what_compares_labels_is_timed_too():
    compared = {"label_ssim": {"use": "ssim", "between": "labels"}, "trajectory": {}}
    ready = running.assembled(pipeline(model="digits", labels=[3, 5], seeds="0:100", steps=50, **compared))
    running.calibrate(ready)
    assert set(running.project(ready, None).seconds) == set(ready.graph.stages)
