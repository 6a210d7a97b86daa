"""Starting and ending a server: the address is said, and opened, when it answers."""

import secrets
import socket
import webbrowser
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from flowprofile.errors import DefinitionError, FlowProfileError

if TYPE_CHECKING:
    import uvicorn

    from flowprofile.app.guard import Guard

NEW: Final = "new"
"""Asks for a token to be made."""
SHORTEST: Final = 16
"""Characters a token has at least."""


def serve(
    store: str,
    *,
    others: Mapping[str, str],
    allow_run: bool,
    port: int,
    host: str,
    token: str,
    show: bool,
    say: Callable[[str], None],
) -> None:
    """Serve a store until somebody ends it."""
    token = checked_token(host, token)
    needs_server()
    from flowprofile.app.guard import LOOPBACK
    from flowprofile.app.server import application

    application_ = application(
        store, others=others, allow_run=allow_run, token=token, hosts=tuple({*LOOPBACK, host.lower()})
    )
    listening = bound(host, port)
    address = f"http://{host}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
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

    return uvicorn.Server(
        uvicorn.Config(
            application,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=2,
            ws="none",
            server_header=False,
        )
    )


def checked_token(host: str, token: str) -> str:
    """The token; one that is needed and not given, or too short, is refused."""
    if token == NEW:
        return secrets.token_urlsafe(24)
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        raise DefinitionError(
            f"The address {host!r} can be called from other machines.",
            consequence="Whoever reaches it would see the store, and with --allow-run start computations.",
            remedy="add --token new, or stay on 127.0.0.1 and forward the port over ssh",
        )
    if token and len(token) < SHORTEST:
        raise DefinitionError(
            f"The token has {len(token)} characters.",
            consequence="It could be guessed.",
            remedy=f"give at least {SHORTEST}, or --token new",
        )
    return token


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
