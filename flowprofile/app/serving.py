"""Starting and ending a server: the address is said, and opened, when it answers."""

import logging
import re
import secrets
import socket
import webbrowser
from collections.abc import Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Final

from flowprofile.errors import DefinitionError, FlowProfileError

if TYPE_CHECKING:
    import uvicorn

    from flowprofile.app.guard import Guard

NEW: Final = "new"
"""Asks for a token to be made."""
SHORTEST: Final = 16
"""Characters a token has at least."""
CALLERS: Final = 64
"""Connections that are served at once; an answer to one that is slow to read it takes memory until it has."""
WILDCARDS: Final = ("0.0.0.0", "::", "")
"""Every address of this machine at once."""
LOCAL: Final = ("127.0.0.1", "localhost", "::1")
"""Addresses that this machine alone can call, but everybody on it."""


def serve(
    store: str,
    *,
    others: Mapping[str, str],
    allow_run: bool,
    port: int,
    host: str,
    token: str | None,
    show: bool,
    say: Callable[[str], None],
) -> None:
    """Serve a store until somebody ends it."""
    host = host.removeprefix("[").removesuffix("]")
    token = checked_token(host, token, allow_run=allow_run)
    needs_server()
    from flowprofile.app.server import application

    application_ = application(store, others=others, allow_run=allow_run, token=token, hosts=names(host))
    listening = bound(host, port)
    # Behind "#", which a browser sends to nobody.
    own = f"http://{bracketed(own_name(host))}:{listening.getsockname()[1]}/"
    address = own + (f"#token={token}" if token else "")
    say(f"{store} is shown at {address}\nCtrl-C ends it.")
    if show:
        webbrowser.open(address)
    server_of(application_).run(sockets=[listening])


def needs_server() -> None:
    """Refuse where the libraries of the interface are not installed."""
    try:
        import starlette  # noqa: F401  # looked for, not used here
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise FlowProfileError(
            f"The interface needs {error.name}, and it is not installed.",
            consequence="No page can be served.",
            remedy='pip install "flowprofile[app]"',
        ) from None


def server_of(application: "Guard") -> "uvicorn.Server":
    """A server that says nothing of its own, and ends at once when asked."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=0.2,
            limit_concurrency=CALLERS,
            ws="none",
            server_header=False,
        )
    )
    ending = server.handle_exit

    def ended(sig: int, frame: FrameType | None) -> None:
        # Who listens to a run, or waits for a plan, is cut off then: that is no error to print a traceback of.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
        ending(sig, frame)

    server.handle_exit = ended
    return server


def checked_token(host: str, token: str | None, *, allow_run: bool = False) -> str:
    """The token, made where runs are allowed and none is given; one that is needed and missing or weak is refused."""
    if token == NEW or (token is None and allow_run):
        return secrets.token_urlsafe(24)
    if token is None and host in LOCAL:
        return ""
    if token is None:
        raise DefinitionError(
            f"The address {host!r} can be called from other machines.",
            consequence="Whoever reaches it would see the store, and with --allow-run start computations.",
            remedy="add --token new, or stay on 127.0.0.1 and forward the port over ssh",
        )
    if not re.fullmatch(r"[A-Za-z0-9_-]*", token):
        raise DefinitionError(
            "The token has characters other than ASCII letters, digits, - and _.",
            consequence="It stands in an address and in a header, which would change it.",
            remedy="use only these, or --token new",
        )
    if len(token) < SHORTEST:
        raise DefinitionError(
            f"The token has {len(token)} characters.",
            consequence="It could be guessed.",
            remedy=f"give at least {SHORTEST}, or --token new",
        )
    return token


def names(host: str) -> tuple[str, ...] | None:
    """Names by which a server at an address may be called; None for any.

    At every address of a machine it cannot be known what others call it. A foreign page whose name resolves to this
    machine may then ask, but only with the token, which a browser keeps for the address it was given at.
    """
    from flowprofile.app.guard import LOOPBACK

    return None if host in WILDCARDS else tuple({*LOOPBACK, bracketed(host).lower()})


def own_name(host: str) -> str:
    """What to call a server by that listens at an address: this machine's name where it listens at all of them."""
    if host not in WILDCARDS:
        return host
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return _outward()
    return name


def _outward() -> str:
    """The address this machine is seen at from others; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(asked.getsockname()[0])


def bracketed(host: str) -> str:
    """A host as it stands in an address.

    >>> bracketed("::1"), bracketed("127.0.0.1")
    ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host else host


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; one that is taken is refused with what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()  # whoever calls as soon as the address is said waits, and is not refused
    except OSError as error:
        found.close()
        raise DefinitionError(
            f"Nothing can listen at {host}:{port}.",
            consequence="Another program is there, or the address is not this machine's.",
            remedy="--port 0 takes a free one",
            evidence=str(error),
        ) from error
    return found
