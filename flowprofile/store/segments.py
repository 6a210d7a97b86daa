"""The names of many regions in one file, so that a finished sweep is recognised without listing a hundred thousand.

A segment is a cache beside the receipts, never a claim of its own: of each folder of receipts it holds the regions and
the folder's time of change, and it is believed only as long as that time is the same, and was old enough when the
segment was written that no later entry can hide behind it. A damaged or stale one is not there.
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


def segment_key(run: str, group: str) -> str:
    """Where a stage's segment is."""
    return f"{SEGMENTS}/{run}/{group.replace('/', '~')}"


def segment_data(rows: Mapping[str, tuple[int, Rows]]) -> bytes:
    """A segment's bytes, from folders' times of change and regions."""
    header = json.dumps({name: [at, len(each)] for name, (at, each) in rows.items()}).encode()
    payload = b"".join(each.astype("<i8").tobytes() for _, each in rows.values())
    body = len(header).to_bytes(_LENGTH, "little") + header + payload
    return digest(body).encode() + body


def segment(place: Place, run: str, group: str) -> dict[str, tuple[int, Rows]]:
    """Folders' times of change and regions, of folders that had settled; empty where there is nothing to believe."""
    data = place.read(segment_key(run, group))
    if data is None or data[:_DIGEST] != digest(data[_DIGEST:]).encode():
        return {}
    start = _DIGEST + _LENGTH
    stop = start + int.from_bytes(data[_DIGEST:start], "little")
    found, at = {}, stop
    for name, (changed, count) in json.loads(data[start:stop]).items():
        rows = np.frombuffer(data, "<i8", count * 4, at).reshape(-1, 4)
        found[name] = (changed, rows)
        at += rows.nbytes
    return found


def settled(changed: int) -> bool:
    """Whether a folder that changed then shows every change that was made before now."""
    return time_ns() - changed > SETTLED
