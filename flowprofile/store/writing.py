"""Writing one region: objects, then the receipt that makes it exist.

An object is rebuilt from the cells that are acknowledged and the cells that come, never patched in place, so its
bytes are a function of what is stored: the same whatever came first, and whatever was killed in between. Regions
that share objects take turns (a lock per tile of seeds); everything else runs side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xarray as xr

from flowprofile.errors import IntegrityError
from flowprofile.store.encoding import Seal, digest, encode
from flowprofile.store.growing import put_receipt
from flowprofile.store.layout import StoreLayout
from flowprofile.store.ledger import Intent, Ledger, Receipt, intents, read_receipt
from flowprofile.store.objects import ROOT, Extent, extents_of, inners_at, object_cells, whole_object, window
from flowprofile.store.phases import Listen, Phase
from flowprofile.store.places import Place
from flowprofile.store.record import RunRecord, StageRecord, Variable
from flowprofile.store.regions import Region
from flowprofile.store.turns import locked


@dataclass
class _Commit:
    """What one write has done so far."""

    ledger: Ledger
    region: Region
    own: Receipt | None
    layout: StoreLayout
    listen: Listen
    trim: bool
    seals: dict[str, Seal] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    shared: dict[Region, tuple[Receipt, dict[str, Seal]]] = field(default_factory=dict)
    """Receipts of other regions, and the seals that change in them."""
    journalled: set[str] = field(default_factory=set)


def write(
    place: Place,
    run: RunRecord,
    stage: StageRecord,
    region: Region,
    block: xr.Dataset,
    *,
    layout: StoreLayout,
    listen: Listen,
    trim: bool = False,
) -> Receipt:
    """Commit one region; the block has been checked against the promise.

    With `trim`, objects of a region that exists may come to hold less than they did: what no receipt covers any more.
    """
    with locked(place, run, region):
        ledger = Ledger(place, region.run, region.group)
        commit = _Commit(ledger, region, read_receipt(place, region), layout, listen, trim)
        for name, variable in stage.variables.items():
            values = block[name].values
            for extent in extents_of(region, name, variable):
                _object(commit, variable, extent, values)
        return _finish(commit)


def _object(commit: _Commit, variable: Variable, extent: Extent, values: npt.NDArray[np.generic]) -> None:
    ledger = commit.ledger
    key = f"{ROOT}/{ledger.run}/{ledger.group}/{extent.key}"
    exists = ledger.place.size(key) is not None
    others = list(_others(commit, extent)) if exists or commit.own else []
    base, found = whole_object(ledger, variable, extent, others) if others else (None, None)
    content = _whole(commit.region, variable, extent, values)
    if content is None:
        content = np.full(variable.form.chunk, variable.form.fill, variable.form.dtype)
        _put_own(commit.region, variable, extent, content, values)
        _keep_others(commit.region, variable, extent, content, others=others, base=base)
    regions = [commit.region, *(receipt.region for receipt in others)]
    data, seal = encode(variable.form, content, _touched(variable, extent, regions))
    commit.seals[extent.key] = seal
    if commit.trim and commit.own is not None:
        found = commit.own.objects[extent.key]
        commit.journalled.add(extent.key)
    else:
        _same_as_before(commit, extent.key, seal)
    for receipt in others:
        if receipt.objects.get(extent.key) != seal:
            commit.shared.setdefault(receipt.region, (receipt, {}))[1][extent.key] = seal
    if others:
        commit.journalled.add(extent.key)
    if found == seal or (commit.own and exists and _holds(ledger.place, key, seal)):
        return
    if found is not None:
        _journal(commit, Intent(extent.key, found.digest, seal))
    commit.listen(Phase("writing", key))
    if not _inside(commit.region, variable, extent):
        ledger.place.sure()
    ledger.place.write(key, data, durable=commit.layout.durable)
    commit.written.append(key)


def _others(commit: _Commit, extent: Extent) -> Iterator[Receipt]:
    rows = commit.ledger.overlapping(extent.intervention, extent.label, extent.seeds, extent.times)
    for receipt in commit.ledger.receipts(extent.intervention, extent.label, rows):
        if receipt.region != commit.region:
            yield receipt


def _cells_shape(variable: Variable) -> tuple[int, int]:
    return variable.form.chunk[2], variable.form.chunk[3] if variable.timed else 1


def _cells(variable: Variable, content: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """An object's content as ``(seed, time, ...)``, a view."""
    held = variable.form.chunk[len(variable.form.chunk) - len(variable.tail) :]
    cells = content.reshape(*_cells_shape(variable), *held)
    return cells[:, :, : variable.tail[0]] if variable.tail else cells


def _inside(region: Region, variable: Variable, extent: Extent) -> bool:
    """Whether an object has no room for cells of any other region."""
    seeds = region.seeds[0] <= extent.seeds[0] and extent.seeds[1] <= region.seeds[1]
    times = region.times[0] <= extent.times[0] and extent.times[1] <= region.times[1]
    return seeds and (times or not variable.timed)


def _whole(
    region: Region, variable: Variable, extent: Extent, values: npt.NDArray[np.generic]
) -> npt.NDArray[np.generic] | None:
    """The object as a view of the block, where the block holds all of it in one run of memory."""
    if not _inside(region, variable, extent) or variable.padded:
        return None
    part = values[window(extent.seeds, region.seeds)]
    part = part[:, window(extent.times, region.times)] if variable.timed else part
    return part.reshape(variable.form.chunk) if part.flags.c_contiguous else None


def _keep_others(
    region: Region,
    variable: Variable,
    extent: Extent,
    content: npt.NDArray[np.generic],
    *,
    others: Sequence[Receipt],
    base: npt.NDArray[np.generic] | None,
) -> None:
    """Copy the acknowledged cells that are not the region's own from the object as it was."""
    if base is not None:
        cells = object_cells(extent, others, _cells_shape(variable))
        cells[window(region.seeds, extent.seeds), window(region.times, extent.times)] = False
        _cells(variable, content)[cells] = _cells(variable, base)[cells]


def _put_own(
    region: Region,
    variable: Variable,
    extent: Extent,
    content: npt.NDArray[np.generic],
    values: npt.NDArray[np.generic],
) -> None:
    times = region.times if variable.timed else (0, 1)
    block = values if variable.timed else values[:, None]
    source = block[window(extent.seeds, region.seeds), window(extent.times, times)]
    _cells(variable, content)[window(region.seeds, extent.seeds), window(times, extent.times)] = source


def _touched(variable: Variable, extent: Extent, regions: Sequence[Region]) -> list[int]:
    if variable.form.inner is None:
        return [0]
    return sorted({position for region in regions for position in inners_at(variable, extent, region.times)})


def _same_as_before(commit: _Commit, key: str, seal: Seal) -> None:
    if commit.own is not None and commit.own.objects.get(key) != seal:
        raise IntegrityError(
            f"The region {commit.region} is already stored, with other values than it was given now.",
            consequence="One key would stand for two results; the stored one is kept.",
            remedy="find what differs (device, threads, library version) and put it into the key, "
            "or retire the region first",
            evidence=f"object {key}",
        )


def _holds(place: Place, key: str, seal: Seal) -> bool:
    data = place.read(key)
    return data is not None and len(data) == seal.size and digest(data) == seal.digest


def _journal(commit: _Commit, intent: Intent) -> None:
    key = intent.place_key(commit.ledger.run, commit.ledger.group)
    commit.listen(Phase("writing", key))
    commit.ledger.place.write(key, intent.data(), durable=commit.layout.durable)
    if commit.layout.durable:
        commit.ledger.place.fsync([key])


def _finish(commit: _Commit) -> Receipt:
    """Make it exist: what was written reaches the disk, sharing receipts follow, the own receipt comes last."""
    place, layout, listen = commit.ledger.place, commit.layout, commit.listen
    if layout.durable:
        place.fsync(commit.written)
    for receipt, changed in commit.shared.values():
        updated = Receipt(receipt.region, {**receipt.objects, **changed})
        put_receipt(place, updated, layout=layout, listen=listen)
    own = Receipt(commit.region, commit.seals)
    if commit.own != own:
        put_receipt(place, own, layout=layout, listen=listen)
    if commit.journalled:
        for name, intent in intents(place, commit.region.run, commit.region.group).items():
            if intent.key in commit.journalled:
                place.delete(name)
    return own
