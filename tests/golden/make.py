"""Makes the golden store of the current schema, and writes down what must be read from it for ever.

    python tests/golden/make.py          # once, when the schema number is raised

A store that was made once is never made again: the point is that later versions read what this one wrote.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np

import flowprofile as fp
from flowprofile import running
from flowprofile.description import describe
from flowprofile.store.layout import StoreLayout
from flowprofile.store.snapshot import SCHEMA

HERE = Path(__file__).parent


def request(seeds, labels, keep):
    """A small profile with a measure, its null, an intervention, and objects that are cut into shards."""
    return fp.Pipeline(
        model="mixture16",
        sampler={"steps": 20},
        cases={"seeds": seeds, "labels": labels},
        interventions={"turn": {"kind": "switch", "at": 500, "to": 1, "labels": [0]}},
        stages={
            "trajectory": {"keep": keep},
            "predicted_x0": {"keep": "::10"},
            "step_ssim": {"use": "ssim", "window": 5},
            "final_mse": {"use": "mse", "between": "final"},
        },
    )


def values(url):
    """Dims, type, shape and digest of everything that is read from a store, and what is said of it."""
    tree = fp.open(url)
    found = {}
    for node in tree.subtree:
        for name, variable in sorted(node.to_dataset(inherit=False).variables.items()):
            held = variable.values
            plain = (
                json.dumps(held.tolist()).encode()
                if held.dtype.kind in "OU"
                else np.ascontiguousarray(held).tobytes()
            )
            found[f"{node.path}:{name}"] = {
                "dims": list(variable.dims), "dtype": "text" if held.dtype.kind in "OU" else held.dtype.str,
                "shape": list(held.shape), "sha256": hashlib.sha256(plain).hexdigest(),
            }  # fmt: skip
    runs = describe(url)["runs"]
    stages = {
        stage["group"]: [stage["key"], stage["requested"], stage["present"]]
        for run in runs
        for stage in run["stages"]
    }
    return {"values": found, "stages": stages}


def main():
    """Make it, unless it is there."""
    url, told = HERE / f"schema-{SCHEMA}", HERE / f"schema-{SCHEMA}.json"
    if url.exists():
        sys.exit(f"{url} is there, and is never made anew")
    layout = StoreLayout(chunk="2 KiB", shard="8 KiB", small="2 KiB", durability="none", codec="zstd")
    for one in (request("0:2", [0, 1], "::10"), request("0:3", [0, 1], "::5")):
        running.run(one, into=url, layout=layout)
    for name in ("tmp", "locks", "planner.lock"):
        where = url / "ledger" / name
        shutil.rmtree(where) if where.is_dir() else where.unlink(missing_ok=True)
    told.write_text(json.dumps(values(url), indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
