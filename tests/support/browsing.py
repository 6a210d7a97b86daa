"""A browser that tells on the pages it is shown, and a server to show them from."""

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

SWITCHES = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Chromium as root, and WebGL without a graphics card."""
ITSELF = "127.0.0.1"
MISSING = (
    "There is no Chromium, and the interface cannot be seen without one: apt install chromium,"
    " or name yours: CHROMIUM=/path/to/chromium make test-app"
)


def chromium():
    """Where Chromium is; None where there is none."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def watched(browser, forgiven=(), *, hosts=(ITSELF,), **options):
    """A fresh context's page, which may say no error and ask no other host; `options` are those of a context.

    `forgiven` are parts of messages that may be said; it is read at the end.
    """
    context = browser.new_context(**options)
    said, asked = [], set()
    context.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("request", lambda request: asked.add(urlsplit(request.url)))
    try:
        yield context.new_page()
        wrong = [text for text in said if not any(part in text for part in forgiven)]
        assert not wrong, f"the console says: {wrong}"
        others = {url.hostname for url in asked if url.scheme not in ("data", "blob", "about", "file")} - {
            *hosts
        }
        assert not others, f"the page asks {sorted(map(str, others))}"
    finally:
        context.close()


@contextmanager
def serving(application):
    """The address under which an application answers, from a thread of its own and a port nobody chose."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", ws="none"))
    with socket.socket() as listening:
        listening.bind((ITSELF, 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        assert server.started, "the server ended before it began"
        try:
            yield f"http://{ITSELF}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
            assert not thread.is_alive(), "the server does not end"
