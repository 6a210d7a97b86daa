"""A table that is written as TOML is read as the same table."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.definitions import merged, names, toml
from flowprofile.definitions.files import find

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    TEXTS
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(TEXTS | st.sampled_from(["stages", "interventions"]), VALUES, max_size=4)


@given(TABLES)
def test_what_is_written_is_read_again(table):
    assert tomllib.loads(toml(table)) == table


@pytest.mark.parametrize("name", names("pipelines"))
def test_a_shipped_pipeline_survives(name):
    table = merged(find(name, kind="pipelines"))
    assert tomllib.loads(toml(table)) == table


def test_stages_and_interventions_have_a_heading_each_and_what_is_none_is_left_out():
    table = {
        "model": "digits",
        "report": None,
        "interventions": {"zero mid": {"kind": "ablate", "mask": None}},
        "stages": {"trajectory": {}, "ssim": {"gaussian": {"sd": 1.0}}},
    }
    assert toml(table).splitlines() == [
        'model = "digits"', "", '[interventions."zero mid"]', 'kind = "ablate"', "", "[stages.trajectory]", "",
        "[stages.ssim]", "gaussian = { sd = 1.0 }",
    ]  # fmt: skip
