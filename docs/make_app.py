"""Pictures of every view of the interface, light and dark, from a real store: `python docs/make_app.py STORE`.

They are taken with two pixels for every one of the page, so that they can be read at half their size.
"""

import io
import shutil
import sys
from pathlib import Path

from flowprofile.app.server import application

FOLDER = Path(__file__).parent / "app"
WIDTH = 1280
VIEWS = {
    "sample": ("/sample?label=6&seed=1&time=300&mask=eyes", 900),
    "activations": ("/activations?label=6&seed=1&time=300", 860),
    "attention": ("/attention?label=6&seed=1&time=300", 780),
    "gradients": ("/gradients?label=6&seed=1&time=500&colour=clip", 1240),
    "measures": ("/measures?label=6&seed=1&time=400&intervention=none", 1100),
    "compare": ("/compare?label=6&seed=1&time=300&side=label%3D14", 1320),
    "sweep": ("/sweep", 900),
    "run": ("/run?mask=eyes", 1000),
}


def main(store: str) -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
    from browsing import SWITCHES, serving

    FOLDER.mkdir(exist_ok=True)
    with serving(application(store, allow_run=True)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(SWITCHES))
        for scheme in ("light", "dark"):
            for name, (path, height) in VIEWS.items():
                context = browser.new_context(
                    viewport={"width": WIDTH, "height": height}, device_scale_factor=2, color_scheme=scheme
                )
                page = context.new_page()
                page.goto(address + path)
                page.wait_for_selector("html[data-ready]", timeout=60_000)
                page.wait_for_timeout(1500)  # a plan is made while one looks, and plotly fades in
                _small(page.screenshot(), FOLDER / f"{name}-{scheme}.png")
                context.close()
        browser.close()


def _small(picture: bytes, path: Path) -> None:
    from PIL import Image

    Image.open(io.BytesIO(picture)).convert("RGB").save(path, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
