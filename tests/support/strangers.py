"""What a stranger brings is opened in processes of its own, that have little memory and tell of everything they start.

Run as a program it imports the library once, and forks for every file: the child may take `ROOM` bytes more than it has,
an audit hook writes down whatever it starts or connects to, and a canary of the payload's says whether code of it ran.
"""

import atexit
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

ROOM = 384 << 20
"""Bytes that opening anything may take: the bound of a chunk, and half of it again."""
PATIENCE = 20
"""Seconds of computing that it may take."""
CANARY = "FLOWPROFILE_CANARY"
STARTS = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.getaddrinfo",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    name: str
    ended: str
    """refused (in words), value, raised (anything but a refusal), memory, slow, or died."""
    told: str
    """The refusal, or the value."""
    executed: bool
    grown: int
    """Bytes of memory that it took at most."""

    @property
    def lost(self):
        """Whether it ran something, or took more than the bound."""
        return self.executed or self.grown > ROOM or self.ended in ("memory", "slow", "died")


@cache
def _opener():
    """The process that forks, for every test of a session."""
    folder = mkdtemp(prefix="strangers-")
    environment = {
        **os.environ,
        CANARY: f"{folder}/canary",
        "PYTHONPATH": os.pathsep.join([folder, *sys.path]),
    }
    command = [sys.executable, __file__]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
    )
    atexit.register(_closed, process, folder)
    return process, Path(folder)


def _closed(process, folder):
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()
    shutil.rmtree(folder)


def working_folder():
    """Where the process works, and where it finds modules first."""
    return _opener()[1]


def opened(cases, *, twin=""):
    """The outcome of every case: (name, action, argument); `twin` names the protection that is taken away."""
    process, _ = _opener()
    found = []
    for case in cases:
        process.stdin.write(json.dumps([case, twin]) + "\n")
        process.stdin.flush()
        found.append(Outcome(**json.loads(process.stdout.readline())))
    return found


def counted(row, outcomes):
    """Count outcomes in a row of the catalogue; whatever is neither a value nor a refusal that teaches is a failure."""
    row.injected += len(outcomes)
    row.lost += sum(one.lost for one in outcomes)
    odd = [one for one in outcomes if one.lost or one.ended == "raised"]
    assert not odd, "\n".join(f"{one.name}: {one.ended} {one.told} ({one.grown >> 20} MiB)" for one in odd)
    dumb = [one for one in outcomes if one.ended == "refused" and "To mend it" not in one.told]
    assert not dumb, "\n".join(f"{one.name}: {one.told}" for one in dumb)


def weights(path):
    """A checkpoint, as far as it can be used."""
    from flowprofile.models import weights, zoo

    weights.read_header(path)
    weights.digest(path)
    weights.load(path)
    zoo.card(path)
    zoo.identity(path)
    return type(zoo.load(path)).__name__


def network(path):
    """What a checkpoint is taken for, and what it holds."""
    from hashlib import sha256

    from flowprofile.models import zoo

    tensors = zoo.load(path).module.state_dict()
    held = sha256(
        b"".join(name.encode() + value.numpy().tobytes() for name, value in sorted(tensors.items()))
    )
    return zoo.identity(path), held.hexdigest()


def folder(path):
    """A folder of diffusers', as far as it can be used."""
    from flowprofile.models import zoo
    from flowprofile.models.sites import sites

    card = zoo.card(path)
    zoo.identity(path)
    sites(card, str(path))
    return type(zoo.load(path)).__name__


def convert(path):
    """A checkpoint of the thesis'."""
    from flowprofile.models.conversion import convert as converted

    return converted(path, f"{path}.out.safetensors").name


def definition(path):
    """A definition, planned as far as it can be without a store."""
    from flowprofile import running

    return len(running.assembled(Path(path)).sweep)


def override(text):
    """A shipped definition with one value changed."""
    from flowprofile import running

    return len(running.assembled("first-profile", overrides=[text]).sweep)


def store(path):
    """A store: seen, described, verified, and a cell of every array read."""
    import flowprofile as fp
    from flowprofile.description import describe
    from flowprofile.store.verify import verify

    tree = fp.open(path)
    for node in tree.subtree:
        for variable in node.to_dataset(inherit=False).data_vars.values():
            variable.isel(
                {dim: 0 for dim in variable.dims if dim in ("intervention", "label", "seed", "time")}
            ).load()
    describe(path)
    return f"{len(verify(path).findings)} findings"


def keep_house(path):
    """Everything that writes into a store or removes something of it."""
    from flowprofile.store.store import Store
    from flowprofile.store.verify import repair
    from flowprofile.upkeep import tidy
    from flowprofile.upkeep.compact import compact

    with Store.open(path, existing=True) as opened_store:
        opened_store.lock()
        compact(opened_store)
        tidy.gc(opened_store)
    return str(len(repair(path).removed))


def kept(path):
    """A comparison that lies beside a store."""
    from flowprofile.comparing.keeping import kept as found
    from flowprofile.store.urls import place

    data = found(place(path), "0" * 16)
    return None if data is None else sum(v.nbytes for v in data.variables.values())


def address(text):
    """Where a store would be, and whether one is there."""
    from flowprofile.store.store import Store

    return Store.open(text, existing=True).url


ACTIONS = {
    each.__name__: each
    for each in (weights, network, folder, convert, definition, override, store, keep_house, kept, address)
}


def _unplausible():
    from flowprofile.models import weights

    weights._plausible = lambda start, size: True


def _any_weights():
    from flowprofile.models import weights

    def load(path):
        import torch

        return torch.load(path, weights_only=False)

    weights.read_header = load


def _any_pickle():
    from flowprofile.models import conversion

    text = conversion._CHILD.replace("weights_only=True", "weights_only=False")
    conversion._CHILD = text.replace("sys.addaudithook(watch)", "")


def _any_folder():
    from flowprofile.models import folders

    folders.harmless = lambda path: None


def _any_card():
    from flowprofile.models import weights

    weights.ModelCard.from_json = classmethod(lambda cls, text: _unchecked(cls, text))


def _unchecked(kind, text):
    """A card as it is written, nothing of it looked at."""
    from flowprofile.conditioning.labels import LabelSpace

    values = json.loads(text)
    found = object.__new__(kind)
    for name, value in {**values, "labels": LabelSpace.of_table(values["labels"])}.items():
        object.__setattr__(found, name, tuple(value) if isinstance(value, list) else value)
    return found


def _any_code():
    from flowprofile import kinds

    real = kinds.imported
    kinds.not_allowed = lambda name, place: real(name, place) and None


def _any_size():
    from flowprofile.definitions import files

    files.MAX_BYTES = 1 << 40


def _any_chain():
    from flowprofile.definitions import files

    files._ends = lambda here, seen: None


def _any_key():
    from flowprofile.definitions.base import Table

    tables = [Table]
    for (
        table
    ) in tables:  # which grows, in the order in which they were made: parts before what is made of them
        tables += table.__subclasses__()
        table.model_config["extra"] = "ignore"
    for table in tables:
        table.model_rebuild(force=True)


def _any_content():
    from flowprofile.models import weights

    real = weights._absorb
    weights._absorb = lambda total, name, dtype, shape, content: real(total, name, dtype, shape, b"")


def _any_record():
    from flowprofile.store import snapshot
    from flowprofile.store.record import record_from

    snapshot.believed = record_from


def _any_chunk():
    from numcodecs.zstd import decompress

    from flowprofile.store import encoding

    encoding._decompress = lambda form, data, expected: decompress(bytes(data))


def _any_kept():
    from flowprofile.comparing import keeping

    keeping.admitted = lambda objects: None


def _any_link():
    from flowprofile.store import links, places

    places.within = links.within = lambda root, path: path


def _any_schema():
    from flowprofile.store import snapshot

    snapshot._ours = lambda place, schema: None


def _any_scheme():
    from flowprofile.store import foreign, urls

    urls.FOREIGN = (*foreign.FOREIGN, "simplecache::file", "filecache::file", "zip::file", "dir::file")


TWINS = {
    name.removeprefix("_"): value
    for name, value in list(globals().items())
    if name.startswith(("_any_", "_unpl"))
}


def _memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def _child(case, canary, out):
    """Open one file, under limits."""
    name, action, argument = case
    started, watching = [], [True]

    def watch(event, args):
        if watching and event in STARTS:
            started.append(f"{event} {args!r}"[:200])

    limit = _memory("VmSize") + ROOM
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 1))
    if action != "convert":  # which starts a process, and limits it
        sys.addaudithook(watch)
    from flowprofile.errors import FlowProfileError

    try:
        ended, told = "value", repr(ACTIONS[action](argument))
    except FlowProfileError as error:
        ended, told = "refused", str(error)
    except MemoryError as error:
        ended, told = "memory", repr(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        ended, told = "raised", f"{type(error).__name__}: {error}"
    watching.clear()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
    executed = bool(started) or Path(canary).exists()
    row = {"name": name, "ended": ended, "told": f"{told[:900]} … {told[-900:]} {started}" if len(told) > 1800 else told + " ".join(started), "executed": executed,
           "grown": max(0, _memory("VmHWM") - before)}  # fmt: skip
    os.write(out, json.dumps(row).encode())


def _forked(case, twin, canary):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            if twin:
                TWINS[twin]()
            _child(case, canary, writer)
        except BaseException:  # noqa: BLE001 - a child never goes on where its parent was
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writer)
    told = b""
    while part := os.read(reader, 65536):
        told += part
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if told:
        return told.decode()
    slow = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
    return json.dumps({"name": case[0], "ended": "slow" if slow else "died", "told": str(status),
                       "executed": Path(canary).exists(), "grown": 0})  # fmt: skip


def main():
    """Answer every line with one."""
    import diffusers  # noqa: F401 - imported once, for every child

    from flowprofile import running

    for name in ("comparing.keeping", "models.adapters", "models.sites", "upkeep.compact", "upkeep.tidy", "description",
                 "store.verify", "compat"):  # fmt: skip
        import_module(f"flowprofile.{name}")
    running.assembled("first-profile")
    canary = Path(os.environ[CANARY])
    for line in sys.stdin:
        case, twin = json.loads(line)
        print(_forked(case, twin, canary), flush=True)
        canary.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
