"""What a researcher sees of a store."""

import pickle
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.errors import DefinitionError, StoreError
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace, Place
from flowprofile.store.promise import promise
from flowprofile.store.store import Store
from flowprofile.store.verify import verify


def test_plain_names_sorted_axes_and_label_attributes(specimen, filled) -> None:
    tree = open_profile(filled.url)
    assert {node.path for node in tree.leaves} == {"/trajectory", "/measures/step_ssim", "/measures/count"}
    data = tree["trajectory"].to_dataset()
    assert data["x_t"].dims == ("intervention", "label", "seed", "time", "channel", "y", "x")
    assert data["time"].values.tolist() == list(range(12, -1, -1))
    assert data["seed"].values.tolist() == [0, 1, 2, 3, 5, 7]
    assert data["label"].values.tolist() == [0, 1, 2]
    assert data["smile"].values.tolist() == [False, True, False]
    assert data["smile"].dtype == bool
    assert data["alpha_bar"].sel(time=6) == 0.5
    assert tree["measures/step_ssim"]["value"].attrs == {"units": "1"}
    assert tree["measures/step_ssim"].attrs["params"] == {"win": 7}
    assert tree.attrs["model"] == "gaussian"


def test_values_by_any_xarray_selection(specimen, filled) -> None:
    states = open_profile(filled.url)["trajectory"]["x_t"].sel(intervention="none")

    def truth(seed: int, label: int, t: int) -> np.ndarray:
        return specimen.state(specimen.Case(seed, label), t)

    np.testing.assert_array_equal(states.sel(seed=7, label=2, time=5), truth(7, 2, 5))
    np.testing.assert_array_equal(
        states.sel(seed=3, label=1, time=0, channel=1, y=slice(2, 5)), truth(3, 1, 0)[1, 2:6]
    )
    part = states.sel(seed=[5, 0], label=[2, 1], time=[3, 11, 4], x=[7, 0])
    for s, seed in enumerate([5, 0]):
        for j, label in enumerate([2, 1]):
            for k, t in enumerate([3, 11, 4]):
                np.testing.assert_array_equal(part[j, s, k], truth(seed, label, t)[:, :, [7, 0]])
    backwards = states.sel(seed=2, label=1).isel(time=slice(None, None, -3))
    np.testing.assert_array_equal(backwards.sel(time=9), truth(2, 1, 9))
    pointwise = states.sel(seed=xr.DataArray([7, 0], dims="p"), label=xr.DataArray([2, 1], dims="p"), time=4)
    np.testing.assert_array_equal(pointwise.isel(p=0), truth(7, 2, 4))
    assert (
        pickle.loads(pickle.dumps(states))
        .sel(seed=7, label=2, time=5)
        .equals(states.sel(seed=7, label=2, time=5))
    )


def test_missing_and_not_requested_are_told_apart(specimen, house) -> None:
    house.request(Sweep((0, 1), (0,)), [12, 6])
    house.request(Sweep((2,), (1,)), [12, 3], fill=False)
    tree = open_profile(house.url)
    status = tree["trajectory"]["status"].sel(intervention="none")
    assert status.sel(label=0, seed=[0, 1], time=[12, 6]).values.tolist() == [[2, 2], [2, 2]]
    assert status.sel(label=1, seed=2, time=[12, 6, 3]).values.tolist() == [1, 0, 1]
    assert np.isnan(tree["trajectory"]["x_t"].sel(label=1, seed=2)).all()
    assert (tree["measures/count"]["count"].sel(label=1) == -2).all()
    counts = tree.profile.coverage().sel(node="trajectory")
    assert (int(counts.present), int(counts.missing), int(counts.not_requested)) == (4, 2, 12)
    along = tree.profile.coverage_along("label")["trajectory"]
    assert along["present"].values.tolist() == [4, 0]
    assert along["missing"].values.tolist() == [0, 2]
    loud = open_profile(house.url, missing="raise")["trajectory"]["x_t"]
    loud.sel(label=0, seed=[0, 1], time=[12, 6]).load()
    with pytest.raises(StoreError, match=r"1 of 2 wanted cells of .* are missing"):
        loud.sel(label=0, seed=1, time=[12, 3]).load()


def test_selecting_along_all_four_axes(specimen, filled) -> None:
    tree = open_profile(filled.url)
    found = tree.profile.sel(time=slice(8, 4), seed=[7, 0], label=["smile"], intervention="none")
    assert isinstance(found, xr.DataTree)
    states = found["trajectory"]["x_t"]
    assert states["time"].values.tolist() == [8, 7, 6, 5, 4]
    assert int(states["label"]) == 1
    np.testing.assert_array_equal(states.sel(seed=7, time=5), specimen.state(specimen.Case(7, 1), 5))
    assert tree.profile.sel(label="01")["trajectory"]["label"] == 1
    assert tree.profile.sel(label=["10", "01"])["trajectory"]["label"].values.tolist() == [2, 1]
    assert tree.profile.sel(label="male")["trajectory"]["label"] == 2
    assert set(tree.profile.sel(objects="traj*").children) == {"trajectory"}
    table = tree.profile.sel(time=[8, 4], label=2, measures=["step_ssim"])
    assert table["value"].dims == ("measure", "intervention", "seed", "time")
    assert table["value"].sel(measure="step_ssim", seed=3, time=4) == specimen.value(specimen.Case(3, 2), 4)
    narrowed = tree.sel(seed=[5, 7]).profile.sel(time=4)
    assert narrowed["trajectory"]["seed"].values.tolist() == [5, 7]


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"seed": 9}, "no seed 9"),
        ({"label": ["simle"]}, "did you mean 'smile'"),
        ({"label": "011"}, "3 bits"),
        ({"label": "11"}, "not stored"),
        ({"time": 99}, "Nothing stored has the time"),
        ({"time": slice(4, 8)}, "descends"),
        ({"objects": "trajectori"}, "did you mean 'trajectory'"),
        ({"measures": ["step_sim"]}, "did you mean 'step_ssim'"),
    ],
)
def test_wrong_selections_teach(filled, selection, message) -> None:
    with pytest.raises(DefinitionError, match=message):
        open_profile(filled.url).profile.sel(**selection)


def small(
    house, stages: list[StageDeclaration], run: RunDeclaration | None = None, *, add: float = 0
) -> None:
    """Write a constant into every stage."""
    with house.open() as store:
        record = store.prepare(run or house.run, Sweep((1, 0), (0,)), stages)
        folder = (run or house.run).folder
        for stage in stages:
            for region in store.cut(folder, stage.folder, ~store.present(folder, stage.folder)):
                times = list(record.stages[stage.folder].time)[slice(*region.times)]
                values = np.full(
                    (region.seeds[1] - region.seeds[0], len(times)), add + stage.attrs["fill"], "float32"
                )
                store.write(region, xr.Dataset({"value": (("case", "time"), values)}, coords={"time": times}))


def measure(group: str, key: str, times: list[int], fill: float, **params: object) -> StageDeclaration:
    made = promise({"value": (("time",), "float32")}, {"time": times})
    return StageDeclaration(group, key * 10, made, 13, {"fill": fill, "params": params})


def test_several_parameter_sets_and_nulls(house) -> None:
    times = [12, 8, 4]
    small(house, [measure("measures/ssim", "a", times, 1, win=7)])
    small(
        house,
        [
            measure("measures/ssim", "b", times, 2, win=11),
            measure("measures/ssim.null", "c", [12, 4], 3, win=11),
        ],
    )
    tree = open_profile(house.url)
    assert set(tree["measures"].children) == {"ssim", "ssim[win=7]", "ssim[win=11]"}
    assert (tree["measures/ssim"]["value"] == 2).all()
    assert (tree["measures/ssim[win=7]"]["value"] == 1).all()
    latest = tree["measures/ssim"].to_dataset()
    assert (latest["null"].sel(time=[12, 4]) == 3).all()
    assert np.isnan(latest["null"].sel(time=8)).all()
    small(house, [measure("measures/ssim", "a", times, 1, win=7)])
    assert (open_profile(house.url)["measures/ssim"]["value"] == 1).all(), "the latest asked for comes first"


def test_versions_that_differ_in_their_mask_are_told_apart_by_its_name(house) -> None:
    def masked(key: str, digest: str, name: str) -> StageDeclaration:
        stage = measure("gradients/pull", key, [12], 1, mask=digest)
        return replace(stage, attrs={**stage.attrs, "mask_name": name})

    small(house, [masked("a", "1f" * 16, "eyes"), masked("b", "2e" * 16, "[1:4, 1:6]")])
    names = set(open_profile(house.url)["gradients"].children)
    assert names == {"pull", "pull[mask=eyes]", "pull[mask=[1:4, 1:6]]"}


INTERVENTIONS = {
    "none": {"kind": "none", "factor": -1.0, "t_first": -1, "t_last": -1},
    "scale(-1) a[1] t<=6": {"kind": "scale", "factor": -1.0, "t_first": 6, "t_last": 0},
    "zero a[1]": {"kind": "zero", "factor": -1.0, "t_first": -1, "t_last": 0},
    "steer a+2*#1": {"kind": "steer", "factor": 2.0, "t_first": -1, "t_last": 0},
    "scale(-1) a[1] + switch@6->1": {"kind": "several", "factor": -1.0, "t_first": -1, "t_last": 0},
    "switch@6->1 + zero a[1]": {"kind": "several", "factor": -1.0, "t_first": -1, "t_last": 0},
}


def test_coordinates_of_interventions_can_be_computed_with(specimen, house) -> None:
    names = tuple(INTERVENTIONS)
    told = {c: {name: row[c] for name, row in INTERVENTIONS.items()} for c in INTERVENTIONS["none"]}
    house.run = replace(specimen.RUN, intervention_coords=told, attrs={"model": {"steps": 20}})
    house.request(Sweep((0,), (0,), names), [12], fill=False)
    for data in (open_profile(house.url), open_profile(house.url)["trajectory"]):
        npt.assert_array_equal(data["factor"], [np.nan, -1, np.nan, 2, -1, np.nan])
        assert data["t_first"].values.tolist() == [-1, 6, 19, 19, 19, 19]
        early = data["intervention"].where(data["t_first"] >= 10, drop=True).values.tolist()
        assert early == list(names[2:]), "in force from the beginning, and not the clean run"
    assert verify(house.url).findings == (), "what is stored is as it was"


def test_several_runs_are_children(house) -> None:
    other = RunDeclaration("second", "cd" * 8, (1, 4), {"model": "other"}, house.run.label_coords)
    stages = [measure("measures/ssim", "a", [12, 8], 1)]
    small(house, stages)
    small(house, stages, other, add=10)
    tree = open_profile(house.url)
    assert set(tree.children) == {"first", "second"}
    assert (tree["second/measures/ssim"]["value"] == 11).all()
    assert (open_profile(house.url, run="first")["measures/ssim"]["value"] == 1).all()
    assert open_profile(house.url, run=other.folder).attrs["model"] == "other"
    with pytest.raises(DefinitionError, match="did you mean 'second'"):
        open_profile(house.url, run="secnd")


def test_no_store_there(tmp_path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        open_profile(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("codec", ["none", "zstd", "blosc"])
def test_other_readers_see_equal_values(specimen, tmp_path, codec) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    import zarr

    layout = StoreLayout(chunk="2 KiB", shard="6 KiB", small="1 KiB", durability="none", codec=codec)
    house = specimen.House(str(tmp_path / "store"), layout=layout)
    house.request(Sweep((0, 1, 2), (0, 1)), range(12, -1, -2))
    house.request(Sweep((0, 1, 2, 4), (0, 1)), range(12, -1, -1))
    root = Path(house.url) / "profile.zarr"
    plain = xr.open_datatree(root, engine="zarr")[specimen.RUN.folder]
    ours = open_profile(house.url)
    for name, folder, variable in (
        ("trajectory", specimen.TRAJECTORY, "x_t"),
        ("measures/step_ssim", specimen.MEASURE, "value"),
        ("measures/count", specimen.COUNT, "count"),
    ):
        mine = ours[name][variable].load()
        theirs = plain[folder][variable].load()
        xr.testing.assert_equal(
            theirs.sel({axis: mine[axis] for axis in mine.dims if axis in mine.indexes}), mine
        )
        raw = zarr.open_array(root / specimen.RUN.folder / folder / variable, mode="r")[...]
        np.testing.assert_array_equal(raw, theirs.values)
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{root}/{specimen.RUN.folder}/{folder}/{variable}/"},
        }
        np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), raw)
    unconsolidated = zarr.open_group(root, mode="r", use_consolidated=False)
    np.testing.assert_array_equal(unconsolidated[specimen.RUN.folder]["seed"][:], [0, 1, 2, 4])
    assert unconsolidated[specimen.RUN.folder]["intervention"][:].tolist() == ["none"]


def test_opening_and_querying_imports_no_torch(filled) -> None:
    code = (
        "import sys; from flowprofile.opening import open as o; t = o(sys.argv[1]);"
        "t['trajectory']['x_t'].sel(seed=0, label=1, time=6).load(); t.profile.coverage();"
        "import flowprofile.store.verify as v; v.verify(sys.argv[1]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, filled.url], check=True)


def test_a_hundred_opens_during_growth(specimen, house) -> None:
    house.request(Sweep((0,), (0,)), [12])
    failures, opens, done = [], [0], threading.Event()

    def reader() -> None:
        while not done.is_set() or opens[0] < 100:
            try:
                tree = open_profile(house.url)
                opens[0] += 1
                part = tree["measures/step_ssim"].to_dataset().isel(seed=slice(0, 3)).load()
                for seed in part.seed.values.tolist():
                    got = part["value"].sel(seed=seed, label=0, time=12, intervention="none")
                    if part["status"].sel(seed=seed, label=0, time=12, intervention="none") == 2:
                        assert got == specimen.value(specimen.Case(seed, 0), 12)
            except Exception as error:  # noqa: BLE001 - the test is that there is none of any kind
                failures.append(error)
                return

    threads = [threading.Thread(target=reader) for _ in range(2)]
    for thread in threads:
        thread.start()
    for step in range(1, 12):
        house.request(Sweep(tuple(range(step + 1)), (0,)), [12, 12 - step])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert opens[0] >= 100


class Counting(LocalPlace):
    """A folder that counts the bytes of data read."""

    count = 0

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        data = super().read(key, start, stop)
        Counting.count += len(data or b"") if key.startswith("profile.zarr") and "/c." in key else 0
        return data


def test_one_profile_reads_little_more_than_its_bytes(tmp_path) -> None:
    times = list(range(1000, -1, -1))
    made = promise(
        {"x_t": (("time", "channel", "y", "x"), "float32")},
        {"time": times},
        sizes={"channel": 3, "y": 8, "x": 8},
    )
    stage = StageDeclaration("trajectory", "a" * 10, made, 1001, {})
    run = RunDeclaration("wide", "ab" * 8, (1, 4))
    layout = StoreLayout(durability="none")
    with Store.open(tmp_path / "s", layout=layout) as store:
        record = store.prepare(run, Sweep(tuple(range(4)), (0,)), [stage])
        for region in store.cut(run.folder, stage.folder, ~store.present(run.folder, stage.folder)):
            n = region.times[1] - region.times[0]
            block = xr.Dataset(
                {"x_t": (("case", "time", "channel", "y", "x"), np.ones((4, n, 3, 8, 8), "float32"))},
                coords={"time": list(record.stages[stage.folder].time[slice(*region.times)])},
            )
            store.write(region, block)
    place: Place = Counting(tmp_path / "s")
    from flowprofile.store.snapshot import snapshot
    from flowprofile.store.tree import Opener

    tree = Opener(place, snapshot(place).record, version="", missing="nan").tree(None)
    Counting.count = 0
    one = tree["trajectory"]["x_t"].sel(seed=2, label=0, intervention="none").load()
    assert one.nbytes <= Counting.count <= 1.1 * one.nbytes
    Counting.count = 0
    part = tree["trajectory"]["x_t"].sel(seed=2, label=0, intervention="none", time=slice(900, 500)).load()
    assert Counting.count <= 2 * part.nbytes


def test_selecting_reads_no_value(filled, monkeypatch) -> None:
    """A selection of small arrays once read all of them, through a question about their type."""
    from flowprofile.store import lazy

    tree = open_profile(filled.url)
    touched = []
    honest = lazy.read
    monkeypatch.setattr(lazy, "read", lambda *args: touched.append(args[1]) or honest(*args))
    found = tree.profile.sel(time=slice(8, 4), label=2, objects="trajectory")
    assert touched == []
    assert isinstance(found, xr.Dataset)
    found["x_t"].load()
    assert touched


def test_a_store_that_is_gone_is_an_error_and_not_missing_values(tmp_path) -> None:
    """An unmounted disk lists as an empty folder, and a mean of nothing is NaN."""
    import flowprofile as fp

    url = tmp_path / "store"
    tree = fp.profile("gaussian8", seeds="0:2", labels=[0], into=url, sampler={"steps": 4})
    url.rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="not there any more"):
        tree["trajectory"]["x_t"].load()


def test_selecting_again_along_an_axis_never_gives_other_cells(filled) -> None:
    tree = open_profile(filled.url)
    once = tree.profile.sel(label=2, time=8)
    assert once.profile.sel(label=2)["trajectory"]["label"] == 2
    with pytest.raises(DefinitionError, match="selected before"):
        once.profile.sel(label=1)
    with pytest.raises(DefinitionError, match="selected before"):
        once.profile.sel(time=4)


def test_a_stage_of_which_nothing_is_stored_does_not_take_the_plain_name(tmp_path):
    from kept_stores import FAST, sweep

    from flowprofile import running
    from flowprofile.store.phases import Phase

    url = tmp_path / "store"
    running.run(sweep(seeds="0:2", steps=8), into=url, layout=FAST)
    before = open_profile(url)["measures/step_ssim"]["value"].load()

    def failing(event):
        if isinstance(event, Phase) and event.name == "receipt":
            raise KeyboardInterrupt

    wider = sweep(seeds="0:2", steps=8, step_ssim={"use": "ssim", "window": 5})
    with pytest.raises(KeyboardInterrupt):
        running.run(wider, into=url, layout=FAST, listen=failing)
    assert open_profile(url)["measures/step_ssim"]["value"].identical(before)
    running.run(wider, into=url, layout=FAST)
    assert not open_profile(url)["measures/step_ssim"]["value"].equals(before)
