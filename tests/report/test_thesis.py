"""Every experiment of the thesis in its short form: twenty steps, three seeds, as small as it can be and still run."""

import pytest

from flowprofile.datasets.faces import faces
from flowprofile.definitions import shipped
from flowprofile.measures.nulls import gaussian_fit
from flowprofile.report.carrying import Orders, sections
from flowprofile.report.items import items
from flowprofile.report.page import Heading, page
from flowprofile.report.verdicts import OUTCOMES

FOLDER = shipped("pipelines") / "thesis"
NAMES = sorted(path.stem for path in FOLDER.glob("*.toml"))
SHORT = ("sampler.steps=20", "report.seeds=3", "report.least=3", "numerics.batch=3")
FEWER = {
    "fig-5.10": ('interventions.own.layer=["downs.1.2", "downs.1.2.fn"]',
                 'interventions.random.layer=["downs.1.2", "downs.1.2.fn"]', "interventions.random.channel.n=1"),
    "fig-5.12": ('interventions.own.layer="ups.1.2"', 'interventions.control.layer="ups.1.2"',
                 "interventions.control.channel.n=1"),
    "fig-5.16": ("stages.forehead.mask={ rectangle = [8, 13, 9, 15] }", "stages.mouth.mask={ rectangle = [23, 14, 24, 16] }"),
    "fig-5.17": ("interventions.lipstick.at=[900, 500, 100]",),
    "fig-5.8": ("stages.volume.mask={ rectangle = [15, 10, 16, 12] }",),
}  # fmt: skip


def quiet(told):
    """Nothing is told while an item runs."""
    import contextlib

    return contextlib.nullcontext(lambda event: None)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Every experiment as it came out, by name; each is run once."""
    into, found = tmp_path_factory.mktemp("thesis"), {}

    def of(name):
        if name not in found:
            overrides = (*SHORT, *FEWER.get(name, ()))
            chosen = items([str(FOLDER / f"{name}.toml")], overrides=overrides)
            (found[name],) = sections(chosen, Orders(into, overrides=overrides), quiet)
        return found[name]

    return of


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_runs_is_judged_and_drawn(short, name):
    section = short(name)
    assert section.failure is None, str(section.failure)
    assert section.verdict.outcome in OUTCOMES
    assert section.verdict.sentence
    assert section.verdict.rows
    assert len(section.pictures) == len(section.item.report.figure)


def test_the_gaussian_beside_the_reach_varies_as_the_renders_do(short):
    table = short("fig-5.8").item.pipeline.stages["influence"]["gaussian"]
    images = 2 * faces(7, range(2048), labels=[6] * 2048).images - 1
    assert gaussian_fit(images) == pytest.approx((table["sd"], table["length_scale"]), rel=0.002)
    told = [row.name for row in short("fig-5.8").verdict.rows]
    assert [name for name in told if "Gaussian" in name] == [
        "count of an exact Gaussian denoiser, late minus early",
        "radius of an exact Gaussian denoiser, late minus early",
    ]


def test_the_planted_claim_is_not_found(short):
    verdict = short("planted").verdict
    assert verdict.outcome == "not found"
    assert verdict.rows[0].estimate.mean == 0.0


def test_the_planted_claim_would_be_found_where_it_is_true(tmp_path):
    """The same switch does change the states after it: the machinery can find something."""
    overrides = (*SHORT, "report.verdict.of=[200, 0]")
    (section,) = sections(items([str(FOLDER / "planted.toml")], overrides=overrides), Orders(tmp_path), quiet)
    assert section.verdict.outcome in ("confirmed", "explained by the null")


def test_the_page_of_all_of_them_is_small_and_names_the_model(short):
    done = [short(name) for name in NAMES]
    made = page(done, Heading("All", "flowprofile report thesis", None))
    assert len(made) < 4_000_000
    assert "trained on drawn renders of faces, not on CelebA" in made
    for section in done:
        assert f"{section.item.report.item}:" in made
