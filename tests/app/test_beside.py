"""A side of a comparison in another store: chosen from what that store holds, and all of it in the address."""

import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from browsing import serving, watched
from compared_stores import sampled
from pages import at, drawn

from flowprofile.app.server import application

pytestmark = pytest.mark.browser
STAGES = {"trajectory": {}, "label_ssim": {"use": "ssim", "between": "labels"}}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A store, and beside it one with other labels, other seeds and two runs."""
    base = tmp_path_factory.mktemp("beside")
    one = sampled(base / "one", stages=STAGES)
    sampled(base / "two", stages=STAGES, labels=(1, 2), seeds="2:5")
    two = sampled(base / "two", stages=STAGES, model="mixture16", labels=(0, 1), seeds="0:2")
    with serving(application(one, others={"two": two})) as found:
        yield found


def side(page):
    """What the address says of the side, as it stands by now."""
    drawn(page)
    (found,) = parse_qs(urlsplit(page.url).query)["side"]
    return dict(parse_qsl(found))


def options(page, name):
    return page.locator(f"#{name} option").evaluate_all("found => found.map((each) => each.value)")


def test_a_store_beside_is_chosen_with_a_case_that_it_holds(browser, page, address):
    at(page, address, "/compare?label=0&seed=0&side=label%3D1")
    page.select_option("#store-0", "two")
    assert side(page) == {"store": "two", "label": "1", "seed": "2"}
    assert options(page, "label-0") == ["1", "2"]
    assert len(options(page, "run-0")) == 2
    page.select_option("#label-0", "2")
    assert side(page) == {"store": "two", "label": "2", "seed": "2"}
    second = options(page, "run-0")[1]
    page.select_option("#run-0", second)
    assert side(page) == {"store": "two", "run": second}
    assert options(page, "label-0") == ["0", "1"]
    page.locator("#seed-0").fill("4")
    page.locator("#seed-0").press("Enter")
    drawn(page)
    assert "This run has no seed 4; it has 0 to 1." in page.locator("#said").inner_text()
    assert page.locator("#seed-0").input_value() == "0"
    with watched(browser) as other:
        other.goto(page.url)
        drawn(other)
        assert other.locator("#run-0").input_value() == second
        assert other.locator(".side legend").inner_text() == page.locator(".side legend").inner_text()
    page.select_option("#store-0", "")
    assert side(page) == {"seed": "0"}


def test_what_stands_beside_is_told_with_its_runs(page, address):
    told = json.loads(page.request.get(f"{address}/api/catalogue").text())
    (beside,) = told["others"]
    assert beside["name"] == "two"
    assert [[each["label"] for each in run["labels"]] for run in beside["runs"]] == [[1, 2], [0, 1]]
