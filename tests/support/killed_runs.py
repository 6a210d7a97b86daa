"""Runs that are killed again and again; see `tests/kills/driver.py`."""

import json
import os
import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).parents[1] / "kills" / "driver.py"


def kills(folder, **job):
    """Run the driver in a process of its own; one row per kill."""
    done = subprocess.run(
        [sys.executable, str(DRIVER)],
        input=json.dumps(
            {"folder": str(folder), "seed": 0, "model": "mixture16", "steps": 40, "durability": "none", **job}
        ),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]
