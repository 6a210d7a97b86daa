"""The benchmark of the panel runs once on its smallest shape, without Gradio; nothing here asserts a time."""

import pytest

from benchmarks import bench_app
from benchmarks.__main__ import APART, benches


def test_it_is_run_by_name_only():
    assert set(APART) <= set(benches())


@pytest.mark.browser
def test_the_panel_is_moved_and_what_its_moves_ask_for_is_counted():
    rows = bench_app.rows(tiny=True)
    assert [row.name.split(",")[0] for row in rows[::2]] == [
        "channel slider",
        "step slider to the next step",
        "step slider to a far step",
    ]
    assert all(row.measured > 0 for row in rows[::2])
    asked = [row.measured for row in rows[1::2]]
    assert asked[0] == 0, "moving the channel asks for nothing"
    assert max(asked[1:]) > 0, "moving the step asks for what is not there yet"
