"""The views that show pictures, in a browser, over a real store: what is drawn is what is stored."""

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from browsing import serving, watched
from pages import asked, at, drawn, pixels, slide

import flowprofile as fp
from flowprofile.app.server import application

pytestmark = pytest.mark.browser
MID = "activations/mid_attn.fn"
PANEL = f"figure[data-node='{MID}']"


@pytest.fixture(scope="module")
def tree(everything):
    return fp.open(everything)


def told(page, node):
    return page.locator(f"figure[data-node='{node}'] .told").inner_text()


def test_a_sample_is_drawn_as_it_is_stored(page, address, tree):
    at(page, address, "/sample?label=7&seed=2&time=0")
    x = tree["trajectory"]["x_t"].sel(intervention="none", label=7, seed=2, time=0).values
    wanted = np.rint(np.clip((x + 1) / 2, 0, 1) * 255).transpose(1, 2, 0)
    found = np.array(pixels(page, "trajectory")).reshape(32, 32, 4)
    # Half floats move a colour by one at most.
    assert np.abs(found[..., :3] - wanted).max() <= 1
    assert (found[..., 3] == 255).all()
    assert page.locator(".strip button").count() == 21 + 20


def test_a_channel_moves_without_a_word_to_the_server_and_shows_another_picture(page, address, tree):
    at(page, address, "/activations?label=6&seed=0&time=500&channel=3&layer=mid_attn.fn&layer=downs.1.2.fn")
    before = pixels(page, MID)
    assert asked(page, lambda: slide(page, "channel", 7)) == []
    assert pixels(page, MID) != before
    assert told(page, MID) == "channel 7 of 64"
    value = tree[MID]["activation"].sel(intervention="none", label=6, seed=0, time=500).values[7, 2, 5]
    picture = page.locator(f"{PANEL} canvas.map")
    side = picture.bounding_box()["width"]
    picture.hover(position={"x": side * 5.5 / 8, "y": side * 2.5 / 8})
    said = page.locator(f"{PANEL} .value").inner_text()
    assert said.startswith("y 2, x 5: ")
    assert float(said.partition(": ")[2].replace("−", "-")) == pytest.approx(value, rel=1e-3)


def test_a_step_asks_at_most_twice_for_each_panel_and_the_next_one_is_there_already(page, address):
    at(page, address, "/activations?time=500&channel=3&layer=mid_attn.fn")
    page.wait_for_timeout(300)
    jump = [path for path in asked(page, lambda: slide(page, "time", 2)) if "mid_attn" in path]
    assert 1 <= len(jump) <= 2
    beside = [path for path in asked(page, lambda: slide(page, "time", 3)) if "mid_attn" in path]
    assert len(beside) <= 1
    assert all("times=" in path for path in beside)


def test_a_layer_that_is_too_large_travels_channel_by_channel(page, address, monkeypatch):
    from flowprofile.app import blocks

    at(page, address, "/activations?time=500&channel=3&layer=mid_attn.fn")
    whole = pixels(page, MID)
    monkeypatch.setattr(blocks, "MOST", 1000)
    at(page, address, "/activations?time=500&channel=3&layer=mid_attn.fn")
    assert pixels(page, MID) == whole
    paths = asked(page, lambda: slide(page, "channel", 5))
    assert [parse_qs(path)["channel"] for path in paths] == [["5"]] * len(paths)
    assert 1 <= len(paths) <= 2
    assert pixels(page, MID) != whole


def test_the_last_of_many_moves_wins(page, address):
    at(page, address, "/activations?time=500&channel=3&layer=mid_attn.fn")
    for place in (19, 0, 12, 4, 16, 8):
        slide(page, "time", place)
    drawn(page)
    last = pixels(page, MID)
    at(page, address, urlsplit(page.url)._replace(scheme="", netloc="").geturl())
    assert pixels(page, MID) == last
    assert page.locator("#time-told").inner_text() == "550 of 1000"


def test_a_slider_may_be_dragged_as_long_as_one_likes(page, address):
    """Browsers ignore changes of the address after the first 200 within half a minute."""
    at(page, address, "/activations?time=500&channel=0&layer=mid_attn.fn")
    page.evaluate(
        """() => {
          const slider = document.getElementById("channel");
          for (let i = 0; i < 500; i += 1) {
            slider.value = String(i % 64);
            slider.dispatchEvent(new Event("input", { bubbles: true }));
          }
        }"""
    )
    drawn(page)
    assert told(page, MID) == f"channel {499 % 64} of 64"
    assert parse_qs(urlsplit(page.url).query)["channel"] == [str(499 % 64)]


def test_the_strongest_channel_is_the_stored_one_and_that_of_a_mask_is_worked_out_here(page, address, tree):
    at(page, address, "/activations?label=6&seed=1&time=500&layer=mid_attn.fn&mask=face")
    marks = page.locator(f"{PANEL} .mark").all_inner_texts()
    case = {"intervention": "none", "label": 6, "seed": 1, "layer": "mid_attn.fn"}
    everywhere, face = (
        int(tree[name]["channel"].sel(time=500, **case)) for name in ("max_channel", "max_channel_face")
    )
    assert [mark[2:] for mark in marks] == [
        f"c* everywhere: {everywhere}", f"c* within face: {face}", f"c* within this mask: {face}",
    ]  # fmt: skip
    assert told(page, MID) == f"channel {everywhere} of 64"
    page.locator(f"{PANEL} .mark").nth(1).click()
    drawn(page)
    assert told(page, MID) == f"channel {face} of 64"


def test_between_the_states_that_c_star_keeps_the_nearest_one_is_shown_and_named(page, address, tree):
    """c* is stored at every other state; at 450 it is that of 500 or 400, and its picture is that channel's."""
    at(page, address, "/activations?label=6&seed=1&time=450&layer=mid_attn.fn")
    channel = tree["max_channel"]["channel"].sel(intervention="none", label=6, seed=1, layer="mid_attn.fn")
    mark = page.locator(f"{PANEL} .mark").first.inner_text()
    near = int(mark.partition("at t = ")[2].partition(":")[0])
    assert near in (400, 500)
    assert told(page, MID) == f"channel {int(channel.sel(time=near))} of 64"
    page.get_by_role("button", name="Python").click()
    assert f"time=450).isel(channel={int(channel.sel(time=near))})" in page.locator("#help pre").inner_text()


def test_an_address_without_a_state_means_the_same_in_every_view(page, address):
    for view in ("sample", "activations", "attention", "gradients", "measures"):
        at(page, address, f"/{view}")
        assert abs(int(page.locator("#time-told").inner_text().partition(" ")[0]) - 500) <= 50


def test_a_mask_that_is_none_is_named_and_not_shown(page, address):
    at(page, address, "/sample?mask=5,99999")
    assert "mask=99999. There are the pixels 0 to 1023 and the regions" in page.locator(".unmet").inner_text()
    assert page.locator(".mask .code").count() == 0


def test_layers_are_chosen_in_the_drawing_and_one_that_is_not_stored_says_what_computes_it(page, address):
    at(page, address, "/activations")
    page.get_by_role("checkbox", name="ups.1.2.fn, ").click()
    drawn(page)
    assert page.locator("figure.panel strong").all_inner_texts()[-1] == "ups.1.2.fn"
    assert len(parse_qs(urlsplit(page.url).query)["layer"]) == 6
    page.locator("rect[aria-label^='mid_block1.net,']").click()
    text = page.locator(".schematic .missing pre").inner_text()
    assert "rerun" in text
    assert "mid_block1.net" in text


def test_what_is_not_stored_says_so_and_what_computes_it(page, forgiven, address, tall):
    forgiven.append("400 (Bad Request)")
    page.goto(f"{address}/activations?layer=nothing")
    assert "nothing" in page.locator(".refusal h2").inner_text()
    with serving(application(str(tall))) as here:
        at(page, here, "/sample?seed=500")
        said = page.locator("figure[data-node='trajectory'] .missing")
        assert "is not stored" in said.inner_text()
        assert said.locator("pre").inner_text() == f"flowprofile ensure {tall} --seeds 500:501 --labels 0"
        at(page, here, "/activations")
        assert "stages.activations=" in page.locator(".missing pre").inner_text()


def test_a_deep_link_shows_what_it_was_copied_from(browser, page, address):
    at(page, address, "/activations?seed=2&label=7&time=350&layer=ups.0.2.fn&channel=9&mask=eyes&colour=each")
    slide(page, "time", 5)
    drawn(page)
    with watched(browser) as other:
        other.goto(page.url)
        drawn(other)
        node = "activations/ups.0.2.fn"
        assert pixels(other, node) == pixels(page, node)
        assert other.locator("#label").input_value() == "7"
        assert other.locator("#mask").input_value() == "eyes"
    path = urlsplit(page.url)
    answer = page.request.get(f"{address}/api{path.path}?{path.query}")
    case = answer.json()["case"]
    assert (case["label"], case["seed"]) == (7, 2)


def test_two_tabs_look_at_two_things(browser, page, address):
    at(page, address, "/activations?seed=0&layer=mid_attn.fn&channel=3")
    mine = pixels(page, MID)
    with watched(browser) as other:
        at(other, address, "/activations?seed=1&layer=mid_attn.fn&channel=3")
        slide(other, "channel", 11)
        drawn(other)
        assert pixels(other, MID) != mine
    assert pixels(page, MID) == mine


def test_the_keyboard_alone_reaches_everything(page, address):
    at(page, address, "/sample")
    press = page.keyboard.press
    press("Home")
    drawn(page)
    assert page.locator("#time-told").inner_text() == "1000 of 1000"
    press("ArrowRight")
    press("]")
    drawn(page)
    assert (page.locator("#time-told").inner_text(), page.locator("#seed").input_value()) == (
        "950 of 1000",
        "1",
    )
    press("2")
    page.wait_for_selector(".view-activations")
    drawn(page)
    press("ArrowUp")
    drawn(page)
    assert page.locator("#channel-told").inner_text() == "1 of 64"
    press("?")
    assert page.locator("#help").is_visible()
    press("Escape")
    for _ in range(60):  # by Tab to the first stored layer of the drawing
        press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "checkbox":
            break
    name = page.evaluate("document.activeElement.getAttribute('aria-label')").partition(",")[0]
    shown = page.locator("figure.panel strong").all_inner_texts()
    press("Enter")
    drawn(page)
    assert (name in shown) != (name in page.locator("figure.panel strong").all_inner_texts())
    page.go_back()
    drawn(page)
    assert page.locator("figure.panel strong").all_inner_texts() == shown


def test_a_mask_is_drawn_with_the_mouse_and_is_part_of_the_address(page, address):
    at(page, address, "/sample?time=0")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#brush").fill("1")
    box = page.locator("figure[data-node='trajectory'] canvas.map").bounding_box()
    cell = box["width"] / 32
    page.mouse.move(box["x"] + 10.5 * cell, box["y"] + 15.5 * cell)
    page.mouse.down()
    page.mouse.move(box["x"] + 13.5 * cell, box["y"] + 15.5 * cell, steps=8)
    page.mouse.up()
    drawn(page)
    assert parse_qs(urlsplit(page.url).query)["mask"] == ["490,491,492,493"]
    assert page.locator(".mask pre").inner_text() == "mask = { pixels = [490, 491, 492, 493] }"
    page.get_by_role("button", name="Erase", exact=True).click()
    page.mouse.click(box["x"] + 11.5 * cell, box["y"] + 15.5 * cell)
    drawn(page)
    assert parse_qs(urlsplit(page.url).query)["mask"] == ["490,492,493"]
    page.locator("#region").select_option("eyes")
    drawn(page)
    assert parse_qs(urlsplit(page.url).query)["mask"] == ["eyes"]
    page.locator("#mask-numbers").fill("15:17,9:11")
    page.locator("#mask-numbers").press("Enter")
    drawn(page)
    assert parse_qs(urlsplit(page.url).query)["mask"] == ["489,490,521,522"]


def test_a_mask_comes_from_a_picture_and_a_wrong_one_is_refused_in_words(page, address, tmp_path):
    from PIL import Image

    right, gray, large = (tmp_path / f"{name}.png" for name in ("right", "gray", "large"))
    dots = np.zeros((32, 32), np.uint8)
    dots[4, 7] = 255
    Image.fromarray(dots).save(right)
    Image.fromarray(np.full((32, 32), 99, np.uint8)).save(gray)
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(large)
    at(page, address, "/sample")
    upload = page.locator("#mask-file")
    for wrong, said in ((gray, "The picture has grays"), (large, "The picture is 64 × 64")):
        upload.set_input_files(wrong)
        page.wait_for_function(
            "(text) => document.getElementById('said').textContent.startsWith(text)", arg=said
        )
    upload.set_input_files(right)
    page.wait_for_url("**mask=135*")


def test_copied_python_gives_what_is_shown(page, address):
    at(page, address, "/activations?label=6&seed=1&time=500&layer=mid_attn.fn&channel=17")
    page.get_by_role("button", name="Python").click()
    text = page.locator("#help pre").inner_text()
    space = {}
    *lines, last = text.splitlines()
    exec("\n".join(lines), space)
    values = eval(last, space).values
    assert values.shape == (8, 8)
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    rows = download.value.path().read_text().splitlines()
    shown = np.array([float(row.rsplit(",", 1)[1]) for row in rows[1:]]).reshape(8, 8)
    np.testing.assert_allclose(shown, values, rtol=1e-3, atol=1e-4)
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_gradient_volume_turns_in_three_dimensions(page, address):
    at(page, address, "/gradients?time=500")
    assert page.locator(".plot canvas").count() >= 1
    said = page.locator("label:has-text('Strongest entries') output").inner_text()
    assert "at t = 500" in said


def test_a_latent_model_is_shown_by_channel_by_prompt_and_by_half(page, tmp_path):
    import saved_folders

    layer = "mid_block.attentions.0.transformer_blocks.0.attn2"
    own = layer.replace("attn2", "attn1")
    folder = str(saved_folders.folder("UNet2DConditionModel"))
    found = fp.profile(
        folder,
        seeds="0:1",
        labels=["a cat"],
        into=tmp_path / "store",
        sampler={"rule": "scheduler", "steps": 5, "guidance_scale": 3.0},
        stages={
            "trajectory": {},
            "decoded": {},
            "activations": {"layers": layer, "guidance": ["uncond", "cond"]},
            "max_channel": {"layers": layer},
            "attention_maps": {"layers": layer},
            "own": {"use": "attention_maps", "layers": own},
        },
    )
    with serving(application(str(tmp_path / "store"))) as here:
        at(page, here, "/sample?time=402&channel=2")
        assert told(page, "trajectory").endswith("t = 402, channel 2 of 4")
        assert "x (cells)" not in page.locator("figure[data-node='trajectory']").inner_text()
        assert page.locator("figure.panel").count() == 2
        assert "a cat" in page.locator("#label").inner_text()
        at(page, here, "/activations?time=402")
        channel = int(found["max_channel"]["channel"].sel(time=402, layer=layer).squeeze())
        assert told(page, f"activations/{layer}") == f"guidance cond, channel {channel} of 128"
        assert page.locator(".mark").inner_text() == f"★ c* everywhere: {channel}"
        at(page, here, f"/attention?time=402&channel=3&layer={layer}")
        assert told(page, f"attention_maps/{layer}") == "token 3 of 16"
        said = page.locator("section[aria-label='Tokens of the prompt']")
        assert "place in the prompt “a cat”" in said.inner_text()
        python = said.locator("pre").inner_text()
        assert python == f"fp.tokens({folder!r}, 'a cat')"
        behind = page.request.get(f"{here}/api/attention?layer={layer}").json()
        assert behind["words"] == {"prompt": "a cat", "python": python}
        at(page, here, f"/attention?time=402&channel=3&layer={own}")
        height, width = found[f"own/{own}"].sizes["y"], found[f"own/{own}"].sizes["x"]
        place = f"(y {3 // width}, x {3 % width})"
        assert told(page, f"own/{own}") == f"token 3 {place} of {height * width}"
        assert page.locator("#channel-told").inner_text() == f"3 of {height * width} {place}"
        assert said.count() == 0


def test_names_from_a_store_are_text_and_never_markup(page, tmp_path):
    from flowprofile import running

    bad = "<img src=x onerror=window.pwned=1>"
    changes = {bad: {"kind": "switch", "at": 5, "to": 1}}
    definition = fp.Pipeline(
        model="mixture16",
        sampler={"steps": 20},
        cases={"seeds": "0:1", "labels": [0]},
        interventions=changes,
        stages={"trajectory": {}},
    )
    running.run(definition, into=tmp_path / "store")
    with serving(application(str(tmp_path / "store"))) as here:
        at(page, here, "/sample")
        assert bad in page.locator("#intervention").inner_text()
        assert page.evaluate("window.pwned") is None
        assert page.locator("img").count() == 0


def test_a_store_of_ten_thousand_declared_seeds_opens_within_a_second_of_its_own(page, tall):
    with serving(application(str(tall))) as here:
        at(page, here, "/sample")  # the browser's own warming up is not the store's
        began = page.evaluate("performance.timeOrigin + performance.now()")
        at(page, here, "/sample?seed=3")
        took = page.evaluate("performance.timeOrigin + performance.now()") - began
        assert page.locator("span", has_text="10,000 in this run").count() == 1
        catalogue = json.loads(page.request.get(f"{here}/api/catalogue").text())
        assert catalogue["runs"][0]["seeds"] == [[0, 10000]]
    print(f"ten thousand seeds opened in {took:.0f} ms")
