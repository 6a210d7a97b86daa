"""A real sweep that is killed again and again: ``python -m benchmarks.sweep --into FOLDER``.

A coordinator runs the pipeline `sweep` on workers of its own; at random moments one of the workers, or the
coordinator itself, is killed with SIGKILL, and a killed coordinator is begun again. What is left at the end is
compared, object by object, with parts of the same sweep that nobody disturbed. Prints one line per event and a summary
as JSON. Takes most of an hour on two cores.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from flowprofile import clusters, running
from flowprofile.definitions import Pipeline
from flowprofile.store.ledger import Ledger, read_receipt
from flowprofile.store.store import Store

EVERY = 0.5
"""Seconds between two looks at the processes' memory."""


@dataclass
class Watch:
    """What was seen of the processes."""

    workers: int = 0
    coordinators: int = 0
    worker_peak: int = 0
    coordinator_peak: int = 0
    killed: list[dict[str, object]] = field(default_factory=list)


def children(pid: int) -> list[int]:
    """All processes below one."""
    found, waiting = [], [pid]
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry.name))
    while waiting:
        below = parents.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def peak(pid: int) -> int:
    """Most bytes a process has had in memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def working(pid: int) -> list[int]:
    """The workers: processes below the coordinator that have the model's library loaded."""
    found = []
    for each in children(pid):
        try:
            if "libtorch_cpu" in Path(f"/proc/{each}/maps").read_text():
                found.append(each)
        except OSError:
            continue
    return found


def regions(url: Path) -> int:
    """Receipts that are there."""
    return sum(1 for _ in (url / "ledger" / "receipts").rglob("*.json"))


def disturbed(
    url: Path, cluster: str, overrides: list[str], *, kills: int, gap: float, chance: random.Random
) -> Watch:
    """Run the sweep to its end, killing something about every `gap` seconds until enough is killed."""
    watch, began = Watch(), time.monotonic()
    command = [sys.executable, "-m", "flowprofile", "run", "sweep", "--into", str(url), "--cluster", cluster]
    for override in overrides:
        command += ["--set", override]
    while True:
        coordinator = subprocess.Popen([*command, "--quiet"])
        after = time.monotonic() + gap * chance.uniform(0.3, 1.7)
        while coordinator.poll() is None:
            time.sleep(EVERY)
            watch.coordinator_peak = max(watch.coordinator_peak, peak(coordinator.pid))
            now = working(coordinator.pid)
            watch.worker_peak = max([watch.worker_peak, *(peak(pid) for pid in now)])
            if len(watch.killed) < kills and time.monotonic() > after and now:
                after = time.monotonic() + gap * chance.uniform(0.3, 1.7)
                whole = chance.random() < 1 / 3
                os.kill(coordinator.pid if whole else chance.choice(now), signal.SIGKILL)
                watch.coordinators += whole
                watch.workers += not whole
                watch.killed.append(
                    {
                        "s": round(time.monotonic() - began, 1),
                        "what": "coordinator" if whole else "worker",
                        "regions": regions(url),
                    }
                )
                print(json.dumps(watch.killed[-1]), flush=True)
        if coordinator.returncode == 0:
            return watch
        if coordinator.returncode != -signal.SIGKILL:
            raise SystemExit(f"the coordinator ended with {coordinator.returncode}")
        time.sleep(2.0)  # its workers notice


def compared(
    url: Path, undisturbed: Path, overrides: list[str], parts: list[int], of: int
) -> tuple[int, int]:
    """Run some parts where nobody disturbs, and compare their objects: how many there are, how many differ."""
    ready = running.assembled("sweep", overrides=overrides)
    running.prepare(ready, into=undisturbed, layout="scratch")
    for part in parts:
        running.run(ready, into=undisturbed, layout="scratch", part=(part, of))
    here, there = Store.open(url), Store.open(undisturbed)
    count = different = 0
    for group in there.stages(ready.run):
        for region in Ledger(there.place, ready.run, group).regions():
            expected = read_receipt(there.place, region)
            assert expected is not None
            for key in expected.objects:
                path = f"profile.zarr/{ready.run}/{group}/{key}"
                count += 1
                different += here.place.read(path) != there.place.read(path)
    return count, different


def main(arguments: list[str]) -> int:
    """Run it; 0 if nothing differs and everything is there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--cluster", default="local:2")
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--gap", type=float, default=60.0, help="seconds between kills, about")
    parser.add_argument("--sample", type=int, default=4, help="tasks that are computed again, undisturbed")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    chance = random.Random(options.seed)
    url = options.into / "disturbed"
    ready = running.assembled("sweep", overrides=options.overrides)
    projection = running.project(ready, None)
    began = time.monotonic()
    watch = disturbed(
        url, options.cluster, options.overrides, kills=options.kills, gap=options.gap, chance=chance
    )
    seconds = time.monotonic() - began
    tasks = len(projection.plan.tasks)
    parts = sorted(chance.sample(range(tasks), min(options.sample, tasks)))
    count, different = compared(url, options.into / "undisturbed", options.overrides, parts, tasks)
    left = running.plan(Pipeline.model_validate(ready.pipeline.model_dump()), into=url).plan.forwards
    summary = {
        "cases": len(ready.sweep), "forwards": projection.plan.forwards, "tasks": tasks,
        "workers killed": watch.workers, "coordinators killed": watch.coordinators, "seconds": round(seconds, 1),
        "forwards per second, kills included": round(projection.plan.forwards / seconds),
        "peak of a worker, MiB": watch.worker_peak >> 20, "peak of the coordinator, MiB": watch.coordinator_peak >> 20,
        "planned for a process, MiB": (projection.cost.memory + clusters.executor(options.cluster).beside) >> 20,
        "bytes": sum(file.stat().st_size for file in url.rglob("*") if file.is_file()), "regions": regions(url),
        "objects compared": count, "objects that differ": different, "forwards left": left,
    }  # fmt: skip
    print(json.dumps(summary, indent=1), flush=True)
    return 0 if not different and not left else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
