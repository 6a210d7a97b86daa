"""Every spelling of a selection, and a refusal that teaches for every other one."""

from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pandas as pd
import pytest
import xarray as xr

from flowprofile.cases import Sweep
from flowprofile.errors import DefinitionError
from flowprofile.opening import open as open_profile
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.places import LocalPlace
from flowprofile.store.promise import promise
from flowprofile.store.snapshot import snapshot
from flowprofile.store.store import Store
from flowprofile.store.tree import Opener

TITLES = ("none", "sw", "sw", "own", "control")
NAMES = ("none", "switch@6->1", "switch@9->1", "zero mid.fn[3]", "zero mid.fn[17]")
SHAPES = {"downs.0.fn": (2, 8, 8), "mid.fn": (4, 4, 4), "ups.0.fn": (4, 4, 4)}
ORDER = {"downs.0.fn": 0, "ups.0.fn": 2, "mid.fn": 1}
TIMES = [12, 9, 6, 3]


def layers_of(run: str) -> list[StageDeclaration]:
    """Activations of three layers, their strongest channels, and rows of a volume."""
    found = [activation(layer, number) for number, layer in enumerate(SHAPES)]
    coords = {"time": TIMES, "layer": np.array(list(SHAPES), dtype=object)}
    channels = promise({"channel": (("time", "layer"), "int64")}, coords)
    pixels = np.array([1, 8, 10])
    place = {"pixel": pixels, "pixel_y": ("pixel", pixels // 8), "pixel_x": ("pixel", pixels % 8)}
    rows = promise({"gradient": (("time", "pixel"), "float32")}, {"time": TIMES, **place})
    return [
        *found,
        StageDeclaration("max_channel", "d" * 10, channels, 13),
        StageDeclaration("gradients/pgv", "e" * 10, rows, 13, {"join": {"axis": "pixel", "of": "1a"}}),
    ]


def activation(layer: str, number: int) -> StageDeclaration:
    channel, y, x = SHAPES[layer]
    axes = {"channel": np.arange(channel), "y": np.arange(y), "x": np.arange(x)}
    # one layer keeps fewer states than the others
    made = promise(
        {"activation": (("time", "channel", "y", "x"), "float32")},
        {"time": TIMES[:-1] if layer == "mid.fn" else TIMES, **axes},
    )
    attrs = {"layer": layer, "layer_index": ORDER[layer]}
    return StageDeclaration(f"activations/{layer}", "abc"[number] * 10, made, 13, attrs)


def value(stage: str, seed: int, label: int, intervention: str, t: int) -> float:
    return seed + 10 * label + 100 * NAMES.index(intervention) + 1000 * t + 0.5 * ("ups" in stage)


def fill(
    url: str, run: RunDeclaration, sweep: Sweep, stages: list[StageDeclaration], layout: StoreLayout
) -> None:
    with Store.open(url, layout=layout) as store:
        record = store.prepare(run, sweep, stages)
        for stage in stages:
            for region in store.cut(run.folder, stage.folder, ~store.present(run.folder, stage.folder)):
                times = list(record.stages[stage.folder].time[slice(*region.times)])
                at = (record.labels[region.label], record.interventions[region.intervention])
                cells = [
                    [value(stage.group, seed, *at, t) for t in times]
                    for seed in record.seeds[slice(*region.seeds)]
                ]
                data = {}
                for name, v in stage.promise.data_vars.items():
                    shape = (len(cells), len(times), *v.shape[1:])
                    spread = np.array(cells).reshape(*shape[:2], *([1] * (v.ndim - 1)))
                    data[name] = (("case", *v.dims), np.broadcast_to(spread, shape).astype(v.dtype))
                store.write(region, xr.Dataset(data, coords={"time": times}))


@pytest.fixture(scope="module")
def url(tmp_path_factory, specimen) -> str:
    found = str(tmp_path_factory.mktemp("selecting") / "s")
    titles = {"title": dict(zip(NAMES, TITLES, strict=True))}
    run = RunDeclaration("faces", "ab" * 8, (1, 4), {}, specimen.RUN.label_coords, titles)
    fill(found, run, Sweep((0, 1, 2, 5), (0, 1, 2), NAMES), layers_of("faces"), specimen.LAYOUT)
    return found


@pytest.fixture
def tree(url) -> xr.DataTree:
    return open_profile(url)


@pytest.mark.parametrize(
    ("selection", "axis", "values"),
    [
        ({"seed": 5}, "seed", 5),
        ({"seed": np.int64(5)}, "seed", 5),
        ({"seed": np.array(5)}, "seed", 5),
        ({"seed": [5, 0]}, "seed", [5, 0]),
        ({"seed": (5, 0)}, "seed", [5, 0]),
        ({"seed": {5, 0}}, "seed", [0, 5]),
        ({"seed": range(3)}, "seed", [0, 1, 2]),
        ({"seed": np.array([2, 1])}, "seed", [2, 1]),
        ({"seed": pd.Index([2, 1])}, "seed", [2, 1]),
        ({"seed": xr.DataArray([2, 1], dims="seed")}, "seed", [2, 1]),
        ({"seed": (n for n in (1, 2))}, "seed", [1, 2]),
        ({"seed": slice(1, 3)}, "seed", [1, 2]),
        ({"seed": slice(None, 2)}, "seed", [0, 1, 2]),
        ({"label": slice(1, None)}, "label", [1, 2]),
        ({"label": ["10", 1]}, "label", [2, 1]),
        ({"label": [["smile"], "10", 0]}, "label", [1, 2, 0]),
        ({"label": [("male",), ("smile",)]}, "label", [2, 1]),
        ({"label": {"male"}}, "label", 2),
        ({"label": "00"}, "label", 0),
        ({"time": {3, 12}}, "time", [12, 3]),
        ({"time": range(12, 0, -3)}, "time", [12, 9, 6, 3]),
        ({"time": slice(9, 3, 2)}, "time", [9, 3]),
        ({"intervention": "switch@6->1"}, "intervention", "switch@6->1"),
        ({"intervention": SimpleNamespace(name="none")}, "intervention", "none"),
        ({"intervention": "switch*"}, "intervention", list(NAMES[1:3])),
        ({"intervention": "zero mid.fn[3]"}, "intervention", NAMES[3]),
        ({"intervention": "*fn[3]"}, "intervention", [NAMES[3]]),
        ({"intervention": ["zero*", "none", "*17*"]}, "intervention", [NAMES[3], NAMES[4], "none"]),
        ({"intervention": {"zero*", "none"}}, "intervention", ["none", NAMES[3], NAMES[4]]),
        ({"intervention": "sw"}, "intervention", list(NAMES[1:3])),
        ({"intervention": "own"}, "intervention", [NAMES[3]]),
        ({"intervention": ["control", "none", "sw"]}, "intervention", [NAMES[4], "none", *NAMES[1:3]]),
        ({"intervention": "contr*"}, "intervention", [NAMES[4]]),
    ],
)
def test_spellings(tree, selection, axis, values) -> None:
    found = tree.profile.sel(objects="max_channel", **selection)
    assert found[axis].values.tolist() == values
    cell = {"seed": 0, "label": 0, "intervention": "none", "time": 3, "layer": "mid.fn"}
    for one in np.atleast_1d(np.array(values, object)).tolist():
        where = {**cell, axis: one}
        here = found["channel"].sel({dim: v for dim, v in where.items() if dim in found["channel"].dims})
        assert int(here) == value("", where["seed"], where["label"], where["intervention"], where["time"])


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"seed": "5"}, "a whole number"),
        ({"seed": True}, "a whole number"),
        ({"seed": 1.5}, "a whole number"),
        ({"seed": [1, None]}, "a whole number"),
        ({"seed": {1: 2}}, "a whole number"),
        ({"seed": [[1, 2]]}, "a whole number"),
        ({"seed": []}, "names none"),
        ({"seed": [1, 1]}, "twice"),
        ({"seed": [1, 3]}, "no seed 3"),
        ({"seed": slice(3, 1)}, "descend"),
        ({"seed": slice(3, 4)}, "nothing at seed 3:4"),
        ({"seed": slice(0, 4, -1)}, "step"),
        ({"seed": slice(0, 0.5)}, "a whole number"),
        ({"label": ["male", 1]}, "by itself"),
        ({"label": ["male", "01"]}, "by itself"),
        ({"label": []}, "without attributes is 0"),
        ({"label": [["simle"], 1]}, "did you mean 'smile'"),
        ({"label": {"male": 1}}, "bits such as"),
        ({"label": 9}, "no label 9"),
        ({"label": ""}, "bits such as"),
        ({"time": "500"}, "a state t such as 500"),
        ({"time": np.array([[1]])}, "a state t such as 500"),
        ({"time": {99, 98}}, "Nothing stored has the time"),
        ({"time": slice(3, 9)}, "descends"),
        ({"intervention": 3}, "a glob such as"),
        ({"intervention": slice("a", "b")}, "a glob such as"),
        ({"intervention": "swich@6->1"}, "did you mean 'switch@6->1'"),
        ({"intervention": ["none", "patch*"]}, "no intervention"),
        ({"intervention": "ovn"}, "did you mean 'own'"),
        ({"layer": "mid.fm", "objects": "activations/*"}, "did you mean 'mid.fn'"),
        ({"layer": ["mid.fn", "mod.fn"], "objects": "activations/*"}, "has the layer 'mod.fn'"),
        ({"layer": "mid.fn", "objects": "gradients/pgv"}, "none of gradients/pgv has layers"),
        (
            {"pixel": 8, "objects": ["max_channel", "activations/mid.fn"]},
            "none of max_channel, .* has pixels",
        ),
        ({"layer": "mid.fm"}, "did you mean 'mid.fn'"),
        ({"layer": ["mid.fn", "mod.fn"]}, "has the layer 'mod.fn'"),
        ({"pixel": (1, 1)}, r"Nothing stored has the pixel \(1, 1\)"),
        ({"pixel": (1, 2, 3)}, "Nothing stored has the pixel"),
        ({"pixel": "8"}, r"give \(y, x\)"),
        ({"pixel": [(1, "a")]}, r"give \(y, x\)"),
        ({"objects": 3}, "a list of names"),
        ({"objects": []}, "a list of names"),
        ({"objects": "max_channel", "measures": "ssim"}, "Both"),
        ({"objects": ["max_channel", "trajectory*"]}, "No node"),
    ],
)
def test_odd_arguments_teach(tree, selection, message) -> None:
    with pytest.raises(DefinitionError, match=message) as refusal:
        tree.profile.sel(**selection)
    assert refusal.value.remedy


def test_pixels_and_layers(tree) -> None:
    find = tree.profile.sel
    assert int(find(pixel=(1, 2), objects="gradients/pgv")["pixel"]) == 10
    for pixels in ([(1, 2), (0, 1)], np.array([[1, 2], [0, 1]]), [10, 1], {(1, 2): 0}.keys() | {1}):
        found = find(pixel=pixels, objects="gradients/pgv")["pixel"].values.tolist()
        assert found == ([1, 10] if isinstance(pixels, set) else [10, 1])
    one = find(layer="mid.fn", time=6)
    assert one["max_channel"]["channel"].dims == ("intervention", "label", "seed")
    assert find(layer="*s.0.fn", objects="max_channel")["layer"].values.tolist() == ["downs.0.fn", "ups.0.fn"]
    assert "activations/mid.fn" in {path.strip("/") for path in one.groups}


def test_layers_of_one_shape_are_one_dataset(tree) -> None:
    found = tree.profile.sel(
        objects=["activations/ups*", "activations/mid.fn"], seed=2, label=1, intervention="none"
    )
    assert isinstance(found, xr.Dataset)
    assert found["layer"].values.tolist() == ["mid.fn", "ups.0.fn"], "in order of execution"
    assert found["activation"].dims == ("layer", "time", "channel", "y", "x")
    assert found["time"].values.tolist() == TIMES
    cells = found["activation"].isel(channel=0, y=0, x=0)
    npt.assert_array_equal(cells.sel(layer="ups.0.fn"), [value("ups", 2, 1, "none", t) for t in TIMES])
    assert np.isnan(cells.sel(layer="mid.fn", time=3))
    assert found["status"].sel(layer="mid.fn").values.tolist() == [2, 2, 2, 0]
    tree_of_layers = tree.profile.sel(objects="activations/*", seed=2)
    assert isinstance(tree_of_layers, xr.DataTree)
    assert set(tree_of_layers["activations"].children) == set(SHAPES)
    assert isinstance(tree.profile.sel(objects=["activations/mid.fn", "max_channel"]), xr.DataTree)


def test_a_layer_is_chosen_among_the_groups_that_hold_one_each(tree) -> None:
    find = tree.profile.sel
    groups = set(find(layer="mid.fn")["activations"].children)
    assert groups == {"mid.fn"}, "not those of all layers"
    assert set(find(layer="*s.0.fn")["activations"].children) == {"downs.0.fn", "ups.0.fn"}
    one = find(layer="mid.fn", objects="activations/*", seed=2, label=1, intervention="none")
    assert one["activation"].dims == ("time", "channel", "y", "x")
    assert one["layer"].item() == "mid.fn"
    assert (one["activation"].sel(time=6) == value("mid", 2, 1, "none", 6)).all()
    some = find(layer=["ups.0.fn", "mid.fn"], objects="activations/*")
    assert some["layer"].values.tolist() == ["ups.0.fn", "mid.fn"], "as it was asked"
    assert find(layer="mid*", objects="activations/*")["layer"].values.tolist() == ["mid.fn"]
    both = find(layer="mid.fn", objects=["activations/*", "max_channel"])
    assert {path.strip("/") for path in both.groups} >= {"activations/mid.fn", "max_channel"}
    assert "ups.0.fn" not in both["activations"].children
    assert both["max_channel"]["layer"].item() == "mid.fn"


def test_large_layers_side_by_side_stay_lazy(tree, monkeypatch) -> None:
    from flowprofile import selecting

    monkeypatch.setattr(selecting, "_LOADED", 0)
    found = tree.profile.sel(objects=["activations/mid*", "activations/ups*"], seed=2, label=1)
    assert found["activation"].chunks is not None
    monkeypatch.setattr(selecting, "_LOADED", 2**30)
    loaded = tree.profile.sel(objects=["activations/mid*", "activations/ups*"], seed=2, label=1)
    xr.testing.assert_identical(found.compute(), loaded.compute())


def test_several_runs_are_asked_one_by_one(url, specimen, tmp_path) -> None:
    both = str(tmp_path / "both")
    sweep, faces = (
        Sweep((0, 1), (0, 1)),
        RunDeclaration("faces", "ab" * 8, (1, 4), {}, specimen.RUN.label_coords),
    )
    swapped = {"smile": specimen.RUN.label_coords["male"], "male": specimen.RUN.label_coords["smile"]}
    other = RunDeclaration("other", "cd" * 8, (1, 4), {}, swapped)
    stages = layers_of("faces")[3:4]
    fill(both, faces, sweep, stages, specimen.LAYOUT)
    fill(both, other, Sweep((0, 1), (0, 2)), stages, specimen.LAYOUT)
    tree = open_profile(both)
    found = tree.profile.sel(label=["smile"], seed=(n for n in (1,)))
    assert int(found["faces/max_channel"]["label"]) == 1
    assert int(found["other/max_channel"]["label"]) == 2
    assert found["other/max_channel"]["seed"].values.tolist() == [1]
    one = tree.profile.sel(
        objects="max_channel", layer="mid.fn", time=6, intervention="none", label=0, seed=1
    )
    assert int(one["other"]["channel"]) == value("", 1, 0, "none", 6)
    with pytest.raises(DefinitionError, match=r"In the run 'other': .* no label 1") as refusal:
        tree.profile.sel(label=1)
    assert "tree['other'].profile.sel" in refusal.value.remedy
    assert int(tree["other"].profile.sel(label="smile")["max_channel"]["label"]) == 2


def test_a_selection_of_a_selection(tree) -> None:
    once = tree.profile.sel(intervention="none", label=1)
    assert int(once.profile.sel(label="smile", seed={5})["max_channel"]["label"]) == 1
    assert once.profile.sel(label=slice(0, 1)).equals(once)
    for again in ({"label": 2}, {"intervention": "zero*"}, {"label": slice(2, 3)}):
        with pytest.raises(DefinitionError, match="selected before"):
            once.profile.sel(**again)
    part = tree["activations"].profile.sel(label=["smile"])
    assert int(part["mid.fn"]["label"]) == 1


class Counting(LocalPlace):
    """A folder that keeps count of the data that is read: bytes and objects by variable."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.bytes, self.objects = 0, set()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        data = super().read(key, start, stop)
        if key.startswith("profile.zarr") and "/c." in key:
            self.bytes += len(data or b"")
            self.objects.add(key)
        return data


def test_one_state_of_one_layer_reads_only_its_chunks(tmp_path) -> None:
    """A fresh profile of ragged layers; asked for one label, seed and state of one of them."""
    layout = StoreLayout(chunk="4 KiB", shard="64 KiB", small="1 KiB", durability="none")
    shapes = {"downs.0.fn": (8, 16, 16), "mid.fn": (64, 8, 8), "ups.0.fn": (16, 32, 32)}
    times = list(range(12, -1, -1))
    stages = []
    for number, (layer, (channel, y, x)) in enumerate(shapes.items()):
        axes = {"channel": np.arange(channel), "y": np.arange(y), "x": np.arange(x)}
        made = promise({"activation": (("time", "channel", "y", "x"), "float32")}, {"time": times, **axes})
        stages.append(
            StageDeclaration(f"activations/{layer}", "abc"[number] * 10, made, 13, {"layer": layer})
        )
    run = RunDeclaration("net", "ab" * 8, (1, 4))
    fill(str(tmp_path / "s"), run, Sweep((0, 1), (0, 1)), stages, layout)
    place = Counting(tmp_path / "s")
    tree = Opener(place, snapshot(place).record, version="", missing="nan").tree(None)
    for layer, shape in shapes.items():
        place.bytes, place.objects = 0, set()
        found = tree.profile.sel(label=1, seed=1, time=7, intervention="none", objects=f"activations/{layer}")
        assert place.bytes == 0
        assert (found["activation"] == value(layer, 1, 1, "none", 7)).all()
        wanted = int(np.prod(shape)) * 4
        assert wanted < place.bytes <= wanted + 4 * 16, "a checksum behind each inner chunk"
        assert len(place.objects) == 1
        assert f"activations/{layer}@" in place.objects.pop()
    place.bytes = 0
    one = tree["activations/ups.0.fn"]["activation"].sel(
        label=1, seed=1, time=7, intervention="none", channel=5
    )
    assert (one == value("ups", 1, 1, "none", 7)).all()
    assert place.bytes == one.nbytes + 4
