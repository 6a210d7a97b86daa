"""A store that a web server shows: read as anywhere, never written."""

import functools
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import xarray as xr

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import StoreError
from flowprofile.store.urls import place
from pipelines import pipeline


class Whole(SimpleHTTPRequestHandler):
    """Sends whole objects, whatever part is asked for."""

    def log_message(self, *_):
        pass


class Parts(Whole):
    """Sends the part that is asked for."""

    def send_head(self):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        sent = super().send_head() if asked is None else None
        if asked is None or self.path.endswith("/"):
            return sent
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            return super().send_head()
        data = path.read_bytes()
        start, stop = int(asked[1]), int(asked[2] or len(data)) + 1
        status = 206 if start < len(data) else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(data[start:stop])))
        self.end_headers()
        self.wfile.write(data[start:stop])
        return None


@pytest.fixture(params=[Whole, Parts])
def shown(request, tmp_path):
    """A folder and the address at which a web server shows it."""
    handler = functools.partial(request.param, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_parts_of_objects_are_the_parts_that_were_asked_for(shown):
    folder, url = shown
    (folder / "store" / "a@1").mkdir(parents=True)
    (folder / "store" / "a@1" / "b~c").write_bytes(b"0123456789")
    where = place(f"{url}/store")
    key = "a@1/b~c"
    assert where.read(key) == b"0123456789"
    assert where.read(key, 2, 5) == b"234"
    assert where.read(key, 8, 20) == b"89"
    assert where.read(key, 4) == b"456789"
    assert where.read(key, 10, 12) == b""
    assert where.read("a@1/c") is None
    assert where.size(key) == 10
    assert where.size("a@1/c") is None
    assert list(where.list("a@1")) == [key]
    assert list(where.list("nothing")) == []
    assert where.exists()


def test_a_store_opens_and_reads_the_same(shown):
    folder, url = shown
    running.run(
        pipeline(seeds="0:2", labels=(0,), steps=8, trajectory={}, step_mse={"use": "mse"}),
        into=folder / "store",
    )
    near, far = fp.open(folder / "store"), fp.open(f"{url}/store")
    xr.testing.assert_identical(near["trajectory"].to_dataset().load(), far["trajectory"].to_dataset().load())
    xr.testing.assert_identical(
        near["measures/step_mse"].to_dataset().load(), far["measures/step_mse"].to_dataset().load()
    )


def test_nothing_is_written(shown):
    _, url = shown
    where = place(f"{url}/store")
    for refused in (
        lambda: where.write("a", b"x"),
        lambda: where.create("a", b"x"),
        lambda: where.delete("a"),
        lambda: where.claim("a", b"me"),
    ):
        with pytest.raises(StoreError, match="can only be read"):
            refused()
    with pytest.raises(StoreError, match="can only be read"):
        running.run(pipeline(seeds="0:1", steps=8, trajectory={}), into=where)
