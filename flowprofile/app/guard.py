"""Who may ask: one's own browser on this machine, and nobody a foreign page sends.

A server on a loopback address is reachable from every page the browser has open. So the name it was called by must be
its own (a foreign name that resolves to 127.0.0.1 is refused), what changes something must come from its own page, and
a page of ours may load nothing from elsewhere.

Where a token is set, whatever is of the store needs it, in a header that the page alone sets. There is no cookie: a
browser sends those to every port of a host, so to other people's servers too. The page itself holds nothing of the
store and is given to whoever asks, since it is what asks for the token.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowprofile.app.asked import LONGEST

BODY: Final = 64 << 10
"""Bytes of a request's body."""
HEADER: Final = b"x-flowprofile"
"""Header of every request that changes something: a foreign form cannot set one."""
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
STRANGERS: Final = (b"cross-site", b"same-site")
"""What a browser says of a page that is not ours: another port of this host is the same site, but not ours."""
METHODS: Final = ("GET", "HEAD", "POST")
POLICY: Final = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self'; worker-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self' {frames}"
)
"""Styles may be inline since plotly.js sets its own; scripts may not, but for the map of the page's own modules."""


@dataclass(frozen=True)
class Guard:
    """The rules of one server; an ASGI middleware."""

    app: ASGIApp
    hosts: tuple[str, ...] | None = LOOPBACK
    """Names under which the server may be called, without port; None for any."""
    token: str = ""
    """What a caller must know; empty where everybody on this machine may ask."""
    scripts: str = ""
    """Digests of the inline scripts of our own page."""
    frames: str = ""
    """Who may show the page in a frame: a notebook's address."""
    headers: Mapping[str, str] = field(default_factory=dict)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on; every answer carries the policy."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        no = self._refusal(scope)
        guarded = self._with_headers(send)
        if no is not None:
            await no(scope, receive, guarded)
            return
        body = _Body(receive) if scope["method"] == "POST" else None
        await self.app(scope, body or receive, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return _no(400, "This server is not called that; use the address it printed.")
        if scope["method"] not in METHODS:
            return _no(405, "Only GET, HEAD and POST are answered.")
        if len(scope.get("query_string", b"")) > LONGEST:
            return _no(414, f"An address has at most {LONGEST} characters of query.")
        if scope["path"].startswith("/api"):
            if headers.get(b"sec-fetch-site") in STRANGERS:
                return _no(403, "Another site's page asks.")
            if self.token and not self._knows(headers):
                return _no(401, "The token is missing, or is not this server's.")
        return _refused_post(headers, host, scope) if scope["method"] == "POST" else None

    def _knows(self, headers: Mapping[bytes, bytes]) -> bool:
        given = headers.get(b"authorization", b"")
        return hmac.compare_digest(given, b"Bearer " + self.token.encode())

    def _with_headers(self, send: Send) -> Send:
        added = {
            "content-security-policy": POLICY.format(scripts=self.scripts, frames=self.frames).strip(),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
            **self.headers,
        }

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((n.encode(), v.encode()) for n, v in added.items() if n.encode() not in given),
                ]
            await send(message)

        return guarded


def _name_of(host: str) -> str:
    """A host without its port.

    >>> _name_of("127.0.0.1:80"), _name_of("[::1]:80"), _name_of("evil.example")
    ('127.0.0.1', '[::1]', 'evil.example')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _refused_post(headers: Mapping[bytes, bytes], host: str, scope: Scope) -> Response | None:
    """What changes something comes from our own page: its origin, a header that forms cannot set, and JSON."""
    origin = headers.get(b"origin", b"").decode("latin-1")
    if origin != f"{scope.get('scheme', 'http')}://{host}":
        return _no(403, "Another origin asks.")
    if HEADER not in headers:
        return _no(403, "The header X-FlowProfile is missing.")
    if headers.get(b"content-type", b"").split(b";")[0].strip() != b"application/json":
        return _no(415, "A body is application/json.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length) > BODY:
        return _no(413, f"A body has at most {BODY >> 10} KiB.")
    return None


def _no(status: int, told: str) -> Response:
    return PlainTextResponse(told, status_code=status)


class _Body:
    """A request's body; one that goes on longer than is read is refused, whatever its header said."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.seen = receive, 0

    async def __call__(self) -> Any:
        message = await self.receive()
        self.seen += len(message.get("body", b""))
        if self.seen > BODY:
            raise HTTPException(413, f"A body has at most {BODY >> 10} KiB.")
        return message
