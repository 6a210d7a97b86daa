"""What a picture says of itself, in a browser: a reader who sees nothing else must not have to guess."""

import numpy as np
import pytest
from browsing import serving, watched
from pages import at

from flowprofile.app.server import application

pytestmark = pytest.mark.browser
COLOUR = "(element, name) => getComputedStyle(element)[name]"


@pytest.fixture(scope="module")
def address(everything):
    with serving(application(str(everything), allow_run=True)) as found:
        yield found


def box(page, selector, place=0):
    return page.locator(selector).nth(place).bounding_box()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_key_of_the_network_has_the_colours_of_its_bars(browser, address, scheme):
    with watched(browser, color_scheme=scheme) as page:
        at(page, address, "/activations?time=500&layer=mid_attn.fn")
        bars = {
            "shown": ".layer.shown",
            "stored": ".layer.stored:not(.shown)",
            "absent": ".layer:not(.stored)",
        }
        for state, bar in bars.items():
            swatch = page.locator(f".key .swatch.{state}").evaluate(COLOUR, "backgroundColor")
            assert swatch == page.locator(bar).first.evaluate(COLOUR, "fill")


def test_gradients_name_the_mask_that_they_are_of(page, address):
    at(page, address, "/gradients?time=500")
    told = {
        node: page.locator(f"figure[data-node='gradients/{node}'] .told").inner_text()
        for node in ("volume", "gradient_sum")
    }
    assert told["volume"] == "sum over 27 pixels: eyes, own entries left out"
    assert told["gradient_sum"] == "signed sum of the rows of d x_t / d x_(t+1); 27 pixels: eyes"


def test_pictures_of_one_row_stand_in_line_over_bars_of_their_own_width(page, address):
    at(page, address, "/activations?time=500&layer=mid_attn.fn&layer=downs.0.2.fn&layer=downs.1.2.fn")
    stacks = [box(page, ".panels .stack", place) for place in range(4)]
    assert len({round(each["y"]) for each in stacks}) == 1
    bar = box(page, "figure[data-node='activations/mid_attn.fn'] .scale")
    assert bar["width"] == pytest.approx(stacks[1]["width"], abs=2)


def test_points_of_a_volume_are_told_by_their_place_in_the_mask(page, address):
    at(page, address, "/gradients?time=500")
    drawn = page.locator(".plot.tall").evaluate(
        "(plot) => ({ x: plot.data[0].x, at: plot.data[0].customdata, values: plot.data[0].marker.color, far: plot.data[0].marker.cmax,"
        " title: plot.layout.scene.xaxis.title.text, bar: plot.data[0].marker.colorbar.orientation })"
    )
    assert (min(drawn["x"]), max(drawn["x"])) >= (1, 1)
    assert max(drawn["x"]) <= 27
    assert drawn["title"] == "pixel of the mask (1 to 27)"
    assert all(each.startswith("y ") for each in drawn["at"])
    assert drawn["bar"] == "h"
    beyond = np.mean(np.abs(drawn["values"]) > drawn["far"])
    assert 0 < beyond <= 0.05


def test_attention_says_on_which_side_of_the_residual_add_it_is(page, address):
    at(page, address, "/attention?time=500")
    told = [
        page.locator(f"figure[data-node='{node}'] .told").inner_text()
        for node in ("attention", "attention_sum")
    ]
    assert [each.rpartition("; ")[2].partition(",")[0] for each in told] == [
        "what each of them adds",
        "the sum behind each of them",
    ]
    assert "weights: how much" not in page.locator(".lead").inner_text(), "no layer here has any"


def test_what_stands_below_each_other_is_of_one_state(page, address):
    at(page, address, "/sample?time=500")
    strips = [page.locator(".strip").nth(place) for place in range(2)]
    words = [
        [each.replace("\nnot stored", "") for each in strip.locator("> *").all_inner_texts()]
        for strip in strips
    ]
    assert words[0] == words[1]
    assert strips[1].locator(".gap").all_inner_texts() == ["t = 1000\nnot stored"]
    across = [
        [round(each.bounding_box()["x"]) for each in strip.locator("> *").all()[:5]] for strip in strips
    ]
    assert np.abs(np.subtract(*across)).max() <= 1


def test_a_mask_is_outlined_on_the_predicted_image_too_and_the_brush_says_its_width(page, address):
    at(page, address, "/sample?time=500&mask=eyes")
    inked = page.locator(".overlay").evaluate_all(
        "(all) => all.map((each) => each.getContext('2d').getImageData(0, 0, each.width, each.height).data.some((v) => v))"
    )
    assert inked == [True, True]
    page.locator("#brush").fill("5")
    assert page.locator("label:has(#brush) output").inner_text() == "5 pixels"
