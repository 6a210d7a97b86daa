"""Statistics of a large sweep on two workers: ``python -m benchmarks.statistics --into FOLDER``.

Simulated curves of 10,000 seeds between sixteen labels at a thousand steps, with their null: 20 GB in the folder, which
stays. All 120 pairs are compared for growing numbers of seeds; printed are the seconds for each seed, the peak of every
process, and a digest of the result for several widths of a task and numbers of workers.
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import flowprofile as fp
from benchmarks.bench_stats import fill, open_simulated
from benchmarks.harness import peak as own_peak
from benchmarks.sweep import children, peak
from flowprofile.comparing import spread

SEEDS, LABELS, STEPS = 10_000, 16, 1000
PARTS = (1250, 2500, 5000, 10_000)
CHUNKINGS = (("local:2", 128), ("local:2", 2048), ("local:1", 512))
"""Workers, and MiB of a task, beside two workers and the usual 512."""


def measured(url: str, seeds: int, cluster: str, work: int) -> dict[str, object]:
    """One comparison of all pairs in this process and its workers: seconds, peaks and a digest of the result."""
    spread.WORK = work << 20  # type: ignore[misc]
    workers: dict[int, int] = {}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.2):
            for pid in children(own_pid):
                workers[pid] = max(workers.get(pid, 0), peak(pid))

    own_pid = os.getpid()
    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    began = time.perf_counter()
    found = fp.compare(url, between="labels", excess=True, seed=slice(0, seeds - 1), cluster=cluster)
    spent = time.perf_counter() - began
    done.set()
    watching.join()
    digest = hashlib.sha256(
        b"".join(found[name].values.tobytes() for name in sorted(found.data_vars))
    ).hexdigest()
    return {
        "seconds": spent,
        "digest": digest[:16],
        "coordinator": own_peak() >> 20,
        "worker": max(workers.values(), default=0) >> 20,
    }


def main() -> None:
    """Simulate what is not there yet, and measure in fresh processes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument(
        "--one", nargs=3, metavar=("SEEDS", "CLUSTER", "MIB"), help="one measurement, as JSON"
    )
    options = parser.parse_args()
    url = str(options.into / "store")
    if options.one:
        print(json.dumps(measured(url, int(options.one[0]), options.one[1], int(options.one[2]))))
        return
    began = time.perf_counter()
    with open_simulated(url, LABELS, options.seeds, STEPS) as store:
        fill(store, LABELS)
    print(f"simulated in {time.perf_counter() - began:.0f} s", flush=True)
    asked = [(seeds, "local:2", 512) for seeds in sorted({min(part, options.seeds) for part in PARTS})]
    asked += [(asked[0][0], *chunking) for chunking in CHUNKINGS]
    for seeds, cluster, work in asked:
        # Kept results would be read instead of computed.
        shutil.rmtree(f"{url}/comparisons", ignore_errors=True)
        command = [sys.executable, "-m", "benchmarks.statistics", "--into", str(options.into), "--one"]
        command += [str(seeds), cluster, str(work)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        print(
            f"{seeds:,} seeds x 120 pairs x {STEPS + 1} states, {cluster}, tasks of {work} MiB:"
            f" {found['seconds']:.1f} s, {1e3 * found['seconds'] / seeds:.2f} ms a seed, peak of the coordinator"
            f" {found['coordinator']} MiB, of a worker {found['worker']} MiB, digest {found['digest']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
