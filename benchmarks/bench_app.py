"""How soon a panel of the interface follows its sliders, beside the same view in Gradio, in one browser.

Run by name only, ``python -m benchmarks app``: it needs Chromium ($CHROMIUM, or one on the path), and makes an
environment of its own for Gradio at the first call (.benchmarks/gradio; a minute, 400 MB), so that nothing of
FlowProfile depends on what Gradio pins.
"""

import os
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.app.panel import OURS, Moves, View, chromium, gradio, measured, opened, ours
from benchmarks.harness import Row, exact, summary
from flowprofile import running
from flowprofile.definitions import read
from flowprofile.store.layout import StoreLayout

HERE = Path(__file__).parent / "app"
ROOT = HERE.parent.parent
ENVIRONMENT = ROOT / ".benchmarks" / "gradio"
LAYER = "mid_attn.fn"
LABEL = 6
SEED = 0
TIME = 500
CHANNELS = 64
LEAST = 400_000_000
"""Bytes of the store that is looked at."""
FEW = ("cases.seeds=0:2", "sampler.steps=10", "stages.activations.layers=mid_attn.fn")
MOVES = 40
STEPS = 50
STRIDE = 4
"""Steps from one far step to the next: a step and its neighbours are fetched once."""
SEEDS = (1, 2, 3)
"""Of the cases whose far steps are looked at."""


def rows(*, tiny: bool = False) -> list[Row]:
    """Ours and Gradio's in turn, move by move; the tiny shape is ours alone."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        store = Path(folder) / "store"
        definition, _ = read(HERE / "store.toml", overrides=FEW if tiny else ())
        written = running.run(definition, into=store, layout=StoreLayout(durability="none")).bytes
        assert tiny or written >= LEAST
        views = [ours(held.enter_context(_served(_interface(store))), LAYER, LABEL, SEED, TIME)]
        for drawn in () if tiny else ("image", "plot"):
            twin = _twin(environment(ENVIRONMENT), store, drawn)
            views += [gradio(held.enter_context(_served(twin)), drawn)]
        browser = held.enter_context(chromium(_browser()))
        found = _measured(browser, views, tiny=tiny)
        size = f"a store of {written / 1e6:.0f} MB"
        return [row for what, moved in found.items() for row in _told(what, moved, size, tiny=tiny)]


def _measured(browser: Any, views: Sequence[View], *, tiny: bool) -> dict[str, dict[str, Moves]]:
    """Every slider moved in turn, by what was done."""
    moves, steps = (2, 10) if tiny else (MOVES, STEPS)
    pages = [opened(browser, view) for view in views]
    found = {
        "channel slider": measured(pages, "channel", _walk(1, moves, CHANNELS)),
        "step slider to the next step": measured(pages, "time", _walk(steps // 2, moves, steps)),
    }
    # What was fetched ahead or seen before must not help: other seeds, and each of their steps at most once.
    far: dict[str, Moves] = {view.name: Moves() for view in views}
    for seed in SEEDS[:1] if tiny else SEEDS:
        other = ours(views[0].address.split("/activations")[0], LAYER, LABEL, seed, 0)
        fresh = [opened(browser, other), *pages[1:]]
        for name, more in measured(fresh, "time", range(1, steps - 3, STRIDE)).items():
            far[name].extend(more)
    return {**found, "step slider to a far step": far}


def _walk(first: int, moves: int, length: int) -> list[int]:
    """Positions of a slider but its first, never the same twice in a row; one more than is measured."""
    return [1 + (first + k) % (length - 1) for k in range(moves + 1)]


def _told(what: str, moved: Mapping[str, Moves], size: str, *, tiny: bool) -> list[Row]:
    """Ours with their targets, and the ratios to the others."""
    mine = moved[OURS]
    of_channels = what.startswith("channel")
    limit = "<= 30 ms" if of_channels else "<= 100 ms"
    took, handed = (summary("", spent, target="") for spent in (mine.painted, mine.handed))
    note = (
        f"{took.low:.3g} .. {took.high:.3g}; {handed.measured:.3g} to the frame after it; "
        f"{len(mine.painted)} moves, {size}"
    )
    made = [
        exact(f"{what}, ms from input event to pixels, median", took.measured, target="" if tiny else limit, note=note),
        exact(f"{what}, requests of a move per visible panel, most", max(mine.requests), target="<= 0" if of_channels else "<= 2"),
    ]  # fmt: skip
    for name, other in moved.items():
        if name != OURS:
            pairs = zip(mine.painted, other.painted, strict=True)
            theirs, after = (statistics.median(spent) for spent in (other.painted, other.handed))
            note = f"{theirs:.3g} ms, {after:.3g} to the frame after it, {max(other.requests):.0f} requests"
            target = ">= 20x" if of_channels else ""
            made.append(
                summary(f"{what}, {name} against ours", [b / a for a, b in pairs], target=target, note=note)
            )
    return made


def environment(folder: Path) -> Path:
    """The Python that has Gradio; it borrows what FlowProfile needs from the environment of this one."""
    python, complete = folder / "bin" / "python", folder / "is-set-up"
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        wanted = HERE / "requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--requirement", wanted], check=True)
        known = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = subprocess.run([python, "-c", known], capture_output=True, text=True, check=True)
        # Behind its own packages, so that Gradio gets the versions that it pins.
        (Path(site.stdout.strip()) / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        complete.touch()
    return python


def _browser() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        sys.exit(
            "The panel is measured in Chromium, and there is none: apt install chromium, or name it: CHROMIUM=..."
        )
    return found


@contextmanager
def _served(command: Sequence[str]) -> Iterator[str]:
    """The address under which a command answers that is told its port last; it is ended afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {
        **os.environ,
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    server = subprocess.Popen([*command, "--port", str(port)], env=quiet, stdout=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert server.poll() is None, f"{command[:3]} ended with {server.returncode}"
            try:
                urlopen(address, timeout=10).close()
                break
            except (URLError, ConnectionError):
                time.sleep(0.1)
        else:
            raise TimeoutError(f"{command[:3]} does not answer")
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)


def _interface(store: Path) -> list[str]:
    return [sys.executable, "-m", "flowprofile", "app", str(store), "--no-open"]


def _twin(python: Path, store: Path, drawn: str) -> list[str]:
    case = ["--layer", LAYER, "--label", str(LABEL), "--seed", str(SEED)]
    return [str(python), str(HERE / "gradio_twin.py"), str(store), *case, "--as", drawn]
