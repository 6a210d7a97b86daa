"""What every worker of a Dask cluster holds: the order, and so do workers that come later.

Scattered data lie with the workers that are there, and are lost when all of them go at once; then tasks wait for ever
for what nobody has. A plugin is set up on every worker before its first task, also on one that takes a lost one's
place.
"""

from typing import Any

from distributed import WorkerPlugin

from flowprofile.flow.executors.orders import Order, Result, carried_out
from flowprofile.numbering import one_of_several

_held: dict[str, Order] = {}
"""Orders by key, in a worker."""


class Holding(WorkerPlugin):  # type: ignore[misc]  # distributed has no types
    """Puts an order where `held` finds it."""

    def __init__(self, order: Order, *, here: bool) -> None:
        """`here` says that the workers are this machine's, numbered by us; others are given their devices by who began them."""
        self.order = order
        self._here = here
        self.name = f"flowprofile-{order.key}"

    def setup(self, worker: Any) -> None:
        """Called on each worker, when the plugin or the worker is new."""
        _held[self.order.key] = self.order
        if self._here:
            one_of_several(int(worker.name))

    def teardown(self, worker: Any) -> None:
        """Called when the order is done with."""
        _held.pop(self.order.key, None)


def held(key: str, numbers: tuple[int, ...], *, again: bool) -> Result:
    """Carry tasks of the order with this key out, in a worker."""
    return carried_out(_held[key], numbers, again=again)
