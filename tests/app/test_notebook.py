"""A profile in a notebook: a frame that shows it, on a server that answers nobody else."""

import json
import urllib.error
import urllib.request
from html import unescape
from urllib.parse import urlsplit

import pytest
from browsing import ITSELF, serving, watched
from pages import at, drawn

import flowprofile as fp
from flowprofile.errors import DefinitionError, FlowProfileError


@pytest.fixture
def shown(small):
    """Views of a store, all ended afterwards."""
    views = []

    def view(tree=None, **asked):
        views.append((fp.open(small) if tree is None else tree).profile.view(**asked))
        return views[-1]

    yield view
    for each in views:
        each.close()


def get(view, path, token=""):
    url = urlsplit(view.address)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(f"http://{url.netloc}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, dict(answer.headers), answer.read()


def secret(view):
    return urlsplit(view.address).fragment.removeprefix("token=")


def test_a_view_is_a_frame_at_an_address_that_its_text_says(shown):
    view = shown(view="measures", label=1, seed=2, time=500, layer=["trajectory", "predicted_x0"], height=400)
    url = urlsplit(view.address)
    assert (url.hostname, url.path) == (ITSELF, "/measures")
    assert url.query == "label=1&seed=2&time=500&layer=trajectory&layer=predicted_x0"
    assert view.address in repr(view)
    assert f'src="{view.address}"' in unescape(view._repr_html_())
    assert 'height="400"' in view._repr_html_()


def test_the_page_is_given_to_frames_of_this_machine_and_its_numbers_only_with_the_token(shown):
    view = shown()
    status, headers, _ = get(view, "/sample")
    assert status == 200
    frames = headers["content-security-policy"].partition("frame-ancestors ")[2]
    assert "http://localhost:*" in frames
    assert "*" not in frames.replace(":*", ""), "any site may show the page"
    assert get(view, "/static/app.js")[0] == 200
    for path, token in (("/api/catalogue", ""), ("/api/sample", "wrong"), ("/api/catalogue?token=", "")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(view, path, token)
        assert caught.value.code == 401
        caught.value.close()
    assert get(view, "/api/catalogue", secret(view))[0] == 200


def test_a_store_has_one_server_and_a_selection_its_own(shown, small):
    first, second = shown(view="sample"), shown(fp.open(small), view="measures")
    assert urlsplit(first.address).netloc == urlsplit(second.address).netloc
    part = shown(fp.open(small).profile.sel(seed=[1, 2]))
    assert urlsplit(part.address).netloc != urlsplit(first.address).netloc
    other = shown(fp.open(small).profile.sel(seed=[0, 1]))
    assert urlsplit(other.address).netloc != urlsplit(part.address).netloc
    told = json.loads(get(part, "/api/catalogue", secret(part))[2])
    assert told["runs"][0]["seeds"] == [[1, 3]]


def test_closed_it_answers_no_more_and_a_new_view_starts_anew(shown):
    view = shown()
    view.close()
    assert "closed" in repr(view)
    assert view.address not in repr(view) + unescape(view._repr_html_())
    with pytest.raises(urllib.error.URLError):
        get(view, "/sample")
    assert get(shown(), "/sample")[0] == 200


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"view": "samples"}, "no view 'samples'"),
        ({"view": "run"}, "no view 'run'"),
        ({"label": 99}, "no label 99"),
        ({"seed": 99}, "no seed 99"),
        ({"intervention": "zero"}, "no intervention 'zero'"),
        ({"layer": "zzz"}, "layer 'zzz'"),
    ],
)
def test_what_is_not_there_is_refused_before_a_frame_shows_it(small, asked, told):
    with pytest.raises(FlowProfileError, match=told):
        fp.open(small).profile.view(**asked)


def test_a_part_of_a_run_and_a_lost_axis_are_refused_with_what_to_do(small):
    tree = fp.open(small)
    with pytest.raises(FlowProfileError, match="part of a run"):
        tree["trajectory"].profile.view()
    with pytest.raises(FlowProfileError, match="One seed was selected") as caught:
        tree.profile.sel(seed=1).profile.view()
    assert "sel(seed=[...])" in caught.value.remedy


def test_a_word_that_is_no_argument_is_refused(small):
    with pytest.raises((TypeError, DefinitionError)):
        fp.open(small).profile.view(layers="mid")


@pytest.mark.browser
@pytest.mark.parametrize("host", [ITSELF, "localhost"])
def test_a_notebook_on_another_port_shows_the_frame(browser, shown, host):
    """Of the two, localhost is another site than the frame's."""
    view = shown(view="sample", label=1, seed=1)
    body = f"<!doctype html><link rel=icon href=data:,><h1>Notebook</h1>{view._repr_html_()}".encode()

    async def notebook(scope, receive, send):
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]}
        )
        await send({"type": "http.response.body", "body": body})

    with serving(notebook) as address, watched(browser, hosts=(ITSELF, host)) as page:
        page.goto(address.replace(ITSELF, host))
        frame = page.frame_locator("iframe")
        frame.locator(":root[data-ready=true]").wait_for(timeout=15_000)
        assert frame.locator("figure.panel canvas.map").first.is_visible()
        assert not frame.locator(".refusal").count()
        (inside,) = [each for each in page.frames if each != page.main_frame]
        assert inside.url.endswith("/sample?label=1&seed=1"), "the token stays in the address"
        page.reload()
        frame.locator(":root[data-ready=true] figure.panel").first.wait_for(timeout=15_000)


@pytest.mark.browser
def test_the_token_leaves_the_address_and_goes_on_in_every_tab(page, shown):
    view = shown(view="sample", seed=1)
    at(page, view.address, "")
    assert page.url.endswith("/sample?seed=1")
    page.reload()
    drawn(page)
    assert page.locator("figure.panel canvas.map").first.is_visible()
    other = page.context.new_page()
    at(other, page.url, "")
    assert other.locator("figure.panel canvas.map").first.is_visible()


@pytest.mark.browser
def test_a_page_without_the_token_asks_for_it_and_takes_an_address_too(page, shown, forgiven):
    forgiven.append("401")
    view = shown(view="sample", seed=1)
    page.goto(view.address.partition("#")[0])
    field = page.get_by_label("Token")
    field.fill("пароль-пароль-пароль")
    page.get_by_role("button", name="Show the store").click()
    assert "at least 16 letters" in page.locator(".wrong").inner_text()
    field.fill("not-the-token-of-this-server")
    page.get_by_role("button", name="Show the store").click()
    page.get_by_label("Token").wait_for()
    page.get_by_label("Token").fill(view.address)
    page.get_by_role("button", name="Show the store").click()
    drawn(page)
    page.locator("figure.panel canvas.map").first.wait_for()
    assert page.context.cookies() == []


@pytest.mark.browser
def test_an_address_with_a_token_that_is_pasted_into_an_open_page_is_taken(page, shown, forgiven):
    forgiven.append("401")
    view = shown(view="sample", seed=1)
    page.goto(view.address.partition("#")[0])
    page.get_by_label("Token").wait_for()
    page.goto(view.address)
    page.locator("figure.panel canvas.map").first.wait_for()
    assert "#" not in page.url
