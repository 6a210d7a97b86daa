"""The table of cases: its numbers are the profile's, its order is the column's, its pictures are the samples."""

import csv
import io
import json
import time

import numpy as np
import pytest
from curved_stores import asked, curved

import flowprofile as fp
from flowprofile import running
from flowprofile.app import sweeping
from flowprofile.app.spreadsheets import sweep_csv, written
from flowprofile.app.sweeping import columns, sweep
from flowprofile.app.thumbnails import smaller, thumbnails
from flowprofile.errors import StoreError
from pipelines import pipeline


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return fp.open(curved(tmp_path_factory.getbasetemp()))


def column(found, name):
    at = [column["name"] for column in found["columns"]].index(name)
    return [row["values"][at] for row in found["rows"]]


def test_every_column_is_what_its_python_gives(tree):
    names = [c.name for c in columns(tree)]
    assert {"step_ssim:mean", "step_ssim:excess", "fidelity.asked:last", "change.inside:mean"} <= set(names)
    for first in range(0, len(names), sweeping.COLUMNS):
        found = sweep(tree, asked(column=names[first : first + sweeping.COLUMNS]))
        for at, told in enumerate(found["columns"]):
            want = eval(told["python"], {"tree": tree})
            for row in found["rows"]:
                case = {axis: row[axis] for axis in ("intervention", "label", "seed")}
                value = float(want.sel(case))
                got = np.nan if row["values"][at] is None else row["values"][at]
                np.testing.assert_allclose(got, value, rtol=1e-5, atol=1e-8, err_msg=f"{told['name']} {case}")


def test_a_column_says_over_what_and_of_what(tree):
    found = sweep(
        tree, asked(column=["step_ssim:mean", "step_ssim:excess", "step_ssim:min", "fidelity.asked:last"])
    )
    assert [told["title"] for told in found["columns"]] == [
        "step_ssim, mean over t",
        "step_ssim, mean excess over t",
        "step_ssim, minimum over t",
        "fidelity.asked, at the last state",
    ]
    assert found["columns"][3]["what"] == "probability of the label that the run began with"


def test_it_is_sorted_by_any_column_over_all_cases(tree):
    found = sweep(tree, asked(column=["step_ssim:mean"], sort="step_ssim:min", order="desc", limit=5))
    value = tree["measures/step_ssim"]["value"].min("time").stack(case=("intervention", "label", "seed"))
    best = value.dropna("case").sortby("case").values
    shown = [
        float(value.unstack().sel(intervention=r["intervention"], label=r["label"], seed=r["seed"]))
        for r in found["rows"]
    ]
    np.testing.assert_allclose(shown, np.sort(best)[::-1][:5], rtol=1e-6)
    ascending = sweep(tree, asked(sort="step_ssim:min", limit=1))
    assert ascending["rows"][0] != found["rows"][0]


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_cases_without_a_value_are_last_either_way(tree, order):
    values = column(
        sweep(tree, asked(column=["clean_ssim:last"], sort="clean_ssim:last", order=order)), "clean_ssim:last"
    )
    empty = [value is None for value in values]
    assert any(empty)
    assert empty == sorted(empty)


def test_what_is_never_measured_is_told_apart_from_what_is_not_computed(tree, tall):
    found = sweep(tree, asked(column=["clean_ssim:last"]))
    assert {row["never"][0] for row in found["rows"] if row["intervention"] == "none"} == {True}
    assert {row["never"][0] for row in found["rows"] if row["intervention"] != "none"} == {False}
    assert not any(any(row["never"]) for row in sweep(fp.open(tall), asked())["rows"])


def test_pages_are_the_whole_table(tree):
    whole = sweep(tree, asked(sort="step_ssim:mean"))
    pages = [
        sweep(tree, asked(sort="step_ssim:mean", offset=at, limit=7)) for at in range(0, whole["cases"], 7)
    ]
    assert [row for page in pages for row in page["rows"]] == whole["rows"]


def test_a_label_and_an_intervention_can_be_chosen(tree):
    found = sweep(tree, asked(only=["label=1", "intervention=none"]))
    assert {(row["label"], row["intervention"]) for row in found["rows"]} == {(1, "none")}
    assert found["cases"] == 6
    assert sweep(tree, asked())["cases"] > 6


def test_a_mean_over_some_of_the_states_is_none(tmp_path):
    for seeds, keep in (("0:2", "::4"), ("0:1", "::1")):
        stages = {"trajectory": {}, "step_ssim": {"use": "ssim", "keep": keep}}
        running.run(pipeline(seeds=seeds, labels=(0,), **stages), into=tmp_path / "grown")
    found = sweep(
        fp.open(tmp_path / "grown"), asked(column=["step_ssim:mean", "step_ssim:last", "step_ssim:min"])
    )
    assert [[value is None for value in row["values"]] for row in found["rows"]] == [
        [False] * 3,
        [True, False, True],
    ]


def test_fidelity_is_of_the_cases_own_label(tree):
    found = sweep(tree, asked(column=["fidelity.asked:last"], only=["intervention=none"]))
    node = tree["measures/fidelity"]["probability"].isel(time=0).sel(intervention="none")
    for row, value in zip(found["rows"], column(found, "fidelity.asked:last"), strict=True):
        assert value == pytest.approx(
            float(node.sel(label=row["label"], seed=row["seed"], read_label=row["label"]))
        )


def test_only_computed_cases_are_rows_and_it_is_quick(tall):
    tree = fp.open(tall)
    before = time.perf_counter()
    found = sweep(tree, asked(sort="step_ssim:mean"))
    assert time.perf_counter() - before < 1
    assert found["cases"] == 16
    assert max(row["seed"] for row in found["rows"]) == 7


def test_of_too_many_cases_the_first_are_sorted_and_it_is_said(tree, monkeypatch):
    monkeypatch.setattr(sweeping, "CASES", 5)
    found = sweep(tree, asked(sort="step_ssim:mean"))
    assert found["cases"] == 5
    assert found["note"].startswith("the first 5 of ")


def test_reading_in_parts_gives_the_same(tree, monkeypatch):
    whole = sweep(tree, asked(sort="step_ssim:mean"))
    monkeypatch.setattr(sweeping, "CELLS", 1)
    assert sweep(tree, asked(sort="step_ssim:mean")) == whole


@pytest.mark.parametrize(
    ("query", "fact"),
    [
        ({"sort": "step_sim:mean"}, "no column"),
        ({"column": ["nothing:mean"]}, "no column"),
        ({"order": "up"}, "The order is 'up'"),
        ({"only": ["color=red"]}, "cannot be filtered by 'color'"),
        ({"only": ["label=77"]}, "no label '77'"),
        ({"column": ["step_ssim:mean"] * 9}, "9 columns"),
    ],
)
def test_what_the_table_does_not_have_is_refused(tree, query, fact):
    with pytest.raises(StoreError, match=fact):
        sweep(tree, asked(**query))


def test_thumbnails_are_the_finished_samples(tree):
    found = thumbnails(tree, asked(label=1, seeds="0,5", intervention="none"))
    pictures = np.frombuffer(found.data, np.uint8).reshape(found.count, found.height, found.width, 4)
    x = tree["trajectory"]["x_t"].sel(intervention="none", label=1, seed=[0, 5], time=0, channel=0)
    want = np.rint(np.clip((x + 1) / 2, 0, 1) * 255)
    np.testing.assert_allclose(pictures[..., 0], want, atol=1)
    assert (pictures[..., 3] == 255).all()
    assert not np.array_equal(pictures[0], pictures[1])
    assert found.time == 0


def test_a_sample_that_is_not_there_is_transparent(tall):
    found = thumbnails(fp.open(tall), asked(label=1, seeds=["7", "8"]))
    pictures = np.frombuffer(found.data, np.uint8).reshape(found.count, found.height, found.width, 4)
    assert [(picture[..., 3] == 255).all() for picture in pictures] == [True, False]
    assert not pictures[1].any()


def test_thumbnails_of_unknown_or_too_many_seeds_are_refused(tree):
    with pytest.raises(StoreError, match="no seed 99"):
        thumbnails(tree, asked(label=1, seeds="0,99"))
    with pytest.raises(StoreError, match="65 seeds"):
        thumbnails(tree, asked(label=1, seeds=",".join(["0"] * 65)))


def test_large_pictures_become_means_over_blocks():
    image = np.arange(130 * 128, dtype=float).reshape(1, 130, 128, 1)
    small = smaller(image)
    assert small.shape == (1, 43, 42, 1)
    assert small[0, 0, 0, 0] == image[0, :3, :3, 0].mean()


def test_as_csv_a_row_is_a_case(tree):
    found = sweep(tree, asked(column=["step_ssim:mean"], limit=3))
    rows = list(csv.DictReader(io.StringIO(sweep_csv(found))))
    assert [float(row["step_ssim:mean"]) for row in rows] == column(found, "step_ssim:mean")
    assert [int(row["seed"]) for row in rows] == [row["seed"] for row in found["rows"]]
    json.dumps(found, allow_nan=False)


def test_a_text_is_no_formula():
    assert written(("a",), [("=1+1",), (-0.5,)]) == "a\n'=1+1\n-0.5\n"
