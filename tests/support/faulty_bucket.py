"""A real S3 server on the loopback, which counts what it is asked, and fails when it is told to.

Between client and server stands a proxy that may lose a request, its answer, or a part or a bit of it.
"""

import logging
import socket
import struct
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

ANSWERED = ("503", "500", "reset")
"""Faults before the server has heard of a request."""
DONE = ("lost", "truncated", "zeroed", "flipped")
"""Faults of an answer: the server has done what it was asked."""
KINDS = (*ANSWERED, *DONE, "hang")
SHORTENED = "shortened"
"""Truncated, and the answer says that it was never longer: no client can see it."""
HANG = 1.0
"""Seconds after which nobody waits for an answer any more."""


@dataclass
class Server:
    """An S3 server whose objects are in memory."""

    endpoint: str = ""
    asked: Counter = field(default_factory=Counter)
    """How often each method, path and query was asked for."""
    faults: list[str] = field(default_factory=list)
    """What becomes of the answers to the next puts: ``error``, ``silence`` or ``late``. The object arrives all the same."""
    proxy: Callable[[str, str, str], str | None] = lambda method, path, query: None
    """Which of `KINDS`, or `SHORTENED`, strikes a request, if any."""
    signed: list[str] = field(default_factory=list)
    """The signatures of what was asked."""
    careless: bool = False
    """Whether it ignores the conditions of puts."""

    def app(self, inner):
        def counted(environ, start_response):
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            query = environ.get("QUERY_STRING", "")
            self.asked[method, path, query] += 1
            self.signed.append(environ.get("HTTP_AUTHORIZATION", ""))
            if self.careless:
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
            struck = self.proxy(method, path, query)
            if struck is not None:
                return _struck(struck, environ, start_response, inner)
            if method != "PUT" or not self.faults:
                return inner(environ, start_response)
            fault = self.faults.pop(0)
            list(inner(environ, lambda *_: None))
            if fault == "silence":
                environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            if fault == "late":
                time.sleep(2)
            start_response("500 Internal Server Error", [("Content-Length", "0")])
            return [b""]

        return counted


def _struck(kind, environ, start_response, inner):
    """One request as the proxy lets it through."""
    if kind == "hang":
        threading.Event().wait(HANG)
        _reset(environ)
        return []
    if kind in ("503", "500"):
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(f"{kind} Slow Down", [("Content-Length", "0")])
        return [b""]
    if kind == "reset":
        _reset(environ)
        return []
    said = []
    body = b"".join(inner(environ, lambda status, headers, *_: said.append((status, headers))))
    if kind == "lost" or (kind == "truncated" and not body):
        _reset(environ)
        return []
    at = len(body) // 2
    if kind == "zeroed":
        body = body[:at] + bytes(len(body) - at)
    if kind == "flipped" and body:
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    status, headers = said[0]
    if kind == SHORTENED:
        body = body[:at]
        headers = [(name, str(at) if name.lower() == "content-length" else value) for name, value in headers]
    start_response(status, headers)
    if kind == "truncated":
        return _half(body, environ)
    return [body]


def _half(body, environ):
    yield body[: len(body) // 2]
    _reset(environ)


def _reset(environ):
    """End the connection so that the other side is told of a reset, whatever was on its way."""
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket._real_close(connection)


@pytest.fixture(scope="session")
def running_server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    server = Server(f"http://{host}:{port}")
    running._server.app = server.app(running._server.app)
    yield server
    running.stop()


@pytest.fixture
def server(running_server):
    """The server, with nothing counted and nothing failing."""
    running_server.asked.clear()
    running_server.faults.clear()
    running_server.signed.clear()
    running_server.careless = False
    running_server.proxy = lambda method, path, query: None
    return running_server


@pytest.fixture
def bucket(server, monkeypatch, request):
    """An empty bucket, and the environment in which it is found."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": server.endpoint, "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.nodeid)) % 10**12}"
    with urllib.request.urlopen(urllib.request.Request(f"{server.endpoint}/{name}", method="PUT")):
        pass
    server.asked.clear()
    server.signed.clear()
    return name
