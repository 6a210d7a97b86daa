"""A real S3 server on the loopback, which counts what it is asked, and fails when it is told to."""

import logging
import socket
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

import pytest


@dataclass
class Server:
    """An S3 server whose objects are in memory."""

    endpoint: str = ""
    asked: Counter = field(default_factory=Counter)
    """How often each method, path and query was asked for."""
    faults: list[str] = field(default_factory=list)
    """What becomes of the answers to the next puts: ``error``, ``silence`` or ``late``. The object arrives all the same."""
    signed: list[str] = field(default_factory=list)
    """The signatures of what was asked."""
    careless: bool = False
    """Whether it ignores the conditions of puts."""

    def app(self, inner):
        def counted(environ, start_response):
            method = environ["REQUEST_METHOD"]
            self.asked[method, environ["PATH_INFO"], environ.get("QUERY_STRING", "")] += 1
            self.signed.append(environ.get("HTTP_AUTHORIZATION", ""))
            if self.careless:
                environ.pop("HTTP_IF_MATCH", None)
                environ.pop("HTTP_IF_NONE_MATCH", None)
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


@pytest.fixture(scope="session")
def running_server():
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
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
