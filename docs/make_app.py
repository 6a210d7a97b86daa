"""Pictures of every view of the interface, light and dark, from a real store: `python docs/make_app.py STORE`.

They are taken with five pixels for every four of the page, so that they can be read at four fifths of their size, and
each ends where something of the page does. docs/app.md says how the store is made.
"""

import io
import shutil
import sys
from pathlib import Path

from flowprofile.app.server import application

FOLDER = Path(__file__).parent / "app"
WIDTH, MARGIN = 1280, 12
TALL = 2600
VIEWS = {
    "sample": ("/sample?label=6&seed=1&time=300&mask=eyes", ".sample"),
    "activations": ("/activations?label=6&seed=1&time=300", ".panels"),
    "attention": ("/attention?label=6&seed=1&time=300", ".panels"),
    "gradients": ("/gradients?label=6&seed=1&time=500&colour=clip", ".plot-card"),
    "measures": ("/measures?label=6&seed=1&time=400&intervention=none", ".plot-card >> nth=2"),
    "compare": ("/compare?label=6&seed=1&time=300&side=label%3D14", ".plot-card"),
    "sweep": ("/sweep", ".cases tbody tr >> nth=8"),
    "run": ("/run?mask=eyes", "[data-group=cases]"),
}
"""Each view's address, and what its picture ends with."""


def main(store: str) -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    from browsing import SWITCHES, serving

    FOLDER.mkdir(exist_ok=True)
    with serving(application(store, allow_run=True)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(SWITCHES))
        for scheme in ("light", "dark"):
            for name, (path, last) in VIEWS.items():
                context = browser.new_context(
                    viewport={"width": WIDTH, "height": TALL}, device_scale_factor=1.25, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(address + path)
                page.wait_for_selector("html[data-ready]", timeout=60_000)
                page.wait_for_timeout(1500)  # a plan is made while one looks, and plotly fades in
                box = page.locator(last).bounding_box()
                clip = {"x": 0, "y": 0, "width": WIDTH, "height": box["y"] + box["height"] + MARGIN}
                _small(page.screenshot(clip=clip), FOLDER / f"{name}-{scheme}.png")
                context.close()
        browser.close()


def _small(picture: bytes, path: Path) -> None:
    from PIL import Image

    Image.open(io.BytesIO(picture)).convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
