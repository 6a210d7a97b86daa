"""The server: what can be asked, who answers, and how it is started.

Everything is read through `opening.open`; nothing here imports torch, but what a run needs, and that only where runs
are allowed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import xarray as xr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from flowprofile.app import blocks, page
from flowprofile.app.answers import answer, refused
from flowprofile.app.asked import Query, query
from flowprofile.app.catalogue import catalogue
from flowprofile.app.guard import LOOPBACK, Guard
from flowprofile.app.profiles import Profiles, opened
from flowprofile.app.views import KINDS, picture_view
from flowprofile.errors import FlowProfileError

PAGES: Final = ("sample", "activations", "attention", "gradients", "measures", "compare", "sweep", "run")
"""Every view; its path is the page's address, and behind /api its JSON."""
Answer = Callable[["Shown", Query], Any]


@dataclass(frozen=True)
class Shown:
    """What one server shows."""

    profiles: Profiles
    others: Mapping[str, Profiles] = field(default_factory=dict)
    """Stores beside it that may be compared, by name."""
    runs_allowed: bool = False


def application(
    store: str | Profiles,
    *,
    others: Mapping[str, str] | None = None,
    allow_run: bool = False,
    hosts: tuple[str, ...] = LOOPBACK,
    token: str = "",
    frames: str = "",
    storage_options: Mapping[str, str] | None = None,
) -> Guard:
    """The application of one store, guarded.

    Parameters
    ----------
    store
        Url of the store, or what is open already.
    others
        Further stores to compare with, by name.
    allow_run
        Whether the page may start computations; this alone imports torch.
    hosts
        Names by which the server may be called.
    token
        What every caller must know, where others than this machine can call.
    frames
        Addresses of pages that may show this one in a frame.
    """
    page.plotly()  # refused before the server starts, not when the first curve is drawn
    profiles = store if isinstance(store, Profiles) else opened(store, storage_options)
    beside = {name: opened(url, storage_options) for name, url in (others or {}).items()}
    shown = Shown(profiles, beside, allow_run)
    routes = [*_pages(), *_api(shown)]
    inside = Starlette(routes=routes, exception_handlers={404: _not_found})
    return Guard(inside, hosts=hosts, token=token, scripts=page.script_digest(), frames=frames)


def _pages() -> list[BaseRoute]:
    text = page.index()

    def show(_: Request) -> Response:
        return HTMLResponse(text)

    def static(request: Request) -> Response:
        path = page.files().get(request.path_params["path"])
        if path is None or path.suffix == ".html":
            return PlainTextResponse("There is no such file.", status_code=404)
        return Response(path.read_bytes(), media_type=page.TYPES[path.suffix])

    def plotly(_: Request) -> Response:
        return FileResponse(
            page.plotly(), media_type=page.TYPES[".js"], headers={"cache-control": "max-age=86400"}
        )

    paths = ["/", *(f"/{name}" for name in PAGES)]
    return [
        *(Route(path, show, methods=["GET"]) for path in paths),
        Route("/plotly.js", plotly, methods=["GET"]),
        Route("/static/{path:path}", static, methods=["GET"]),
    ]


def _api(shown: Shown) -> list[BaseRoute]:
    answers: dict[str, Answer] = {
        "catalogue": _catalogue,
        "limits": lambda shown, asked: blocks.limits(_tree(shown, asked), asked),
        **{name: _pictures(name) for name in KINDS},
    }
    return [
        Route("/api/block", _asked(shown, _block), methods=["GET"]),
        *(Route(f"/api/{name}", _asked(shown, each), methods=["GET"]) for name, each in answers.items()),
    ]


def _asked(shown: Shown, each: Answer) -> Callable[[Request], Response]:
    """An endpoint: the address is read, the answer made, and a refusal told as one."""

    def endpoint(request: Request) -> Response:
        try:
            found = each(shown, query(request.query_params.multi_items()))
        except FlowProfileError as error:
            return refused(error)
        return found if isinstance(found, Response) else answer(found)

    return endpoint


def _tree(shown: Shown, asked: Query) -> xr.DataTree:
    return shown.profiles.run(asked.get("run"))[1]


def _catalogue(shown: Shown, _: Query) -> Any:
    if shown.profiles.url:
        shown.profiles.refresh()
    return catalogue(shown.profiles, runs_allowed=shown.runs_allowed, others=list(shown.others))


def _block(shown: Shown, asked: Query) -> Response:
    return Response(blocks.block(_tree(shown, asked), asked), media_type="application/octet-stream")


def _pictures(name: str) -> Answer:
    def view(shown: Shown, asked: Query) -> Any:
        run, tree = shown.profiles.run(asked.get("run"))
        return picture_view(name, shown.profiles.url, run, tree, asked)

    return view


def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("There is nothing here.", status_code=404)
