"""A form's address: what was changed in it, and nothing else, so that a link opens the same form."""

import json
import shutil
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from browsing import serving, watched
from pages import drawn

from flowprofile.app.server import application

pytestmark = pytest.mark.browser
TOKEN = "a-token-that-is-long-enough"


@pytest.fixture(scope="module")
def address(small, tmp_path_factory):
    store = shutil.copytree(small, tmp_path_factory.mktemp("formed") / "store")
    with serving(application(str(store), allow_run=True, token=TOKEN)) as found:
        yield found


def opened(page, address, path="/run"):
    page.goto(f"{address}{path}#token={TOKEN}")
    return drawn(page)


def said(page):
    drawn(page)
    found = parse_qs(urlsplit(page.url).query)
    return {name: sorted(found.get(name, [])) for name in ("set", "unset")}


def definition(page):
    """The definition that would run."""
    drawn(page)
    assert page.locator(".plan pre").count(), page.locator(".plan").inner_text()
    return page.locator(".plan pre").first.text_content()


def test_a_link_opens_the_form_as_it_was_left(browser, page, address, forgiven):
    forgiven.append("400 (Bad Request)")  # what is half entered is no definition yet
    opened(page, address)
    before = definition(page)
    assert said(page) == {"set": [], "unset": []}
    page.get_by_label("Seeds").fill("0:9")
    page.locator("#add-stages").select_option("gradient_sum")
    page.locator('[data-tables="stages"]').get_by_role("button", name="Add", exact=True).click()
    added = page.locator('[data-table="gradient_sum"]')
    added.get_by_label("Mask").select_option("pixels")
    added.locator('[data-name="mask"] input').fill("3, 4")
    page.locator('[data-table="fidelity"] summary').first.click()
    page.get_by_role("button", name="Take fidelity away").click()
    assert said(page)["set"][0] == 'cases.seeds="0:9"'
    assert json.loads(said(page)["set"][1].removeprefix("stages.gradient_sum="))["mask"] == {"pixels": [3, 4]}
    assert said(page)["unset"] == ["stages.fidelity"]
    assert TOKEN not in page.url
    after = definition(page)
    assert after != before, page.locator(".plan").inner_text()
    with watched(browser) as other:
        opened(other, address, urlsplit(page.url)._replace(scheme="", netloc="").geturl())
        assert definition(other) == after
        assert other.get_by_label("Seeds").input_value() == "0:9"
        assert other.locator('[data-table="fidelity"]').count() == 0
        assert said(other) == said(page)
        other.keyboard.press("Tab")
        other.get_by_role("link", name="Sample").click()
        other.wait_for_selector(".view-sample")
        assert "set=" not in drawn(other).url
        other.get_by_role("link", name="Run").click()
        other.wait_for_selector(".view-run")
        assert said(other) == said(page)
    page.get_by_role("button", name="Begin again").click()
    assert definition(page) == before
    assert said(page) == {"set": [], "unset": []}


def test_what_is_no_setting_is_said_and_left_out(page, address, forgiven):
    forgiven.append("400 (Bad Request)")  # a model is no table, and not every setting one
    wrong = ("cases.seeds=0:9", "__proto__.x=1", "model.x=1", "cases")
    path = "&".join(f"set={quote(text)}" for text in (*wrong, 'cases.seeds="0:7"'))
    opened(page, address, f"/run?{path}")
    lines = page.locator(".unmet p").all_inner_texts()
    assert [line.partition(". ")[0] for line in lines] == [f"The address says set={text}" for text in wrong]
    assert page.get_by_label("Seeds").input_value() == "0:7"
    assert page.evaluate("({}).x") is None
    opened(page, address, "/run?set=" + quote("stages.trajectory=null"))
    assert "no field can show" in page.locator(".unmet").inner_text()
    assert page.get_by_label("Seeds").input_value() == "0:3"


def test_a_form_that_is_too_long_for_an_address_is_said_to_be(page, address):
    opened(page, address)
    page.get_by_label("Seeds").fill(", ".join(str(3 * seed) for seed in range(1500)))
    assert said(page)["set"] == []
    assert "too long for an address" in page.locator(".unmet").inner_text()
    page.get_by_label("Seeds").fill("0:4")
    assert said(page)["set"] == ['cases.seeds="0:4"']
    assert page.locator(".unmet").inner_text() == ""
