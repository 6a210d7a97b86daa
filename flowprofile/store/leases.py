"""Holding something in an object store, where nobody can lock a file.

A lease is an object that says who holds it, and is renewed while it is held. Every change of it is conditional on what
was there before, so of two who want it one gets it. Clocks of different hosts are never compared: whoever wants it
looks for `TTL` seconds of its own time whether the object changes, and only then takes it over, with the next epoch. A
holder that was taken over (it was suspended, or cut off) learns so before it writes the next object; and, since the
clock of a virtual machine may have stood still with it, it asks before it writes over what others may have written.
"""

import json
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final, Protocol

from flowprofile.errors import BusyError, StoreError

TTL: Final = 30.0
"""Seconds after which a lease that is not renewed may be taken over."""
POLL: Final = 0.1
"""Seconds between the first looks of somebody who waits; later ones are up to ten times as far apart."""

Version = Mapping[str, Any]
"""What an object store calls the state of an object: its e-tag, generation or version."""


class Conditional(Protocol):
    """The two verbs a lease is made of."""

    url: str

    def look(self, key: str) -> tuple[bytes, Version] | None:
        """An object and its version; None where there is none."""

    def swap(self, key: str, data: bytes, before: Version | None) -> Version | None:
        """Put an object if it still has the version it had (None: if there is none); None where it has not.

        An object that is found to hold exactly `data` was put by this call, so `data` has to hold a mark of its own.
        """


@dataclass(frozen=True)
class Said:
    """What a lease's object says; one that cannot be read says nothing, and is nobody's."""

    id: str = ""
    """Who wrote it."""
    epoch: int = 0
    """How many have held it."""
    ttl: float = 0.0
    """Seconds its holder wants to be waited for."""
    free: bool = False
    """Whether its holder gave it back."""
    holder: str = ""
    """What its holder left for others."""

    @classmethod
    def of(cls, data: bytes) -> "Said":
        """From an object's bytes."""
        try:
            body = json.loads(data)
            said = cls(
                str(body["id"]),
                int(body["epoch"]),
                float(body["ttl"]),
                body["free"] is True,
                str(body["holder"]),
            )
        except (ValueError, TypeError, KeyError, OverflowError):
            return cls()
        return said if isfinite(said.ttl) else cls()

    def data(self) -> bytes:
        """Its bytes, of which no two are equal: each has a mark of its own."""
        return json.dumps({**self.__dict__, "write": uuid.uuid4().hex}, sort_keys=True).encode()


@dataclass
class Lease:
    """What is held, until it is released or lost."""

    place: Conditional
    key: str
    content: bytes
    ttl: float = TTL
    epoch: int = 0
    """Counts who has held it: a fence that only rises."""
    over: bool = False
    """Whether it was released, held or lost."""
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _version: Version = field(default_factory=dict)
    _renewed: float = 0.0
    _timer: threading.Timer | None = None
    _lost: str = ""
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def acquire(self, *, wait: bool) -> bytes | None:
        """Take it: None if it is held now, else what its holder left.

        Whether a holder is alive shows only in time: it takes up to a third of its `ttl` until a living one has
        changed the object, and the whole of it until a dead one is taken over. A living one is waited out if `wait`.
        """
        began = _now()
        seen: Version | None = None
        since, pause = time.monotonic(), POLL
        while True:
            found = self.place.look(self.key)
            if found is None:
                if self._taken(1, None):
                    return None
                continue
            said, version = Said.of(found[0]), found[1]
            if said.id == self._id:  # an acknowledgement was lost on its way
                self._begin(said.epoch, version, began)
                return None
            if version != seen:
                if seen is not None and not wait and not said.free:
                    return said.holder.encode()
                seen, since = version, time.monotonic()
            free = said.free or time.monotonic() - since >= max(self.ttl, said.ttl)
            if free and self._taken(said.epoch + 1, version):
                return None
            if not free:
                time.sleep(pause)
                pause = min(pause * 1.5, 10 * POLL)

    def held(self, *, sure: bool = False) -> None:
        """Nothing, if it is still held: by this machine's clock, or, to be sure, by asking.

        Raises
        ------
        BusyError
            If somebody else has taken it over; it says who.
        """
        if not self._lost and (sure or _now() - self._renewed > self.ttl / 2):
            self._renew()
        if self._lost:
            raise BusyError(
                f"The hold on {self.key!r} in {self.place.url} was lost.",
                consequence="Somebody else works there now; nothing more is written by this process.",
                remedy="give the same command again; it computes only what is missing",
                evidence=self._lost,
            )

    def release(self) -> None:
        """Give it back, if it is still held."""
        with self._turn:
            self.over = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._lost:
                self._lost = "it was released"
                with suppress(StoreError):  # one that nobody hears of runs out by itself
                    self.place.swap(self.key, self._said(free=True).data(), self._version)

    def _taken(self, epoch: int, before: Version | None) -> bool:
        self.epoch, began = epoch, _now()
        version = self.place.swap(self.key, self._said().data(), before)
        if version is None:
            return False
        self._begin(epoch, version, began)
        return True

    def _begin(self, epoch: int, version: Version, began: float) -> None:
        self.epoch, self._version, self._renewed = epoch, version, began
        self._beat()

    def _beat(self) -> None:
        self._timer = threading.Timer(self.ttl / 3, self._renew)
        self._timer.daemon = True
        self._timer.start()

    def _renew(self) -> None:
        """Write it anew, unless somebody has."""
        with self._turn:
            if self._lost or self._timer is None:
                return
            self._timer.cancel()
            began = _now()
            try:
                version = self.place.swap(self.key, self._said().data(), self._version)
                found = self.place.look(self.key) if version is None else None
            except StoreError as error:  # unreachable; it may come back before the lease runs out
                if _now() - self._renewed > self.ttl:
                    self._lost = str(error)
                else:
                    self._beat()
                return
            said = Said() if found is None else Said.of(found[0])
            if version is None and found is not None and said.id == self._id:
                version = found[1]
            if version is None:
                self._lost = (
                    f"taken over as number {said.epoch} by {said.holder!r}" if found else "it was removed"
                )
                return
            self._version, self._renewed = version, began
            self._beat()

    def _said(self, *, free: bool = False) -> Said:
        return Said(self._id, self.epoch, self.ttl, free, self.content.decode(errors="replace"))


def _now() -> float:
    """Seconds that go on while this machine sleeps, where the system counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
