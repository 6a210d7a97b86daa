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

from flowprofile import running
from flowprofile.definitions import Pipeline
from flowprofile.flow.events import Committed
from flowprofile.store.layout import StoreLayout
from flowprofile.store.phases import Phase


def pipelines(job):
    """The stages of a story: a first run, and the same grown by two seeds and a measure."""
    base = {"model": job["model"], "sampler": {"steps": job["steps"]}}
    stages = {"trajectory": {}, "step_ssim": {"use": "ssim"}, "final_mse": {"use": "mse", "between": "final"}}
    more = {**stages, "l1": {"use": "l1"}}
    first = {**base, "cases": {"seeds": "0:3", "labels": [0, 1]}, "stages": stages}
    grown = {**base, "cases": {"seeds": "0:5", "labels": [0, 1]}, "stages": more}
    return [Pipeline.model_validate(first), Pipeline.model_validate(grown)]


def story(url, job, listen):
    """Run it all."""
    for pipeline in pipelines(job):
        running.run(pipeline, into=url, listen=listen, layout=StoreLayout(durability=job["durability"]))


def contents(url):
    """Digest of every object that a finished store is made of."""
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {
        str(file.relative_to(root)): blake2b(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file()
    }


def killed(url, job, phase, nth):
    """Fork a child that dies at the nth moment of a phase; which regions it had acknowledged, and how it ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        seen = 0

        def listen(event):
            nonlocal seen
            if isinstance(event, Committed):
                os.write(writer, f"{event.group}/{event.region}\n".encode())
            if isinstance(event, Phase) and event.name == phase:
                seen += 1
                if seen == nth:
                    os.kill(os.getpid(), signal.SIGKILL)

        story(url, job, listen)
        os._exit(0)
    os.close(writer)
    if phase == "anywhere":
        time.sleep(nth)
        os.kill(child, signal.SIGKILL)
    acknowledged = b""
    while chunk := os.read(reader, 65536):
        acknowledged += chunk
    os.close(reader)
    _, status = os.waitpid(child, 0)
    died = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return acknowledged.decode().split(), died


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
    plan = [
        (phase, nth)
        for phase, total in sorted(moments.items())
        for nth in sorted({1, total, *(pick.randint(1, total) for _ in range(job["per_phase"]))})
    ]
    plan += [("anywhere", pick.uniform(0, took)) for _ in range(job["anywhere"])]
    for number, (phase, nth) in enumerate(plan):
        url = root / f"killed-{number}"
        acknowledged, died = killed(str(url), job, phase, nth)
        gone = lost(url, acknowledged)
        story(str(url), job, lambda event: None)
        found = contents(url)
        same = found == expected
        row = {
            "phase": phase,
            "nth": nth,
            "died": died,
            "acknowledged": len(acknowledged),
            "lost": gone,
            "same": same,
        }
        if not same:
            row["different"] = sorted(
                key for key in {*found, *expected} if found.get(key) != expected.get(key)
            )[:8]
        print(json.dumps(row), flush=True)
        shutil.rmtree(url)


if __name__ == "__main__":
    main()
