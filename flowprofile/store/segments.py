"""The names of many regions in one file, so that a finished sweep is recognised without listing a hundred thousand.

A segment is a cache beside the receipts, never a claim of its own: of each folder of receipts it holds the regions and
the folder's times of change, and it is believed only as long as they are the same, and the first was old enough when
the segment was written that no later entry can hide behind it. The second is the file system's own: a copy that lost
receipts and set the folder's time back (cp -a, rsync -a, tar) is not believed. A damaged or stale one is not there.
"""

import json
from collections.abc import Mapping
from time import time_ns
from typing import Final

import numpy as np
import numpy.typing as npt

from flowprofile.store.encoding import digest
from flowprofile.store.places import Place

SEGMENTS: Final = "ledger/segments"
SETTLED: Final = 2_000_000_000
"""Nanoseconds after which a folder's time of change tells of every entry: file systems count in steps."""
_LENGTH: Final = 8
_DIGEST: Final = 32

Rows = npt.NDArray[np.int64]
Changed = tuple[int, int]
"""A folder's own time of change and the file system's, ns; see `places.Place.modified`."""


def segment_key(run: str, group: str) -> str:
    """Where a stage's segment is."""
    return f"{SEGMENTS}/{run}/{group.replace('/', '~')}"


def segment_data(rows: Mapping[str, tuple[Changed, Rows]]) -> bytes:
    """A segment's bytes, from folders' times of change and regions."""
    header = json.dumps({name: [*at, len(each)] for name, (at, each) in rows.items()}).encode()
    payload = b"".join(each.astype("<i8").tobytes() for _, each in rows.values())
    body = len(header).to_bytes(_LENGTH, "little") + header + payload
    return digest(body).encode() + body


def segment(place: Place, run: str, group: str) -> dict[str, tuple[Changed, Rows]]:
    """Folders' times of change and regions, of folders that had settled; empty where there is nothing to believe."""
    data = place.read(segment_key(run, group)) if place.near else None  # a bucket has no folders that change
    if data is None or data[:_DIGEST] != digest(data[_DIGEST:]).encode():
        return {}
    try:
        return _told(data)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _told(data: bytes) -> dict[str, tuple[Changed, Rows]]:
    """What a segment's bytes say."""
    start = _DIGEST + _LENGTH
    stop = start + int.from_bytes(data[_DIGEST:start], "little")
    found, at = {}, stop
    for name, (own, kept, count) in json.loads(data[start:stop]).items():
        rows = np.frombuffer(data, "<i8", count * 4, at).reshape(-1, 4)
        found[name] = ((own, kept), rows)
        at += rows.nbytes
    return found


def settled(changed: Changed) -> bool:
    """Whether a folder that changed then shows every change that was made before now."""
    return time_ns() - changed[0] > SETTLED
