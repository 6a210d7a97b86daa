"""Inverted pictures: up to the noise that the sampler makes them of, and back."""

import numpy as np
import pytest
import torch
from photographs import looking, photographs

import flowprofile as fp
from flowprofile import running
from flowprofile.models import zoo
from flowprofile.models.mixture import build
from flowprofile.store.layout import StoreLayout

FAST = StoreLayout(durability="none")


def error(folder, store, **how):
    """Root mean square between the images and what the sampler makes of their noise, with the tree."""
    pipeline = looking(folder, how="inverted", trajectory={}, **how)
    running.run(pipeline, into=store, layout=FAST)
    tree = fp.open(store)
    images = running.assembled(pipeline).context.real.images(tree.seed.values.tolist())
    back = tree["trajectory"].x_t.sel(time=0).values[0, 0]
    return float(np.sqrt(np.square(back - images).mean())), tree


def test_sampling_from_the_inverted_noise_returns_the_image_the_closer_the_more_steps(tmp_path):
    folder = photographs(tmp_path / "p")
    found = {
        n: error(folder, tmp_path / str(n), model="gaussian8", labels=[0], steps=n)[0] for n in (10, 50, 250)
    }
    assert found[10] > 2 * found[50] > 4 * found[250], found
    assert found[250] < 0.01, found


def test_a_network_returns_them_as_well(tmp_path):
    folder = photographs(tmp_path / "p")
    found = {n: error(folder, tmp_path / str(n), steps=n)[0] for n in (10, 100)}
    assert found[100] < found[10] / 2, found


def test_further_iterations_come_nearer(tmp_path):
    folder = photographs(tmp_path / "p")
    one, many = (
        error(folder, tmp_path / str(n), model="gaussian8", labels=[0], steps=50, iterations=n)[0]
        for n in (1, 8)
    )
    assert many < one / 5, (one, many)


def test_the_noise_of_a_gaussian_image_is_what_the_flow_says(tmp_path):
    """Along the exact flow every principal component keeps its quantile: x_T = x_0's, whitened."""
    _, tree = error(photographs(tmp_path / "p"), tmp_path / "s", model="gaussian8", labels=[0], steps=1000)
    exact = build(zoo.card("gaussian8"))
    x = torch.from_numpy(tree["trajectory"].x_t.values[0, 0]).double().flatten(2) - 0
    top, bottom = x[:, 0], x[:, -1]
    values, vectors = torch.linalg.eigh(exact.covariance)
    large = values > 1e-2
    mean = exact.mean.flatten()
    abar = float(tree["trajectory"].alpha_bar.values[0])
    spread = (abar * values + 1 - abar).sqrt()
    white = ((bottom - mean) @ vectors / values.clamp(min=1e-12).sqrt())[:, large]
    reached = ((top - abar**0.5 * mean) @ vectors / spread)[:, large]
    np.testing.assert_allclose(reached.numpy(), white.numpy(), atol=0.05)


def test_it_fills_the_stages_of_a_sampled_run_with_its_null(tmp_path):
    stages = {
        "trajectory": {"keep": "::5"},
        "step_ssim": {"use": "ssim", "window": 5},
        "predicted_x0": {"keep": "::5"},
        "attention": {"layers": "*.fn", "keep": "::5"},
    }
    pipeline = looking(photographs(tmp_path / "p"), how="inverted", **stages)
    assert running.plan(pipeline).plan.forwards == 3 * 20
    assert running.run(pipeline, into=tmp_path / "s", layout=FAST).forwards == 3 * 20
    tree = fp.open(tmp_path / "s")
    assert (tree["measures/step_ssim"].status == 2).all()
    assert np.isfinite(tree["measures/step_ssim"].null.values).all()


def test_what_follows_from_stored_states_asks_for_no_inversion(tmp_path):
    folder = photographs(tmp_path / "p")
    running.run(looking(folder, how="inverted", trajectory={}), into=tmp_path / "s", layout=FAST)
    more = looking(folder, how="inverted", trajectory={}, predicted_x0={"keep": [500]})
    assert running.plan(more, into=tmp_path / "s").plan.forwards == 3
    whole = looking(folder, how="inverted", trajectory={}, predicted_x0={"keep": [500]})
    running.run(whole, into=tmp_path / "s", layout=FAST)
    running.run(whole, into=tmp_path / "t", layout=FAST)
    for node in ("predicted_x0", "trajectory"):
        assert (
            fp.open(tmp_path / "s")[node]
            .to_dataset()
            .load()
            .equals(fp.open(tmp_path / "t")[node].to_dataset())
        )


def test_a_changed_run_starts_from_the_clean_images_noise(tmp_path):
    table = {"cut": {"kind": "ablate", "layer": "mid_attn.fn", "channel": 3}}
    pipeline = looking(photographs(tmp_path / "p"), how="inverted", interventions=table, trajectory={})
    assert running.plan(pipeline).plan.forwards == 3 * 30
    running.run(pipeline, into=tmp_path / "s", layout=FAST)
    states = fp.open(tmp_path / "s")["trajectory"].x_t
    cut = next(name for name in states.intervention.values if name != "none")
    assert np.array_equal(*(states.sel(intervention=name, time=1000).values for name in ("none", cut)))
    assert not np.array_equal(*(states.sel(intervention=name, time=0).values for name in ("none", cut)))


@pytest.mark.parametrize("cut", [3, 7])
def test_however_the_cases_are_cut_the_states_are_the_same(tmp_path, cut):
    folder = photographs(tmp_path / "p", range(5))
    whole = looking(folder, how="inverted", trajectory={})
    running.run(whole, into=tmp_path / "s", layout=FAST)
    seeds = running.assembled(whole).sweep.seeds
    for part in (seeds[cut % 5 :], seeds):
        running.run(
            looking(folder, how="inverted", seeds=part, trajectory={}), into=tmp_path / "t", layout=FAST
        )
    a, b = (fp.open(tmp_path / name)["trajectory"].to_dataset().load() for name in "st")
    assert a.x_t.equals(b.x_t.sel(seed=a.seed))
