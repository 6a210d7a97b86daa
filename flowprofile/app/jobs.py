"""What the page can have computed: its form, plans, runs and what they say while they run.

Mounted by the server with `--allow-run` only. Nothing here takes a place to store: that was fixed when the server
started.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from flowprofile.app.answers import refused
from flowprofile.app.forms import form
from flowprofile.app.plans import planned
from flowprofile.app.processes import ENDS, Job, Jobs
from flowprofile.app.requested import MAX_BYTES, definition, models_of
from flowprofile.app.turns import in_turn
from flowprofile.errors import BusyError, DefinitionError, FlowProfileError, nearest
from flowprofile.store.urls import place


def routes(jobs: Jobs) -> list[Route]:
    """The paths under `/api` with which a page plans and runs; whoever serves them calls `jobs.close()` at the end."""
    desk = _Desk(jobs)
    return [
        Route("/api/form", _answered(desk.form)),
        Route("/api/plan", _answered(desk.plan), methods=["POST"]),
        Route("/api/jobs", _answered(desk.list)),
        Route("/api/jobs", _answered(desk.start), methods=["POST"]),
        Route("/api/jobs/{id}", _answered(desk.state)),
        Route("/api/jobs/{id}/events", _answered(desk.events)),
        Route("/api/jobs/{id}/cancel", _answered(desk.cancel), methods=["POST"]),
    ]


PLANS: Final = 2
"""Plans that are made at once: one whose caller has gone may still be worked on while the next one is asked for."""
LOOK: Final = 0.2
"""Seconds between two looks whether a caller is still there."""


@dataclass
class _Desk:
    """Answers requests for one store."""

    jobs: Jobs
    planning: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PLANS))
    """Turns of plans: a form that is typed into asks for many."""

    async def form(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(form, self._place, request.query_params.get("model")))

    async def plan(self, request: Request) -> Response:
        return JSONResponse(await self._planned(request))

    async def start(self, request: Request) -> Response:
        plan = await self._planned(request)
        kept = ("forwards", "means", "sampled", "bytes", "seconds", "toml", "shows")
        told = {name: plan[name] for name in kept}
        job = await self.jobs.start(plan["definition"], {"plan": told})
        return JSONResponse(job.state(), status_code=201)

    async def list(self, request: Request) -> Response:
        return JSONResponse([job.state() for job in self.jobs.all.values()])

    async def state(self, request: Request) -> Response:
        return JSONResponse(self._job(request).state())

    async def cancel(self, request: Request) -> Response:
        job = self._job(request)
        job.stop()
        return JSONResponse(job.state(), status_code=202)

    async def events(self, request: Request) -> Response:
        last = request.headers.get("last-event-id", "")
        first = int(last) + 1 if last.isdecimal() and len(last) < 10 else 0
        # Proxies that gather a response before they pass it on would keep the bar from moving.
        quiet = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(
            _lines(self._job(request), first), media_type="text/event-stream", headers=quiet
        )

    async def _planned(self, request: Request) -> dict[str, Any]:
        body = await _body(request)

        def work() -> dict[str, Any]:
            return planned(definition(body, models=models_of(self._place)), self._place)

        return await _while_wanted(request, in_turn(self.planning, work))

    @property
    def _place(self) -> Any:
        return place(self.jobs.url, self.jobs.storage_options)

    def _job(self, request: Request) -> Job:
        name = request.path_params["id"]
        if name not in self.jobs.all:
            raise _Unknown(
                f"There is no run {name!r}.",
                consequence="Runs are remembered until the server ends; what they stored stays.",
                remedy=nearest(name, self.jobs.all) if self.jobs.all else "start one",
            )
        return self.jobs.all[name]


class _Unknown(DefinitionError):
    """Something that is not there."""


class _Gone(FlowProfileError):
    """Nobody waits for the answer any more."""


STATUS = {_Unknown: 404, BusyError: 409}
"""The answers that are not simply 400."""

Answers = Callable[[Request], Any]
Found = TypeVar("Found")


def _answered(handler: Answers) -> Answers:
    """The handler with its refusals as answers."""

    async def answer(request: Request) -> Response:
        try:
            response: Response = await handler(request)
        except FlowProfileError as error:
            response = refused(error, status=STATUS.get(type(error), 400))
        return response

    return answer


async def _while_wanted(request: Request, work: Awaitable[Found]) -> Found:
    """What is worked out, as long as who asked for it is there: one who has gone keeps no place in the queue."""
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK)
            if not task.done() and await request.is_disconnected():
                raise _Gone("Who asked has gone.")
        return task.result()
    finally:
        task.cancel()


async def _body(request: Request) -> bytes:
    """The request's body, read no further than a definition may be long."""
    found = b""
    async for chunk in request.stream():
        found += chunk
        if len(found) > MAX_BYTES:
            break
    return found


async def _lines(job: Job, first: int) -> AsyncIterator[str]:
    """A job's events as server-sent events, numbered, so that a listener that was cut off goes on where it was."""
    async for told in job.follow(first):
        if told is None:
            yield ": still here\n\n"
            continue
        number, event = told
        yield f"id: {number}\ndata: {json.dumps(event)}\n\n"
        if event["event"] in ENDS:
            return
