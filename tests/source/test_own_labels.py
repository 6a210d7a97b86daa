"""A table that gives each picture its own label: cells nobody asked for stay empty, and batches stay full."""

import itertools

import numpy as np
import pytest
from photographs import looking, photographs

import flowprofile as fp
from flowprofile import running
from flowprofile.cases import Case, Sweep
from flowprofile.flow.tiles import Order, Tile, fitting, households
from flowprofile.store.layout import StoreLayout

FAST = StoreLayout(durability="none")
LABELS = {0: "1 -1 1 -1", 1: "-1 -1 -1 -1", 2: "1 -1 1 -1", 3: "-1 1 1 1"}


def table(folder, labels=LABELS, names="Smiling Male Bangs Wearing_Lipstick"):
    rows = [f"{number}.png {values}" for number, values in labels.items()]
    path = folder / "attributes.txt"
    path.write_text("\n".join([str(len(rows)), names, *rows]) + "\n")
    return str(path)


def faces(tmp_path, numbers=(0, 1, 2, 3), **how):
    folder = photographs(tmp_path / "p", numbers, side=(32, 32), channels=3)
    return looking(folder, model="faces32", labels=None, steps=4, attributes=table(tmp_path), **how)


def test_each_picture_is_told_its_own_label(tmp_path):
    pipeline = faces(tmp_path, draws=2)
    assert running.plan(pipeline).plan.forwards == 8 * 4
    running.run(pipeline, into=tmp_path / "s", layout=FAST)
    tree = fp.open(tmp_path / "s")
    assert tree.label.values.tolist() == [0b0000, 0b1010, 0b1101]
    status = tree["predicted_x0"].status.isel(intervention=0, time=0)
    told = {"0.png": 0b1010, "1.png": 0, "2.png": 0b1010, "3.png": 0b1101}
    for seed, label in itertools.product(tree.seed.values, tree.label.values):
        asked = told[str(tree.image.sel(seed=seed).values)] == label
        assert int(status.sel(seed=seed, label=label)) == (2 if asked else 0)
    assert running.run(pipeline, into=tmp_path / "s").regions == 0


def test_the_label_is_what_the_network_is_told(tmp_path):
    running.run(faces(tmp_path), into=tmp_path / "s", layout=FAST)
    named = looking(tmp_path / "p", model="faces32", labels=[0b1010, 0, 0b1101], steps=4)
    running.run(named, into=tmp_path / "t", layout=FAST)
    own, all_of_them = (fp.open(tmp_path / name)["predicted_x0"] for name in "st")
    for name, label in {"0.png": 0b1010, "1.png": 0, "3.png": 0b1101}.items():
        seed = int(own.seed.values[own.image.values == name][0])
        found, other = (tree.x0_hat.sel(seed=seed, label=label).values for tree in (own, all_of_them))
        assert np.array_equal(found, other)


def test_pictures_that_come_later_are_added(tmp_path):
    running.run(faces(tmp_path, (0, 1)), into=tmp_path / "s", layout=FAST)
    assert running.run(faces(tmp_path), into=tmp_path / "s", layout=FAST).forwards == 2 * 4
    running.run(faces(tmp_path), into=tmp_path / "t", layout=FAST)
    a, b = (fp.open(tmp_path / name)["predicted_x0"].to_dataset().load() for name in "st")
    assert a.x0_hat.equals(b.x0_hat)


def test_columns_may_have_other_names(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1), side=(32, 32), channels=3)
    path = table(tmp_path, {0: "1 -1 -1 -1", 1: "-1 1 -1 -1"}, "Fringe Man Smiling Wearing_Lipstick")
    columns = {"bangs": "Fringe", "male": "Man"}
    ready = running.assembled(looking(folder, model="faces32", labels=None, attributes=path, columns=columns))
    assert sorted(ready.sweep.told.values()) == [0b0100, 0b1000]


TOLD = {seed: (seed * 7) % 3 for seed in range(10)}


@pytest.mark.parametrize("interventions", [("none",), ("none", "cut")])
@pytest.mark.parametrize("linked", [True, False])
def test_a_sweep_of_own_labels_is_cut_into_its_cases_and_no_others(interventions, linked):
    sweep = Sweep(tuple(sorted(TOLD, key=TOLD.get)), (0, 1, 2), interventions, told=TOLD)
    cases = list(sweep)
    assert len(cases) == len(sweep) == 10 * len(interventions)
    assert set(cases) == {Case(seed, TOLD[seed], name) for seed in TOLD for name in interventions}
    boxes = [case for box in sweep.boxes() for case in box]
    assert sorted(boxes, key=str) == sorted(cases, key=str)
    tile = fitting(sweep, 4)
    assert tile == Tile(1, 4)
    cut = households(sweep, Order().grown(sweep), tile, linked=linked, crossed=False)
    assert sorted((case for one in cut for atom in one.atoms() for case in atom), key=str) == sorted(
        cases, key=str
    )
