"""Milliseconds from the input event of a slider to changed pixels, measured inside the page, and requests per move.

The clock is the page's own and starts when the event is dispatched. It is read in the first animation frame that
paints another picture: a canvas whose pixels have another digest while nothing is pending, or an image element with
another source that is loaded. It is read again when the next frame begins: by then the first was handed to the
screen, so that is the longest that a person waits for it, and it holds a whole frame that no program can save.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

SETTLED = 200
"""Milliseconds without a request after which a move is over; what is fetched ahead is counted with it."""
SWITCHES = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Chromium as root, and WebGL without a graphics card."""

CANVAS = """() => {
  if (document.documentElement.dataset.ready !== "true") return null;
  const canvas = document.querySelector(".panel[data-node='NODE'] canvas.map");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const words = new Uint32Array(data.buffer);
  let digest = 0x811c9dc5;
  for (const word of words) digest = Math.imul(digest ^ word, 0x01000193);
  return digest;
}"""
"""What the canvas of a map shows; null while the page is not ready."""
IMAGE = """() => {
  const image = document.querySelector("#map img");
  return image !== null && image.complete && image.naturalWidth > 0 ? image.src : null;
}"""
"""What an image element shows; null while it loads."""
PLOT = """() => {
  const image = document.querySelector("#map .heatmaplayer image");
  return image === null ? null : image.getAttribute("href") ?? image.getAttribute("xlink:href");
}"""
"""What plotly drew of a map, which is an image within its SVG."""
MOVE = """([slider, position, limit]) => new Promise((done, failed) => {
  const shown = %s;
  const input = document.querySelector(slider);
  const before = shown();
  const began = performance.now();
  input.value = String(position);
  input.dispatchEvent(new Event("input", { bubbles: true }));
  const look = () => {
    const now = shown();
    if (now !== null && now !== before) {
      const painted = performance.now() - began;
      requestAnimationFrame(() => done([painted, performance.now() - began]));
    }
    else if (performance.now() - began > limit) failed(new Error(`${slider} at ${position} changes nothing`));
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""
OURS = "FlowProfile"
PATIENCE = 20_000
"""Milliseconds after which a move that shows nothing is a fault."""


@dataclass(frozen=True)
class View:
    """One way to show the maps of a layer."""

    name: str
    address: str
    shown: str
    """JavaScript: what is to be seen, as a value that differs when it does."""
    channel: str
    """The slider of channels, as a selector."""
    time: str
    """The slider of steps."""


@dataclass
class Moves:
    """What was measured of one slider of one view."""

    painted: list[float] = field(default_factory=list)
    """Milliseconds until the frame that paints the new picture."""
    handed: list[float] = field(default_factory=list)
    """Until the frame after it."""
    requests: list[float] = field(default_factory=list)
    """Of a move, for each panel that is visible."""

    def extend(self, other: "Moves") -> None:
        """Add what was measured elsewhere."""
        self.painted += other.painted
        self.handed += other.handed
        self.requests += other.requests


def ours(address: str, layer: str, label: int, seed: int, time: int) -> View:
    """The panel of the interface."""
    place = f"{address}/activations?layer={layer}&label={label}&seed={seed}&time={time}&channel=0"
    shown = CANVAS.replace("NODE", f"activations/{layer}")
    return View(OURS, place, shown, "#channel", "#time")


def gradio(address: str, drawn: str) -> View:
    """The same in Gradio, as an image or as a plot; see `gradio_twin`."""
    shown = {"image": IMAGE, "plot": PLOT}[drawn]
    return View(f"Gradio's {drawn}", address, shown, "#channel input[type=range]", "#time input[type=range]")


@contextmanager
def chromium(path: str) -> Iterator[Any]:
    """A browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SWITCHES))
        yield browser
        browser.close()


@dataclass(frozen=True)
class Opened:
    """A view in a page of its own."""

    view: View
    page: Any
    asked: list[str]
    """Every request so far."""

    @property
    def panels(self) -> int:
        """How many pictures the page shows: a map, and what it stands beside."""
        return max(1, int(self.page.locator("figure.panel:visible").count()))

    def move(self, slider: str, position: int) -> tuple[float, float, int]:
        """Milliseconds to the frame that paints, to the one after it, and requests until it was quiet again."""
        self.page.bring_to_front()
        before = len(self.asked)
        painted, handed = self.page.evaluate(MOVE % self.view.shown, [slider, position, PATIENCE])
        self.settle()
        return painted, handed, len(self.asked) - before

    def settle(self) -> None:
        """Wait until nothing was asked for a while."""
        seen = -1
        while seen != len(self.asked):
            seen = len(self.asked)
            self.page.wait_for_timeout(SETTLED)


def opened(browser: Any, view: View) -> Opened:
    """The view, drawn for the first time."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(view.address)
    page.wait_for_selector(view.channel)
    page.wait_for_function(f"() => ({view.shown})() !== null")
    found = Opened(view, page, asked)
    found.settle()
    return found


def measured(
    pages: Sequence[Opened], slider: Literal["channel", "time"], positions: Sequence[int]
) -> dict[str, Moves]:
    """The same moves of every view, in turn; the first of them is for warmth."""
    found = {one.view.name: Moves() for one in pages}
    for number, position in enumerate(positions):
        for one in pages if number % 2 else reversed(pages):
            painted, handed, requests = one.move(getattr(one.view, slider), position)
            if number:
                moves = found[one.view.name]
                moves.painted.append(painted)
                moves.handed.append(handed)
                moves.requests.append(requests / one.panels)
    return found
