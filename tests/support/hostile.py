"""Requests that nobody who looks at a profile sends, byte for byte, and what may be answered to them."""

import socket
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

SECRET = "TO-BE-SEEN-BY-NOBODY"
"""What the file beside the store says."""
FOREIGN = "http://evil.example"
REFUSED = frozenset({400, 404})
OUTSIDE = (
    "/static/../../etc/passwd",
    "/static/../../../../../../etc/passwd",
    "/static/../server.py",
    "/../secret.txt",
    "/api/../../secret.txt",
    "/static/%2e%2e/%2e%2e/etc/passwd",
    "/static/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/static/..%2f..%2f..%2fetc%2fpasswd",
    "/static/%252e%252e/%252e%252e/etc/passwd",
    "/static/%252e%252e%252f%252e%252e%252fetc%252fpasswd",
    "/static/..\\..\\etc\\passwd",
    "/static/..%5c..%5cetc%5cpasswd",
    "/static/....//....//etc/passwd",
    "/static/..;/..;/etc/passwd",
    "/static/%c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd",
    "/static/%uff0e%uff0e/etc/passwd",
    "/static//etc/passwd",
    "/static/%2fetc%2fpasswd",
    "/static/app.js%00.html",
    "/static/%00/etc/passwd",
    "/static/C:/Windows/win.ini",
    "/static/file:///etc/passwd",
    "/static/__init__.py",
    "/static/.",
    "/static/",
    "//etc/passwd",
    "/etc/passwd",
    "/profile.zarr/zarr.json",
    "/ledger/receipts",
    "/.git/config",
)
"""Paths of files that are no part of the page."""
METHODS = ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "MOVE", "LOCK")


@dataclass(frozen=True)
class Probe:
    """One request."""

    name: str
    request: bytes
    """`{host}` is the server's own host and port."""
    expected: frozenset[int]
    """Statuses that may be answered."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


def asked(address: str, request: bytes) -> Answer:
    """The answer to a request as it stands; status 0 where the server only hung up."""
    host = urlsplit(address)
    with socket.create_connection((host.hostname, host.port), timeout=10) as connection:
        found = b""
        with suppress(ConnectionError):  # hung up on, in the middle of what is too long
            connection.sendall(request.replace(b"{host}", host.netloc.encode()))
            while part := connection.recv(65536):
                found += part
    head, _, body = found.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(first.split()[1]) if first else 0, headers, body)


def request(
    target: str, *lines: str, method: str = "GET", host: str | None = "{host}", body: str = ""
) -> bytes:
    """A request; without a host where there is none."""
    named = [f"Host: {host}"] if host is not None else []
    head = [f"{method} {target} HTTP/1.1", *named, "Connection: close", *lines]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode("latin-1")


def posted(
    target: str, *lines: str, origin: str | None = "http://{host}", ours: bool = True, body: str = "{}"
) -> bytes:
    """A request to do something, as the page sends it but for what is changed."""
    told = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Origin": origin,
        "X-FlowProfile": "1" if ours else None,
    }
    given = {line.partition(":")[0] for line in lines}
    if "Transfer-Encoding" in given:
        given.add("Content-Length")
    kept = [f"{name}: {value}" for name, value in told.items() if value is not None and name not in given]
    return request(target, *kept, *lines, method="POST", body=body)


def probes(*, read: str, do: str, most: int) -> list[Probe]:
    """Every probe: of an address that is read, of one that is posted to, and of bodies longer than `most` bytes."""
    large = "x" * (most + 1)
    hosts = (
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "[::ffff:7f00:1]",
        "",
    )
    origins = (
        FOREIGN,
        "null",
        "http://127.0.0.1:1",
        "https://{host}",
        "http://127.0.0.1.evil.example",
        "http://{host}.evil.example",
        "file://",
    )
    return [
        *(Probe(f"host {host!r}", request(read, host=host), frozenset({400})) for host in hosts),
        Probe("no host", request(read, host=None), frozenset({400})),
        Probe("two hosts", request(read, "Host: evil.example"), frozenset({400})),
        Probe("a whole address as path", request(f"{FOREIGN}{read}"), REFUSED),
        *(Probe(f"path {path}", request(path), REFUSED) for path in OUTSIDE),
        *(Probe(f"parameter {name}", request(f"{read}?{name}=/etc"), frozenset({400})) for name in ("store", "url", "path", "into")),
        *(Probe(f"method {method}", request(read, method=method), frozenset({400, 405})) for method in METHODS),
        *(Probe(f"origin {origin}", posted(do, origin=origin), frozenset({403})) for origin in origins),
        Probe("a post without our header", posted(do, ours=False), frozenset({403})),
        Probe("a form without our header", posted(do, "Content-Type: text/plain", ours=False, origin=FOREIGN), frozenset({403})),
        Probe("a site of another kind", posted(do, "Sec-Fetch-Site: cross-site", origin=None, ours=False), frozenset({403})),
        Probe("a body too long", posted(do, body=large), frozenset({413})),
        Probe("a body that says it is too long", posted(do, f"Content-Length: {most + 1}"), frozenset({413})),
        Probe("a body too long, in chunks", posted(do, "Transfer-Encoding: chunked", body=f"{len(large):x}\r\n{large}\r\n0\r\n\r\n"), frozenset({413})),
        Probe("a length below zero", posted(do, "Content-Length: -1"), frozenset({400})),
        Probe("a length of many digits", posted(do, "Content-Length: " + "9" * 5000), frozenset({400, 413})),
        Probe("a length that is no number", posted(do, "Content-Length: many"), frozenset({400})),
        Probe("two lengths", posted(do, "Content-Length: 2", "Content-Length: 40"), frozenset({400})),
        Probe("a body that is no JSON", posted(do, body="{"), frozenset({400})),
        Probe("a body that is a store", posted(do, body='{"store": "/etc", "into": "/etc"}'), frozenset({400, 403, 422})),
        Probe("a path too long", request("/" + "a" * 1_000_000), frozenset({0, 400, 404, 414, 431})),
        Probe("a header too long", request(read, "X-Long: " + "a" * 1_000_000), frozenset({0, 400, 431})),
        Probe("a line break in a value", request(f"{read}?leyer=a%0d%0aSet-Cookie:%20a=b"), REFUSED),
        Probe("markup in a value", request(f"{read}?leyer=<script>alert(1)</script>"), REFUSED),
        Probe("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", frozenset({0, 400})),
    ]  # fmt: skip
