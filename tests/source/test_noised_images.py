"""Given pictures, noised: exact where the model is exact, cached like any sweep, and the same however it was cut."""

import os
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import looking, photographs, picture, saved

import flowprofile as fp
from flowprofile import running
from flowprofile.models import zoo
from flowprofile.models.mixture import build
from flowprofile.store.layout import StoreLayout
from flowprofile.time.noise import noise
from flowprofile.time.schedule import linear

FAST = StoreLayout(durability="none")
LINEAR = linear()
EVERYTHING = {
    "trajectory": {},
    "predicted_x0": {},
    "activations": {"layers": "mid_attn.fn"},
    "max_channel": {"layers": "*.fn"},
    "attention": {"layers": "*.fn"},
    "volume": {"use": "gradient_volume", "mask": {"rectangle": [2, 2, 4, 4]}},
    "final_ssim": {"use": "ssim", "between": "final", "window": 5},
}


def ran(pipeline, store):
    return running.run(pipeline, into=store, layout=FAST)


def contents(url):
    """Digest of every object that a finished store is made of."""
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {str(f.relative_to(root)): blake2b(f.read_bytes()).hexdigest() for f in files if f.is_file()}


def rows(tree, name):
    """One image's draws."""
    return tree.seed.values[tree.image.values == name]


def test_states_are_the_formula_and_each_image_is_a_labelled_coordinate(tmp_path):
    folder = photographs(tmp_path / "p")
    ran(looking(folder, draws=2), tmp_path / "s")
    tree = fp.open(tmp_path / "s")
    assert sorted(set(tree.image.values)) == ["0.png", "1.png", "2.png"]
    assert sorted(tree.draw.values.tolist()) == [0, 0, 0, 1, 1, 1]
    assert (tree["trajectory"].image == tree.image).all()
    low, high = zoo.card("digits").pixel_range
    for number in range(3):
        x0 = picture(number)[..., 0].astype(np.float32) / np.float32(255) * np.float32(
            high - low
        ) + np.float32(low)
        for draw, seed in enumerate(rows(tree, f"{number}.png")):
            for t in (1000, 500, 100):
                z = noise(int(seed) >> 10, t, (1, 8, 8), purpose="image", draw=draw)[0]
                expected = np.float32(LINEAR.signal(t)) * x0 + np.float32(LINEAR.noise(t)) * z
                found = tree["trajectory"].x_t.sel(label=3, seed=seed, time=t).values.squeeze()
                assert np.array_equal(found, expected)
            assert np.array_equal(tree["trajectory"].x_t.sel(seed=seed, time=0).values.squeeze(), x0)


@pytest.mark.parametrize("model", ["gaussian8", "mixture16"])
def test_what_an_exact_model_predicts_of_a_noised_image_is_its_posterior_mean(tmp_path, model):
    side = zoo.card(model).shape[1]
    folder = photographs(tmp_path / "p", side=(side, side))
    ran(looking(folder, model=model, labels=[0], draws=2), tmp_path / "s")
    tree = fp.open(tmp_path / "s")
    exact, grid = build(zoo.card(model)), tree["trajectory"].time.values
    for t in tree["predicted_x0"].time.values:
        before = int(grid[list(grid).index(t) - 1])
        x = torch.from_numpy(tree["trajectory"].x_t.sel(time=before, label=0).values[0]).double()
        abar = LINEAR.alpha_bar(before)
        eps = exact(x, torch.full((len(x),), before - 1), torch.zeros(len(x), dtype=torch.int64))
        mean = (x - (1 - abar) ** 0.5 * eps) / abar**0.5
        found = tree["predicted_x0"].x0_hat.sel(time=t, label=0).values[0]
        np.testing.assert_allclose(found, mean.numpy(), atol=2e-3 if before > 800 else 2e-5)


def test_what_the_network_shows_is_what_it_shows_of_that_very_state(tmp_path):
    ran(looking(photographs(tmp_path / "p"), **EVERYTHING), tmp_path / "s")
    tree = fp.open(tmp_path / "s")
    model = zoo.load("digits")
    shown = []
    hook = model.module.get_submodule("mid_attn.fn").register_forward_hook(
        lambda m, i, o: shown.append(o.clone())
    )
    x = torch.from_numpy(tree["trajectory"].x_t.sel(time=500, label=3).values[0])
    with torch.no_grad():
        model(x, torch.full((3,), 499), torch.full((3,), 3))
    hook.remove()
    found = tree["activations/mid_attn.fn"].activation.sel(time=400, label=3).values[0]
    np.testing.assert_allclose(found, shown[0].numpy(), atol=1e-5)
    for name in ("max_channel", "attention", "gradients/volume", "measures/final_ssim"):
        assert (tree[name].status == 2).all(), name
    ssim = tree["measures/final_ssim"].value.squeeze(drop=True).mean("seed")
    assert float(ssim.sel(time=0)) == 1
    assert float(ssim.sel(time=1000)) < 0.2 < 0.5 < float(ssim.sel(time=100)), "it comes out of the noise"
    assert "null" not in tree["measures/final_ssim"], "a noised image is its own null"


def test_the_null_of_another_recipe_is_not_taken_for_its_own(tmp_path):
    folder = photographs(tmp_path / "p")
    measured = {"trajectory": {}, "final_ssim": EVERYTHING["final_ssim"]}
    ran(looking(folder, how="inverted", **measured), tmp_path / "s")
    assert "null" in fp.open(tmp_path / "s")["measures/final_ssim"]
    ran(looking(folder, **measured), tmp_path / "s")
    tree = fp.open(tmp_path / "s")
    assert "null" not in tree["measures/final_ssim"]
    nodes = [name for name in tree["measures"].children if name.startswith("final_ssim[")]
    assert sorted("null" in tree["measures"][name] for name in nodes) == [False, True]


def test_only_what_the_network_is_asked_costs_an_evaluation(tmp_path):
    folder = photographs(tmp_path / "p")
    assert ran(looking(folder, steps=1000, trajectory={"keep": [900, 500]}), tmp_path / "s").forwards == 0
    more = looking(folder, steps=1000, trajectory={"keep": [900, 500]}, predicted_x0={"keep": [499, 99]})
    planned = running.plan(more, into=tmp_path / "s").plan
    assert (planned.forwards, planned.padded) == (6, 0)
    assert ran(more, tmp_path / "s").forwards == 6
    assert ran(more, tmp_path / "s").regions == 0


def test_a_folder_and_its_draws_grow_and_nothing_is_computed_again(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1))
    ran(looking(folder), tmp_path / "s")
    before = fp.open(tmp_path / "s").load()
    photographs(folder, (2, 3))
    (folder / "0.png").rename(folder / "first.png")
    assert ran(looking(folder), tmp_path / "s").forwards == 2 * 10
    assert ran(looking(folder, draws=2), tmp_path / "s").forwards == 4 * 10
    after = fp.open(tmp_path / "s")
    assert set(after.image.values) == {"0.png", "1.png", "2.png", "3.png"}, "the first name stays"
    assert len(after.seed) == 8
    assert before["predicted_x0"].x0_hat.equals(after["predicted_x0"].x0_hat.sel(seed=before.seed))


def test_a_changed_picture_is_another_one(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1))
    ran(looking(folder), tmp_path / "s")
    saved(picture(7), folder / "0.png")
    assert ran(looking(folder), tmp_path / "s").forwards == 10
    tree = fp.open(tmp_path / "s")
    old, new = rows(tree, "0.png")
    assert len(set(tree.digest.values)) == 3
    states = tree["trajectory"].x_t.sel(time=0, label=3)
    assert not np.array_equal(states.sel(seed=old).values, states.sel(seed=new).values)


def test_pictures_never_share_a_run_with_samples_or_other_preparations(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1))
    pipeline = looking(folder)
    plain = pipeline.model_copy(
        update={
            "source": None,
            "cases": fp.Pipeline.model_validate(
                {"model": "digits", "cases": {"seeds": [0], "labels": [3]}, "stages": {"trajectory": {}}}
            ).cases,
        }
    )
    given, sampled = running.assembled(pipeline), running.assembled(plain)
    assert given.run != sampled.run
    assert not set(given.graph.keys.values()) & set(sampled.graph.keys.values())


def test_on_the_grid_of_a_scheduler_that_remembers_each_state_stands_by_itself(tmp_path):
    how = {"sampler": {"rule": "DPMSolverMultistepScheduler"}, "steps": 8}
    pipeline = looking(photographs(tmp_path / "p"), **how, trajectory={"keep": [0]})
    ready = running.assembled(pipeline)
    assert ready.context.whole
    assert not ready.graph.chain("trajectory").whole
    grid = ready.context.grid
    kept = looking(tmp_path / "p", **how, predicted_x0={"keep": [grid[4]]}, trajectory={"keep": [grid[3]]})
    assert ran(kept, tmp_path / "s").forwards == 3
    tree, levels = fp.open(tmp_path / "s"), ready.context.schedule
    images = ready.context.real.images(tree.seed.values.tolist())
    for row, seed in enumerate(tree.seed.values.tolist()):
        z = noise(seed >> 10, grid[3], (1, 8, 8), purpose="image")
        expected = np.float32(levels.signal(grid[3])) * images[row] + np.float32(levels.noise(grid[3])) * z
        assert np.array_equal(tree["trajectory"].x_t.sel(seed=seed, time=grid[3]).values[0, 0], expected)


def test_an_ablation_acts_on_what_the_network_shows_of_the_same_states(tmp_path):
    table = {"cut": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3, "time": [999, 500]}}
    folder = photographs(tmp_path / "p")
    ran(looking(folder, interventions=table), tmp_path / "s")
    tree = fp.open(tmp_path / "s")
    cut = next(name for name in tree.intervention.values if name != "none")
    states, shown = tree["trajectory"].x_t, tree["predicted_x0"].x0_hat
    assert np.array_equal(states.sel(intervention=cut).values, states.sel(intervention="none").values)
    both = [
        (shown.sel(intervention=cut, time=t).values, shown.sel(intervention="none", time=t).values)
        for t in (500, 400)
    ]
    assert not np.array_equal(*both[0])
    assert np.array_equal(*both[1])


def test_labels_are_compared_on_one_image(tmp_path):
    stages = {"apart": {"use": "layer_distance", "layers": "mid_attn.fn", "between": "labels"}}
    ran(looking(photographs(tmp_path / "p"), labels=[3, 5], **stages), tmp_path / "s")
    value = fp.open(tmp_path / "s")["measures/apart"].value
    assert (value.sel(label=3, other_label=5) > 0).all()
    assert (value.sel(label=3, other_label=3) == 0).all()


@pytest.mark.parametrize("who", ["processes:2"])
def test_workers_write_the_same_bytes(tmp_path, who):
    folder = photographs(tmp_path / "p", range(9))
    pipeline = looking(folder, draws=2, batch=4)
    ran(pipeline, tmp_path / "alone")
    running.run(pipeline, into=tmp_path / "s", layout=FAST, cluster=who)
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


def test_parts_of_a_declared_store_are_the_whole(tmp_path):
    pipeline = looking(photographs(tmp_path / "p", range(5)), batch=2)
    ran(pipeline, tmp_path / "alone")
    running.prepare(pipeline, into=tmp_path / "s", layout=FAST)
    for index in (1, 0):
        running.run(pipeline, into=tmp_path / "s", layout=FAST, part=(index, 2))
    assert contents(tmp_path / "s") == contents(tmp_path / "alone")


DYING = """
import os, signal, sys
sys.path.insert(0, {support!r})
from photographs import looking
from flowprofile import running
from flowprofile.flow.events import Committed
from flowprofile.store.layout import StoreLayout

def dies(how, n):
    left = n
    def listen(event):
        nonlocal left
        left -= isinstance(event, Committed)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    pipeline = looking({folder!r}, how=how, batch=2)
    running.run(pipeline, into={store!r} + how, listen=listen, layout=StoreLayout(durability="none"))
    os._exit(0)

for how, n in (("noised", 3), ("inverted", 2)):
    child = os.fork()
    if child == 0:
        dies(how, n)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), how
"""


def test_a_killed_run_ends_in_the_bytes_of_an_uninterrupted_one(tmp_path):
    folder, support = photographs(tmp_path / "p", range(4)), str(Path(__file__).parents[1] / "support")
    code = DYING.format(support=support, folder=str(folder), store=str(tmp_path / "s"))
    subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=True)
    for how in ("noised", "inverted"):
        pipeline = looking(folder, how=how, batch=2)
        assert running.plan(pipeline, into=tmp_path / f"s{how}").plan.tasks
        ran(pipeline, tmp_path / f"s{how}")
        ran(pipeline, tmp_path / f"alone{how}")
        assert contents(tmp_path / f"s{how}") == contents(tmp_path / f"alone{how}")


def test_from_python_in_one_call(tmp_path):
    folder = photographs(tmp_path / "p")
    tree = fp.profile(
        "digits", labels=[3], into=tmp_path / "s", sampler={"steps": 10}, source={"images": folder}
    )
    assert set(tree.children) == {"trajectory", "predicted_x0"}
    some = [str(folder / "0.png"), folder / "2.png"]
    again = fp.profile(
        "digits", labels=[3], into=tmp_path / "t", sampler={"steps": 10}, source={"images": some}
    )
    assert set(again.image.values) == {"0.png", "2.png"}


def test_a_store_of_pictures_is_completed_from_its_own_provenance(tmp_path):
    folder = photographs(tmp_path / "p", (0, 1))
    ran(looking(folder), tmp_path / "s")
    photographs(folder, (2,))
    tree = running.ensure(tmp_path / "s", labels=[3, 5])
    assert sorted(set(tree.image.values)) == ["0.png", "1.png"], (
        "what was asked for then, not what is there now"
    )
    assert (tree["predicted_x0"].status == 2).all()
    assert running.run(looking(folder), into=tmp_path / "s").forwards == 10
