"""Holding something in an object store, where nobody can lock a file.

A lease is an object that says who holds it, and is renewed while it is held. Every change of it is conditional on what
was there before, so of two who want it one gets it. Clocks of different hosts are never compared: whoever waits
looks for `TTL` seconds of its own time whether the object changes, and only then takes it over, with the next epoch. A
holder that was taken over (it was suspended, or cut off) learns so before it writes the next object.
"""

import json
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Any, Final, Protocol

from flowprofile.errors import BusyError

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
        """Put an object if it still has the version it had (None: if there is none); None where it has not."""


@dataclass
class Lease:
    """What is held, until it is released or lost."""

    place: Conditional
    key: str
    content: bytes
    ttl: float = TTL
    epoch: int = 0
    """Counts who has held it: a fence that only rises."""
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _version: Version = field(default_factory=dict)
    _renewed: float = 0.0
    _timer: threading.Timer | None = None
    _lost: str = ""
    _turn: threading.RLock = field(default_factory=threading.RLock)

    def acquire(self, *, wait: bool) -> bytes | None:
        """Take it: None if it is held now, else what its holder left. A holder that is gone is waited out only if
        `wait`."""
        seen, since, pause = None, monotonic(), POLL
        while True:
            found = self.place.look(self.key)
            if found is None:
                if self._taken(1, None):
                    return None
                continue
            data, version = found
            body = _body(data)
            if body.get("id") == self._id:  # an acknowledgement was lost on its way
                self._begin(int(body["epoch"]), version)
                return None
            if version != seen:
                seen, since = version, monotonic()
            free = body.get("free", False) or monotonic() - since >= self.ttl
            if free and self._taken(int(body.get("epoch", 0)) + 1, version):
                return None
            if not free and not wait:
                return str(body.get("holder", "")).encode()
            if not free:
                sleep(pause)
                pause = min(pause * 1.5, 10 * POLL)

    def held(self) -> None:
        """Nothing, if it is still held.

        Raises
        ------
        BusyError
            If somebody else has taken it over.
        """
        if not self._lost and monotonic() - self._renewed > self.ttl / 2:
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
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if not self._lost:
                self._lost = "it was released"
                self.place.swap(self.key, self._data(free=True), self._version)

    def _taken(self, epoch: int, before: Version | None) -> bool:
        self.epoch = epoch
        version = self.place.swap(self.key, self._data(), before)
        if version is None:
            return False
        self._begin(epoch, version)
        return True

    def _begin(self, epoch: int, version: Version) -> None:
        self.epoch, self._version, self._renewed = epoch, version, monotonic()
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
            began = monotonic()
            try:
                version = self.place.swap(self.key, self._data(), self._version)
                found = self.place.look(self.key) if version is None else None
            except OSError as error:  # unreachable; it may come back before the lease runs out
                if began - self._renewed > self.ttl:
                    self._lost = str(error)
                else:
                    self._beat()
                return
            if version is None and found is not None and _body(found[0]).get("id") == self._id:
                version = found[1]
            if version is None:
                self._lost = "taken over" if found is None else found[0].decode(errors="replace")
                return
            self._version, self._renewed = version, began
            self._beat()

    def _data(self, *, free: bool = False) -> bytes:
        body = {
            "epoch": self.epoch,
            "free": free,
            "holder": self.content.decode(errors="replace"),
            "id": self._id,
            "write": uuid.uuid4().hex,
        }
        return json.dumps(body, sort_keys=True).encode()


def _body(data: bytes) -> dict[str, Any]:
    """What a lease says; one that cannot be read is nobody's."""
    try:
        body = json.loads(data)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
