"""What an address asks for and a view does not have is said, on the page and behind /api in the same words."""

import re
from math import prod

import pytest
from pages import at, drawn, slide

import flowprofile as fp
from flowprofile.app.asked import query
from flowprofile.app.sweeping import sweep
from flowprofile.app.views import picture_view

WRONG = {
    "/activations?layer=mid_attn.fn&channel=9999&colour=blue&time=310": [
        "channel=9999. There are 64, 0 to 63; 63 is shown.",
        "colour=blue. There are each, log and clip; one scale for all t is shown.",
        "time=310. Kept are 20 states, 950 to 0; t = 300 is shown.",
    ],
    "/attention?channel=-3&show=all&time=noon": [
        "channel=-3. There is one, 0; it is shown.",
        "show=all. There are one and sum; it is left out.",
        "time=noon. Kept are",
    ],
    "/sample?channel=2&mask=489,ear": [
        "channel=2. There is one, 0; it is shown.",
        "mask=ear. There are the pixels 0 to 1023 and the regions",
    ],
    "/measures?layer=mid&show=none": [
        "layer=mid. There are ",
        "show=none. There are both, value and excess; value and excess are shown.",
    ],
    "/compare?excess=yes&time=1": [
        "excess=yes. There is 1; the distance itself is shown.",
        "time=1. Kept are",
    ],
    "/sweep?offset=4000": ["offset=4000. There are"],
}


def lines(page):
    return page.locator(".unmet p").all_inner_texts()


@pytest.mark.browser
def test_what_is_shown_instead_is_said_on_the_page_as_behind_api(page, address):
    for path, told in WRONG.items():
        at(page, address, path)
        said = sorted(lines(page))
        assert len(said) == len(told)
        for line, start in zip(said, told, strict=True):
            assert line.startswith(f"The address says {start}")
        assert sorted(page.request.get(f"{address}/api{path}").json()["notes"]) == said


@pytest.mark.browser
def test_a_line_goes_as_soon_as_it_is_true_no_more_and_other_views_have_none(page, address):
    at(page, address, "/activations?time=500&mask=face&colour=blue&channel=99&layer=mid_attn.fn")
    assert len(lines(page)) == 2
    slide(page, "channel", 7)
    drawn(page)
    assert len(lines(page)) == 1
    page.select_option("#colour", "log")
    drawn(page)
    assert lines(page) == []
    page.evaluate("document.activeElement.blur()")
    for key, view in (("7", "sweep"), ("3", "attention")):
        page.keyboard.press(key)
        page.wait_for_selector(f".view-{view}")
        drawn(page)
        assert lines(page) == []
    assert page.url.endswith("/attention?time=500&mask=face")


@pytest.mark.browser
def test_a_word_that_no_address_has_is_refused_in_every_view(page, address, forgiven):
    forgiven.append("400 (Bad Request)")
    for view in ("sample", "sweep"):
        page.goto(f"{address}/{view}?chanel=3")
        assert "no parameter 'chanel'" in page.locator(".refusal h2").inner_text()


@pytest.mark.browser  # for its store, which those tests make
def test_gradients_that_are_not_stored_are_said_not_to_be(everything):
    tree = fp.open(everything)
    asked = query([("object", "weights"), ("channel", "-3")])
    found = picture_view("gradients", "", "", tree, asked)
    sizes = [prod(panel["shape"][:-2]) for panel in found["panels"]]
    assert found["notes"] == [
        f"The address says channel=-3. There are {max(sizes)}, 0 to {max(sizes) - 1}; 0 is shown.",
        "The address says object=weights. There are pixels and layers; those on pixels are shown.",
    ]


def test_a_page_of_the_table_beyond_the_last_is_the_last_and_is_said(small):
    tree = fp.open(small)
    whole = sweep(tree, query([]))
    assert (whole["cases"], whole["notes"]) == (6, [])
    found = sweep(tree, query([("offset", "99"), ("limit", "4")]))
    assert (found["offset"], found["rows"]) == (4, whole["rows"][4:])
    assert re.search(r"There are 6 cases, counted from 0; those from 4 on are shown", found["notes"][0])
    assert "1 to 200 rows" in sweep(tree, query([("limit", "500")]))["notes"][0]
