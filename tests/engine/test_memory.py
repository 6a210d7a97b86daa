"""A run's memory is what its plan says, and does not grow with the number of seeds."""

import json
import subprocess
import sys

CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pipelines import pipeline
from flowprofile import running
from flowprofile.store.layout import StoreLayout

stages = {"trajectory": {"keep": "::2"}, "step_ssim": {"use": "ssim"}, "final_mse": {"use": "mse", "between": "final", "keep": "::1"}}
source = pipeline(steps=400, seeds=f"0:{sys.argv[3]}", labels=[0], **stages)
planned = running.plan(source, into=sys.argv[2]).cost
running.run(source, into=sys.argv[2], layout=StoreLayout(durability="none"))
# Not getrusage: its maximum survives exec and would be the test runner's.
peak = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"planned": planned.memory, "peak": peak}))
"""


def peak(folder, seeds):
    """Peak memory of a run with so many seeds, and what was planned."""
    from pathlib import Path

    support = Path(__file__).parent.parent / "support"
    command = [sys.executable, "-c", CODE, str(support), str(folder / f"store{seeds}"), str(seeds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_memory_stays_within_the_plan_and_flat(tmp_path):
    few, many = peak(tmp_path, 8), peak(tmp_path, 48)
    print(few, many)
    assert few["peak"] <= few["planned"]
    assert many["peak"] <= many["planned"]
    assert many["peak"] <= 1.1 * few["peak"]
