"""A Dask cluster: one somebody else runs, or one of its own on this machine.

Tasks go through `client.submit`; every worker holds the order and opens it once. What Dask gives up on (a task that killed its worker
too often) and what fails comes back as a failure and gets its second chance like anywhere else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flowprofile.errors import ClusterError
from flowprofile.flow.executors.orders import Failed, Order, Result

if TYPE_CHECKING:
    from distributed import Client, Future

DISTRIBUTED: Final = 256 << 20
"""Bytes a Dask worker has beside a plain process: 200 to 270 MiB were measured over an hour."""
PATIENCE: Final = 120.0
"""Seconds to wait for the first worker."""


@dataclass
class Cluster:
    """Workers of a Dask cluster."""

    connect: Callable[[], "Client"]
    """Connects, or begins a cluster; closing the client ends what was begun."""
    asked: int = 1
    """Workers it was asked for, as long as it is not known how many there are."""
    here: bool = False
    beside: int = DISTRIBUTED
    _client: Any = None
    _held: Any = None
    """`holding.Holding`: the order, as every worker has it."""
    _futures: dict[Any, tuple[int, ...]] = field(default_factory=dict)

    @property
    def workers(self) -> int:
        """Workers that are there now; before it is begun, as many as were asked for."""
        return self.asked if self._client is None else max(1, len(self._client.nthreads()))

    def join(self) -> "Client":
        """Connect, wait for a worker, and compare versions on every worker with those here."""
        self._client = self.connect()
        try:
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ClusterError(
                f"No worker has joined {self._client.scheduler.address} within {PATIENCE:g} s.",
                consequence="There is nobody to give work to.",
                remedy="look at the workers' logs, or give the queue more time and try again",
            ) from None
        same_versions(self._client.run(versions))
        client: Client = self._client
        return client

    def start(self, order: Order) -> None:
        """Join, and hand the order to every worker."""
        from flowprofile.flow.executors.holding import Holding

        self._held = Holding(order, here=self.here)
        self.join().register_plugin(self._held)

    def submit(self, numbers: tuple[int, ...], *, again: bool) -> None:
        """Hand tasks to the scheduler."""
        from flowprofile.flow.executors.holding import held

        future = self._client.submit(
            held, self._held.order.key, numbers, again=again, pure=False, key=_key(numbers, again=again)
        )
        self._futures[future] = numbers

    def results(self) -> Iterable[Result]:
        """What is done, waiting for the first."""
        from distributed import wait

        done = wait(list(self._futures), return_when="FIRST_COMPLETED").done
        for future in done:
            yield _result(future, self._futures.pop(future))
            future.release()

    def close(self) -> None:
        """Leave the cluster; what was begun here ends."""
        client, self._client = self._client, None
        self._futures.clear()
        if client is not None:
            if self._held is not None and client.status == "running":
                client.unregister_worker_plugin(self._held.name)
            begun = client.cluster
            client.close()
            if begun is not None:
                begun.close()


def _result(future: "Future", numbers: tuple[int, ...]) -> Result:
    """What a task found; an answer that is lost on its way here, with the worker that found it, is a failure as well."""
    try:
        found: Result = future.result()
    except Exception as error:  # noqa: BLE001 - whatever it is, the task gets its second chance
        return Failed(numbers, None, f"{type(error).__name__}: {error}")
    return found


def _key(numbers: tuple[int, ...], *, again: bool) -> str:
    from uuid import uuid4

    return f"flowprofile-{numbers[0]}-{len(numbers)}-{'again' if again else 'first'}-{uuid4().hex[:8]}"


def versions() -> dict[str, str]:
    """What decides whether a worker gives the same bits, and understands the order at all."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(platform.python_version_tuple()[:2]), "machine": platform.machine()}
    for package in ("flowprofile", "torch", "numpy", "zarr", "xarray", "distributed"):
        try:
            found[package] = version(package).partition("+")[0]
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def same_versions(theirs: dict[str, dict[str, str]]) -> None:
    """Refuse workers that are not equipped like this process, naming the first difference."""
    mine = versions()
    for worker, found in theirs.items():
        for what, here in mine.items():
            if found.get(what) != here:
                raise ClusterError(
                    f"The worker {worker} has {what} {found.get(what, 'absent')}, this process {here}.",
                    consequence="Its results could differ in their last bits, or it could not read the work at all.",
                    remedy="give workers and coordinator the same environment",
                    evidence=f"{sum(other != mine for other in theirs.values())} of {len(theirs)} workers differ",
                )
