"""What a plan says it will write is what lies on the disk afterwards."""

import pytest

from flowprofile import projecting, running
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

FAST = StoreLayout(durability="none")
SPARSE = {"model": "mixture16", "seeds": "0:8", "labels": (0,), "steps": 200}


def on_disk(url):
    return sum(file.stat().st_size for file in (url / "profile.zarr").rglob("c.*"))


@pytest.mark.parametrize(
    ("stages", "wasted"),
    [
        ({"trajectory": {"keep": [1000, 0]}}, 20),
        ({"trajectory": {}}, 1),
        ({"trajectory": {"keep": "::50"}, "step_mse": {"use": "mse"}}, 5),
    ],
)
def test_a_plan_counts_the_chunks_that_few_states_fill_in_part(tmp_path, stages, wasted):
    asked = pipeline(**SPARSE, **stages)
    ready = running.assembled(asked)
    found = projecting.project(ready, tmp_path / "store", layout=FAST)
    running.run(asked, into=tmp_path / "store", layout=FAST)
    assert found.cost.store == pytest.approx(on_disk(tmp_path / "store"), rel=0.1)
    assert found.cost.store > 0.9 * wasted * found.plan.bytes, "the cells alone would say far less"
