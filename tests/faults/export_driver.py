"""Exports in forked children that are killed: by the kernel in the middle of a write, or at the renaming.

A process of its own, so that it forks before any thread exists. It is given a store, reads an export from every line of
standard input, and says whether who carried it out died. The kernel kills whoever writes a file past the size that it
may have, in whichever library.
"""

import json
import os
import resource
import signal
import sys
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

import flowprofile as fp
from flowprofile.upkeep import export


def kill():
    """kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)


def limited(size):
    """Let the kernel kill this process at the first byte of a file past that size."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def armed(moment, named):
    """Strike at a size, or before or after the export gets its name."""
    if isinstance(moment, int):
        limited(moment)
    elif moment is not None:
        replace = Path.replace

        def replaced(path, target):
            if moment == "before" and target == named:
                kill()
            replace(path, target)
            if target == named:
                kill()

        Path.replace = replaced


def exported(tree, target, job):
    """Export in a child: whether it died."""
    child = os.fork()
    if child == 0:
        try:
            if job["twin"]:
                export._aside = nullcontext
            armed(job["moment"], Path(target))
            export.export(tree.profile.sel(objects=job["objects"]), target)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main():
    """Answer every line with one."""
    for name in ("zarr", "h5netcdf", "pyarrow.parquet", "safetensors.numpy"):
        import_module(name)
    tree = fp.open(sys.argv[1])
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(exported(tree, job["target"], job)), flush=True)


if __name__ == "__main__":
    main()
