"""What the tests of the interface look at: real stores, made once, and a browser that tells on the page.

A page that says an error, or asks any host but this machine for anything, fails the test that opened it, whatever
the test was about.
"""

from pathlib import Path

import pytest
from browsing import MISSING, SWITCHES, chromium, serving, watched

from flowprofile import running
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

DEFINITION = Path(__file__).parent / "everything.toml"
QUICK = StoreLayout(durability="none")


@pytest.fixture(scope="session")
def everything(tmp_path_factory):
    """A store of `faces32` with everything in it that the interface can show; a third of a minute to make."""
    into = tmp_path_factory.mktemp("everything") / "store"
    running.run(DEFINITION, into=into, layout=QUICK)
    return into


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """A store of a closed form that is made in a second: states, the predicted image and measures."""
    stages = {
        "trajectory": {},
        "predicted_x0": {"keep": "::2"},
        "step_ssim": {"use": "ssim", "window": 5},
        "label_ssim": {"use": "ssim", "between": "labels", "window": 5},
        "fidelity": {},
    }
    into = tmp_path_factory.mktemp("small") / "store"
    running.run(pipeline(**stages), into=into, layout=QUICK)
    return into


@pytest.fixture(scope="session")
def tall(tmp_path_factory):
    """A store that is declared for ten thousand seeds, of which eight are there."""
    stages = {"trajectory": {"keep": "::4"}, "step_ssim": {"use": "ssim", "window": 5}}
    into = tmp_path_factory.mktemp("tall") / "store"
    running.prepare(pipeline(seeds="0:10000", **stages), into=into, layout=QUICK)
    running.run(pipeline(seeds="0:8", **stages), into=into, layout=QUICK)
    return into


@pytest.fixture(scope="module")
def address(everything):
    """Where the store with everything in it is shown."""
    from flowprofile.app.server import application

    with serving(application(str(everything))) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    """Chromium, for one file of tests: while Playwright lives, no other test may run an event loop in this thread."""
    from playwright.sync_api import sync_playwright

    found = chromium()
    if found is None:
        pytest.fail(MISSING, pytrace=False)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=list(SWITCHES))
        yield launched
        launched.close()


@pytest.fixture
def forgiven():
    """Parts of the messages that a test provokes on purpose: it adds them, and the console may say them."""
    return []


@pytest.fixture
def page(browser, forgiven):
    """A page of its own context; afterwards no error was on its console, and no other host was asked."""
    with watched(browser, forgiven) as found:
        yield found
