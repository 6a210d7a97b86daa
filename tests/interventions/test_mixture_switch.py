"""The label switch on a model whose posterior is a formula: how often the new label wins is known beforehand."""

import numpy as np
import pytest
import torch

import flowprofile as fp
from flowprofile import running
from flowprofile.models import zoo

TEMPLATES = 8
OWN = slice(4, 8)
"""Templates that label 1 favours."""


def experiment(store, *, seeds, at, steps):
    """Runs of label 0, switched to label 1 at some steps, and the states x_s at which they part."""
    times = [1000, *at, 0]
    table = {
        "model": "mixture16",
        "sampler": {"steps": steps},
        "cases": {"seeds": f"0:{seeds}", "labels": [0]},
        "interventions": {"switch": {"kind": "switch", "at": at, "to": 1}},
        "stages": {"trajectory": {"keep": sorted(set(times), reverse=True), "before": True}},
    }
    running.run(fp.Pipeline.model_validate(table), into=store)
    return fp.open(store)["trajectory"]["x_t"]


def outcome(states):
    """Which template each final image is, [seed]."""
    templates = zoo.load("mixture16").templates.flatten(1).numpy()
    images = states.sel(time=0).values.reshape(-1, 1, templates.shape[1])
    return ((images - templates) ** 2).sum(-1).argmin(-1)


def expected(states, t, label):
    """p(the image is one of the new label's own templates | x_t, new label), per seed."""
    denoiser = zoo.load("mixture16")
    x = torch.tensor(states.sel(time=t).values)
    index = torch.full((len(x),), t - 1)
    posterior = denoiser.posterior(x.double(), index, torch.full((len(x),), label))
    return posterior[:, OWN].sum(1).numpy()


@pytest.mark.parametrize(("seeds", "steps"), [(128, 40), pytest.param(512, 200, marks=pytest.mark.nightly)])
def test_the_new_label_wins_as_often_as_its_posterior_weight_says(store, seeds, steps):
    at = [t for t in (975, 900, 800, 700, 600, 500, 400, 300, 200, 100, 50, 0) if t % (1000 // steps) == 0]
    states = experiment(store, seeds=seeds, at=at, steps=steps).squeeze("label")
    clean = states.sel(intervention="none")
    before = 1000 // steps
    shares = []
    for t in at:
        new = outcome(states.sel(intervention=f"switch@{t}->1")) >= OWN.start
        weight = expected(clean, t + before, 1)
        # Each sample lands in the group with a probability of its own: the sum's variance is known.
        error = np.sqrt((weight * (1 - weight)).sum()) / seeds
        assert abs(new.mean() - weight.mean()) < 4 * error + 0.012, t
        shares.append(new.mean())
    assert shares[0] > 0.9
    assert shares[-1] < 0.12, "the last steps decide nothing"
    changed = {t: (outcome(states.sel(intervention=f"switch@{t}->1")) != outcome(clean)).mean() for t in at}
    assert changed[900] > 0.8
    assert changed[100] == changed[0] == 0.0
