"""``python -m benchmarks [--json] [--tiny] [name ...]``: measure, and print each figure beside its target."""

import argparse
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

# One thread, said before any numerical library is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.harness import Row, as_json

APART = ("app",)
"""Run by name only: they need what `make bench` does not set up."""


def benches() -> dict[str, Callable[..., list[Row]]]:
    """Every module benchmarks/bench_*.py by its name, as its function `rows`."""
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    chosen = sorted(name for name in names if name.startswith("bench_"))
    return {
        name.removeprefix("bench_"): importlib.import_module(f"benchmarks.{name}").rows for name in chosen
    }


def main(arguments: list[str]) -> int:
    """Run the named benchmarks, or all but those apart; 0 if every target is met."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", help=f"benchmarks to run; without one, all but {', '.join(APART)}"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    parser.add_argument("--tiny", action="store_true", help="smallest shapes, one pair: only that it runs")
    options = parser.parse_args(arguments)
    known = benches()
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"no benchmark {unknown[0]!r}; known: {', '.join(known)}")
    found: list[Row] = []
    for name in options.names or [name for name in known if name not in APART]:
        for row in known[name](tiny=options.tiny):
            found.append(row)
            if not options.json:
                print(row, flush=True)
    if options.json:
        print(as_json(found))
    return 0 if all(row.met is not False for row in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
