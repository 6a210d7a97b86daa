"""The command: what it prints, draws and refuses; and the benchmark, once."""

import json

import numpy as np
import pytest

import flowprofile as fp
from benchmarks.bench_stats import rows
from flowprofile.cli import main
from flowprofile.comparison_figures import comparison
from flowprofile.figures import stamp_of


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command here; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main(["compare", *map(str, args)])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def test_it_prints_curves_and_onsets(command, whole):
    code, out, _ = command(whole, "--between", "label=0,label=1", "--delta", ".1,.2", "--delta", "0.3")
    assert code == 0
    assert "label 0 and label 1: 1 - ssim, 6 seeds" in out
    assert [line.split()[0] for line in out.splitlines()[-3:]] == ["0.1", "0.2", "0.3"]
    code, out, _ = command(whole, "--between", "labels")
    assert (code, "0, 1" in out, "1, 2" in out) == (0, True, True)


def test_json_is_the_dataset(command, whole):
    code, out, _ = command(
        whole, "--between", "intervention=none,intervention=later", "--label", "0,1", "--json"
    )
    told = json.loads(out)
    found = fp.compare(whole, between={"intervention": ("none", "later")}, label=[0, 1])
    assert code == 0
    assert told["attributes"] == found.attrs
    np.testing.assert_array_equal(told["value"], found["value"].values)
    assert [np.nan if t is None else t for t in told["onset"]] == pytest.approx(
        found["onset"].values, nan_ok=True
    )


def test_a_store_and_another(command, whole, tmp_path):
    code, _, err = command(whole, whole)
    assert (code, "compared with itself" in err) == (2, True)


def test_the_end_of_an_excess_is_spoken_of(command, whole):
    _, out, _ = command(whole, "--between", "label=0,label=1", "--excess")
    assert "leave the end out" in out
    _, out, _ = command(whole, "--between", "label=0,label=1", "--excess", "--time", "1000:100")
    assert "leave the end out" not in out


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--between", "label=0,intervention=none"], "two values of one axis"),
        (["--between", "label=0,label=1", "--time", "late"], "names no states"),
        (["--between", "label=0,label=1", "--delta", "much"], "no number"),
        (["--between", "label=0,label=0"], "compared with itself"),
        (["--between", "label=0,label=1", "--measure", "ssmi"], "did you mean 'ssim'"),
        (["--between", "label=0,label=1", "--layer", "nosuch"], "has no layers"),
        (["--between", "label=0,label=1", "--measure", "step_ssim", "--layer", "nosuch"], "has no layers"),
        (["--between", "label=0,label=1", "--seeds", "0:2"], "ask for at least 3 of the 6"),
        (["--between", "label=0,label=1", "--figure", "deep/x.txt"], "is to be a PNG; name it x.png"),
        ([], "two values of one axis"),
    ],
)
def test_a_wrong_argument_is_refused(command, whole, args, told):
    code, _, err = command(whole, *args)
    assert code == 2
    assert told in err


@pytest.mark.parametrize("args", [["--between", "label=0,label=1"], ["--between", "labels"]])
def test_a_figure_is_drawn_and_says_of_what(command, whole, tmp_path, args):
    code, out, _ = command(whole, *args, "--excess", "--time", "1000:100", "--figure", "a.png")
    assert (code, out.splitlines()[-1]) == (0, "a.png")
    between = "labels" if args[-1] == "labels" else {"label": (0, 1)}
    found = fp.compare(whole, between=between, excess=True, time=slice(1000, 100))
    assert stamp_of(tmp_path / "a.png") == found.attrs["recipe"]


def test_a_figure_shows_what_is_claimed(whole):
    found = fp.compare(whole, between={"label": (0, 1)})
    (axes,) = [axes for axes in comparison(found).axes if axes.lines and axes.get_xlabel()]
    drawn = {tuple(line.get_ydata()) for line in axes.lines}
    assert tuple(found["value"].values) in drawn
    assert tuple(found["null"].values) in drawn
    bars = [line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linewidth() == 3]
    ends = [tuple(line.get_xdata()) for line in bars]
    assert ends == list(zip(found["onset_upper"].values, found["onset_lower"].values, strict=True))


def test_the_benchmark_runs():
    found = rows(tiny=True)
    assert [row.measured > 0 for row in found] == [True] * len(found)
