"""What was compared is kept beside the profile: read again, never mistaken, and no part of the profile itself."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import xarray as xr
import zarr
from compared_stores import FAST, STAGES, sampled

import flowprofile as fp
from flowprofile.comparing import keeping, verb
from flowprofile.errors import IntegrityError, StoreError
from flowprofile.store.places import LocalPlace
from flowprofile.store.store import Store
from flowprofile.store.urls import place
from flowprofile.store.verify import verify
from flowprofile.upkeep.export import export
from flowprofile.upkeep.merge import merge
from flowprofile.upkeep.tidy import gc, waste

TWO = {"label": (0, 1)}


@pytest.fixture
def counted(monkeypatch):
    """How often seeds were tallied."""
    calls, forests = [], verb.forests

    def counting(*args, **kwargs):
        calls.append(args)
        return forests(*args, **kwargs)

    monkeypatch.setattr(verb, "forests", counting)
    return calls


def results(url):
    return sorted(Path(url, "comparisons").glob("*.zarr"))


def profile(url):
    """All that must be byte-identical."""
    files = [*Path(url, "profile.zarr").rglob("*"), *Path(url, "ledger", "receipts").rglob("*")]
    return {str(f.relative_to(url)): f.read_bytes() for f in files if f.is_file()}


@pytest.mark.parametrize("between", [TWO, "labels", {"intervention": ("none", "later")}])
def test_the_same_again_is_read_and_not_computed(held, counted, between):
    first, again = fp.compare(held, between=between), fp.compare(held, between=between)
    xr.testing.assert_identical(first, again)
    assert {k: v.dtype for k, v in first.variables.items()} == {
        k: v.dtype for k, v in again.variables.items()
    }
    assert (len(counted), len(results(held))) == (1, 1)


def test_who_only_looks_keeps_nothing_and_reads_what_is_kept(held, counted):
    before = profile(held)
    first = fp.compare(held, between=TWO, remember=False)
    assert (len(counted), results(held), profile(held)) == (1, [], before)
    fp.compare(held, between=TWO)
    again = fp.compare(held, between=TWO, remember=False)
    xr.testing.assert_identical(first, again)
    assert (len(counted), len(results(held))) == (2, 1)


@pytest.mark.parametrize(
    "change",
    [{"excess": True}, {"delta": [0.3]}, {"alpha": 0.1}, {"seed": [0, 1, 2]}, {"time": slice(800, 0)},
     {"between": {"label": (0, 2)}}, {"window": 5}],
)  # fmt: skip
def test_anything_that_decides_a_result_is_in_its_key(held, counted, change):
    fp.compare(held, between=TWO)
    fp.compare(held, **{"between": TWO, **change})
    assert (len(counted), len(results(held))) == (2, 2)


def test_where_a_store_is_decides_nothing(held, counted, tmp_path):
    first = fp.compare(held, between=TWO)
    shutil.copytree(held, tmp_path / "moved")
    assert fp.compare(tmp_path / "moved", between=TWO).attrs["recipe"] == first.attrs["recipe"]
    assert len(counted) == 1


def test_a_grown_store_is_compared_anew(held, counted):
    fp.compare(held, between=TWO)
    sampled(held, seeds="0:7")
    assert (fp.compare(held, between=TWO)["n"] == 7).all()
    assert len(counted) == 2
    assert (fp.compare(held, between=TWO, seed=range(6))["n"] == 6).all()
    assert len(counted) == 2


def test_a_result_is_plain_zarr(held):
    found = fp.compare(held, between="labels")
    (folder,) = results(held)
    assert folder.stem == found.attrs["recipe"]
    group = zarr.open_group(folder, mode="r", zarr_format=3)
    assert set(group.array_keys()) == set(found.variables)
    assert group.metadata.consolidated_metadata is not None
    assert (group["value"][...] == found["value"].values).all()
    with xr.open_zarr(folder, chunks=None) as other:
        xr.testing.assert_equal(other.load(), found)


def test_a_number_that_was_changed_in_the_metadata_is_noticed(held):
    fp.compare(held, between=TWO)
    document = results(held)[0] / "zarr.json"
    told = document.read_text()
    document.write_text(told.replace('"alpha":0.05', '"alpha":0.01'))
    assert document.read_text() != told
    with pytest.raises(IntegrityError, match="sealed"):
        fp.compare(held, between=TWO)


@pytest.mark.parametrize("harm", ["flip", "delete", "shorten"])
@pytest.mark.parametrize("victim", ["value/c/0", "onset/zarr.json", "claimed/c/0", "zarr.json"])
def test_a_damaged_result_is_refused_and_computed_again_once_it_is_removed(held, harm, victim):
    first = fp.compare(held, between=TWO)
    (folder,) = results(held)
    path = folder / victim
    data = path.read_bytes()
    path.unlink() if harm == "delete" else path.write_bytes(
        bytes([data[0] ^ 1]) + data[1:] if harm == "flip" else data[:-3]
    )
    if (harm, victim) == ("delete", "zarr.json"):
        return  # it is not there, then
    with pytest.raises(IntegrityError, match="remove that folder"):
        fp.compare(held, between=TWO)
    shutil.rmtree(folder)
    xr.testing.assert_identical(fp.compare(held, between=TWO), first)


def test_a_result_that_was_cut_short_is_not_seen(held, counted):
    fp.compare(held, between=TWO)
    (folder,) = results(held)
    (folder / "zarr.json").unlink()
    fp.compare(held, between=TWO)
    assert len(counted) == 2
    # The root comes last: whatever is cut short has none.
    written = []

    class Listening(LocalPlace):
        def write(self, key, data, **kwargs):
            written.append(key)
            super().write(key, data, **kwargs)

    keeping.keep(Listening(Path(held)), "f" * 32, fp.compare(held, between=TWO))
    assert written[-1].endswith(".zarr/zarr.json")
    assert sum(key.endswith(".zarr/zarr.json") for key in written) == 1


def test_the_profile_knows_nothing_of_it(held, tmp_path):
    before = profile(held)
    fp.compare(held, between="labels")
    kept = {f: f.read_bytes() for f in Path(held, "comparisons").rglob("*") if f.is_file()}
    assert profile(held) == before
    assert verify(held).findings == ()
    with Store.open(held) as store:
        assert waste(store).keys == ()
        gc(store)
    assert {f: f.read_bytes() for f in Path(held, "comparisons").rglob("*") if f.is_file()} == kept
    with Store.open(held) as source, Store.open(str(tmp_path / "merged"), layout=FAST) as target:
        merge([source], target)
    assert not (tmp_path / "merged" / "comparisons").exists()
    exported = export(fp.open(held), tmp_path / "all.zarr")
    assert not [name for name in exported.rglob("*") if "comparisons" in name.parts]
    assert sorted(fp.open(held).children) == ["measures", "trajectory"]
    sampled(held)
    assert profile(held) == before


def test_a_store_that_cannot_be_written_to_is_compared_all_the_same(held, monkeypatch):
    wanted = fp.compare(held, between=TWO)
    shutil.rmtree(Path(held) / "comparisons")

    def refused(self, key, data, **kwargs):
        raise StoreError(f"{key} is only read here.")

    monkeypatch.setattr(LocalPlace, "write", refused)
    found = fp.compare(held, between=TWO)
    assert "only read" in found.attrs.pop("not_kept")
    xr.testing.assert_identical(found, wanted)


def test_it_is_kept_in_memory_and_in_a_bucket_alike(bucket, counted):
    url = f"s3://{bucket}/held"
    stages = {"label_ssim": STAGES["label_ssim"]}
    for where in (url, "memory://compared"):
        sampled(where, stages=stages, seeds="0:3")
    first, again, other = (fp.compare(where, between=TWO) for where in (url, url, "memory://compared"))
    xr.testing.assert_identical(first, again)
    assert len(counted) == 2
    objects = [
        {key: where.read(key) for key in where.list("comparisons")}
        for where in (place(url), place("memory://compared"))
    ]
    assert objects[0] == objects[1]
    assert objects[0]
    assert first.attrs == other.attrs


def test_comparing_imports_no_torch(whole):
    program = "import sys, flowprofile as fp; fp.compare(sys.argv[1], between='labels', window=5); print(*sys.modules)"
    command = [sys.executable, "-c", program, whole]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "flowprofile.comparing.states" in loaded
    assert not {"torch", "matplotlib"} & set(loaded)
