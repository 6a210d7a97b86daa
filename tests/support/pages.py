"""Being the user of a page: going somewhere, waiting until it is drawn, and reading what is on it."""

READY = "html[data-ready='true']:not([data-unsaid])"


def at(page, address, path):
    """Go to a view and wait until everything that is visible is drawn."""
    page.goto(f"{address}{path}")
    return drawn(page)


def drawn(page):
    """Wait for two frames, so that what was asked for just now has begun, and then until nothing is on its way, the address included."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait_for_selector(READY, timeout=20_000)
    return page


def pixels(page, node):
    """The bytes of a panel's picture, as drawn."""
    return page.evaluate(
        """(node) => {
          const canvas = document.querySelector(`figure[data-node="${CSS.escape(node)}"] canvas.map`);
          return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
        }""",
        node,
    )


def asked(page, does):
    """The paths below /api that a page asks for while something is done."""
    paths = []

    def note(request):
        if "/api/" in request.url:
            paths.append(request.url.partition("/api/")[2])

    page.on("request", note)
    does()
    drawn(page)
    page.wait_for_timeout(250)  # what is fetched beforehand begins when the hand rests
    page.remove_listener("request", note)
    return paths


def slide(page, name, value):
    """Move a slider as a hand does."""
    page.locator(f"#{name}").fill(str(value))
