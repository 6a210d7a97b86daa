"""The numerics class: everything that decides the last bits of a result and is not part of its recipe.

The same network gives other low bits with another batch size, thread count, instruction set or torch version.
Results of one class can be compared bit by bit; results of two classes stand side by side in a store, each under
a run of its own. The class is described without importing torch, so a finished store is recognised in no time.
"""

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Final

import numpy as np

from flowprofile.heap import keep_heap
from flowprofile.models.devices import CPU, use

if TYPE_CHECKING:
    import torch as torch

THREADS: Final = 1
"""Threads of one process; work is spread over processes, which also scales better."""


@dataclass(frozen=True)
class Numerics:
    """One class."""

    batch: int
    """Canonical batch: every network call has this many rows."""
    dtype: str
    device: str
    """What the network is computed on, as `devices.named` calls it."""
    instructions: str
    """Widest vector instructions the processor offers, as torch selects its kernels by them."""
    torch: str
    numpy: str
    threads: int
    flush_denormal: bool
    """Denormal numbers are treated as zero: gradients of trained networks cost a third."""
    memory_format: str
    decoder: str = ""
    """What decodes given pictures; empty where there are none."""

    def table(self) -> dict[str, object]:
        """The class as plain values, for provenance and for the run's name."""
        return {name: value for name, value in asdict(self).items() if name != "decoder" or value}


def numerics(batch: int, *, device: str = CPU, decoder: str = "") -> Numerics:
    """The class of this process's results."""
    return Numerics(
        batch=batch,
        dtype="float32",
        device=device,
        instructions=_instructions(),
        torch=_version("torch"),
        numpy=np.__version__,
        threads=THREADS,
        flush_denormal=True,
        memory_format="contiguous",
        decoder=decoder,
    )


def settle(device: str = CPU) -> "torch.device":
    """Put this process into its numerics class, and say where torch computes. Torch's switches are set here and in `devices`."""
    import torch

    keep_heap()
    torch.set_num_threads(THREADS)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return use(device)


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "absent"


def _instructions() -> str:
    """What torch would call its CPU capability, found without torch."""
    asked = os.environ.get("ATEN_CPU_CAPABILITY")
    if asked:
        return f"{platform.machine()}-{asked}"
    found = set(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    for names, level in (
        ({"AVX512_SKX", "X86_V4"}, "avx512"),
        ({"AVX2", "X86_V3"}, "avx2"),
        ({"SVE"}, "sve"),
    ):
        if names & found:
            return f"{platform.machine()}-{level}"
    return f"{platform.machine()}-default"
