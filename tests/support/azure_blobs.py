"""A real Azure Blob server on the loopback, where there is one: `npm install azurite` puts `azurite-blob` on the path."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from email.utils import formatdate

import pytest

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of the server's own account, which its manual names."""
PATIENCE = 20.0


@pytest.fixture(scope="session")
def running_azure():
    """The address of a server whose objects are in memory."""
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("needs azurite-blob on the path: npm install azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [program, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)


@pytest.fixture
def container(running_azure, monkeypatch, request):
    """An empty container, and the environment in which it is found."""
    for name, value in {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        "AZURE_STORAGE_ENDPOINT": running_azure, "AZURE_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    name = f"c{abs(hash(request.node.nodeid)) % 10**12}"
    began = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(_made(running_azure, name)):
                return name
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError) or time.monotonic() - began > PATIENCE:
                raise
            time.sleep(0.1)


def _made(address, name):
    """The signed request that makes a container."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    told = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), told.encode(), hashlib.sha256).digest()
    headers = {"x-ms-date": date, "x-ms-version": version, "Content-Length": "0"}
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}"
    return urllib.request.Request(f"{address}/{name}?restype=container", method="PUT", headers=headers)
