"""Runs a pipeline in forked children and kills them, each at one named moment.

A process of its own, so that it forks before any thread exists: the libraries are imported once, and forty kills
cost seconds. Reads a JSON job from standard input, prints one JSON line per kill.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from hashlib import blake2b
from pathlib import Path

from blows import ALONE, BOTH, COORDINATOR, WORKER, Blow, armed, tell

from flowprofile import running
from flowprofile.definitions import Pipeline
from flowprofile.errors import FlowProfileError
from flowprofile.store.layout import StoreLayout
from flowprofile.store.phases import Phase
from flowprofile.store.verify import verify


def pipelines(job):
    """The stages of a story: a first run, and the same grown by two seeds and a measure."""
    base = {"model": job["model"], "sampler": {"steps": job["steps"]}}
    stages = {"trajectory": {}, "step_ssim": {"use": "ssim"}, "final_mse": {"use": "mse", "between": "final"}}
    more = {**stages, "l1": {"use": "l1"}}
    if "batch" in job:
        base["numerics"] = {"batch": job["batch"]}
    first = {**base, "cases": {"seeds": "0:3", "labels": [0, 1]}, "stages": stages}
    grown = {**base, "cases": {"seeds": "0:5", "labels": [0, 1]}, "stages": more}
    return [Pipeline.model_validate(first), Pipeline.model_validate(grown)]


def story(url, job, listen, executor=None):
    """Run it all."""
    for pipeline in pipelines(job):
        layout = StoreLayout(durability=job["durability"])
        running.run(pipeline, into=url, listen=listen, layout=layout, cluster=executor)


def contents(url):
    """Digest of every object that a finished store is made of."""
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {
        str(file.relative_to(root)): blake2b(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file()
    }


def killed(url, job, blow):
    """Fork a child that the blow strikes, and go on from there; what was acknowledged, what of it is lost.

    The same story is told again at once: workers whose coordinator is gone may be writing still. What they acknowledge
    until they end counts too.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        executor = armed(blow, writer)

        def listen(event):
            tell(writer, event)
            blow(event)

        story(url, job, listen, executor)
        os._exit(0)
    os.close(writer)
    if blow.phase == "anywhere":
        time.sleep(blow.nth)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    died = blow.struck or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL)
    os.set_blocking(reader, False)
    early = _heard(reader)
    gone = lost(url, early)
    error = ""
    try:
        story(url, job, lambda event: None)
    except FlowProfileError as refusal:
        error = str(refusal)
    os.set_blocking(reader, True)
    late = _heard(reader)
    os.close(reader)
    return {
        "died": died,
        "acknowledged": len({*early, *late}),
        "lost": [*gone, *lost(url, late)],
        "error": error,
    }


def _heard(reader):
    """The acknowledgements that were written; all of them, where reading waits."""
    found = b""
    try:
        while chunk := os.read(reader, 65536):
            found += chunk
    except BlockingIOError:
        pass
    return found.decode().split()


def lost(url, acknowledged):
    """Acknowledged regions whose receipt is gone."""
    receipts = (Path(url) / "ledger" / "receipts").rglob("*.json")
    held = {(path.parent.parent.name, path.stem) for path in receipts}
    return [name for name in acknowledged if _receipt(name) not in held]


def _receipt(name):
    group, _, region = name.rpartition("/")
    return group.replace("/", "~"), region


def main():
    job = json.load(sys.stdin)
    root = Path(job["folder"])
    whole = root / "whole"
    moments = {}

    def count(event):
        if isinstance(event, Phase):
            moments[event.name] = moments.get(event.name, 0) + 1

    began = time.perf_counter()
    story(str(whole), job, count)
    took = time.perf_counter() - began
    expected = contents(whole)
    pick = random.Random(job["seed"])
    for number, (who, phase, nth, torn) in enumerate(plan(job, moments, took, pick)):
        url, counts = root / f"killed-{number}", root / f"counts-{number}"
        counts.mkdir()
        began = time.perf_counter()
        row = killed(str(url), job, Blow(who, phase, nth, counts, torn))
        row |= {"who": who, "phase": phase, "nth": nth, "torn": torn, "seconds": time.perf_counter() - began}
        found = contents(url)
        row["same"] = found == expected and verify(url).sound
        if not row["same"]:
            row["different"] = sorted(
                key for key in {*found, *expected} if found.get(key) != expected.get(key)
            )[:8]
        print(json.dumps(row), flush=True)
        shutil.rmtree(url)


def plan(job, moments, took, pick):
    """Who is killed, in which phase, at its how manieth moment, and whether in the middle of a write."""
    for phase, total in sorted(moments.items()) if "per_phase" in job else ():
        for nth in sorted({1, total, *(pick.randint(1, total) for _ in range(job["per_phase"]))}):
            yield ALONE, phase, nth, False
    for _ in range(job.get("anywhere", 0)):
        yield ALONE, "anywhere", pick.uniform(0, took), False
    if "per_who" in job:
        yield from plan_of_workers(job, moments, pick)


def plan_of_workers(job, moments, pick):
    """The same for runs with workers, and in the middle of a write for all."""
    for who in (WORKER, COORDINATOR, BOTH):
        for phase in (
            *(("growth", "metadata") if who == COORDINATOR else ()),
            "sampling",
            "writing",
            "receipt",
        ):
            # Of workers that are killed late there may be nothing left to do.
            last = moments[phase] if phase in ("growth", "metadata") else max(1, moments[phase] * 3 // 4)
            for _ in range(job["per_who"]):
                yield who, phase, pick.randint(1, last), False
        if who != COORDINATOR:
            yield who, "receipt", 3, True
    yield ALONE, "receipt", 3, True
    # A coordinator that is killed while a worker writes tears nothing: its own last write is the root document.
    yield COORDINATOR, "metadata", moments["metadata"], True


if __name__ == "__main__":
    main()
