"""What the findings' pictures are drawn from: a file that a picture can be drawn from again, and nothing else."""

import numpy as np
import pytest

from benchmarks import findings_figure
from benchmarks.curves_file import read, rows, write
from benchmarks.findings import REGIONS
from flowprofile.stats.bounds import mean_bounds


@pytest.fixture
def kept(tmp_path):
    """Curves of every attribute as the findings have them, of five seeds."""
    draws, lines = np.random.default_rng(1), []
    for attribute in REGIONS:
        for curve in (
            findings_figure.PAIR,
            findings_figure.NULL,
            findings_figure.CHANGED,
            findings_figure.INSIDE,
        ):
            lines += rows(attribute, curve, draws.random((5, 3)), np.array([400.0, 200.0, 0.0]))
    write(tmp_path / "curves.csv", "attribute", lines)
    return tmp_path / "curves.csv"


def test_what_is_kept_is_read_again(tmp_path):
    values = np.random.default_rng(0).random((4, 3))
    write(tmp_path / "a" / "curves.csv", "network", rows("ours", "pair", values, np.array([2.0, 1.0, 0.0])))
    (found,) = read(tmp_path / "a" / "curves.csv").items()
    assert found[0] == ("ours", "pair")
    bounds = mean_bounds(values, alpha=0.025)
    np.testing.assert_allclose(found[1].mean, bounds.mean, atol=5e-6)
    np.testing.assert_allclose(found[1].lower, bounds.lower, atol=5e-6)
    np.testing.assert_allclose(found[1].upper, bounds.upper, atol=5e-6)
    assert (found[1].times.tolist(), found[1].n) == ([2, 1, 0], 4)


def test_the_findings_picture_says_what_its_bands_are_and_its_legends_stand_beside_its_panels(kept):
    figure = findings_figure._figure(read(kept))
    figure.draw_without_rendering()
    assert "95 % interval of the mean" in figure._supxlabel.get_text()
    assert "n = 5 seeds" in figure._supxlabel.get_text()
    for part in figure.subfigs:
        (legend,) = part.legends
        box = legend.get_window_extent()
        assert not any(box.overlaps(panel.get_window_extent()) for panel in part.axes)
    inside = figure.subfigs[2].axes[0].lines
    assert inside[1].get_ydata()[0] == inside[0].get_ydata()[-1], "known pictures differ as the last ones do"


def test_a_picture_is_drawn_from_the_file_alone(kept, tmp_path):
    findings_figure.draw(kept, tmp_path / "labels.png")
    assert (tmp_path / "labels.png").stat().st_size > 10_000
