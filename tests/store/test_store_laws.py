"""Laws of the store: what is written is read, growing is being born larger, presence is what was written."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprofile.cases import Case, Sweep
from flowprofile.errors import BusyError, IntegrityError, StoreError
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.encoding import decode, encode
from flowprofile.store.layout import Form, StoreLayout, form, layout, size
from flowprofile.store.phases import Phase
from flowprofile.store.promise import promise
from flowprofile.store.record import record_from
from flowprofile.store.regions import Region, cut, region_of
from flowprofile.store.store import Store
from flowprofile.store.verify import verify


def check_everything(specimen: ModuleType, house, sweep: Sweep, times: list[int]) -> None:
    with house.open() as store:
        run = specimen.RUN.folder
        states = store.read(run, specimen.TRAJECTORY, list(sweep), times)["x_t"]
        values = store.read(run, specimen.MEASURE, list(sweep), times)["value"]
        for row, case in enumerate(sweep):
            for column, t in enumerate(times):
                npt.assert_array_equal(states[row, column], specimen.state(case, t))
                assert values[row, column] == specimen.value(case, t)
        counts = store.read(run, specimen.COUNT, list(sweep))["count"]
        npt.assert_array_equal(counts, [specimen.count(case) for case in sweep])


def test_what_is_written_is_read_back(specimen, url) -> None:
    house = specimen.House(url)
    sweep, times = Sweep((3, 1, 2, 0, 9), (2, 0), ("none", "freeze")), [12, 7, 0]
    house.request(sweep, times)
    check_everything(specimen, house, sweep, times)


axes = st.lists(st.integers(0, 6), min_size=1, max_size=5, unique=True)


@settings(max_examples=12)
@given(requests=st.lists(st.tuples(axes, st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
                                   st.lists(st.integers(0, 12), min_size=1, max_size=6, unique=True)),
                         min_size=1, max_size=3), seed=st.integers(0, 9))  # fmt: skip
def test_growing_equals_a_fresh_store_up_to_order(specimen, tmp_path_factory, requests, seed) -> None:
    """Any history of requests, filled in any order, opens as the dataset of one request for everything."""
    folder = tmp_path_factory.mktemp("growth")
    grown = specimen.House(str(folder / "grown"), order=lambda r: random.Random(seed).sample(r, len(r)))
    for seeds, labels, times in requests:
        grown.request(Sweep(tuple(seeds), tuple(labels)), sorted(times, reverse=True))
    everything = Sweep(
        tuple(sorted({s for seeds, _, _ in requests for s in seeds})),
        tuple(sorted({n for _, labels, _ in requests for n in labels})),
    )
    times = sorted({t for _, _, wanted in requests for t in wanted}, reverse=True)
    fresh = specimen.House(str(folder / "fresh"))
    fresh.request(everything, times)
    a, b = open_profile(grown.url), open_profile(fresh.url)
    for path in ("trajectory", "measures/step_ssim", "measures/count"):
        xr.testing.assert_equal(
            a[path].to_dataset().drop_vars("status").compute(),
            b[path].to_dataset().drop_vars("status").compute(),
        )
    check_everything(specimen, grown, everything, times)


def test_order_of_writing_does_not_show(specimen, tmp_path) -> None:
    """The same regions in any order end in the same bytes, arrays and receipts alike."""
    contents = []
    for seed in range(4):
        house = specimen.House(
            str(tmp_path / str(seed)), order=lambda r, seed=seed: random.Random(seed).sample(r, len(r))
        )
        house.request(Sweep((0, 1, 2), (0,)), range(12, -1, -3))
        house.request(Sweep((0, 1, 2, 3, 4), (0, 1)), range(12, -1, -1))
        contents.append(house.contents())
    assert all(other == contents[0] for other in contents[1:])


def test_presence_is_exactly_what_was_written(specimen, house) -> None:
    house.request(Sweep((0, 1, 2, 3, 4), (0, 1)), range(12, -1, -1), fill=False)
    run, written = specimen.RUN.folder, []
    with house.open() as store:
        for region in house.missing(store)[::2]:
            store.write(region, specimen.block(store, region))
            written.append(region)
    with house.open() as store:
        for group in (specimen.TRAJECTORY, specimen.MEASURE, specimen.COUNT):
            expected = np.zeros(store.present(run, group).shape, bool)
            for r in written:
                if r.group == group:
                    expected[r.intervention, r.label, slice(*r.seeds), slice(*r.times)] = True
            npt.assert_array_equal(store.present(run, group), expected)


def test_a_second_request_for_the_same_writes_nothing(specimen, filled) -> None:
    before, heard = filled.contents(), []
    filled.listen = heard.append
    filled.request(Sweep((0, 1, 2, 3, 7, 5), (1, 2)), range(12, -1, -1))
    assert heard == []
    assert filled.contents() == before


def test_a_duplicate_task_writes_nothing(specimen, filled) -> None:
    heard: list[Phase] = []
    with filled.open() as store:
        region = Region(specimen.RUN.folder, specimen.MEASURE, 0, 1, (0, 3), (0, 7))
        assert store.receipt(region) is not None
        store.write(region, specimen.block(store, region), listen=heard.append)
    assert heard == []


def test_other_values_for_a_stored_region_are_refused(specimen, filled) -> None:
    with filled.open() as store:
        region = Region(specimen.RUN.folder, specimen.MEASURE, 0, 1, (0, 3), (0, 7))
        with pytest.raises(IntegrityError, match="already stored, with other values"):
            store.write(region, specimen.block(store, region) + np.float32(1))
    check_everything(specimen, filled, Sweep((0, 1, 2), (0, 1)), [12, 6, 0])


def test_a_retired_region_is_missing_and_can_be_written_again(specimen, filled) -> None:
    before = filled.contents()
    region = Region(specimen.RUN.folder, specimen.MEASURE, 0, 1, (0, 3), (0, 7))
    with filled.open() as store:
        store.retire(region)
        assert not store.present(region.run, region.group)[0, 1, 0:3, 0:7].any()
        tree = open_profile(filled.url)
        value = tree["measures/step_ssim"]["value"].sel(label=1, seed=[0, 1, 2], time=[12, 10]).values
        assert np.isnan(value).all()
        filled.fill(store)
    assert filled.contents() == before


@settings(max_examples=40)
@given(
    tail=st.lists(st.integers(1, 9), max_size=3).map(tuple), capacity=st.one_of(st.none(), st.integers(1, 40)),
    tile=st.integers(1, 5), chunk=st.sampled_from(["64 B", "512 B", "4 KiB"]), codec=st.sampled_from(["none", "zstd"]),
    dtype=st.sampled_from(["float32", "float16", "int8", "bool", "int64"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_encoding_round_trips(tail, capacity, tile, chunk, codec, dtype, seed) -> None:
    lay = StoreLayout(chunk=chunk, shard="2 KiB", small="256 B", codec=codec)
    made = form(lay, dtype=dtype, tail=tail, capacity=capacity, tile=tile)
    content = (np.random.default_rng(seed).standard_normal(made.chunk) * 3).astype(dtype)
    data, seal = encode(made, content)
    npt.assert_array_equal(decode(made, data, seal), content)
    assert seal.size == len(data)
    if made.inner is not None:
        assert all(c % i == 0 for c, i in zip(made.chunk, made.inner, strict=True))


def test_the_shards_of_a_full_trajectory_are_near_their_targets() -> None:
    made = form(StoreLayout(), dtype="float32", tail=(3, 32, 32), capacity=1001, tile=4)
    inner, shard = np.prod(made.inner) * 4, np.prod(made.chunk) * 4
    assert 64 * 1024 <= inner <= 256 * 1024
    assert 2**21 <= shard <= 2**22 * 1.05
    assert form(StoreLayout(), dtype="float32", tail=(), capacity=1001, tile=4) == Form(
        "float32", (1, 1, 4, 1001), None, "none"
    )


@settings(max_examples=40)
@given(
    bits=st.lists(st.booleans(), min_size=60, max_size=60), seeds=st.integers(1, 4), times=st.integers(1, 6)
)
def test_a_cut_covers_exactly_what_is_wanted(bits, seeds, times) -> None:
    wanted = np.array(bits).reshape(1, 2, 5, 6)
    covered = np.zeros(wanted.shape, int)
    for region in cut("r@0", "g@0", wanted, seeds=seeds, times=times):
        covered[region.intervention, region.label, slice(*region.seeds), slice(*region.times)] += 1
        assert region.seeds[0] // seeds == (region.seeds[1] - 1) // seeds
        assert region.times[0] // times == (region.times[1] - 1) // times
        assert region_of("r@0", "g@0", region.name) == region
    npt.assert_array_equal(covered, wanted.astype(int))


def test_a_promise_allocates_nothing() -> None:
    made = promise({"x_t": (("time", "y"), "float32")}, {"time": np.arange(1000)}, sizes={"y": 10**9})
    assert made["x_t"].nbytes == 4 * 10**12


@pytest.mark.parametrize(
    ("spoil", "names"),
    [
        (lambda b: b.rename(x_t="y_t"), "variables"),
        (lambda b: b.astype("float64"), "dtype has float64|dtype 'float64'"),
        (lambda b: b.isel(time=slice(1)), "shape"),
        (lambda b: b.transpose("time", ...), "dims"),
        (lambda b: b.assign_coords(time=b.time.values[::-1].copy()), "time"),
        (lambda b: b.isel(case=slice(1)), "shape"),
        (lambda b: b.assign_coords(y=np.arange(8) + 1), "'y'"),
    ],
)
def test_a_block_that_breaks_its_promise_is_refused(specimen, house, spoil, names) -> None:
    house.request(Sweep((0, 1), (0,)), [12, 6, 0], fill=False)
    with house.open() as store:
        region = Region(specimen.RUN.folder, specimen.TRAJECTORY, 0, 0, (0, 2), (0, 2))
        with pytest.raises(StoreError, match=names) as refusal:
            store.write(region, spoil(specimen.block(store, region)))
        assert "x_t" in str(refusal.value) or "coordinate" in str(refusal.value)
        assert not store.present(region.run, region.group).any()


def test_a_second_planner_is_told_who_holds_the_store(specimen, url) -> None:
    house = specimen.House(url)
    house.request(Sweep((0,), (0,)), [12])
    with house.open() as first, house.open() as second:
        first.lock()
        with pytest.raises(BusyError, match="Another planner") as refusal:
            second.lock()
        assert '"pid"' in refusal.value.evidence
        assert '"command"' in refusal.value.evidence
        first.close()
        second.lock()


def test_reading_what_is_not_stored_is_refused(specimen, house) -> None:
    house.request(Sweep((0, 1), (0,)), [12, 6, 0], fill=False)
    with house.open() as store:
        with pytest.raises(StoreError, match="not stored at every wanted time"):
            store.read(specimen.RUN.folder, specimen.TRAJECTORY, [Case(0, 0)])
        with pytest.raises(StoreError, match="no seed 5"):
            store.read(specimen.RUN.folder, specimen.TRAJECTORY, [Case(5, 0)])
        with pytest.raises(StoreError, match="did you mean"):
            store.present(specimen.RUN.folder, "trajectry@cccccccccc")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: StageDeclaration(s.group, s.key, s.promise.astype("float16"), s.capacity),
        lambda s: StageDeclaration(s.group, s.key, s.promise, s.capacity + 1),
        lambda s: StageDeclaration(s.group, s.key[:10] + "0" * 54, s.promise, s.capacity),
        lambda s: StageDeclaration(s.group, s.key, s.promise.assign_coords(y=np.arange(8) * 2), s.capacity),
        lambda s: StageDeclaration(
            s.group, s.key, s.promise.assign_coords(alpha_bar=s.promise.alpha_bar + 1), s.capacity
        ),
    ],
)
def test_two_different_things_under_one_key_are_refused(specimen, filled, change) -> None:
    before = filled.contents()
    with filled.open() as store, pytest.raises(StoreError, match="stored"):
        store.prepare(specimen.RUN, Sweep((0,), (0,)), [change(specimen.stages([12, 6, 0])[0])])
    assert filled.contents() == before


def test_another_numerics_class_is_another_run(specimen, filled) -> None:
    other = RunDeclaration("first", "cd" * 8, (1, 4), {}, specimen.RUN.label_coords)
    house = specimen.House(filled.url, run=other)
    house.request(Sweep((0,), (0,)), [12])
    with filled.open() as store:
        assert set(store.runs()) == {specimen.RUN.folder, other.folder}
    mixed = RunDeclaration("first", "ab" * 4 + "00000000", (1, 4), {}, specimen.RUN.label_coords)
    with filled.open() as store, pytest.raises(StoreError, match="mixed"):
        store.prepare(mixed, Sweep((0,), (0,)), [])


def test_layout_files(tmp_path: Path) -> None:
    assert layout("local") == StoreLayout()
    assert layout("memory").durability == "none"
    with pytest.raises(Exception, match="did you mean 'local'"):
        layout("locl")
    (tmp_path / "odd.toml").write_text('chunks = "1 KiB"')
    with pytest.raises(Exception, match="did you mean 'chunk'"):
        layout(tmp_path / "odd.toml")
    with pytest.raises(Exception, match="not a size"):
        size("12 parsecs")
    with pytest.raises(Exception, match="codec"):
        StoreLayout(codec="lz4")  # type: ignore[arg-type]


def test_default_layout_of_memory_needs_no_disk() -> None:
    with Store.open("memory://layout-default") as store:
        assert store.layout.durability == "none"


@pytest.mark.parametrize("durability", ["none", "fsync"])
def test_writers_side_by_side_end_in_the_same_bytes(specimen, tmp_path, durability) -> None:
    """Threads that fill one tile cell by cell share every object, and lose nothing."""
    contents = []
    for workers in (1, 4):
        layout = replace(specimen.LAYOUT, durability=durability)
        house = specimen.House(str(tmp_path / str(workers)), layout=layout)
        house.request(Sweep((0, 1, 2, 3), (0,)), [12, 8, 4, 0], fill=False)
        regions = [
            Region(specimen.RUN.folder, group, 0, 0, (s, s + 1), (t, t + 2))
            for group in (specimen.MEASURE, specimen.TRAJECTORY)
            for s in range(4)
            for t in (0, 2)
        ]
        with house.open() as store, ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda r, store=store: store.write(r, specimen.block(store, r)), regions))
            assert store.present(specimen.RUN.folder, specimen.MEASURE).all()
        assert verify(house.url).findings == ()
        contents.append(house.contents())
    assert contents[0] == contents[1]


def test_a_variable_without_time_beside_one_with_time(specimen, house) -> None:
    """It belongs to the regions that hold the first stored time, whatever is written first."""
    made = promise(
        {"a": (("time", "k"), "float32"), "b": ((), "float32")}, {"time": range(12, -1, -1)}, sizes={"k": 200}
    )
    stage = StageDeclaration("mixed", "f" * 10, made, 13)
    with house.open() as store:
        store.prepare(specimen.RUN, Sweep((0, 1), (0,)), [stage])
        run = specimen.RUN.folder
        regions = store.cut(run, stage.folder, ~store.present(run, stage.folder))
        assert len(regions) > 1
        for r in reversed(regions):
            a = np.full((2, r.times[1] - r.times[0], 200), 3, "float32")
            data = {"a": (("case", "time", "k"), a), "b": ("case", np.array([5, 6], "float32"))}
            store.write(r, xr.Dataset(data, coords={"time": list(range(12, -1, -1))[slice(*r.times)]}))
        read = store.read(run, stage.folder, [Case(1, 0), Case(0, 0)])
    assert read["b"].values.tolist() == [6, 5]
    assert (read["a"] == 3).all()
    assert verify(house.url).findings == ()
    assert open_profile(house.url)["mixed"]["b"].sel(seed=1, label=0).values.tolist() == [6]


def test_seeds_are_recorded_as_stretches_and_a_list_of_earlier_versions_is_read():
    run = {"name": "r", "key": "0", "tile": [1, 8], "attrs": {}, "interventions": ["none"], "labels": [6],
           "seeds": [[3, 6], [0, 2], [9, 10]], "label_coords": {}, "label_order": [], "stages": {}}  # fmt: skip
    record = record_from({"runs": {"r@0": run}})
    assert record.runs["r@0"].seeds == (3, 4, 5, 0, 1, 9)
    assert record.value()["runs"]["r@0"]["seeds"] == run["seeds"]
    assert record_from({"runs": {"r@0": {**run, "seeds": [3, 4, 5, 0, 1, 9]}}}) == record
    assert record_from({"runs": {"r@0": {**run, "seeds": []}}}).runs["r@0"].seeds == ()
    many = {**run, "seeds": [[0, 100_000]]}
    assert len(record_from({"runs": {"r@0": many}}).text()) < 300
