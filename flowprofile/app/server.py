"""The server: what can be asked, who answers, and how it is started.

Everything is read through `opening.open`; nothing here imports torch, but what a run needs, and that only where runs
are allowed.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import xarray as xr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from flowprofile import __version__
from flowprofile.app import blocks, page
from flowprofile.app.answers import answer, refused
from flowprofile.app.asked import Query, query
from flowprofile.app.catalogue import catalogue
from flowprofile.app.comparisons import compare
from flowprofile.app.curves import measures
from flowprofile.app.guard import LOOPBACK, Guard
from flowprofile.app.profiles import Profiles, opened
from flowprofile.app.spreadsheets import curves_csv, pairs_csv, sweep_csv
from flowprofile.app.sweeping import sweep
from flowprofile.app.thumbnails import thumbnails
from flowprofile.app.turns import in_turn
from flowprofile.app.views import KINDS, picture_view
from flowprofile.errors import FlowProfileError, StoreError, nearest
from flowprofile.store.encoding import digest

PAGES: Final = ("sample", "activations", "attention", "gradients", "measures", "compare", "sweep", "run")
"""Every view; its path is the page's address, and behind /api its JSON."""
AT_ONCE: Final = 4
"""Answers that are made side by side; others wait, so that memory has a bound however many ask."""
Answer = Callable[["Shown", Query], Any]


@dataclass(frozen=True)
class Shown:
    """What one server shows."""

    profiles: Profiles
    others: Mapping[str, Profiles] = field(default_factory=dict)
    """Stores beside it that may be compared, by name."""
    runs_allowed: bool = False

    @property
    def revision(self) -> str:
        """What changes when one of the stores does, or the program that shows them."""
        stores = [profiles.revision for profiles in (self.profiles, *self.others.values())]
        return digest("\n".join((__version__, str(self.runs_allowed), *stores)).encode())


def application(
    store: str | Profiles,
    *,
    others: Mapping[str, str] | None = None,
    allow_run: bool = False,
    hosts: tuple[str, ...] | None = LOOPBACK,
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
        Names by which the server may be called; None for any, which only a token makes safe.
    token
        What every caller must know, where others than oneself can call; the page's own files need none.
    frames
        Addresses of pages that may show this one in a frame.
    """
    page.plotly()  # refused before the server starts, not when the first curve is drawn
    profiles = store if isinstance(store, Profiles) else opened(store, storage_options)
    beside = {name: opened(url, storage_options) for name, url in (others or {}).items()}
    shown = Shown(profiles, beside, allow_run)
    running, lifespan = _runs(profiles) if allow_run else ([], None)
    routes = [*_pages(), *_api(shown), *running]
    inside = Starlette(routes=routes, exception_handlers={404: _not_found}, lifespan=lifespan)
    return Guard(inside, hosts=hosts, token=token, scripts=page.script_digest(), frames=frames)


def _runs(profiles: Profiles) -> tuple[list[BaseRoute], Any]:
    """What a page may have computed, and that no run outlives the server."""
    from flowprofile.app import jobs, processes  # these import torch

    started = processes.Jobs(profiles.url, profiles.storage_options)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await started.close()

    return list(jobs.routes(started)), lifespan


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


def answers() -> dict[str, Answer]:
    """What can be asked for behind ``/api``, and who answers; whoever exports a profile asks the same."""
    views: dict[str, Answer] = {
        "measures": lambda shown, asked: measures(_tree(shown, asked), asked),
        "compare": lambda shown, asked: compare(shown.profiles, asked, others=shown.others),
        "sweep": lambda shown, asked: sweep(_tree(shown, asked), asked),
        **{name: _pictures(name) for name in KINDS},
    }
    tables = {"measures": curves_csv, "compare": pairs_csv, "sweep": sweep_csv}
    return {
        "catalogue": _catalogue,
        "block": _block,
        "limits": lambda shown, asked: blocks.limits(_tree(shown, asked), asked),
        "thumbnails": _thumbnails,
        **views,
        **{f"{name}.csv": _table(views[name], each) for name, each in tables.items()},
    }


def answered(shown: Shown, each: Answer, pairs: Iterable[tuple[str, str]]) -> Response:
    """The answer to one address: it is read, the answer made, and a refusal told as one."""
    try:
        found = each(shown, query(pairs))
    except FlowProfileError as error:
        return refused(error)
    return found if isinstance(found, Response) else answer(found)


def _api(shown: Shown) -> list[BaseRoute]:
    turns = asyncio.Semaphore(AT_ONCE)

    def endpoint(each: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answer_in_turn(request: Request) -> Response:
            pairs = request.query_params.multi_items()
            return await in_turn(turns, partial(answered, shown, each, pairs))

        return answer_in_turn

    async def revised(request: Request) -> Response:
        pairs, known = request.query_params.multi_items(), request.headers.get("if-none-match", "")
        return await in_turn(turns, partial(_if_new, shown, pairs, known))

    every = {name: endpoint(each) for name, each in answers().items()} | {"catalogue": revised}
    return [Route(f"/api/{name}", each, methods=["GET"]) for name, each in every.items()]


def _if_new(shown: Shown, pairs: Iterable[tuple[str, str]], known: str) -> Response:
    """The catalogue, and by which revision of the stores; nothing where the caller knows that one already."""
    try:
        tag = f'"{shown.revision}"'
    except FlowProfileError as error:
        return refused(error)
    if tag == known:
        return Response(status_code=304, headers={"etag": tag})
    # The revision was read first: what comes between the two is new the next time.
    found = answered(shown, _catalogue, pairs)
    if found.status_code == 200:
        found.headers["etag"] = tag
    return found


def _tree(shown: Shown, asked: Query) -> xr.DataTree:
    """The run an address means, of the store that is shown or of one that was given beside it."""
    beside = asked.get("beside")
    if beside and beside not in shown.others:
        raise StoreError(
            f"No store {beside!r} was given when this server was started.",
            consequence="An address cannot name a place on this machine.",
            remedy=nearest(beside, shown.others) if shown.others else "start it with --beside NAME=STORE",
        )
    return (shown.others[beside] if beside else shown.profiles).run(asked.get("run"))[1]


def _catalogue(shown: Shown, _: Query) -> Any:
    for profiles in (shown.profiles, *shown.others.values()):
        profiles.refresh()
    return catalogue(shown.profiles, runs_allowed=shown.runs_allowed, others=shown.others)


def _block(shown: Shown, asked: Query) -> Response:
    return Response(blocks.block(_tree(shown, asked), asked), media_type="application/octet-stream")


def _thumbnails(shown: Shown, asked: Query) -> Response:
    """Small pictures below each other, as rows of RGBA behind a header as blocks have."""
    found = thumbnails(_tree(shown, asked), asked)
    head = {"width": found.width, "height": found.height, "count": found.count, "time": found.time}
    return Response(blocks.headed(head) + found.data, media_type="application/octet-stream")


def _table(each: Answer, written: Callable[[Any], str]) -> Answer:
    """The same numbers as a table."""
    return lambda shown, asked: Response(written(each(shown, asked)), media_type="text/csv; charset=utf-8")


def _pictures(name: str) -> Answer:
    def view(shown: Shown, asked: Query) -> Any:
        run, tree = shown.profiles.run(asked.get("run"))
        return picture_view(name, shown.profiles.url, run, tree, asked)

    return view


def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("There is nothing here.", status_code=404)
