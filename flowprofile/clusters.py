"""Who computes, in one word: a number of processes, a scheduler's address, or a name from `clusters.toml`."""

import concurrent.futures
import multiprocessing
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flowprofile.errors import ClusterError, DefinitionError, nearest
from flowprofile.flow.executors.cluster import Cluster
from flowprofile.flow.executors.orders import Executor
from flowprofile.flow.executors.processes import Processes

if TYPE_CHECKING:
    from distributed import Client

FILE: Final = "clusters.toml"
T = TypeVar("T")
PACKAGES: Final = {
    "dask_jobqueue": "dask-jobqueue",
    "dask_cuda": "dask-cuda",
    "dask_kubernetes": "dask-kubernetes",
    "distributed": "distributed",
}
"""Modules a cluster may come from, and what installs them; a file names no other code."""
ANSWER: Final = "20s"
"""How long a scheduler may take to answer."""
_WORDS: Final = re.compile(r"(processes|local)(?::(.*))?")
_ADDRESS: Final = re.compile(r"(tcp|tls|ucx|ws|wss|inproc)://\S+")


class Entry(BaseModel):
    """One ``[clusters.NAME]`` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    kind: str = Field(alias="class", description='for instance "dask_jobqueue.SLURMCluster"')
    workers: int = Field(ge=1, description="how many workers to ask for")
    options: dict[str, Any] = Field(default_factory=dict, description="arguments of the class")


def executor(word: str) -> Executor:
    """The executor a word means; nothing is begun yet.

    Parameters
    ----------
    word
        ``processes[:N]``, ``local[:N]``, a scheduler's address such as ``tcp://10.0.0.1:8786``, or a name.

    Raises
    ------
    DefinitionError
        For a word that means none of these.

    >>> executor("processes:3").workers
    3
    """
    word = word.strip()
    if match := _WORDS.fullmatch(word):
        count = _count(word, match[2])
        return (
            Processes(count) if match[1] == "processes" else Cluster(partial(_local, count), count, here=True)
        )
    if _ADDRESS.fullmatch(word):
        return Cluster(partial(_connected, word))
    known = entries()
    if word not in known:
        raise DefinitionError(
            f"{word!r} names no cluster.",
            consequence="Nobody would compute.",
            remedy=f"say processes:N, local:N, a scheduler's address (tcp://host:8786), or a name from {FILE}"
            f" ({nearest(word, known) if known else 'there is none here'})",
        )
    return Cluster(partial(_begun, word, known[word]), known[word].workers)


@contextmanager
def pool(word: str) -> Iterator[tuple[concurrent.futures.Executor, int]]:
    """Workers that call any importable function, and how many there are; for work that is no run.

    Raises
    ------
    ClusterError
        If nobody answers, or the workers are not equipped like this process.
    """
    found = executor(word)
    if not isinstance(found, Cluster):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(found.workers, mp_context=context) as workers:
            yield workers, found.workers
        return
    with closing(found):
        client = found.join()
        # What waits for the client's tasks ends when the client does.
        with _Waiting(client, sum(client.nthreads().values())) as waiting, closing(found):
            yield waiting, found.workers


class _Waiting(concurrent.futures.ThreadPoolExecutor):
    """A thread waits for every task that a Dask cluster has.

    Dask's own executor leaves a task pending for ever if its answer is lost on the way, with the worker that found it
    (`_cascade_future` of distributed 2026.8 dies of what it awaits). No more tasks are given out than run at once: a
    worker that dies takes those along that were queued at it.
    """

    def __init__(self, client: "Client", tasks: int) -> None:
        super().__init__(tasks, thread_name_prefix="flowprofile-waiting")
        self._client = client

    def submit(self, call: Callable[..., T], /, *given: Any, **named: Any) -> concurrent.futures.Future[T]:
        return super().submit(lambda: self._client.submit(call, *given, pure=False, **named).result())


def _count(word: str, written: str | None) -> int:
    if written is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not written.isdecimal() or int(written) < 1:
        raise DefinitionError(
            f"{word!r} asks for {written!r} workers.",
            consequence="Nobody would compute.",
            remedy="give a number of at least 1, for instance local:4",
        )
    return int(written)


def entries() -> dict[str, Entry]:
    """The clusters of the first ``clusters.toml`` on the way: here, in ``$FLOWPROFILE_PATH``, in the user's config."""
    config = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    folders = [
        Path(),
        *(Path(each) for each in os.environ.get("FLOWPROFILE_PATH", "").split(os.pathsep) if each),
        Path(config) / "flowprofile",
    ]
    for folder in folders:
        if (folder / FILE).is_file():
            return _read(folder / FILE)
    return {}


def _read(path: Path) -> dict[str, Entry]:
    try:
        tables: Mapping[str, Any] = tomllib.loads(path.read_text("utf-8")).get("clusters", {})
        return {name: Entry.model_validate(table) for name, table in tables.items()}
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(
            f"{path} is not TOML: {error}.",
            consequence="No cluster of it is known.",
            remedy='write [clusters.NAME] tables with class = "dask_jobqueue.SLURMCluster" and workers = 32',
        ) from error
    except (ValidationError, AttributeError) as error:
        what = error.errors()[0] if isinstance(error, ValidationError) else None
        where = ".".join(map(str, what["loc"])) if what else "clusters"
        raise DefinitionError(
            f"{path}: {where}: {what['msg'] if what else 'is not a table of tables'}.",
            consequence="No cluster of it is known.",
            remedy="a cluster has class, workers and options, nothing else",
        ) from error


def _local(count: int) -> "Client":
    _installed("distributed")
    import dask
    from distributed import Client, LocalCluster

    dask.config.set({
        # Whether a task gets another chance is ours to say: a retry by Dask would not know that the store has grown.
        "distributed.scheduler.allowed-failures": 0,
        # Nobody looks at these on a cluster without a dashboard, and together they cost some per cent of every core.
        "distributed.worker.profile.enabled": False,
        "distributed.admin.system-monitor.interval": "5s",
        "distributed.admin.system-monitor.gil.enabled": False,
        "distributed.admin.tick.interval": "1s",
        "distributed.worker.memory.monitor-interval": "1s",
    })  # fmt: skip
    cluster = LocalCluster(
        n_workers=count,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=50,
        # Without a dashboard there is a page of its health still, for which two clusters would claim one port.
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    )
    return Client(cluster)


def _connected(address: str) -> "Client":
    _installed("distributed")
    from distributed import Client

    try:
        return Client(address, timeout=ANSWER)
    except OSError as error:
        raise ClusterError(
            f"No scheduler answers at {address!r}.",
            consequence="There is nobody to give work to.",
            remedy="start one (dask scheduler), look at its address, and try again",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def _begun(name: str, entry: Entry) -> "Client":
    module, _, kind = entry.kind.rpartition(".")
    package = module.partition(".")[0]
    if package not in PACKAGES:
        raise DefinitionError(
            f"The cluster {name!r} is of the class {entry.kind!r}.",
            consequence="A file in the working folder would decide which code runs.",
            remedy=f"use a class of {', '.join(PACKAGES)}, or start the scheduler yourself and give its address",
        )
    _installed("distributed")
    _installed(package)
    from distributed import Client

    found = getattr(import_module(module), kind, None)
    if found is None:
        raise DefinitionError(
            f"{module!r} has no class {kind!r}.",
            consequence=f"The cluster {name!r} cannot be begun.",
            remedy=f"look at the classes of {PACKAGES[package]}",
        )
    cluster = found(**entry.options)
    if hasattr(cluster, "scale"):
        cluster.scale(entry.workers)
    return Client(cluster)


def _installed(package: str) -> None:
    try:
        import_module(package)
    except ImportError as error:
        wanted = 'flowprofile[cluster]"' if package == "distributed" else f'{PACKAGES[package]}"'
        raise ClusterError(
            f"{PACKAGES[package]} is not installed.",
            consequence="There is no cluster to compute on.",
            remedy=f'pip install "{wanted}, or use processes:N',
            evidence=str(error),
        ) from error
