"""Work that takes a while, in threads of its own: so many at a time, and nobody waits for what nobody wants.

A thread cannot be stopped. So whoever asked may go away, or the server end, while one works on; its turn is taken until
it is done, which bounds what is left working, and it dies with the process.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

Found = TypeVar("Found")


async def in_turn(turns: asyncio.Semaphore, work: Callable[[], Found]) -> Found:
    """What a function gives, from a thread that has waited for its turn."""
    await turns.acquire()
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Found] = loop.create_future()

    def settle(tell: Callable[[], None]) -> None:
        turns.release()
        if not done.cancelled():
            tell()

    def worked() -> None:
        try:
            tell = partial(done.set_result, work())
        except BaseException as error:  # noqa: BLE001  # whatever it is, who asked is told
            tell = partial(done.set_exception, error)
        with suppress(RuntimeError):  # the loop has ended, and with it whoever asked
            loop.call_soon_threadsafe(settle, tell)

    # A daemon, so that Ctrl-C need not wait for it.
    threading.Thread(target=worked, name="flowprofile answer", daemon=True).start()
    return await done
