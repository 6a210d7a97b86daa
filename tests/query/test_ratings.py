"""Ratings by people, on the axes of a profile: what is joined to which sample, and what is refused by name."""

import numpy as np
import pytest
import xarray as xr

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError
from flowprofile.ratings import join_ratings

TABLE = """seed,label,realism,ada
2,0,4,1
0,1,5,
1,1,2.5,3
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A small profile with a switch."""
    store = str(tmp_path_factory.mktemp("rated") / "store")
    table = {
        "model": "mixture16",
        "sampler": {"steps": 10},
        "cases": {"seeds": "0:3", "labels": [0, 1]},
        "interventions": {"switch": {"kind": "switch", "at": 500, "to": 1}},
        "stages": {"trajectory": {"keep": [0]}, "final": {"use": "mse", "between": "final", "keep": [500]}},
    }
    running.run(fp.Pipeline.model_validate(table), into=store)
    return fp.open(store)


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "ratings.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_every_score_stands_at_its_sample_and_nothing_else_does(tree, written):
    found = join_ratings(tree, written(TABLE))
    assert list(found.data_vars) == ["realism", "ada"]
    assert found["realism"].dims == ("intervention", "label", "seed")
    clean = found.sel(intervention="none")
    np.testing.assert_array_equal(clean["realism"], [[np.nan, np.nan, 4], [5, 2.5, np.nan]])
    np.testing.assert_array_equal(clean["ada"], [[np.nan, np.nan, 1], [np.nan, 3, np.nan]])
    assert found.sel(intervention="switch@500->1").isnull().all()
    assert found["switch_step"].values.tolist() == [-1, 500], (
        "beside the axes stands what the profile says of them"
    )


def test_ratings_meet_measures_of_the_same_samples(tree, written):
    """The order of lines means nothing; what was joined by position would give another sum."""
    lines = TABLE.splitlines(keepends=True)
    one, other = (
        join_ratings(tree, written("".join([lines[0], *body]))) for body in (lines[1:], lines[:0:-1])
    )
    xr.testing.assert_identical(one, other)
    measured = tree["measures/final"]["value"].squeeze("time")
    values = [measured.sel(intervention="none", seed=s, label=j).item() for s, j in ((2, 0), (0, 1), (1, 1))]
    weighted = float((one["realism"] * measured).sum())
    assert weighted == pytest.approx(np.dot(values, [4, 5, 2.5]), rel=1e-6)
    assert weighted != pytest.approx(np.dot(values, [5, 2.5, 4]), rel=1e-3)


def test_an_intervention_is_named_or_none(tree, written):
    table = "intervention,label,seed,realism\nswitch@500->1,0,1,3\n,0,1,4\nnone,0,2,5\n"
    found = join_ratings(tree["measures/final"], written("\N{ZERO WIDTH NO-BREAK SPACE}" + table))["realism"]
    assert found.sel(intervention="switch@500->1", label=0, seed=1) == 3
    assert found.sel(intervention="none", label=0).values[1:].tolist() == [4, 5]


def test_a_selection_keeps_the_axes_that_it_has(tree, written):
    part = tree["measures/final"].to_dataset().sel(label=1, intervention="none")
    found = join_ratings(part, written("seed,label,realism\n1,1,7\n"))
    assert found["realism"].dims == ("seed",)
    np.testing.assert_array_equal(found["realism"], [np.nan, 7, np.nan])
    with pytest.raises(DefinitionError, match=r"names labels that the profile does not have: 0 \(line 2\)"):
        join_ratings(part, written("seed,label,realism\n1,0,7\n"))


@pytest.fixture
def faces():
    """Sixteen labels of four attributes, as a profile of faces32 has them."""
    bits = ("bangs", "male", "smile", "lipstick")
    labels = np.arange(16)
    along = {name: ("label", (labels >> 3 - place & 1).astype(bool)) for place, name in enumerate(bits)}
    axes = {"intervention": ["none"], "label": labels, "seed": [0, 1]}
    tree = xr.DataTree(xr.Dataset(coords=axes | along))
    tree.attrs["label_attributes"] = list(bits)
    return tree


def test_a_label_is_a_number_or_bits(faces, written):
    found = join_ratings(faces, written("seed,label,realism\n0,0110,1\n1,6,2\n0,10,3\n1,1010,4\n"))[
        "realism"
    ].squeeze()
    assert found.sel(label=6).values.tolist() == [1, 2]
    assert found.sel(label=10).values.tolist() == [3, 4]
    assert int(found.notnull().sum()) == 4
    for odd in ("00110", "011", "six", "-1", "6.0", ""):
        with pytest.raises(DefinitionError, match=r"Line 2 .* has the label .*") as refused:
            join_ratings(faces, written(f"seed,label,realism\n0,{odd},1\n"))
        assert "one bit for each of bangs, male, smile, lipstick" in str(refused.value)
    with pytest.raises(DefinitionError, match="has the label '0110'"):
        join_ratings(xr.Dataset(coords=faces.coords), written("seed,label,realism\n0,0110,1\n"))
    with pytest.raises(DefinitionError, match="has the column 'smile', which the profile has itself"):
        join_ratings(faces, written("seed,label,smile\n0,6,1\n"))


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("seed,label,r\n0,0,1\n7,0,1\n9,1,1\n7,1,1\n", r"names seeds .*: 7 \(line 3\), 9 \(line 4\)\."),
        ("seed,label,r\n0,5,1\n", r"names labels that the profile does not have: 5 \(line 2\)"),
        (
            "seed,label,intervention,r\n0,0,swich@500->1,1\n",
            r"names interventions .*: 'swich@500->1' \(line 2\)",
        ),
        ("seed,label,r\n0,0,1\n1,0,1\n0,0,1\n", r"rates seed 0, label 0 twice, in lines 2 and 4"),
        ("seed,label,r\n0,0,good\n", r"Line 2 .* has 'good' as 'r'"),
        ("seed,label,r\n0,0,nan\n", r"Line 2 .* has 'nan' as 'r'"),
        ("seed,label,r\n0.0,0,1\n", r"Line 2 .* has the seed '0\.0'"),
        ("seed,label,r\n\n0,0\n", r"Line 3 .* has 2 cells, and the heading 3"),
        ("seed;label;r\n0;0;1\n", r"has no column 'seed'"),
        ("seed,r\n0,1\n", r"has no column 'label'"),
        ("seed,label\n0,0\n", r"has no scores"),
        ("seed,label,r,r\n0,0,1,2\n", r"has the column 'r' twice"),
        ("seed,label,r,\n0,0,1,2\n", r"has a column without a name"),
        ("", r"has no column 'seed'"),
    ],
)
def test_what_would_be_lost_or_shifted_is_refused_by_name(tree, written, table, text):
    with pytest.raises(DefinitionError, match=text) as refused:
        join_ratings(tree, written(table))
    assert refused.value.consequence
    assert refused.value.remedy


def test_several_runs_are_rated_one_by_one(tree, written):
    several = xr.DataTree.from_dict({"/": xr.Dataset(), "one": tree.to_dataset(), "other": tree.to_dataset()})
    with pytest.raises(DefinitionError, match="has no axis") as refused:
        join_ratings(several, written(TABLE))
    assert "tree[RUN]" in refused.value.remedy
    assert join_ratings(several["one"], written(TABLE))["realism"].notnull().sum() == 3
