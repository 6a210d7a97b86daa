"""A mean over an array larger than the memory it may take."""

import os
import subprocess
import sys

WRITE = """
import sys, numpy as np, xarray as xr
from flowprofile.cases import Sweep
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.promise import promise
from flowprofile.store.store import Store
SEEDS, times = 56, list(range(300, -1, -1))
p = promise({"x_t": (("time", "channel", "y", "x"), "float32")}, {"time": times}, sizes={"channel": 3, "y": 32, "x": 32})
stage, run = StageDeclaration("trajectory", "a" * 10, p, 301, {}), RunDeclaration("big", "ab" * 8, (1, 4))
with Store.open(sys.argv[1], layout=StoreLayout(durability="none")) as store:
    store.prepare(run, Sweep(tuple(range(SEEDS)), (0,)), [stage])
    for r in store.cut(run.folder, stage.folder, ~store.present(run.folder, stage.folder)):
        seeds = np.arange(*r.seeds, dtype="float32")[:, None, None, None, None]
        block = np.broadcast_to(seeds, (len(seeds), r.times[1] - r.times[0], 3, 32, 32))
        store.write(r, xr.Dataset({"x_t": (("case", "time", "channel", "y", "x"), block)}, coords={"time": times[slice(*r.times)]}))
"""

READ = """
import resource, sys, dask, dask.array, numpy as np
from flowprofile.opening import open as open_profile
open_profile(sys.argv[1])["trajectory"]["x_t"].isel(seed=0, time=0).load()
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = now + 140 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
x = open_profile(sys.argv[1])["trajectory"]["x_t"]
assert x.nbytes > 190 * 2**20, x.nbytes
assert x.data.npartitions <= 10_000
with dask.config.set(scheduler="synchronous"):
    mean = x.mean("seed").max().compute()
assert float(mean) == np.mean(np.arange(56)), mean
if sys.argv[2] == "load":
    x.load()
"""


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_a_mean_streams_where_the_array_does_not_fit(tmp_path) -> None:
    written = child(WRITE, str(tmp_path / "s"))
    assert written.returncode == 0, written.stderr
    streamed = child(READ, str(tmp_path / "s"), "stream")
    assert streamed.returncode == 0, streamed.stderr
    loaded = child(READ, str(tmp_path / "s"), "load")
    assert loaded.returncode != 0
    assert "emory" in loaded.stderr, loaded.stderr
