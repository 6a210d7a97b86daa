"""A store that is larger than the memory it is read in: ``python -m benchmarks.limited STORE --limit 700MiB``.

The process may not have more memory than the limit; it opens the store, takes one profile, and averages every state over
all seeds. Prints what it took.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import dask

import flowprofile as fp
from benchmarks.harness import peak


def main(arguments: list[str]) -> int:
    """Query under a limit; 0 if the data are larger than it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limited", description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument(
        "--limit", type=int, default=700, help="MiB of address space beyond what is there now"
    )
    options = parser.parse_args(arguments)
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = held + (options.limit << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    spent, began = {}, time.perf_counter()
    tree = fp.open(options.store)
    spent["opening"] = time.perf_counter() - began
    x = tree["trajectory"]["x_t"]
    began = time.perf_counter()
    one = tree.profile.sel(label=int(x["label"][0]), seed=int(x["seed"][-1]), time=slice(800, 600))
    one["trajectory"]["x_t"].load()
    spent["one profile"] = time.perf_counter() - began
    began = time.perf_counter()
    with dask.config.set(scheduler="synchronous"):
        mean = x.mean("seed").compute()
    spent["mean over all seeds"] = time.perf_counter() - began
    found = {
        "data, MiB": x.nbytes >> 20, "limit, MiB": options.limit, "peak of the process, MiB": peak() >> 20,
        "mean at t = 0": [round(float(mean.sel(time=0, label=label).mean()), 4) for label in x["label"].values],
        "seconds": {name: round(value, 2) for name, value in spent.items()}, "torch imported": "torch" in sys.modules,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    return 0 if x.nbytes > options.limit << 20 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
