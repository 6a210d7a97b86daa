"""The tests of the interface see what they say they see: a page that misbehaves fails, and everything is in the store."""

from pathlib import Path

import pytest
from browsing import serving, watched

from flowprofile.running import assembled
from flowprofile.stages import KINDS

ELSEWHERE = {"decoded", "attention_maps", "word_maps"}
"""Kinds that a network without latents, transformer blocks and prompts does not have."""


def test_the_store_of_everything_is_asked_for_every_kind_that_its_model_has():
    made = assembled(Path(__file__).parent / "everything.toml")
    assert {table["use"] for table in made.tables.values()} == set(KINDS) - ELSEWHERE
    kinds = {part["kind"] for part in made.pipeline.interventions.values()}
    assert kinds == {"ablate", "switch", "patch", "steer"}


@pytest.mark.browser
def test_the_store_of_everything_is_shown_and_its_page_asks_nobody_else(page, address):
    page.goto(f"{address}/activations?layer=mid_attn.fn&label=6&seed=0&time=500&channel=3")
    page.wait_for_selector("html[data-ready=true]")
    panel = page.locator("figure.panel[data-node='activations/mid_attn.fn'] canvas.map")
    assert panel.evaluate("canvas => [canvas.width, canvas.height]") == [8, 8]
    assert page.input_value("#channel") == "3"
    assert page.input_value("#time") == "9", "t = 500 of 950, 900 ... 0"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("console.error('it broke')", "it broke"),
        ("setTimeout(() => { throw new Error('thrown late'); })", "thrown late"),
        ("fetch('/missing')", "404"),
        ("fetch('http://localhost:1/').catch(() => 0)", "localhost"),
        ("navigator.sendBeacon('http://collector.invalid/')", "collector.invalid"),
    ],
)
def test_a_page_that_says_an_error_or_asks_another_host_fails_its_test(browser, script, words):
    with serving(_hello) as address:
        with pytest.raises(AssertionError, match=words):
            _open(browser, address, script)
        with watched(browser) as page:
            page.goto(address)
            assert page.text_content("p") == "Hello"


def _open(browser, address, script):
    with watched(browser, ["ERR_"]) as page:
        page.goto(address)
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_timeout(100)


async def _hello(scope, receive, send):
    """A page, and nothing else."""
    assert scope["type"] == "http", "the server asks for no life span"
    status = 200 if scope["path"] == "/" else 404
    body = b"<!doctype html><link rel=icon href=data:,><p>Hello</p>"
    headers = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
