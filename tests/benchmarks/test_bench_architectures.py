"""Three networks are asked one question by one script; here it asks the shipped one, with twenty steps and three seeds."""

from dataclasses import replace

from benchmarks.architectures import LEAST, answered, draw, told, write_curves


def test_a_network_is_asked_and_one_that_ignores_its_label_answers_nothing(tmp_path):
    few = ("report.seeds=3", "report.least=3")
    found = answered("ours", "faces32", tmp_path, steps=20, samples=4, fewer=few)
    assert found.pair.shape == found.null.shape == (3, len(found.times))
    assert found.left.shape == (3, 10)
    assert (found.left[:, 0] == 1).all(), "a share of the earliest switch's effect"
    assert found.at.tolist() == [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]
    blind = replace(found, shown={**found.shown, "fidelity": LEAST - 0.01})
    assert sum("inconclusive" in line for line in told(blind)) == 2
    assert any("INCONCLUSIVE" in line for line in told(blind))
    assert not any(
        "nconclusive" in line for line in told(replace(found, shown={**found.shown, "fidelity": LEAST}))
    )
    write_curves([found, blind], tmp_path / "curves.csv")
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert len(rows) == 1 + 2 * (2 * len(found.times) + 10)
    draw(tmp_path / "curves.csv", tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000
