"""A real S3 server on the loopback, which counts what it is asked."""

import logging
import urllib.request
from collections import Counter

import pytest


@pytest.fixture(scope="session")
def server():
    """Endpoint and counter of a moto server; its objects are in memory."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    asked = Counter()
    inner = running._server.app

    def counted(environ, start_response):
        asked[environ["REQUEST_METHOD"], environ["PATH_INFO"], environ.get("QUERY_STRING", "")] += 1
        return inner(environ, start_response)

    running._server.app = counted
    yield f"http://{host}:{port}", asked
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch, request):
    """An empty bucket, and the environment in which it is found."""
    endpoint, asked = server
    for name, value in {
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"b{abs(hash(request.node.nodeid)) % 10**12}"
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")):
        pass
    asked.clear()
    return name
