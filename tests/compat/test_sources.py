"""Noise of a seeded generator: what a plain loop in torch draws, in any batch, from any state, for any label."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import flowprofile as fp
from flowprofile import running
from flowprofile.assembly import assemble
from flowprofile.errors import DefinitionError
from flowprofile.models import zoo
from flowprofile.time.schedule import schedule

STEPS = 20


def definition(noise="torch", *, model="mixture16", seeds="0:3", labels=(0, 1), steps=STEPS, **more):
    return fp.Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": steps, **({"noise": noise} if noise else {})},
            "cases": {"seeds": seeds, "labels": list(labels)},
            "stages": more.pop("stages", {"trajectory": {}}),
            **more,
        }
    )


def opened(pipeline, store):
    running.run(pipeline, into=store)
    return fp.open(store)


def states(tree, seed, label, intervention="none"):
    return tree["trajectory"]["x_t"].sel(seed=seed, label=label, intervention=intervention).values


def plain_loop(seed, label, *, x_T=None, steps=1000, model="mixture16"):
    """DDPM as a textbook writes it: one generator, x_T and then one randn per step; float32 states."""
    denoiser = zoo.load(model)
    times = schedule(denoiser.card.schedule, denoiser.card.steps)
    shape = denoiser.card.shape
    grid = np.linspace(denoiser.card.steps, 0, steps + 1).round().astype(int).tolist()
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) if x_T is None else torch.from_numpy(x_T)
    found = [x]
    for t_from, t in pairwise(grid):
        index, labels = torch.full((8,), t_from - 1), torch.full((8,), label)
        with torch.no_grad():
            eps = denoiser(x.expand(8, *shape), index, labels)[0]
        bar, before = times.alpha_bar(t_from), times.alpha_bar(t)
        alpha = bar / before
        beta = 1.0 - alpha
        x = (x - eps * (beta / math.sqrt(1.0 - bar))) * (1.0 / math.sqrt(alpha))
        if t:
            z = torch.randn(shape, generator=generator)
            x = x + z * math.sqrt(beta * (1.0 - before) / (1.0 - bar))
        found.append(x)
    return torch.stack(found).numpy()


def test_a_whole_run_is_the_plain_loop_of_torch_bit_for_bit(store):
    tree = opened(definition(model="gaussian8", seeds=[3], labels=[0], steps=1000), store)
    wanted = plain_loop(3, 0, steps=1000, model="gaussian8")
    assert states(tree, 3, 0).tobytes() == wanted.tobytes()
    assert tree["trajectory"].attrs["noise"] == "torch-generator-1"


def test_two_labels_of_a_seed_share_every_draw_and_each_is_its_own_loop(store):
    tree = opened(definition(seeds=[2], labels=[0, 1]), store)
    for label in (0, 1):
        assert np.array_equal(states(tree, 2, label), plain_loop(2, label, steps=STEPS))
    assert np.array_equal(states(tree, 2, 0)[0], states(tree, 2, 1)[0])
    assert not np.array_equal(states(tree, 2, 0)[-1], states(tree, 2, 1)[-1])


def test_a_case_has_the_same_bits_in_any_batch_and_added_later(store):
    together = opened(definition(seeds="0:11"), store)
    for seed in (0, 10):
        alone = opened(definition(seeds=[seed], labels=[1]), f"{store}-{seed}")
        assert np.array_equal(states(together, seed, 1), states(alone, seed, 1))
    later = f"{store}-later"
    running.run(definition(seeds=[10, 4], labels=[1]), into=later)
    grown = opened(definition(seeds="0:11"), later)
    assert np.array_equal(grown["trajectory"]["x_t"].values, together["trajectory"]["x_t"].values)


def test_a_run_that_is_resumed_or_branches_in_the_middle_draws_as_if_it_had_begun_at_the_top(store):
    sparse = {"trajectory": {"keep": [1000, 500]}}
    running.run(definition(seeds=[5], stages=sparse), into=store)
    full = opened(definition(seeds=[5]), store)
    assert np.array_equal(states(full, 5, 0), plain_loop(5, 0, steps=STEPS))
    table = {"sw": {"kind": "switch", "at": 300, "to": 1}}
    tree = opened(definition(seeds=[5], labels=[0], interventions=table), f"{store}-switched")
    grid = tree["trajectory"].time.values.tolist()
    both = [plain_loop(5, label, steps=STEPS) for label in (0, 1)]
    switched = states(tree, 5, 0, "switch@300->1")
    at = grid.index(300)
    assert np.array_equal(switched[:at], both[0][:at])
    assert not np.array_equal(switched[at:], both[0][at:])
    top = {"sw": {"kind": "switch", "at": grid[1], "to": 1}}
    whole = opened(definition(seeds=[5], labels=[0], interventions=top), f"{store}-top")
    assert np.array_equal(states(whole, 5, 0, f"switch@{grid[1]}->1"), both[1])


def test_the_null_is_driven_by_the_same_noise(store):
    """A chain that knows its image, in float64 from the generator's own draws; other noise gives another null."""
    from flowprofile.measures import images
    from flowprofile.measures.nulls import posterior_chain
    from flowprofile.time.generator import GeneratorNoise
    from flowprofile.time.rules import rule
    from flowprofile.time.schedule import linear

    stages = {"trajectory": {}, "mse": {"between": "final"}}
    tree = opened(definition(seeds=[0], labels=[0], stages=stages), store)
    grid = tuple(tree["trajectory"].time.values.tolist())
    final = states(tree, 0, 0)[-1:]
    chain = posterior_chain(
        final, [0], schedule=linear(1000), grid=grid, rule=rule("ddpm"), noise=GeneratorNoise(grid)
    )
    wanted = [float(images.mse(x, final)[0]) for _, x in chain]
    null = tree["measures/mse"]["null"].sel(seed=0, label=0, intervention="none").values
    np.testing.assert_allclose(null, wanted, rtol=1e-5, atol=1e-9)
    other = opened(definition(None, seeds=[0], labels=[0], stages=stages), f"{store}-philox")
    assert not np.allclose(other["measures/mse"]["null"].values.squeeze(), wanted, rtol=1e-2)


def test_first_states_come_from_a_file_and_all_else_from_the_generator(store, tmp_path):
    given = np.random.default_rng(0).standard_normal((4, 1, 16, 16)).astype(np.float32)
    np.save(tmp_path / "x_T.npy", given)
    noise = str(tmp_path / "x_T.npy")
    tree = opened(definition(noise, seeds=[1, 3], labels=[0]), store)
    for seed in (1, 3):
        assert np.array_equal(states(tree, seed, 0), plain_loop(seed, 0, x_T=given[seed], steps=STEPS))
    assert tree["trajectory"].attrs["noise"].startswith("torch-generator-1:x_T=")


def keys(pipeline):
    return assemble(pipeline).graph.keys


def test_every_source_has_a_key_of_its_own_and_a_file_that_of_its_content(tmp_path):
    one, same, other = (str(tmp_path / f"{name}.npy") for name in "abc")
    states_ = np.zeros((3, 1, 16, 16), dtype=np.float32)
    np.save(one, states_)
    np.save(same, states_)
    np.save(other, states_ + 1)
    found = [keys(definition(noise))["trajectory"] for noise in ("philox", "torch", one, other)]
    assert len(set(found)) == 4
    assert keys(definition(None))["trajectory"] == found[0], "philox is the default"
    assert keys(definition(same))["trajectory"] == found[2], "what a file is called does not matter"


@pytest.mark.parametrize(
    ("array", "wrong"),
    [
        (np.zeros((3, 1, 16, 16)), "float64"),
        (np.zeros((3, 16, 16), dtype=np.float32), r"\(3, 16, 16\)"),
        (np.zeros((2, 1, 16, 16), dtype=np.float32), "seed 2"),
        (np.full((3, 1, 16, 16), np.nan, dtype=np.float32), "NaN"),
        (np.array([None, 1], dtype=object), "safely"),
        (None, "no file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_anything_is_computed(tmp_path, array, wrong):
    path = tmp_path / "x_T.npy"
    if array is not None:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(DefinitionError, match=rf"(?s){wrong}.*sampler.*noise|sampler.*noise.*{wrong}"):
        assemble(definition(str(path)))


def test_a_run_with_a_generator_is_planned_without_torch():
    import subprocess
    import sys

    code = (
        "import sys\nfrom flowprofile.assembly import assemble\nfrom flowprofile.definitions import Pipeline\n"
        "assemble(Pipeline(model='digits', sampler={'noise': 'torch'}, cases={'seeds': [0], 'labels': [0]},"
        " stages={'trajectory': {}}))\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
