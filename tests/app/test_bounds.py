"""What a page asks for and what a run says has bounds, and nobody waits for ever for what is beyond them."""

import asyncio
import json
import sys
import threading
import time
from functools import partial

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from flowprofile.app import jobs
from flowprofile.app.counting import CASES
from flowprofile.app.jobs import routes
from flowprofile.app.processes import LINE, Job, Jobs, listen
from flowprofile.app.turns import in_turn

SMALL = {
    "model": "mixture16",
    "sampler": {"steps": 20},
    "cases": {"seeds": "0:2", "labels": [0, 1]},
    "stages": {"trajectory": {}, "step_ssim": {"use": "ssim"}},
}


@pytest.mark.parametrize(
    "table",
    [
        {**SMALL, "cases": {"seeds": "0:1000000", "labels": [0, 1]}},
        {**SMALL, "cases": {"seeds": f"7:{8 + CASES // 2}", "labels": [0, 1]}},
        {**SMALL, "cases": {"seeds": f"0:{CASES}", "labels": "all"}},
        {**SMALL, "cases": {"seeds": f"0:{1 + CASES // 4}", "labels": [0, 1]}, "interventions": {"a": {}}},
        {**SMALL, "interventions": {"a": {"kind": "steer", "vector": {"seeds": "0:999999"}}}},
    ],
)
def test_more_cases_than_a_page_may_plan_are_refused_before_they_are_counted(small, table):
    client = TestClient(Starlette(routes=routes(Jobs(str(small)))))
    began = time.monotonic()
    for path in ("/api/plan", "/api/jobs"):
        answer = client.post(path, json={"definition": table})
        assert answer.status_code == 400
        assert "at most 20,000" in answer.json()["fact"]
        assert "flowprofile plan FILE --into STORE" in answer.json()["remedy"]
    assert time.monotonic() - began < 1


def test_a_turn_is_taken_until_its_work_is_done_and_never_by_who_has_gone():
    free, begun = threading.Event(), []

    def work(name):
        begun.append(name)
        assert free.wait(30)
        return name

    async def asked():
        turns = asyncio.Semaphore(1)
        at_work, waiting = (
            asyncio.create_task(in_turn(turns, partial(work, name))) for name in ("at work", "waiting")
        )
        while not begun:
            await asyncio.sleep(0.01)
        for gone in (at_work, waiting):
            gone.cancel()
        next_one = asyncio.create_task(in_turn(turns, partial(work, "next")))
        await asyncio.sleep(0.1)
        assert begun == ["at work"], "a second one works beside the turns"
        free.set()
        return await asyncio.wait_for(next_one, 30)

    assert asyncio.run(asked()) == "next"
    assert begun == ["at work", "next"]


def test_who_has_gone_keeps_nobody_else_from_a_plan(small, monkeypatch):
    """Three times as many as may plan at once ask and hang up; the next one is answered."""
    monkeypatch.setattr(jobs, "LOOK", 0.01)  # looked for long before the shortest plan is done
    wanted = {**SMALL, "cases": {"seeds": "0:5000", "labels": [0, 1]}}

    async def asked(desk, table, *, stays):
        sent = [{"type": "http.request", "body": json.dumps({"definition": table}).encode()}]
        told = []

        async def receive():
            if sent:
                return sent.pop()
            if stays:
                await asyncio.sleep(600)
            return {"type": "http.disconnect"}

        async def send(message):
            told.append(message)

        scope = {"type": "http", "method": "POST", "path": "/api/plan", "headers": [], "query_string": b""}
        await desk(scope, receive, send)
        return told[0]["status"]

    async def after():
        desk = Starlette(routes=routes(Jobs(str(small))))
        gone = [asyncio.create_task(asked(desk, wanted, stays=False)) for _ in range(6)]
        await asyncio.gather(*gone)
        return [task.result() for task in gone], await asyncio.wait_for(asked(desk, SMALL, stays=True), 60)

    left, answered = asyncio.run(after())
    assert left == [400] * 6
    assert answered == 200


@pytest.mark.parametrize(
    "said",
    [
        "print('a library says hello')",
        "print('[1, 2]')",
        "print('{}')",
        "print('\\xff' * 9)",
        f"print('x' * {4 * LINE})",
        f"print('{{' * {LINE // 2}, end='')",
    ],
)
def test_a_line_that_is_no_event_ends_its_run_as_a_failure(said):
    program = f'import time; print(\'{{"event": "planned"}}\'); {said}; print(flush=True); time.sleep(600)'

    async def heard():
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=pipe, stderr=pipe, limit=LINE
        )
        job = Job("1", {}, {}, process)
        await asyncio.wait_for(listen(job), 30)
        return job

    job = asyncio.run(heard())
    assert [event["event"] for event in job.events] == ["planned", "failed"]
    assert "no event" in job.events[-1]["fact"]
    assert job.events[-1]["evidence"]
    assert job.process.returncode == -9
