"""Who may ask: one's own browser on this machine, and nobody a foreign page sends.

A server on a loopback address is reachable from every page the browser has open. So the name it was called by must be
its own (a foreign name that resolves to 127.0.0.1 is refused), what changes something must come from its own page, and
a page of ours may load nothing from elsewhere.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowprofile.app.asked import LONGEST

BODY: Final = 64 << 10
"""Bytes of a request's body."""
HEADER: Final = b"x-flowprofile"
"""Header of every request that changes something: a foreign form cannot set one."""
COOKIE: Final = "flowprofile_token"
LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
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
    hosts: tuple[str, ...] = LOOPBACK
    """Names under which the server may be called, without port."""
    token: str = ""
    """What a caller must know; empty on a loopback address."""
    secret: str = "/"
    """How the paths begin that need the token."""
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
        if _name_of(host) not in self.hosts:
            return _no(400, "This server is not called that; use the address it printed.")
        if scope["method"] not in METHODS:
            return _no(405, "Only GET, HEAD and POST are answered.")
        if len(scope.get("query_string", b"")) > LONGEST:
            return _no(414, f"An address has at most {LONGEST} characters of query.")
        known = not self.token or self._knows(scope, headers)
        if not known and scope["path"].startswith(self.secret):
            return _no(401, "The token is missing; use the address that the server printed.")
        if self.token and known and any(_is_token(part) for part in _parts(scope)):
            return self._admitted(scope)
        if scope["path"].startswith("/api") and headers.get(b"sec-fetch-site") == b"cross-site":
            return _no(403, "Another site's page asks.")
        return _refused_post(headers, host, scope) if scope["method"] == "POST" else None

    def _knows(self, scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
        """Whether the token is in the address, in the cookie that the address left, or in a header."""
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if not given and b"authorization" in headers:
            given = headers[b"authorization"].decode("latin-1").removeprefix("Bearer ")
        if not given and b"cookie" in headers:
            try:
                cookie = SimpleCookie(headers[b"cookie"].decode("latin-1")).get(COOKIE)
            except CookieError:
                cookie = None
            given = cookie.value if cookie is not None else ""
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _admitted(self, scope: Scope) -> Response:
        """Keep the token in a cookie, and take it out of the address: addresses are copied and sent."""
        rest = "&".join(part for part in _parts(scope) if not _is_token(part))
        path = "/" + scope["path"].lstrip("/\\")  # two slashes would begin another host's address
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), status_code=303)
        answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return answer

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


def _parts(scope: Scope) -> list[str]:
    text: str = scope.get("query_string", b"").decode("latin-1")
    return text.split("&")


def _is_token(part: str) -> bool:
    return part.startswith("token=")


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
