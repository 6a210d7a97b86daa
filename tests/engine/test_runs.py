"""Stories of a store: filled, finished, grown, resumed, cut differently, and always the same bits."""

import numpy as np
import pytest
import xarray as xr

import flowprofile as fp
from flowprofile import running
from flowprofile.cases import Case
from flowprofile.errors import BudgetError, DefinitionError, NonFiniteError, StoreError
from flowprofile.flow.budget import Cost, check
from flowprofile.flow.events import Advanced
from flowprofile.measures import images
from flowprofile.store.layout import StoreLayout
from flowprofile.store.store import Store
from pipelines import MEASURES, pipeline

LAYOUT = StoreLayout(durability="none")


def run(source, store, **options):
    return running.run(source, into=store, layout=LAYOUT, **options)


def states(store, case):
    """A case's stored states, oldest first."""
    held = Store.open(store)
    (name,) = held.runs()
    (path,) = (path for path in held.stages(name) if path.startswith("trajectory@"))
    return held.read(name, path, [case])["x_t"].values[0]


def test_a_second_run_computes_and_writes_nothing(store):
    first = run(pipeline(), store)
    assert first.forwards == 3 * 2 * 40
    again = run(pipeline(), store)
    assert (again.forwards, again.regions, again.bytes) == (0, 0, 0)


def test_growing_by_seeds_costs_exactly_their_forwards(store):
    run(pipeline(), store)
    grown = run(pipeline(seeds="0:5"), store)
    assert grown.forwards == 2 * 2 * 40


def test_another_window_costs_no_forward(store):
    run(pipeline(), store)
    more = run(pipeline(trajectory={}, wide={"use": "ssim", "window": 11}), store)
    assert more.forwards == 0
    assert more.regions > 0


def test_measures_alone_store_no_state_and_agree_with_measures_on_stored_states(store, tmp_path):
    run(pipeline(**MEASURES), store)
    run(pipeline(), str(tmp_path / "with"))
    fused, stored = fp.open(store), fp.open(str(tmp_path / "with"))
    assert "trajectory" not in fused.children
    for name in MEASURES:
        a, b = fused[f"measures/{name}"].to_dataset(), stored[f"measures/{name}"].to_dataset()
        xr.testing.assert_identical(
            a[["value", "null"]].load().drop_attrs(), b[["value", "null"]].load().drop_attrs()
        )


def test_states_between_kept_ones_are_replayed(store):
    sparse = run(pipeline(trajectory={"keep": "::10"}), store)
    assert sparse.forwards == 3 * 2 * 40
    dense = run(pipeline(trajectory={"keep": "::1"}), store)
    assert dense.forwards == 3 * 2 * (40 - 4), "stored states are starting points"


def test_a_measure_reads_states_from_store_and_scratch_alike(store, tmp_path):
    final = {"use": "ssim", "between": "final", "keep": "::1"}
    run(pipeline(trajectory={"keep": "::3"}, fin=final), store)
    run(pipeline(trajectory={"keep": "::1"}, fin=final), str(tmp_path / "whole"))
    a, b = (
        fp.open(url)["measures/fin"].to_dataset()[["value", "null"]].load()
        for url in (store, tmp_path / "whole")
    )
    xr.testing.assert_equal(a, b)


def test_a_single_missing_state_costs_the_steps_since_the_last_stored_one(store):
    grid = running.assembled(pipeline()).context.grid
    run(pipeline(trajectory={"keep": list(grid[:31:10])}), store)
    more = run(pipeline(trajectory={"keep": [*grid[:31:10], grid[33]]}), store)
    assert more.forwards == 3 * 2 * 3


@pytest.mark.parametrize("model", ["mixture16", "digits"])
def test_a_case_has_the_same_bits_however_it_was_computed(model, tmp_path):
    case = Case(seed=2, label=1)
    alone = pipeline(model=model, steps=20, seeds=[2], labels=[1], trajectory={})
    batch = pipeline(model=model, steps=20, seeds="0:4", labels=[0, 1], trajectory={})
    turned = pipeline(model=model, steps=20, seeds=[3, 2, 1, 0], labels=[1, 0], trajectory={})
    measured = pipeline(model=model, steps=20, seeds="0:4", labels=[0, 1])
    found = {}
    for name, source in {"alone": alone, "batch": batch, "turned": turned, "measured": measured}.items():
        run(source, str(tmp_path / name))
        found[name] = states(str(tmp_path / name), case)
    sparse = pipeline(model=model, steps=20, seeds=[2], labels=[1], trajectory={"keep": "::7"})
    run(sparse, str(tmp_path / "resumed"))
    run(alone, str(tmp_path / "resumed"))
    resumed = Store.open(str(tmp_path / "resumed"))
    (name,) = resumed.runs()
    (path,) = resumed.stages(name)
    grid = running.assembled(alone).context.grid
    found["resumed"] = resumed.read(name, path, [case], grid)["x_t"].values[0]
    for name, values in found.items():
        np.testing.assert_array_equal(values, found["alone"], err_msg=name)


def test_another_batch_size_is_another_run(store):
    run(pipeline(), store)
    run(pipeline(batch=4), store)
    assert len(Store.open(store).runs()) == 2


def test_stored_measures_are_what_their_definition_says(store):
    run(pipeline(), store)
    tree = fp.open(store)
    x = tree["trajectory"]["x_t"].load()
    value = tree["measures/step_ssim"]["value"].load()
    for t, before in zip(value["time"].values[::7], x["time"].values[:-1:7], strict=True):
        frames = [x.sel(seed=1, label=1, intervention="none", time=moment).values for moment in (t, before)]
        expected = images.ssim(*frames, window=7, data_range=1.0)
        np.testing.assert_allclose(
            value.sel(seed=1, label=1, intervention="none", time=t), expected, rtol=1e-6
        )


def test_the_null_ends_in_the_image_it_was_told(store):
    run(pipeline(step_mse={"use": "mse", "between": "final"}), store)
    null = fp.open(store)["measures/step_mse"]["null"].load()
    assert float(null.sel(time=0).max()) < 1e-9
    assert float(null.sel(time=1000).min()) > 0.1


def test_predicted_images_are_stored_and_cost_their_own_steps_only(store):
    run(pipeline(trajectory={}), store)
    guess = run(pipeline(trajectory={}, predicted_x0={"keep": "::10"}), store)
    assert guess.forwards == 3 * 2 * 4
    tree = fp.open(store)
    last = tree["predicted_x0"]["x0_hat"].sel(time=tree["predicted_x0"]["time"].values.min()).load()
    assert np.isfinite(last.values).all()


def test_a_sampler_is_part_of_the_identity(store):
    run(pipeline(trajectory={}), store)
    other = run(pipeline(trajectory={}, sampler={"rule": "ddim", "eta": 0.5}), store)
    assert other.forwards == 3 * 2 * 40
    groups = [name for name in Store.open(store).stages(other.run) if name.startswith("trajectory")]
    assert len(groups) == 2


def test_two_samplers_and_their_nulls_stand_apart(store, tmp_path):
    measure = {"trajectory": {}, "final_mse": {"use": "mse", "between": "final"}}
    ddim = {"rule": "ddim", "eta": 0.5}
    run(pipeline(**measure), store)
    run(pipeline(sampler=ddim, **measure), store)
    run(pipeline(**measure), store)
    both = fp.open(store)["measures"]
    assert {"final_mse", "final_mse[rule=ddpm,variance=posterior]"} < set(both.children)
    for name, sampler in (("ddpm", None), ("ddim", ddim)):
        run(pipeline(sampler=sampler, **measure), str(tmp_path / name))
        (apart,) = (node for node in both.children if f"rule={name}" in node)
        alone = fp.open(str(tmp_path / name))["measures/final_mse"].to_dataset()
        xr.testing.assert_equal(
            both[apart].to_dataset()[["value", "null"]].load(), alone[["value", "null"]].load()
        )


class Spoiled:
    """A model that leaves the numbers at one network index, for one label."""

    def __init__(self, at):
        self.inner = fp.load("mixture16")
        self.card, self.module, self.at = self.inner.card, None, at

    def __call__(self, x, index, label):
        eps = self.inner(x, index, label)
        eps[(index == self.at) & (label == 1)] = float("nan")
        return eps


def test_a_nan_is_named_and_never_stored(store):
    grid = running.assembled(pipeline()).context.grid
    source = pipeline(model=Spoiled(grid[25] - 1), seeds="4:7", trajectory={})
    with pytest.raises(NonFiniteError, match=rf"seed 4, label 1.*{grid[26]}|{grid[26]}.*seed 4, label 1"):
        run(source, store)
    tree = fp.open(store)
    assert not np.isfinite(tree["trajectory"]["x_t"].sel(label=1).values).any()


def test_a_plan_over_budget_is_refused_before_anything_is_written(store, tmp_path):
    with pytest.raises(BudgetError, match="memory"):
        run(pipeline(), store, memory=1 << 20)
    with pytest.raises(BudgetError, match="allowed"):
        run(pipeline(), store, disk=1 << 10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("allowed", "told"), [(2500, "at most 2 workers; or use a"), (1100, "1 worker; or"), (900, "it: use")]
)
def test_of_too_many_workers_it_is_said_how_many_there_is_memory_for(allowed, told):
    cost = Cost(process=1000, model=0, blocks=0, regions=0, scratch=0, store=0)
    with pytest.raises(BudgetError, match=told):
        check(cost, memory=allowed, disk=None, folder=None, processes=1_000_000)


def test_memory_stores_work_and_are_forgotten_with_the_process():
    tree = fp.profile("mixture16", seeds="0:2", labels=[0], into="memory://engine", sampler={"steps": 10})
    assert tree["trajectory"]["x_t"].sizes["time"] == 11
    assert running.run(
        pipeline(steps=10, seeds="0:2", labels=[0], trajectory={}, step_ssim={"use": "ssim"}), into="memory://engine"
    ).forwards == 0  # fmt: skip


def test_a_profile_is_of_its_own_model_whatever_else_the_store_holds(store):
    small = {"seeds": "0:2", "labels": [0], "into": store, "sampler": {"steps": 4}}
    first, second = fp.profile("mixture16", **small), fp.profile("gaussian8", **small)
    assert second["trajectory"]["x_t"].shape != first["trajectory"]["x_t"].shape
    assert second.profile.sel(seed=0, objects="trajectory").sizes["time"] == 5
    again = fp.profile("mixture16", **small)
    assert again["trajectory"]["x_t"].equals(first["trajectory"]["x_t"])
    assert set(fp.open(store).children) == {"mixture16", "gaussian8"}


def test_changed_weights_under_the_same_path_are_refused_with_both_digests(store, tmp_path):
    from safetensors.torch import load_file

    from flowprofile.models import weights, zoo

    path = tmp_path / "mine.safetensors"
    path.write_bytes(zoo.weights_path("digits").read_bytes())
    source = pipeline(model=str(path), steps=2, seeds=[0], trajectory={})
    before = running.assembled(source).identity
    run(source, store)
    tensors = load_file(path)
    name = min(tensors)
    tensors[name] = tensors[name] + 1
    weights.save(path, tensors, zoo.card("digits"))
    with pytest.raises(StoreError, match="have changed") as refusal:
        run(source, store)
    assert before in refusal.value.evidence
    assert running.assembled(source).identity in refusal.value.evidence
    assert run(source, store, accept_weights=True).forwards == 2 * 2


def test_padding_is_counted_apart(store):
    events = []
    outcome = run(pipeline(seeds=[0], labels=[0], trajectory={}), store, listen=events.append)
    assert (outcome.forwards, outcome.padding) == (40, 7 * 40)
    assert sum(event.forwards for event in events if isinstance(event, Advanced)) == 40


def test_a_store_in_a_checkpoint_folder_is_refused(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises((StoreError, DefinitionError), match="checkpoint"):
        run(pipeline(), str(tmp_path / "store"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model_index.json"]
