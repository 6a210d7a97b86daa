"""Runs commands in forked children that send themselves signals, each at one named moment.

A process of its own, so that it forks before any thread exists. Reads a JSON job from standard input, prints one JSON
line per command that was stopped.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from acknowledged import Truth, contents
from kept_stores import FAST

from flowprofile import cli, interruption, running
from flowprofile.cli import progress
from flowprofile.errors import FlowProfileError
from flowprofile.flow.events import Committed
from flowprofile.store import store as opened
from flowprofile.store.phases import Phase
from flowprofile.store.places import LocalPlace
from flowprofile.store.store import Store

DEFINITION = """
model = "mixture16"
sampler = {{ steps = 20 }}
[cases]
seeds = "{}"
labels = [0, 1]
[stages.trajectory]
keep = "::4"
[stages.step_ssim]
use = "ssim"
"""
RUN = running.run


def commands(folder, store, parts):
    """A first sweep and the same grown by two seeds, whole or in parts."""
    for name in ("first", "grown"):
        source, into = str(folder / f"{name}.toml"), ["--into", str(store)]
        if parts:
            yield ["declare", source, *into]
            yield from (["run", source, *into, "--quiet", "--part", f"{i}/2"] for i in range(2))
        else:
            yield ["run", source, *into, "--quiet"]


class Sends:
    """Hears everything a command does, and sends the process a signal at the nth moment of a phase."""

    def __init__(self, job, writer):
        self.job, self.writer, self.seen, self.sent = job, writer, 0, False

    def __call__(self, event):
        if isinstance(event, Committed):
            os.write(self.writer, f"{event.group} {event.region}\n".encode())
        if isinstance(event, Phase) and event.name == self.job["phase"]:
            self.moment()

    def moment(self):
        self.seen += 1
        if self.seen == self.job["nth"]:
            self.sent = True
            if self.job["how"] == "swallowed":
                Finalised(self.job["signal"])
            else:
                os.kill(os.getpid(), self.job["signal"])

    def again(self):
        if self.sent:
            self.sent = False
            os.kill(os.getpid(), self.job["signal"])


class Finalised:
    """Python swallows what a handler raises while this is finalised."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)
        len(())


def prepared(job, sends):
    """Put the child's ears, and what the job wants broken, into its own copy of everything."""

    def listening(source, *, listen, **options):
        def both(event):
            listen(event)
            sends(event)

        return RUN(source, listen=both, **options)

    running.run = listening
    if job["phase"] == "replace":
        replace = os.replace

        def replaced(*names):
            sends.moment()
            replace(*names)
            sends.moment()

        os.replace = replaced
    if job["how"] == "twice":
        close = Store.close

        def closing(self):
            sends.again()
            close(self)

        Store.close = closing
    if job["twin"] == "heeding":
        progress.heeding = lambda listen: listen
    if job["twin"] == "torn":
        LocalPlace.write = torn(sends)


def torn(sends):
    """A writer that writes in place."""

    def write(self, key, data, *, durable=False):
        target = Path(self._path(key))
        target.parent.mkdir(parents=True, exist_ok=True)
        there = target.exists()
        with target.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            if there and "/value/c." in key:
                sends.moment()
            file.write(data[len(data) // 2 :])

    return write


def stopped(arguments, job):
    """Run a command in a child that is sent a signal; its exit code, and what it had acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        code = 99
        try:
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            prepared(job, Sends(job, writer))
            cli.main(arguments)
        except SystemExit as end:
            code = end.code
        except KeyboardInterrupt:
            code = 130  # a second signal while it said how to go on: Python's own ending
        finally:
            os._exit(code)
    os.close(writer)
    heard = b""
    while chunk := os.read(reader, 65536):
        heard += chunk
    os.close(reader)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), [tuple(line.split()) for line in heard.decode().splitlines()]


NOTHING = {"how": "once", "phase": "", "nth": 0, "twin": "", "signal": 2}


def story(folder, store, job):
    """Every command, stopped once where the job says, and given again; what became of it."""
    heard, codes = [], []
    for number, arguments in enumerate(commands(folder, store, job["parts"])):
        if number == job["command"]:
            code, said = stopped(arguments, job)
            codes.append(code)
            heard += said
            yield code, list(heard)
        code, said = stopped(arguments, NOTHING)
        codes.append(code)
        heard += said
    yield codes, heard


def main():
    job = json.load(sys.stdin)
    folder = Path(job["folder"])
    for name, seeds in (("first", "0:6"), ("grown", "0:9")):
        (folder / f"{name}.toml").write_text(DEFINITION.format(seeds))
    assert interruption.heeding is progress.heeding
    opened._default = lambda url: FAST
    running.run(str(folder / "first.toml"), into="memory://imports")  # once, here, and not in every child
    truths = {}
    for parts in (False, True):
        for arguments in commands(folder, folder / f"whole{parts}", parts):
            assert stopped(arguments, NOTHING)[0] == 0
        truths[parts] = Truth(folder / f"whole{parts}")
    for number, case in enumerate(job["cases"]):
        store, truth = folder / f"stopped{number}", truths[case["parts"]]
        found, began = {"case": case, "lost": 0, "same": False}, time.perf_counter()
        for code, heard in story(folder, store, case):
            if isinstance(code, int):
                found |= {
                    "code": code,
                    "acknowledged": len(set(heard)),
                    "lost": truth.lost(store, heard) if heard else 0,
                }
        try:
            found["same"] = contents(store) == truth.contents
        except FlowProfileError as error:
            found["same"] = str(error)
        found["seconds"] = time.perf_counter() - began
        print(json.dumps(found), flush=True)
        shutil.rmtree(store)


if __name__ == "__main__":
    main()
