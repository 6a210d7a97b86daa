"""Reports end to end on a closed form: what is refused, what is shown, what a budget does, and that nothing leaks."""

import json
import re
import shutil
from pathlib import Path

import pytest

import flowprofile as fp
from flowprofile import running
from flowprofile.cli import main
from flowprofile.definitions import read
from flowprofile.errors import DefinitionError
from flowprofile.report.budget import affordable, shares
from flowprofile.report.items import item_of, items
from flowprofile.report.verdicts import OUTCOMES

SMALL = """
model   = "gaussian8"
sampler = { steps = 20 }
cases   = { seeds = "0:2", labels = [0] }

[stages.step_mse]
use = "mse"
"""
REPORT = """
[report]
item     = "Fig 0"
title    = "Steps & <states>"
question = "Does a step change less and less?"
finding  = "It does."
control  = "The null."
seeds    = 6
least    = 3
figure   = [{ draw = "curves", stage = "step_mse" }, { draw = "intervals" }]

[report.verdict]
rule      = "window"
stage     = "step_mse"
of        = [200, 0]
against   = [1000, 800]
direction = "below"
excess    = 0.001
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of experiments, the machine's rates kept in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    inner = tmp_path / "mine"
    inner.mkdir()
    (inner / "fig-2.toml").write_text(SMALL + REPORT)
    (inner / "fig-10.toml").write_text(SMALL + REPORT.replace("Fig 0", "Fig 10"))
    (inner / "plain.toml").write_text(SMALL)
    return inner


@pytest.fixture
def report(capsys, folder):
    """`flowprofile report` of that folder: exit code, what it printed, and the page."""

    def made(*args, targets=("mine",)):
        with pytest.raises(SystemExit) as stop:
            main(["report", *targets, "--into", "stores", "--quiet", *map(str, args)])
        printed = capsys.readouterr()
        path, made.told = Path("stores/report.html"), printed.err
        return stop.value.code, printed.out, path.read_text("utf-8") if path.exists() else ""

    return made


def test_a_page_says_everything_and_asks_nobody(report):
    code, out, page = report()
    assert code == 0
    assert out.splitlines()[0].startswith("Fig 0: ")
    assert page.index("Fig 0") < page.index("Fig 10"), "numbers are in their own order"
    for word in (
        "Does a step change less",
        "It does.",
        "The null.",
        "rule = &#34;window&#34;",
        "6 seeds",
        "gaussian8",
    ):
        assert word in page
    assert re.search(r"digest <code>[0-9a-f]{16}</code>", page)
    assert "flowprofile run mine/fig-2.toml --into stores/fig-2 --set cases.seeds=0:6" in page
    assert not re.search(r"<script|<link|@import|url\(|https?://(?!www\.w3\.org)", page)
    assert set(re.findall(r'src="(\w+):', page)) == {"data"}
    assert "Steps &amp; &lt;states&gt;" in page
    assert "<states>" not in page
    marks = re.findall(r'<td><span class="mark \w+">([^<]*)</span></td>', page)
    assert len(marks) == 2
    assert set(marks) <= set(OUTCOMES)
    assert len(page) < 1_000_000


def test_the_second_time_nothing_is_computed_and_the_page_is_the_same(report):
    _, first, page = report()
    code, second, again = report()
    assert code == 0
    assert "120 forwards" in first
    assert re.findall(r"(\d+) forwards", second) == ["0", "0"]
    assert again == page


def test_workers_make_the_same_page_but_for_the_command_that_names_them(report):
    _, _, page = report()
    shutil.rmtree("stores")
    code, out, other = report("--cluster", "processes:2")
    assert code == 0
    assert "120 forwards" in out
    assert "--cluster processes:2" in other
    assert other.replace(" --cluster processes:2", "") == page


def test_a_word_that_names_no_workers_is_refused_before_anything_is_computed(report):
    code, out, page = report("--cluster", "processes:none")
    assert (code, out, page) == (2, "", "")
    assert not Path("stores").exists()


def test_an_experiment_that_fails_is_shown_and_the_others_too(report, folder):
    path = folder / "fig-2.toml"
    path.write_text(path.read_text().replace("of        = [200, 0]", "of        = [999, 998]"))
    code, out, page = report()
    assert code == 2
    assert "Fig 10: " in out
    assert '<span class="mark failed">failed</span>' in page
    assert "No state of &#39;step_mse&#39; lies between t = 999 and 998." in page
    assert page.count("data:image/png") == 2


def test_a_model_that_is_not_there_fails_alone(report, folder):
    path = folder / "fig-2.toml"
    path.write_text(path.read_text().replace('"gaussian8"', '"gauss"'))
    code, _, page = report()
    assert code == 2
    assert page.count('<span class="mark failed">failed</span>') == 2, "in the contents and in its section"


def test_a_budget_chooses_seeds_says_so_and_is_kept(report):
    code, out, page = report("--budget", 1e-4)
    assert code == 0
    assert "budget of 0.0001 minutes" in page
    assert "Fig 0 (3 of 6)" in page
    assert "3 seeds" in out
    chosen = json.loads(Path("stores/chosen.json").read_text())
    assert {n for choice, n in chosen.items() if "@" in choice} == {3}
    assert "The budget was too small" in page
    told = re.search(r"about ([\d.e-]+) minutes from nothing, more than the budget of 0.0001", report.told)
    assert told[1] in page
    assert float(told[1]) > 1e-4
    code, out, page = report("--budget", 1000)
    assert "too small" not in page
    assert "more than the budget" not in report.told
    assert "all the seeds that its definition asks for" in page
    assert "6 seeds" in out
    code, out, page = report("--budget", 1e-4)
    assert "3 seeds" in out, "the same command gives the same page, though six seeds are stored"
    assert re.findall(r"(\d+) forwards", out) == ["0", "0"]


def test_shares_add_up_and_nobody_gets_more_than_they_need():
    full, least = [10.0, 40.0, 500.0], [1.0, 1.0, 60.0]
    for total in (62.0, 80.0, 200.0, 549.0):
        given = shares(full, least, total)
        assert sum(given) == pytest.approx(total, abs=1e-3)
        assert all(few <= one <= most for few, one, most in zip(least, given, full, strict=True))
    assert shares(full, least, 1e9) == full
    assert shares(full, least, 5.0) == least, "the least is given even where it is too much"
    assert shares([], [], 5.0) == []
    assert affordable(lambda n: 2.0 * n, 1.0, least=4, most=9) == 4
    assert affordable(lambda n: 2.0 * n, 18.0, least=4, most=9) == 9


def test_the_report_decides_nothing_that_is_computed(folder):
    plain, _ = read(folder / "plain.toml")
    told, _ = read(folder / "fig-2.toml")
    one, other = running.assembled(plain), running.assembled(told)
    assert told.report is not None
    assert one.graph.keys == other.graph.keys
    assert one.run == other.run
    assert one.definition() == other.definition()
    assert "report" not in told.model_dump()


def test_the_digest_is_of_the_definition_and_of_what_overrides_it(folder):
    path = folder / "fig-2.toml"
    first = item_of(path).digest
    assert item_of(path).digest == first
    assert item_of(path, overrides=["report.seeds=4"]).digest != first
    path.write_text(path.read_text().replace("excess    = 0.001", "excess    = 0.002"))
    assert item_of(path).digest != first


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('rule      = "window"', 'rule      = "windows"', "There is no rule 'windows'"),
        ("excess    = 0.001", "exces    = 0.001", "Unknown key 'exces'"),
        ('direction = "below"', "", "'direction' is missing"),
        ('direction = "below"', 'direction = "down"', "report.verdict.direction"),
        ("of        = [200, 0]", "of        = [0, 200]", "t counting down"),
        ('stage     = "step_mse"', 'stage     = "step_ms"', "which is no stage"),
        ('draw = "curves"', 'draw = "curve"', "There is no drawing 'curve'"),
        ("least    = 3", "least    = 2", "least"),
        ("least    = 3", "least    = 7", "more than seeds"),
        ("least    = 3", "lest    = 3", "Unknown key 'lest'"),
        ('finding  = "It does."', "", "'finding' is missing"),
    ],
)
def test_what_is_wrong_with_a_report_is_refused_with_its_place(folder, old, new, told):
    path = folder / "fig-2.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DefinitionError, match=re.escape(told)) as refusal:
        item_of(path)
    assert "fig-2.toml" in str(refusal.value)


def test_targets_without_a_question_and_doubled_ones_are_refused(folder):
    with pytest.raises(DefinitionError, match=r"no definition with a \[report\] table"):
        items(["mine/plain.toml"])
    with pytest.raises(DefinitionError, match="Two definitions are called 'fig-2'"):
        items(["mine", "mine/fig-2.toml"])
    with pytest.raises(DefinitionError, match="no pipeline 'nowhere'"):
        items(["nowhere"])


def test_a_verdict_is_of_the_definitions_own_recipe(report, folder):
    """A store may hold an earlier recipe under the plain name, or more seeds than the report is of."""
    report()
    path = folder / "fig-2.toml"
    text = path.read_text()
    path.write_text(text.replace('use = "mse"', 'use = "ssim"\nwindow = 3').replace("step_mse", "step"))
    _, _, first = report()
    path.write_text(path.read_text().replace("window = 3", "window = 5"))
    _, _, second = report()
    path.write_text(path.read_text().replace("window = 5", "window = 3"))
    _, _, third = report()
    assert fp.open("stores/fig-2")["measures"].children.keys() >= {"step[window=3]", "step[window=5]"}
    first, second, third = (re.sub(r"base64,[^\"]+", "", one) for one in (first, second, third))
    assert third == first != second
