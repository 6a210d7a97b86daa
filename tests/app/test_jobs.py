"""Planned, run, watched, cancelled and resumed over HTTP: the same numbers and the same bytes as on the command line."""

import asyncio
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.testclient import TestClient

import flowprofile as fp
from flowprofile import running
from flowprofile.app.child import Told
from flowprofile.app.jobs import routes
from flowprofile.app.processes import ENDS, Jobs
from flowprofile.cli.main import group
from flowprofile.definitions import Text, pipeline
from flowprofile.flow.events import Advanced, Committed, Computed, Noticed, Planned

SMALL = {
    "model": "mixture16",
    "sampler": {"steps": 20},
    "cases": {"seeds": "0:2", "labels": [0, 1]},
    "stages": {"trajectory": {}, "step_ssim": {"use": "ssim"}},
}
LONG = {**SMALL, "sampler": {"steps": 400}, "cases": {"seeds": "0:32", "labels": [0, 1]}}
"""Long enough to be stopped after its first region: many batches, a second or more on any machine."""
INSIDE = {
    "model": "digits",
    "sampler": {"steps": 6},
    "cases": {"seeds": "0:2", "labels": [3]},
    "stages": {
        "trajectory": {"keep": "::2", "before": True},
        "max_channel": {"layers": "*.fn", "keep": "::2"},
    },
}


def filled(store, table=SMALL):
    running.run(pipeline(table, Text("the test", "")), into=store)
    return store


@pytest.fixture
def served():
    """A client of a server of a store's runs, which ends them when it ends."""
    clients = []

    def of(store):
        jobs = Jobs(str(store))

        @asynccontextmanager
        async def alive(app):
            yield
            await jobs.close()

        client = TestClient(Starlette(routes=routes(jobs), lifespan=alive), base_url="http://127.0.0.1")
        client.__enter__()
        clients.append(client)
        return client

    yield of
    for client in clients:
        client.__exit__(None, None, None)


def planned(client, table):
    answer = client.post("/api/plan", json={"definition": table})
    assert answer.status_code == 200, answer.text
    return answer.json()


def started(client, table):
    answer = client.post("/api/jobs", json={"definition": table})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def heard(client, job, **headers):
    """All events of a job with their numbers; returns when it has ended."""
    answer = client.get(f"/api/jobs/{job}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block.startswith("id: ")]
    return [
        (int(number.removeprefix("id: ")), json.loads(data.removeprefix("data: "))) for number, data in blocks
    ]


def contents(store):
    """Digests of everything that a finished store is made of."""
    root = Path(store)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {
        str(f.relative_to(root)): blake2b(f.read_bytes()).hexdigest() for f in sorted(files) if f.is_file()
    }


def test_a_plan_has_the_numbers_of_the_command_line(store, served, tmp_path, monkeypatch):
    filled(store)
    wanted = {**SMALL, "cases": {"seeds": "0:5", "labels": [0, 1]}}
    found = planned(served(store), wanted)
    monkeypatch.chdir(tmp_path)
    Path("asked.toml").write_text(found["toml"])
    told = CliRunner().invoke(group, ["plan", "asked.toml", "--into", store, "--json", "--no-time"])
    assert told.exit_code == 0, told.output
    expected = json.loads(told.output)
    shared = set(expected) - {"seconds"}
    assert {name: found[name] for name in shared} == {name: expected[name] for name in shared}
    assert (found["forwards"], found["sampled"]) == (6 * 20, 6 * 20)
    assert found["shows"] == {
        "run": next(iter(running.stored_runs(store))),
        "seed": 2,
        "label": 0,
        "intervention": "none",
    }


def test_a_run_is_watched_to_its_end_and_the_store_is_complete(store, served):
    filled(store)
    client = served(store)
    wanted = {**SMALL, "cases": {"seeds": "0:5", "labels": [0, 1]}}
    job = started(client, wanted)
    events = [event for _, event in heard(client, job)]
    assert events[0] == {"event": "planned", "forwards": 120, "tasks": events[0]["tasks"]}
    last, end = events[-2:]
    assert (last["event"], last["forwards"], end["event"]) == ("progress", 120, "done")
    assert (end["regions"], end["bytes"]) == (last["regions"], last["bytes"])
    assert planned(client, wanted)["forwards"] == 0
    assert fp.open(store)["trajectory"].sizes["seed"] == 5
    state = client.get(f"/api/jobs/{job}").json()
    assert (state["state"], state["end"]["forwards"], state["plan"]["forwards"]) == ("done", 120, 120)
    assert [one["id"] for one in client.get("/api/jobs").json()] == [job]


def test_a_run_that_is_cancelled_and_begun_again_ends_in_the_bytes_of_one_that_was_not(store, served):
    filled(store)
    client = served(store)
    job = started(client, LONG)
    while not (client.get(f"/api/jobs/{job}").json()["progress"] or {"regions": 0})["regions"]:
        time.sleep(0.02)
    busy = client.post("/api/jobs", json={"definition": SMALL})
    assert busy.status_code == 409
    assert "not at its end" in busy.json()["fact"]
    assert client.post(f"/api/jobs/{job}/cancel").status_code == 202
    assert client.post(f"/api/jobs/{job}/cancel").status_code == 202
    events = [event for _, event in heard(client, job)]
    assert events[-1] == {"event": "stopped"}
    left = planned(client, LONG)
    kept = planned(client, {**LONG, "cases": {"seeds": "0:1", "labels": [0, 1]}})
    assert 0 < left["forwards"] < 32 * 2 * 400
    assert kept["forwards"] == 0
    again = started(client, left["definition"])
    assert heard(client, again)[-1][1]["event"] == "done"
    whole = filled(f"{store}-whole")
    filled(whole, LONG)
    assert contents(store) == contents(whole)


def test_a_drawn_mask_or_a_choice_of_channel_samples_nothing(store, served):
    filled(store, INSIDE)
    client = served(store)
    stages = {
        **INSIDE["stages"],
        "drawn": {"use": "max_channel", "layers": "*.fn", "keep": "::2", "mask": {"pixels": [9, 10, 17]}},
        "strongest": {"use": "max_channel", "layers": "*.fn", "keep": "::2", "statistic": "abs"},
        "pull": {"use": "gradient_sum", "keep": "::2", "mask": {"pixels": [9, 10]}},
    }
    found = planned(client, {**INSIDE, "stages": stages})
    assert found["sampled"] == 0
    assert found["forwards"] > 0
    assert found["shows"]["seed"] == 0
    grown = planned(client, {**INSIDE, "cases": {"seeds": "0:3", "labels": [3]}, "stages": stages})
    assert grown["sampled"] == 6
    assert heard(client, started(client, {**INSIDE, "stages": stages}))[-1][1]["event"] == "done"
    assert (fp.open(store)["drawn"]["status"] == 2).all()


def test_two_listeners_hear_the_same_and_one_that_was_cut_off_goes_on(store, served):
    filled(store)
    client = served(store)
    job = started(client, {**SMALL, "cases": {"seeds": "0:4", "labels": [0, 1]}})
    first, second = heard(client, job), heard(client, job)
    assert first == second
    assert [number for number, _ in first] == list(range(len(first)))
    assert heard(client, job, **{"Last-Event-ID": "0"}) == first[1:]


def test_listeners_side_by_side_are_woken_by_the_same_event(store):
    filled(store)

    async def both():
        jobs = Jobs(store)
        job = await jobs.start({**SMALL, "cases": {"seeds": "0:4", "labels": [0, 1]}}, {})

        async def listened():
            return [one async for one in job.follow() if one is not None]

        found = await asyncio.gather(listened(), listened())
        await jobs.close()
        return found

    one, other = asyncio.run(both())
    assert one == other
    assert one[-1][1]["event"] == "done"


def test_a_server_that_ends_stops_what_runs(store):
    filled(store)

    async def ended():
        jobs = Jobs(store)
        job = await jobs.start(LONG, {})
        async for _ in job.follow():
            break
        await jobs.close()
        return job

    job = asyncio.run(ended())
    assert job.events[-1] == {"event": "stopped"}
    assert job.process.returncode == 130
    assert running.run(pipeline(SMALL, Text("the test", "")), into=store).forwards == 0  # the store is free


def test_a_run_ends_when_whoever_ordered_it_is_gone(store):
    order = {"into": filled(store), "storage_options": {}, "definition": LONG}
    command = [sys.executable, "-m", "flowprofile.app.child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        child.stdin.write(json.dumps(order) + "\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["event"] == "planned"
        child.stdin.close()  # as the system does when the server is killed
        assert json.loads(child.stdout.readlines()[-1]) == {"event": "stopped"}
        assert child.wait(30) == 130


def test_a_run_whose_process_dies_says_so(store):
    filled(store)

    async def killed():
        jobs = Jobs(store)
        job = await jobs.start(LONG, {})
        async for _ in job.follow():
            job.process.kill()
            break
        return [one async for one in job.follow() if one is not None][-1][1]

    end = asyncio.run(killed())
    assert end["event"] == "failed"
    assert "exit code -9" in end["fact"]


def test_a_run_that_another_planner_keeps_out_is_refused_by_name(store, served):
    from flowprofile.store.store import Store

    filled(store)
    client = served(store)
    with Store.open(store) as held:
        held.lock()
        end = heard(client, started(client, {**SMALL, "cases": {"seeds": "0:4", "labels": [0]}}))[-1][1]
    assert end["event"] == "refused"
    assert end["remedy"]


def changed(**more):
    return {"definition": {**SMALL, **more}}


def staged(**table):
    return changed(stages={"trajectory": {}, "one": table})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (staged(use="os:system"), "os:system"),
        (staged(use="change", mask="m.png"), "m.png"),
        (staged(use="change", mask={"png": "m.png"}), "m.png"),
        (staged(use="fidelity", reader="/etc/reader.safetensors"), "reader.safetensors"),
        (staged(use="fidelity", reader="os:getcwd"), "os:getcwd"),
        (changed(sampler={"steps": 4, "noise": "x.npy"}), "x.npy"),
        (changed(sampler={"steps": 4, "noise": {"file": "x.npy"}}), "x.npy"),
        (changed(source={"images": "photos"}), "photos"),
        (changed(interventions={"s": {"kind": "steer", "layer": "*", "vector": "v.npy"}}), "v.npy"),
        (changed(interventions={"s": {"kind": "all", "parts": [{"kind": "steer", "layer": "*", "vector": "v.npy"}]}}),
         "v.npy"),
    ],
)  # fmt: skip
def test_a_page_names_no_file_and_no_code(store, served, asked, told):
    answer = served(filled(store)).post("/api/plan", json=asked)
    assert answer.status_code == 400
    assert "is a file or code" in answer.json()["fact"]
    assert told in answer.json()["fact"]


def test_a_stage_may_be_called_like_a_kind_of_file(store, served):
    stages = {"trajectory": {}, "png": {"use": "ssim"}, "file": {"use": "mse"}}
    assert planned(served(filled(store)), {**SMALL, "stages": stages})["forwards"] == 0


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (changed(extends="first-profile"), "extends"),
        (changed(sampler={"stepz": 4}), "did you mean 'steps'"),
        (changed(cases={"seeds": "0:2", "labels": [7]}), "out of range"),
        ({**changed(), "into": "/tmp/elsewhere"}, "no definition"),
        ({"definition": "first-profile"}, "no definition"),
        ([], "no definition"),
        (changed(model="os:getcwd"), "os:getcwd"),
        (changed(model="/etc/passwd"), "/etc/passwd"),
        (changed(model="mixture61"), "did you mean 'mixture16'"),
    ],
)  # fmt: skip
def test_what_a_page_may_not_ask_for_is_refused_and_taught(store, served, asked, told):
    client = served(filled(store))
    before = contents(store)
    for path in ("/api/plan", "/api/jobs"):
        answer = client.post(path, json=asked)
        assert answer.status_code == 400
        assert told in " ".join(answer.json().values())
    assert client.get("/api/jobs").json() == []
    assert contents(store) == before


STEERED = {
    "model": "digits",
    "sampler": {"steps": 6},
    "cases": {"seeds": "0:2", "labels": [3]},
    "interventions": {
        "towards": {
            "kind": "steer",
            "layer": "mid_attn.fn",
            "vector": {"from": "difference", "plus": [3], "minus": [4], "time": 500, "seeds": "0:4"},
        }
    },
    "stages": {"trajectory": {"keep": "::2"}, "activations": {"layers": "mid_attn.fn", "keep": "::2"}},
}


def test_a_sweep_that_steers_by_its_own_means_is_foreseen_with_them(store, served):
    filled(store, INSIDE)
    client = served(store)
    plan = planned(client, STEERED)
    assert 0 < plan["means"] < 2 * 4 * 6, "four seeds of two labels, of which the store holds some"
    job = started(client, STEERED)
    events = [event for _, event in heard(client, job)]
    assert [event["event"] for event in events].count("planned") == 2
    assert events[-1]["event"] == "done"
    told = client.get(f"/api/jobs/{job}").json()["plan"]
    assert events[-1]["forwards"] == told["forwards"] + told["means"]
    assert planned(client, STEERED)["means"] == 0


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 60000, "no JSON"),
        (b'{"definition": {"model": NaN}}', "no JSON"),
        (b" " * ((1 << 16) + 1), "at most 65,536"),
        (json.dumps(changed(sampler={"options": json.loads("[" * 20 + "]" * 20)})).encode(), "16 deep"),
    ],
)
def test_a_request_that_is_too_large_too_deep_or_nothing_is_refused(store, served, body, told):
    answer = served(filled(store)).post("/api/plan", content=body)
    assert answer.status_code == 400
    assert told in answer.json()["fact"]


def test_a_run_that_is_not_there_is_not_found(store, served):
    client = served(filled(store))
    for answer in (
        client.get("/api/jobs/7"),
        client.get("/api/jobs/7/events"),
        client.post("/api/jobs/7/cancel"),
    ):
        assert answer.status_code == 404
        assert "no run '7'" in answer.json()["fact"]


def test_progress_of_a_long_run_is_told_some_thousand_times_and_never_lost():
    said, now = [], [0.0]
    told = Told(said.append, clock=lambda: now[0])
    told(Planned(100_000, 10))
    for step in range(100_000):
        now[0] += 1.0
        told(Advanced("trajectory", 1, 0.1, 1, 0, step))
    told(Committed("trajectory", "r", 1, 7))
    told(Computed("ssim", 3, 0.1))
    told(Noticed("a word"))
    told.progress()
    assert len(said) < 10_000
    assert said[-2] == {"event": "noticed", "text": "a word"}
    last = said[-1]
    assert (last["forwards"], last["regions"], last["bytes"], last["cells"]) == (100_000, 1, 7, 3)
    assert not {one["event"] for one in said} & set(ENDS)
