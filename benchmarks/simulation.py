"""A sweep on a cluster that is not here, event by event: ``python -m benchmarks.simulation``.

Workers take tasks (one canonical batch of cases, from noise to the last measure) from a coordinator that hands out one at a
time, sample, and put what they made into an object store whose bandwidth they share; some are preempted and their task
begins again. What a task writes is counted on the real store; the rates of hardware that is not here are assumptions,
and said to be.
"""

import argparse
import heapq
import json
import random
from dataclasses import asdict, dataclass, replace


@dataclass(frozen=True)
class Setting:
    """A sweep and what it runs on."""

    cases: int = 1_600_000
    """100,000 seeds of 16 labels."""
    workers: int = 64
    batch: int = 64
    steps: int = 1000
    forwards_per_second: float = 5700.0
    """Of one worker. Counted: 17.3 GFLOP a forward of the 57.6 M parameter network at 64 px. Assumed: a fifth of the 495
    TFLOPS an H100 states for dense TF32."""
    bytes_per_case: float = 50 * 3 * 64 * 64 * 4 + 4 * 4000
    """Every 20th state and four curves, float32. Counted: a store's data objects are that plus a thousandth."""
    requests_per_case: float = 1.2
    """Puts, receipts and locks. Counted on an S3 server: large arrays take one object a case, measures one a tile."""
    handing_out: float = 0.004
    """Seconds the coordinator takes per task: scheduler, result and progress. Measured with Dask on one core."""
    bandwidth: float = 5e9
    """Bytes a second that the store takes from all workers. Assumed."""
    request_rate: float = 3500.0
    """Puts a second of one prefix. S3's documented figure."""
    preempted_every: float = 6 * 3600.0
    """Seconds of a worker's life. Assumed."""
    restart: float = 90.0
    """Seconds until a preempted worker's successor has its model loaded. Assumed."""


@dataclass
class Outcome:
    """What came of it."""

    seconds: float = 0.0
    tasks: int = 0
    preempted: int = 0
    bytes: float = 0.0
    requests: float = 0.0
    busy: float = 0.0
    """Worker-seconds of sampling that were not lost."""
    lost: float = 0.0
    writing: float = 0.0
    waiting: float = 0.0
    """Worker-seconds in the coordinator's queue."""
    coordinator: float = 0.0
    """Seconds the coordinator worked."""

    def shares(self, setting: Setting) -> dict[str, float]:
        """Where the workers' time went."""
        whole = self.seconds * setting.workers
        named = {
            "sampling": self.busy,
            "writing": self.writing,
            "lost to preemption": self.lost,
            "queueing": self.waiting,
        }
        return {name: value / whole for name, value in named.items()}


def simulate(setting: Setting, *, seed: int = 0) -> Outcome:
    """Play the sweep through; the same seed plays the same sweep."""
    chance, outcome = random.Random(seed), Outcome()
    left = -(-setting.cases // setting.batch)
    sampling = setting.batch * setting.steps / setting.forwards_per_second
    size, requests = setting.batch * setting.bytes_per_case, setting.batch * setting.requests_per_case
    free_at = store_at = 0.0
    events: list[tuple[float, int]] = [(0.0, worker) for worker in range(setting.workers)]
    dies = [chance.expovariate(1 / setting.preempted_every) for _ in range(setting.workers)]
    while events:
        now, worker = heapq.heappop(events)
        if not left:
            outcome.seconds = max(outcome.seconds, now)
            continue
        left -= 1
        begins = max(now, free_at)  # the coordinator hands out one task after the other
        free_at = begins + setting.handing_out
        outcome.coordinator += setting.handing_out
        outcome.waiting += free_at - now
        ends = free_at + sampling
        if dies[worker] < ends:
            left += 1
            outcome.preempted += 1
            outcome.lost += max(0.0, dies[worker] - free_at) + setting.restart
            again = max(dies[worker], free_at) + setting.restart
            dies[worker] = again + chance.expovariate(1 / setting.preempted_every)
            heapq.heappush(events, (again, worker))
            continue
        outcome.busy += sampling
        written = max(ends, store_at) + max(size / setting.bandwidth, requests / setting.request_rate)
        store_at = written  # what one writes, the others cannot: the store's limits are for all together
        outcome.writing += written - ends
        outcome.tasks += 1
        outcome.bytes += size
        outcome.requests += requests
        heapq.heappush(events, (written, worker))
    return outcome


def bottleneck(setting: Setting) -> str:
    """What would be the first limit if workers were added: the resource that is busy most."""
    found = simulate(setting)
    loads = {
        "the workers": found.shares(setting)["sampling"],
        "the store's bandwidth": found.bytes / setting.bandwidth / found.seconds,
        "the store's request rate": found.requests / setting.request_rate / found.seconds,
        "the coordinator": found.coordinator / found.seconds,
    }
    named = sorted(loads.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {load:.0%}" for name, load in named)


def main() -> int:
    """Print the standing setting and what changes when one thing does."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    standing = Setting()
    changes: dict[str, dict[str, float]] = {
        "as it stands": {},
        "640 workers": {"workers": 640},
        "a tenth of the bandwidth": {"bandwidth": standing.bandwidth / 10},
        "every state kept": {"bytes_per_case": 1001 * 3 * 64 * 64 * 4 + 4 * 4000},
        "a coordinator ten times as slow": {"handing_out": standing.handing_out * 10},
        "preempted every half hour": {"preempted_every": 1800.0},
        "batches of 8": {"batch": 8, "forwards_per_second": standing.forwards_per_second / 3},
    }
    rows = []
    for name, change in changes.items():
        setting = replace(standing, **change)  # type: ignore[arg-type]
        found = simulate(setting)
        rows.append({"setting": name, **asdict(found), "limits": bottleneck(setting)})
        if not options.json:
            print(
                f"{name}: {found.seconds / 3600:.1f} h, {found.bytes / 1e12:.2f} TB, {found.requests / 1e6:.2f} M requests, "
                f"{found.preempted} preempted; busy: {bottleneck(setting)}"
            )
    if options.json:
        print(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
