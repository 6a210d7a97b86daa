"""No planted fault is silent: a finite wrong value never comes out without an error."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from planting import ALL, FIRST, TIMES, Objects, faults, read_all, silent

from flowprofile.errors import IntegrityError, StoreError
from flowprofile.opening import open as open_profile
from flowprofile.store.places import MemoryPlace
from flowprofile.store.verify import repair, verify


@pytest.fixture(scope="module")
def versions(specimen) -> tuple[Objects, Objects]:
    """The objects of a store before and after it grew."""
    house, place = specimen.House("memory://corruption-source"), MemoryPlace("corruption-source")
    house.request(FIRST, TIMES[::2])
    old = dict(place._objects)
    house.request(ALL, TIMES)
    return old, dict(place._objects)


def test_no_planted_fault_is_silent(versions, capsys) -> None:
    old, now = versions
    place = MemoryPlace("corruption-target")
    place._objects.clear()
    place._objects.update(now)
    truth = read_all(place.url)
    outcomes: Counter[tuple[str, str, str]] = Counter()
    unseen, refusals = [], []
    for kind, name, spoil in faults(old, now):
        place._objects.clear()
        place._objects.update(now)
        spoil(place._objects)
        try:
            found = read_all(place.url)
        except StoreError as error:
            outcomes[kind, name, "error"] += 1
            refusals.append(error)
        else:
            wrong = silent(found, truth)
            same = all(found[path].identical(truth[path]) for path in truth)
            outcomes[kind, name, "SILENT" if wrong else "harmless" if same else "missing"] += 1
            if wrong:
                unseen.append((kind, name))
    with capsys.disabled():
        print(f"\n{sum(outcomes.values())} faults, {len(unseen)} silent")
        for (kind, name, outcome), count in sorted(outcomes.items()):
            print(f"  {kind:11} {name:16} {outcome:9} {count}")
    assert unseen == []
    assert sum(outcomes.values()) >= 150
    harmless = {(kind, name) for kind, name, outcome in outcomes if outcome == "harmless"}
    assert not any(kind == "chunk" and name != "bit flip" for kind, name in harmless)
    assert ("coordinate", "bit flip") not in harmless
    assert all(error.consequence and error.remedy for error in refusals)


def test_verify_finds_every_fault_and_repair_mends_it(specimen, versions) -> None:
    old, now = versions
    place, house = MemoryPlace("corruption-repair"), specimen.House("memory://corruption-repair")
    for number, (kind, name, spoil) in enumerate(faults(old, now)):
        if number % 7:
            continue
        place._objects.clear()
        place._objects.update(now)
        spoil(place._objects)
        report = verify(place.url)
        if kind == "receipts" and name == "deletion":
            assert {f.kind for f in report.findings} <= {
                "debris"
            }  # a region without a receipt does not exist
        elif kind == "layouts" and report.sound:
            continue  # the record of an older root document, which nobody needs
        else:
            assert not report.sound, (kind, name)
        assert repair(place.url).after.findings == ()
        with house.open() as store:
            house.fill(store)
        assert verify(place.url).findings == ()
        truth = {k: v for k, v in now.items() if k.startswith("profile.zarr/")}
        assert {k: v for k, v in place._objects.items() if k.startswith("profile.zarr/")} == truth, (
            kind,
            name,
        )


def test_an_error_names_store_array_and_chunk(specimen, filled) -> None:
    key = next(Path(filled.url).glob("profile.zarr/*/trajectory*/x_t/c.0.1.3.0.0.0.0"))
    data = bytearray(key.read_bytes())
    data[7] ^= 1
    key.write_bytes(bytes(data))
    tree = open_profile(filled.url)
    with pytest.raises(IntegrityError) as refusal:
        tree["trajectory"]["x_t"].sel(label=1).load()
    chunk = key.relative_to(filled.url).name
    assert filled.url in str(refusal.value)
    assert "trajectory@cccccccccc/x_t" in str(refusal.value)
    assert chunk in str(refusal.value)
    finding = next(f for f in verify(filled.url).findings if f.kind == "object damaged")
    assert "label 1" in finding.cells
    assert "seed" in finding.cells


def test_only_the_ledger_sees_swapped_shards(specimen, filled, tmp_path) -> None:
    """Negative twin: two shards change places; every checksum fits, plain xarray is wrong without a word."""
    root = Path(filled.url)
    a, b = sorted(root.glob("profile.zarr/*/trajectory*/x_t/c.0.1.*.0.0.0.0"))[:2]
    shutil.move(a, tmp_path / "kept")
    shutil.move(b, a)
    shutil.move(tmp_path / "kept", b)
    plain = xr.open_datatree(root / "profile.zarr", engine="zarr")
    states = plain[specimen.RUN.folder][specimen.TRAJECTORY]["x_t"]
    got = states.isel(intervention=0, label=1, seed=0, time=0).values
    assert not np.array_equal(got, specimen.state(specimen.Case(0, 1), 12))
    assert np.isfinite(got).all()
    with pytest.raises(IntegrityError):
        open_profile(root)["trajectory"]["x_t"].sel(label=1, seed=0).load()
    assert {f.kind for f in verify(root).findings} == {"object swapped"}
