"""A store that grows while a tab is open: who comes back to the tab sees it, and nobody asks meanwhile."""

import json
import shutil
import urllib.error
import urllib.request

import pytest
from browsing import serving
from pages import at, drawn

from flowprofile import running
from flowprofile.app.profiles import Profiles
from flowprofile.app.server import application
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace
from flowprofile.store.revision import revision
from flowprofile.store.snapshot import snapshot
from pipelines import pipeline

QUICK = StoreLayout(durability="none")
STAGES = {
    "trajectory": {},
    "predicted_x0": {"keep": "::2"},
    "step_ssim": {"use": "ssim", "window": 5},
}


@pytest.fixture
def growing(small, tmp_path):
    """A copy of a store with seeds 0 to 2 that may grow."""
    return shutil.copytree(small, tmp_path / "growing")


@pytest.fixture
def here(growing):
    with serving(application(str(growing))) as found:
        yield found


def grow(store, **changes):
    running.run(pipeline(**{**STAGES, **changes}), into=store, layout=QUICK)


def catalogue(address, known=""):
    """Status, revision and body of the catalogue."""
    request = urllib.request.Request(f"{address}/api/catalogue", headers={"If-None-Match": known})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["ETag"], json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["ETag"], error.read()


def test_the_catalogue_is_sent_again_only_when_a_store_has_changed(growing, here):
    status, first, told = catalogue(here)
    assert (status, told["runs"][0]["seeds"]) == (200, [[0, 3]])
    assert catalogue(here, first) == (304, first, b"")
    grow(growing, seeds="0:4")
    status, second, told = catalogue(here, first)
    assert (status, told["runs"][0]["seeds"]) == (200, [[0, 4]])
    assert second != first
    assert catalogue(here, second)[0] == 304


def test_a_revision_changes_with_what_is_acknowledged_of_what_was_declared(tmp_path):
    running.prepare(pipeline(seeds="0:4", **STAGES), into=tmp_path / "store", layout=QUICK)
    place = LocalPlace(tmp_path / "store")
    declared = revision(place)
    assert revision(place) == declared
    root = snapshot(place).root
    grow(tmp_path / "store", seeds="0:4")
    assert snapshot(place).root == root
    assert revision(place) != declared


def test_a_tree_that_is_shown_in_place_of_another_is_news(small):
    from flowprofile.opening import open

    profiles = Profiles.of_tree(open(small))
    before = profiles.revision
    assert profiles.revision == before
    profiles.show(open(small))
    assert profiles.revision != before


def come_back(page):
    """Look at the tab again, and wait until it is drawn."""
    page.evaluate("window.dispatchEvent(new Event('focus'))")
    return drawn(page)


@pytest.mark.browser
def test_a_tab_that_is_looked_at_again_sees_seeds_and_stages_and_keeps_its_view(page, growing, here):
    at(page, here, "/sample?seed=1&time=4")
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/api/")[2]))
    come_back(page)
    assert asked == ["catalogue"], "nothing is new, so nothing else is asked"
    grow(growing, seeds="0:5", step_mse={"use": "mse"})
    page.wait_for_timeout(300)
    assert len(asked) == 1, "nobody asks while nobody looks"
    page.evaluate("scrollTo(0, 40)")
    come_back(page)
    assert page.locator("label:has(#seed)").inner_text() == "Seed (5 in this run)"
    assert page.locator("#seed").input_value() == "1"
    assert page.evaluate("scrollY") == 40
    assert page.url.endswith("/sample?seed=1&time=4")
    page.keyboard.press("5")
    page.get_by_text("step_mse", exact=True).wait_for()


@pytest.mark.browser
def test_a_link_to_a_seed_that_is_not_there_yet_leads_to_it_once_it_is(page, growing, here, forgiven):
    forgiven.append("400 (Bad Request)")
    page.goto(f"{here}/sample?seed=7")
    assert "no seed 7" in page.locator(".refusal h2").inner_text()
    grow(growing, seeds="0:8")
    come_back(page)
    assert page.locator(".refusal").count() == 0
    assert page.locator("figure[data-node='trajectory'] canvas.map").is_visible()
