"""From cells to objects: which object holds what, and whether its bytes are the acknowledged ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowprofile.errors import IntegrityError
from flowprofile.store.bounds import largest
from flowprofile.store.encoding import Seal, decode, digest, index, intact
from flowprofile.store.ledger import Ledger, Receipt
from flowprofile.store.record import Variable
from flowprofile.store.regions import Region

ROOT = "profile.zarr"


@dataclass(frozen=True, slots=True)
class Extent:
    """The cells one object of one variable has room for."""

    name: str
    """The variable."""
    intervention: int
    label: int
    seeds: tuple[int, int]
    times: tuple[int, int]
    key: str
    """Below the stage's folder."""


def extents(
    name: str,
    variable: Variable,
    intervention: int,
    label: int,
    seeds: tuple[int, int],
    times: tuple[int, int],
) -> Iterator[Extent]:
    """The objects of a variable that have cells in a box."""
    tile = variable.form.chunk[2]
    block = variable.form.chunk[3] if variable.timed else 1
    for seed in range(seeds[0] // tile, -(-seeds[1] // tile)):
        for time in range(times[0] // block, -(-times[1] // block)) if variable.timed else (0,):
            at = [intervention, label, seed, *([time] if variable.timed else []), *(0 for _ in variable.tail)]
            yield Extent(
                name, intervention, label, (seed * tile, (seed + 1) * tile), (time * block, (time + 1) * block),
                f"{name}/c.{'.'.join(map(str, at))}",
            )  # fmt: skip


def extents_of(region: Region, name: str, variable: Variable) -> Iterator[Extent]:
    """The objects of a variable that a region has cells in.

    A variable without time beside others with time belongs to the regions that hold the first stored time.
    """
    times = region.times if variable.timed else (0, 1)
    if variable.timed or region.times[0] == 0:
        yield from extents(name, variable, region.intervention, region.label, region.seeds, times)


def inners_at(variable: Variable, extent: Extent, times: tuple[int, int]) -> range:
    """Positions of the inner chunks of an object that hold any of some times (positions on the stored axis)."""
    form = variable.form
    if form.inner is None:
        return range(1)
    per_time = form.inners // (form.chunk[3] // form.inner[3])
    start = max(times[0], extent.times[0]) - extent.times[0]
    stop = min(times[1], extent.times[1]) - extent.times[0]
    return range(start // form.inner[3] * per_time, -(-stop // form.inner[3]) * per_time)


def object_cells(
    extent: Extent, receipts: Sequence[Receipt], shape: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """Which (seed, time) cells of an object some receipts cover."""
    result = np.zeros(shape, bool)
    for receipt in receipts:
        result[window(receipt.region.seeds, extent.seeds), window(receipt.region.times, extent.times)] = True
    return result


def window(part: tuple[int, int], whole: tuple[int, int]) -> slice:
    """Where a range is inside another, cut to it."""
    return slice(max(part[0], whole[0]) - whole[0], max(0, min(part[1], whole[1]) - whole[0]))


def damaged(ledger: Ledger, key: str, found: bytes | None) -> IntegrityError:
    """The error for an object that is not what was acknowledged."""
    name, _, chunk = key.partition("/")
    seen = "nothing" if found is None else f"{len(found)} bytes, blake2b {digest(found)}"
    return IntegrityError(
        f"The chunk {chunk!r} of the array {ledger.run}/{ledger.group}/{name} in {ledger.place.url} "
        "is not what was acknowledged.",
        consequence="Its values would be wrong; none of them are returned.",
        remedy=f"flowprofile verify --repair {ledger.place.url}",
        evidence=f"{ROOT}/{ledger.run}/{ledger.group}/{key}: {seen}",
    )


def whole_object(
    ledger: Ledger, variable: Variable, extent: Extent, receipts: Sequence[Receipt]
) -> tuple[npt.NDArray[np.generic], Seal]:
    """An object's verified content, and the seal it was found to have."""
    key = f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"
    fits = (ledger.place.size(key) or 0) <= largest(variable.form)
    data = ledger.place.read(key) if fits else None
    allowed = [*ledger.seals(extent.key, receipts), *ledger.intended(extent.key)]
    for seal in allowed:
        if data is not None and len(data) == seal.size and digest(data) == seal.digest:
            return decode(variable.form, data, seal), seal
    raise damaged(ledger, extent.key, data)


def sound(data: bytes, seal: Seal) -> bool:
    """Whether these bytes are the sealed ones, in every part: content, checksums and the shard's index."""
    if len(data) != seal.size or digest(data) != seal.digest:
        return False
    entries = [entry for entry in seal.inner if entry is not None]
    if not all(intact(data[entry[0] : entry[0] + entry[1]], entry) for entry in entries):
        return False
    tail = data[sum(entry[1] for entry in entries) :]
    return not tail or tail == index(seal.inner)
