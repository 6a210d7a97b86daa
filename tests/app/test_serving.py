"""A server as a person starts it: where it says it is, what it must be shown, how much it takes, and how it ends."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

import flowprofile as fp
from flowprofile import running
from flowprofile.app.asked import query
from flowprofile.app.blocks import LARGEST, block
from flowprofile.app.serving import CALLERS, bracketed, checked_token, names, own_name
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

PARALLEL = 200
LAYER = "downs.0.0.net"
ITSELF = 300 << 20
"""Memory of a server that answers nobody."""


@contextmanager
def server(store, *more):
    """The process of a server, and the address that it says."""
    command = [sys.executable, "-m", "flowprofile", "app", str(store), "--port", "0", "--no-open", *more]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, re.search(r"http://\S+", process.stderr.readline())[0]
        finally:
            process.kill()


def status(address, path, host, **headers):
    url = urlsplit(address)
    asked = urllib.request.Request(f"http://{host}:{url.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize(
    "token", ["short", "a" * 15, "a&b#c-and-so-on-and-on", "пароль-пароль-пароль", "", "a" * 16 + "\n"]
)
def test_a_token_that_could_not_work_or_be_guessed_is_refused(token):
    with pytest.raises(DefinitionError) as refused:
        checked_token("127.0.0.1", token)
    assert "--token new" in refused.value.remedy


def test_a_token_is_made_where_one_is_needed_and_asked_for_elsewhere():
    assert checked_token("127.0.0.1", None) == ""
    assert checked_token("::1", "a-token-of-mine_16") == "a-token-of-mine_16"
    assert len(checked_token("127.0.0.1", None, allow_run=True)) >= 16
    assert checked_token("127.0.0.1", "new") != checked_token("127.0.0.1", "new")
    for host in ("0.0.0.0", "::", "192.0.2.7"):
        with pytest.raises(DefinitionError, match="other machines"):
            checked_token(host, None)


def test_an_address_is_said_as_a_browser_takes_it():
    assert bracketed(own_name("::1")) == "[::1]"
    assert own_name("127.0.0.1") == "127.0.0.1"
    assert own_name("0.0.0.0") not in ("0.0.0.0", "")
    assert names("0.0.0.0") is names("::") is None
    assert {"localhost", "[2001:db8::7]"} <= set(names("2001:DB8::7"))


def test_a_server_at_all_addresses_is_called_by_the_name_and_the_token_that_it_says(small):
    with server(small, "--host", "0.0.0.0", "--token", "new") as (_, address):
        url = urlsplit(address)
        assert url.hostname != "0.0.0.0"
        known = {"Authorization": f"Bearer {url.fragment.removeprefix('token=')}"}
        for host in {url.hostname, "127.0.0.1", "localhost"}:
            assert status(address, "/", host) == 200
            assert status(address, "/api/catalogue", host) == 401
            assert status(address, "/api/catalogue", host, **known) == 200


def test_a_server_that_may_compute_asks_for_a_token_by_itself(small):
    with server(small, "--allow-run") as (_, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/#token=[\w-]{16,}", address)
        assert status(address, "/api/form", "127.0.0.1") == 401


def test_a_state_is_asked_for_once(small):
    tree = fp.open(small)
    pairs = [("node", "trajectory"), ("variable", "x_t"), ("times", "1000"), ("times", "1000")]
    with pytest.raises(StoreError, match="asked for twice"):
        block(tree, query(pairs))


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A store of which one answer may have megabytes."""
    stages = {"trajectory": {"keep": "::250"}, "activations": {"layers": LAYER, "keep": "::1"}}
    into = tmp_path_factory.mktemp("large") / "store"
    asked = pipeline(model="faces32", steps=250, seeds="0:1", labels=["0110"], **stages)
    running.run(asked, into=into, layout=StoreLayout(durability="none"))
    return into


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc"
)
def test_many_who_ask_for_much_and_never_read_it_take_memory_within_a_bound(large):
    tree = fp.open(large)
    node = f"activations/{LAYER}"
    times = tree[node]["time"].values[:250].tolist()
    asked = [("node", node), ("variable", "activation"), *(("times", t) for t in times)]
    one = len(block(tree, query((name, str(value)) for name, value in asked)))
    assert one > LARGEST // 3
    with server(large) as (process, address), ExitStack() as held:
        host = urlsplit(address)
        line = f"GET /api/block?{urlencode(asked)} HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode()
        begun = Counter()
        for _ in range(PARALLEL):
            caller = held.enter_context(socket.create_connection((host.hostname, host.port), timeout=30))
            caller.sendall(line)
            begun[caller.recv(12)] += 1
        assert begun == {b"HTTP/1.1 200": CALLERS - 1, b"HTTP/1.1 503": PARALLEL - CALLERS + 1}
        time.sleep(1)
        told = Path(f"/proc/{process.pid}/status").read_text()
    most = int(re.search(r"VmHWM:\s+(\d+) kB", told)[1]) << 10
    assert most < ITSELF + CALLERS * one, "a third of what all of them ask for"


def test_ctrl_c_ends_it_at_once_whatever_it_is_doing_and_prints_no_traceback(store):
    running.run(pipeline(trajectory={}, step_ssim={"use": "ssim"}), into=store)
    with server(store, "--allow-run") as (process, address):
        url = urlsplit(address)
        wanted = {
            "model": "mixture16",
            "sampler": {"steps": 20},
            "cases": {"seeds": "0:10000", "labels": [0, 1]},
            "stages": {"trajectory": {}, "step_ssim": {"use": "ssim"}},
        }
        body = json.dumps({"definition": wanted}).encode()
        head = [
            "POST /api/plan HTTP/1.1",
            f"Host: {url.netloc}",
            f"Origin: http://{url.netloc}",
            "X-FlowProfile: 1",
            "Content-Type: application/json",
            f"Authorization: Bearer {url.fragment.removeprefix('token=')}",
            f"Content-Length: {len(body)}",
        ]
        with socket.create_connection((url.hostname, url.port)) as caller:
            caller.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.wait(20) == 130
            took = time.monotonic() - began
        said = process.stderr.read()
    assert took < 4
    assert "Traceback" not in said
    assert "Error" not in said
