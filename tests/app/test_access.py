"""Everybody can read the page: no view violates WCAG 2.2 A or AA, in light or in dark, as far as axe can tell."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from browsing import serving, watched
from pages import at, drawn

from flowprofile.app.server import application

pytestmark = pytest.mark.browser
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
VIEWS = (
    "/sample?time=100&mask=eyes",
    "/activations?time=310&colour=blue",
    "/attention?time=300&mask=face",
    "/gradients?time=500",
    "/gradients?object=layers&time=500",
    "/measures?time=300",
    "/compare?time=300",
    "/sweep",
    "/run",
)
AXE = (Path(find_spec("axe_playwright_python").origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(page):
    """What axe finds: the rule, and where it is broken."""
    page.evaluate(AXE)
    found = page.evaluate("(tags) => axe.run(document, { runOnly: { type: 'tag', values: tags } })", TAGS)
    assert found["passes"], "axe looked at nothing"
    return [(each["id"], [node["target"] for node in each["nodes"]][:3]) for each in found["violations"]]


@pytest.fixture(scope="module")
def address(everything):
    with serving(application(str(everything), allow_run=True)) as found:
        yield found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_view_keeps_anybody_out(browser, address, scheme):
    with watched(browser, color_scheme=scheme, viewport={"width": 1280, "height": 900}) as page:
        found = {path: violations(at(page, address, path)) for path in VIEWS}
        page.keyboard.press("?")
        found["help"] = violations(drawn(page))
    assert {path: each for path, each in found.items() if each} == {}


def test_a_page_that_keeps_somebody_out_is_found(page, address):
    at(page, address, "/attention")
    page.evaluate("document.querySelector('label.control span').remove()")
    page.evaluate(
        "document.querySelector('.told').style.color = getComputedStyle(document.body).backgroundColor"
    )
    assert {rule for rule, _ in violations(page)} >= {"color-contrast", "select-name"}
