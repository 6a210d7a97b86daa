"""Each benchmark runs once on its smallest shape, so that it cannot rot; no test asserts a time."""

import json

import pytest

from benchmarks.__main__ import benches, main
from benchmarks.harness import Row, as_json, compare, summary


@pytest.mark.parametrize(
    "name", ["noise", "ssim", "padding", "sampling", "engine", "gradients", "inside", "scale"]
)
def test_a_benchmark_runs_and_names_its_targets(name: str):
    rows = benches()[name](tiny=True)
    assert rows
    for row in rows:
        assert row.measured >= 0
        assert row.low <= row.measured <= row.high
        assert (f"target {row.target}" if row.target else "no target") in str(row)
    assert json.loads(as_json(rows))[0]["name"] == rows[0].name


def test_a_ratio_points_the_way_its_target_does():
    def slow() -> int:
        return sum(range(20000))

    def fast() -> int:
        return sum(range(200))

    assert compare("cost", slow, fast, target="<= 2x", tiny=False, pairs=5).measured > 1
    assert compare("gain", fast, slow, target=">= 2x", tiny=False, pairs=5).measured > 1


@pytest.mark.parametrize(
    ("target", "measured", "met"),
    [
        ("<= 2x", 1.9, True),
        ("<= 2x", 2.1, False),
        (">= 4x", 4.0, True),
        (">= 4x", 3.9, False),
        ("", 1.0, None),
    ],
)
def test_a_row_knows_whether_its_target_is_met(target: str, measured: float, met: bool | None):
    row = Row("a", measured, measured, measured, target)
    assert row.met is met
    assert ("NOT met" in str(row)) is (met is False)


def test_the_interval_holds_the_median_and_narrows_with_more_pairs():
    few = summary("few", [1.0, 2.0, 3.0, 4.0, 5.0], target="")
    assert (few.low, few.measured, few.high) == (1.0, 3.0, 5.0)
    many = summary("many", [1 + k / 100 for k in range(401)], target="")
    assert many.low < many.measured < many.high
    assert many.high - many.low < 0.45


def test_the_command_prints_a_line_or_json_per_row(capsys):
    main(["noise", "--tiny"])
    assert "torch.randn" in capsys.readouterr().out
    main(["noise", "--tiny", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["target"] == "<= 2x"
    with pytest.raises(SystemExit):
        main(["nose"])
    assert "no benchmark 'nose'" in capsys.readouterr().err
