"""Measures, Compare and Sweep in a real browser: what is drawn, what moves it, and that nothing is missing a name."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import serving, watched
from curved_stores import curved
from pages import READY
from playwright.sync_api import expect

import flowprofile as fp
from flowprofile.app import curves, parting
from flowprofile.app.server import application

pytestmark = pytest.mark.browser
VIEWS = {
    "measures": "/measures?label=1",
    "compare": "/compare?label=0&side=label%3D1&side=intervention%3Dswitch&time=200",
    "sweep": "/sweep?sort=step_ssim:mean",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return curved(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def address(url):
    with serving(application(url)) as found:
        yield found


@pytest.fixture(scope="module")
def switched(url):
    return str(fp.open(url)["intervention"].values[1])


def ready(page):
    page.wait_for_selector(READY)


def opened(page, address):
    page.goto(address)
    ready(page)
    return page


def asked(page):
    """What the address says when it has caught up with the page."""
    page.wait_for_selector(READY)
    return parse_qs(urlsplit(page.url).query)


def test_every_measure_is_a_plot_with_axes_units_and_a_legend(page, address):
    opened(page, f"{address}/measures?label=1")
    names = page.locator(".plot-card figcaption strong").all_inner_texts()
    assert {
        "step_ssim",
        "label_ssim",
        "layer_distance",
        "influence: radius",
        "fidelity: probability",
        "At one state",
    } <= set(names)
    plots = page.locator(".plot")
    for at in range(plots.count()):
        plot = plots.nth(at)
        assert plot.locator(".legendtext").count() >= 1
        assert plot.locator(".xtitle, .x2title").first.text_content()
        assert plot.locator(".ytitle").text_content()
    assert page.locator(".plot >> text=state t (noise → image)").count() >= 5


def test_the_excess_has_a_panel_of_its_own_and_can_be_put_away(page, address):
    opened(page, f"{address}/measures?label=1")
    plot = page.locator(".plot-card", has=page.locator("strong", has_text=re.compile("^step_ssim$"))).locator(
        ".plot"
    )
    assert plot.locator(".y2title").text_content() == "excess"
    page.select_option("#show", "value")
    ready(page)
    assert plot.locator(".y2title").count() == 0
    assert asked(page)["show"] == ["value"]
    page.select_option("#show", "excess")
    ready(page)
    assert plot.locator(".ytitle").text_content() == "excess"


def test_a_click_on_a_plot_moves_t_and_asks_for_nothing(page, address):
    opened(page, f"{address}/measures?label=1&time=900")
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    drag = (
        page.locator(".plot-card", has=page.locator("strong", has_text="layer_distance"))
        .locator(".nsewdrag")
        .first
    )
    drag.scroll_into_view_if_needed()
    box = drag.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.wait_for_timeout(150)
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    page.wait_for_url(lambda address: "time=900" not in address)
    assert 350 <= int(asked(page)["time"][0]) <= 550
    assert requests == []


def test_a_layer_is_chosen_without_a_request(page, address):
    opened(page, f"{address}/measures?label=1")
    lines = page.locator(".plot-card", has=page.locator("strong", has_text="layer_distance")).locator(
        ".legendtext"
    )
    assert lines.count() == 5
    assert lines.last.text_content() == "solid, in each colour: seed 0"
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.evaluate("""async () => (await import("app/state.js")).set({ layer: ["mid_attn.fn"] })""")
    expect(lines).to_have_text(["10 to 90 % of 6 seeds", "seed 0, mid_attn.fn", "mean of 6 seeds"])
    assert requests == []


def test_what_the_case_lacks_says_why(page, address):
    opened(page, f"{address}/measures?label=2")
    told = page.locator("section", has=page.locator("h3", has_text="clean_ssim"))
    assert "not measured of the clean run" in told.inner_text()
    assert told.locator(".missing").count() == 0, "nothing is wrong, and nothing can be done"


def test_numbers_and_pictures_are_saved(page, address):
    for view, files in (("measures", ("measures.csv", "measures.png")), ("sweep", ("sweep.csv",))):
        opened(page, f"{address}/{view}")
        for name in files:
            with page.expect_download() as saved:
                page.click(f"#tools >> text={name[-3:].upper()}")
            assert saved.value.suggested_filename == name
            assert saved.value.path().stat().st_size > 1000


def test_statistics_over_the_first_of_many_seeds_say_of_how_many(page, address, monkeypatch):
    monkeypatch.setattr(curves, "SEEDS", 4)
    monkeypatch.setattr(parting, "SEEDS", 4)
    opened(page, f"{address}/measures?label=1&measure=step_ssim")
    card = page.locator(".plot-card")
    assert "n = 4 of 6 seeds" in card.locator("figcaption").inner_text()
    legend = card.locator(".legendtext").all_text_contents()
    assert "10 to 90 % of 4 of 6 seeds" in legend
    assert "mean of 4 of 6 seeds" in legend
    opened(page, f"{address}/measures?label=1&measure=fidelity")
    assert "4 of 6" in page.locator("table tbody td:last-child").all_inner_texts()
    opened(page, f"{address}/compare?label=0")
    assert "n = 4 of 6 seeds" in page.locator(".plot-card figcaption").inner_text()
    assert "mean of 4 of 6 seeds" in page.locator(".plot-card .legendtext").all_text_contents()


def test_sides_are_added_and_told_apart(page, address):
    opened(page, f"{address}/compare?label=0&time=200")
    assert page.locator(".panel").count() == 3
    page.click("text=Add a side")
    expect(page.locator(".panel")).to_have_count(5)
    ready(page)
    assert asked(page)["side"] == ["label=1", "label=2"]
    assert page.locator(".panel figcaption strong").all_inner_texts()[-2:] == [
        "Side 2 minus side 1",
        "Side 3 minus side 1",
    ]
    page.select_option("#label-1", "0")
    expect(page.locator(".side legend").nth(1)).to_have_text("Side 3: the same case")


def test_a_difference_is_what_the_two_have_apart(page, address, url):
    opened(page, f"{address}/compare?label=0&seed=3&side=label%3D1&time=0")
    canvas = page.locator(".panel canvas.map").nth(2)
    canvas.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    told = page.locator(".panel .value").nth(2).inner_text()
    x = fp.open(url)["trajectory"]["x_t"].sel(intervention="none", seed=3, time=0, channel=0)
    want = float(x.sel(label=1)[0, 2] - x.sel(label=0)[0, 2])
    assert told.startswith("y 0, x 2: ")
    assert float(told.partition(": ")[2].replace("−", "-")) == pytest.approx(want, abs=3e-3)


def test_all_sides_move_together(page, address):
    opened(page, f"{address}/compare?label=0&time=200")
    page.keyboard.press("ArrowRight")
    ready(page)
    assert page.locator(".panel .told").count() == 3
    assert all(text.startswith("t = 150") for text in page.locator(".panel .told").all_inner_texts())


def test_the_band_and_the_interval_differ_and_a_line_says_whose_it_is(page, address):
    opened(page, f"{address}/measures?label=1&seed=2")
    card = page.locator(".plot-card", has=page.locator("strong", has_text=re.compile("^step_ssim$")))
    traces = card.locator(".plot").evaluate(
        "(plot) => plot.data.map(({ name, fillcolor }) => [name, fillcolor])"
    )
    fills = {name: fill for name, fill in traces if fill}
    assert set(fills) == {"10 to 90 % of 6 seeds", "below: 95 % interval of the mean excess"}
    assert len(set(fills.values())) == 2
    names = [name for name, _ in traces]
    assert {"seed 2", "null of seed 2: same noise, image known", "below: excess of seed 2"} <= set(names)
    assert "drawn: seed 2 of n = 6 seeds" in card.locator(".told").inner_text()


def test_a_colour_of_several_lines_is_none_that_a_seed_or_a_mean_has(page, address):
    opened(page, f"{address}/measures?label=1")
    colours = {}
    for name in ("step_ssim", "label_ssim"):
        card = page.locator(".plot-card", has=page.locator("strong", has_text=re.compile(f"^{name}$")))
        traces = card.locator(".plot").evaluate(
            "(plot) => plot.data.map(({ name, line, showlegend }) => [name, line.color, showlegend])"
        )
        colours[name] = {told: colour for told, colour, _ in traces}
        keys = [colour for told, colour, shown in traces if shown is not False and "in each colour" in told]
    seed, mean = (colours["step_ssim"][told] for told in ("seed 0", "mean of 6 seeds"))
    lines = {colour for told, colour in colours["label_ssim"].items() if told.startswith("to label")}
    assert len(lines) == 2
    assert not lines & {seed, mean}
    assert len(keys) == 3
    assert not set(keys) & lines


def test_curves_of_one_case_begin_at_one_state(page, address):
    opened(page, f"{address}/measures?label=1")
    ranges = page.locator(".plot").evaluate_all(
        "(plots) => plots.map(({ layout }) => layout.xaxis.range).filter((range) => range[0] > range[1])"
    )
    assert len(ranges) >= 5
    assert {tuple(each) for each in ranges} == {(1000, 0)}


def test_what_is_never_measured_of_a_case_is_not_said_to_be_uncomputed(page, address):
    opened(page, f"{address}/sweep?column=clean_ssim%3Alast&only=intervention%3Dnone")
    cells = page.locator(".cases tbody td:last-child").all_inner_texts()
    assert set(cells) == {"–"}
    assert "–: never measured of such a case." in page.locator("caption").inner_text()


def test_numbers_of_channels_are_points(page, address):
    opened(page, f"{address}/measures?label=1")
    card = page.locator(".plot-card", has=page.locator("strong", has_text="max_channel"))
    assert set(card.locator(".plot").evaluate("(plot) => plot.data.map(({ mode }) => mode)")) == {"markers"}
    assert "index, no order" in card.locator(".told").inner_text()


def test_what_may_be_read_off_a_difference_depends_on_the_seeds(page, address):
    opened(page, f"{address}/compare?label=0&side=label%3D1")
    assert "share all their noise" in page.locator(".lead").inner_text()
    assert "of the states x_t" in page.locator(".plot-card .told").inner_text()
    assert {"these two samples, x_t", "the state t that is shown"} <= set(
        page.locator(".plot .legendtext").all_text_contents()
    )
    assert "mean and null of n = 6 seeds" in page.locator(".plot-card .told").inner_text()
    opened(page, f"{address}/compare?label=0&side=label%3D1&side=seed%3D1")
    assert page.locator(".lead").inner_text().startswith("Side 3 is of another seed")


def test_every_difference_has_a_scale_of_its_own(page, address, switched):
    opened(page, f"{address}/compare?label=0&side=intervention%3D{switched}&side=seed%3D1&time=400")
    scales = [page.locator(".panel").nth(at).locator(".legend").inner_text() for at in (3, 4)]
    assert scales[0] != scales[1]
    assert page.locator(".side legend").first.inner_text() == "Side 2: later, seed 0"


@pytest.mark.parametrize(
    ("claimed", "told", "dash"),
    [(True, "onset of the mean, claimed", None), (False, "first crossing, not claimed", "dot")],
)
def test_an_onset_is_drawn_firmly_only_where_it_is_claimed(page, address, claimed, told, dash):
    opened(page, f"{address}/compare?label=0&side=label%3D1&time=200")
    drawn = page.evaluate(
        """async (claimed) => {
          const told = await (await import("app/source.js")).json("compare", new URLSearchParams("label=0&side=label%3D1"));
          const [pair] = told.pairs;
          pair.onsets.forEach((onset) => { onset.claimed = claimed; });
          const card = (await import("app/parting.js")).pairCard(told, pair, () => 200);
          document.querySelector(".plots").append(card.element);
          await card.draw();
          const { data, layout } = card.element.querySelector(".plot");
          return { onset: pair.onsets[0].onset, lines: layout.shapes.filter(({ type }) => type === "line"),
            keys: Object.fromEntries(data.map((trace) => [trace.name, trace])) };
        }""",
        claimed,
    )
    (line,) = [shape for shape in drawn["lines"] if shape["x0"] == shape["x1"] == drawn["onset"]]
    assert line["line"].get("dash") == dash
    assert {"onset of the mean, claimed", "first crossing, not claimed"} & set(drawn["keys"]) == {told}
    null = drawn["keys"]["onset of the null"]
    assert null["mode"] == "markers"
    assert null["marker"]["color"] == drawn["keys"]["null: same noise, images known"]["line"]["color"]


def test_an_onset_is_shaded_beside_its_null_and_another_threshold_can_be_chosen(page, address):
    opened(page, f"{address}/compare?label=0&time=200")
    assert "onset of the null" in page.locator(".plot .legendtext").all_text_contents()
    buttons = page.locator(".onsets tbody button")
    assert buttons.count() == 3
    buttons.nth(2).click()
    ready(page)
    assert asked(page)["delta"] == ["0.2"]
    assert page.locator(".onsets tbody button").nth(2).get_attribute("aria-pressed") == "true"


def test_the_table_is_sorted_by_the_keyboard_and_the_focus_stays(page, address):
    opened(page, f"{address}/sweep")
    button = page.locator("[id='sort-step_ssim:mean']")
    button.focus()
    for order, told in (("ascending", "asc"), ("descending", "desc")):
        page.keyboard.press("Enter")
        expect(page.locator("th:has(:focus)")).to_have_attribute("aria-sort", order)
        assert asked(page)["order"] == [told]
        ready(page)
        cells = [row.locator("td").all_inner_texts() for row in page.locator(".cases tbody tr").all()]
        heads = [
            h.split("\n")[0].strip(" \u00a0▲▼") for h in page.locator(".cases thead th").all_inner_texts()
        ]
        values = [float(row[heads.index("step_ssim, mean over t")].replace("−", "-")) for row in cells]
        assert values == sorted(values, reverse=told == "desc")


def test_a_row_opens_its_case(page, address):
    opened(page, f"{address}/sweep?sort=seed&order=desc&only=label%3D1")
    page.locator(".cases tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".view-sample")
    ready(page)
    assert (asked(page)["label"], asked(page)["seed"]) == (["1"], ["5"])
    page.go_back()
    page.wait_for_selector(".cases")
    assert asked(page)["only"] == ["label=1"]


def test_thumbnails_are_drawn_and_few_requests_bring_them(browser, address):
    with watched(browser) as page:
        requests = []
        page.on("request", lambda request: requests.append(request.url))
        opened(page, f"{address}/sweep")
        drawn = page.evaluate("""[...document.querySelectorAll('canvas.thumbnail')].map((canvas) =>
            new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size)""")
        assert len(drawn) >= 18
        assert min(drawn) > 4
        assert sum("/api/thumbnails" in each for each in requests) <= 6


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_everything_has_a_name_and_contrast(browser, address, view, theme, switched):
    path = VIEWS[view].replace("intervention%3Dswitch", f"intervention%3D{switched}")
    with watched(browser, color_scheme=theme) as page:
        opened(page, f"{address}{path}")
        found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        assert found.violations_count == 0, found.generate_report()
