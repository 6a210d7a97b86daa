"""A sweep into a bucket: the same bytes, few requests, and a second one writes nothing."""

from collections import Counter
from pathlib import Path

import pytest

import flowprofile as fp
from flowprofile import running
from flowprofile.store.urls import place
from flowprofile.store.verify import verify
from pipelines import pipeline

STAGES = {
    "trajectory": {"keep": "::5"},
    "step_ssim": {"use": "ssim"},
    "final_mse": {"use": "mse", "between": "final"},
}


def sweep(**changes):
    return pipeline(**{"seeds": "0:5", "labels": (0, 1), "steps": 20, **STAGES, **changes})


def objects(where):
    """Everything a finished store is made of."""
    return {key: where.read(key) for base in ("profile.zarr", "ledger/receipts") for key in where.list(base)}


@pytest.fixture
def filled(bucket, server):
    """A sweep in a bucket."""
    url = f"s3://{bucket}/sweeps/one"
    outcome = running.run(sweep(), into=url)
    return url, outcome, server.asked


def test_a_bucket_holds_the_bytes_a_folder_holds(filled, tmp_path):
    url, outcome, _ = filled
    local = running.run(sweep(), into=tmp_path / "store", layout="s3")
    assert objects(place(url)) == objects(place(tmp_path / "store"))
    assert (outcome.regions, outcome.bytes) == (local.regions, local.bytes)


def test_it_grows_and_equals_one_that_was_filled_at_once(filled, tmp_path):
    url, _, _ = filled
    running.run(sweep(seeds="0:7", l1={"use": "l1"}), into=url)
    running.run(sweep(seeds="0:5"), into=tmp_path / "store", layout="s3")
    running.run(sweep(seeds="0:7", l1={"use": "l1"}), into=tmp_path / "store", layout="s3")
    assert objects(place(url)) == objects(place(tmp_path / "store"))


def test_opening_takes_ten_requests_at_most_and_a_profile_its_own(filled):
    url, _, asked = filled
    asked.clear()
    tree = fp.open(url)
    print("requests to open:", dict(asked))
    assert asked.total() <= 10
    asked.clear()
    curve = tree["measures/step_ssim"]["value"].sel(intervention="none", label=1, seed=3).values
    print("requests for one curve:", dict(asked))
    assert curve.shape == (20,)
    assert asked.total() <= 5


def test_a_second_run_writes_nothing_and_asks_little(filled):
    url, outcome, asked = filled
    asked.clear()
    assert running.run(sweep(), into=url).regions == 0
    verbs = Counter(method for (method, _, _), count in asked.items() for _ in range(count))
    print("requests of a second run:", dict(verbs))
    assert verbs["PUT"] == verbs["DELETE"] == 0
    assert asked.total() <= outcome.regions // 1000 + 10 + 2 * len(STAGES) * 2  # a list per stage and label


def test_storage_options_say_where(server, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    options = {"endpoint": server.endpoint, "allow_http": "true", "region": "us-east-1"}
    running.run(sweep(seeds="0:1"), into=f"s3://{bucket}/two", storage_options=options, cluster="processes:1")
    tree = fp.open(f"s3://{bucket}/two", storage_options=options)
    assert tree["trajectory"]["x_t"].sizes["seed"] == 1


def test_plain_zarr_reads_it(filled):
    url, _, _ = filled
    import xarray as xr

    plain = xr.open_datatree(place(url).zarr(), engine="zarr", consolidated=True)
    names = [node.path for node in plain.subtree if "x_t" in node.data_vars]
    ours = fp.open(url)["trajectory"]["x_t"]
    theirs = plain[names[0]]["x_t"].sortby(["label", "seed"]).sortby("time", ascending=False)
    assert (ours.values == theirs.values).all()


@pytest.mark.nightly
def test_azure_holds_the_bytes_a_folder_holds_and_grows(container, tmp_path):
    url = f"az://{container}/sweeps/one"
    for changes in ({}, {"seeds": "0:7", "l1": {"use": "l1"}}):
        outcome = running.run(sweep(**changes), into=url, cluster="processes:2")
        local = running.run(sweep(**changes), into=tmp_path / "store", layout="s3")
        assert objects(place(url)) == objects(place(tmp_path / "store"))
        assert (outcome.regions, outcome.bytes) == (local.regions, local.bytes)
    assert running.run(sweep(), into=url).regions == 0
    assert verify(url).sound


def test_nothing_of_a_local_store_changes_its_meaning(tmp_path):
    running.run(sweep(seeds="0:1"), into=tmp_path / "store")
    assert Path(tmp_path / "store" / "ledger" / "format.json").exists()
