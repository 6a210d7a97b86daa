"""Fidelity: what a reader sees in finished images, against answers known otherwise; and readers that are refused."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
import torch

import flowprofile as fp
from flowprofile import running
from flowprofile.datasets.digits import digits
from flowprofile.datasets.faces import faces
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.models import reader as readers
from flowprofile.models import reading, weights, zoo
from flowprofile.stages import schema

STEPS = 20
"""Of the sampler; the first step begins at t = 1000 and leads into t = 950."""


def definition(*, model="digits", labels=(3, 5), seeds="0:2", interventions=None, keep=(0,), **fidelity):
    stages = {"trajectory": {"keep": list(keep)}}
    return fp.Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": STEPS},
            "cases": {"seeds": seeds, "labels": list(labels)},
            "interventions": interventions or {},
            "stages": {**stages, "fidelity": fidelity},
        }
    )


def without(pipeline):
    return pipeline.model_copy(update={"stages": {"trajectory": pipeline.stages["trajectory"]}})


def key_of(*, allow_code=False, **options):
    return running.assembled(definition(**options), allow_code=allow_code).graph.keys["fidelity"]


def pictures(name):
    """Real pictures, and noise that shows nothing."""
    shown = digits().images[:20] if name == "digits" else faces(4, range(12)).images
    noise = np.random.default_rng(0).random((6, *shown.shape[1:]), np.float32)
    return np.concatenate([shown, noise])


def own_reader(folder, *, seed=1, channels=1, size=8, heads=(10,), name="mine"):
    """An untrained reader in a file of our format."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = readers.Reader(readers.ReaderCard(name, channels, size, heads))
    return str(readers.save(reader, folder=folder))


@pytest.mark.parametrize("name", ["digits", "faces32"])
def test_probabilities_are_of_all_labels_and_the_most_probable_is_what_is_read(name):
    reader, images = readers.load(name), pictures(name)
    found = reader.probabilities(images)
    assert found.shape == (len(images), zoo.card(name).labels.count)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1.0, rtol=0, atol=1e-12)
    assert found.argmax(1).tolist() == reader.read(images).tolist()
    assert 0.2 < found[-6:].max(1).min() < 0.99, "noise leaves it in doubt"


def joint(heads, label, *, first_is_most_significant=True):
    """The product of the probabilities of a label's bits, from each question's own softmax."""
    bits = [int(bit) for bit in f"{label:04b}"]
    bits = bits if first_is_most_significant else bits[::-1]
    return np.prod([head[:, bit] for head, bit in zip(heads, bits, strict=True)], axis=0)


def test_the_probability_of_bits_is_the_product_of_each():
    reader, images = readers.load("faces32"), pictures("faces32")
    found = reader.probabilities(images)
    logits = reader(torch.from_numpy(images)).double()
    heads = [torch.softmax(part, 1).numpy() for part in torch.split(logits, [2, 2, 2, 2], dim=1)]
    right = np.stack([joint(heads, label) for label in range(16)], 1)
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-12)
    wrong = np.stack([joint(heads, label, first_is_most_significant=False) for label in range(16)], 1)
    assert abs(found - wrong).max() > 0.5, "with the bits in the other order"
    for question, answer in product(range(4), range(2)):
        labels = [label for label in range(16) if label >> (3 - question) & 1 == answer]
        np.testing.assert_allclose(found[:, labels].sum(1), heads[question][:, answer], rtol=1e-4, atol=1e-9)


def test_what_is_read_of_a_picture_does_not_depend_on_the_pictures_beside_it():
    reader, images = readers.load("faces32"), pictures("faces32")
    together = reader.probabilities(images)
    for first, stop in ((0, 1), (3, 7), (5, 18)):
        assert np.array_equal(reader.probabilities(images[first:stop]), together[first:stop])


def test_the_posterior_of_a_mixture_is_bayes_rule():
    mixture = zoo.load("mixture16")
    templates = mixture.templates.numpy()
    own = readers.posterior(mixture, templates)
    # The templates are many standard deviations apart: what is left of doubt are the weights .95 and .05.
    np.testing.assert_allclose(own, [[0.95, 0.05]] * 4 + [[0.05, 0.95]] * 4, rtol=0, atol=1e-9)
    between = (0.51 * templates[0] + 0.49 * templates[4])[None]
    squares = ((between - templates).astype(np.float64) ** 2).sum((1, 2, 3))
    terms = np.exp(-(squares - squares.min()) / (2 * mixture.sd**2))
    likelihood = mixture.weights.numpy() @ terms
    expected = likelihood / likelihood.sum()
    np.testing.assert_allclose(readers.posterior(mixture, between)[0], expected, rtol=1e-4)


def test_a_mixture_is_read_by_its_own_posterior(store):
    running.run(definition(model="mixture16", labels=[0, 1], seeds="0:16"), into=store)
    tree = fp.open(store)
    found = tree["measures/fidelity"]
    x = tree["trajectory"]["x_t"].transpose("intervention", "label", "seed", "time", ...).values
    expected = readers.posterior(zoo.load("mixture16"), x.reshape(-1, 1, 16, 16)).reshape(1, 2, 16, 1, 2)
    np.testing.assert_allclose(found["probability"], expected, rtol=1e-6)
    assert found["asked"].mean() > 0.8, "a label has .95 of its own templates"
    assert found.attrs["reader"] == "the model's exact posterior"


@pytest.fixture(scope="module")
def switched(tmp_path_factory):
    """Two digits, and switches of one into the other at the first step, in the middle and at the last."""
    store = str(tmp_path_factory.mktemp("switched") / "store")
    table = {"switch": {"kind": "switch", "at": [950, 500, 0], "to": 5}}
    running.run(definition(interventions=table, seeds="0:4"), into=store)
    return fp.open(store)


def test_what_is_stored_is_what_the_reader_says_of_the_final_images(switched):
    found = switched["measures/fidelity"]
    assert found["probability"].dims == ("intervention", "label", "seed", "time", "read_label")
    assert found.time.values.tolist() == [0]
    assert found.read_label.values.tolist() == list(range(10))
    clean = {"intervention": "none", "time": 0}
    low, high = zoo.card("digits").pixel_range
    reader = readers.load("digits")
    x = switched["trajectory"]["x_t"].sel(clean).values.reshape(-1, 1, 8, 8)
    stored = found["probability"].sel(clean).values.reshape(-1, 10)
    seen = reader.probabilities(np.clip((x - low) / (high - low), 0, 1).astype(np.float32))
    np.testing.assert_allclose(stored, seen, rtol=1e-6, atol=1e-37)
    assert abs(stored - reader.probabilities(x)).max() > 1e-6, "pictures of another range are other pictures"
    assert found["predicted"].sel(clean).values.ravel().tolist() == seen.argmax(1).tolist()
    for label in (3, 5):
        asked = found["asked"].sel(clean | {"label": label})
        own = found["probability"].sel(clean | {"label": label, "read_label": label})
        assert np.array_equal(asked, own)


def test_the_outcome_of_a_switch_is_read_relative_to_both_labels(switched):
    found, old = switched["measures/fidelity"], {"label": 3, "time": 0}
    first = found.sel(intervention="switch@950->5", **old)
    new = found.sel(intervention="none", label=5, time=0)
    assert np.array_equal(first["probability"], new["probability"]), (
        "from the first step on it is the new label's"
    )
    assert np.array_equal(first["asked"], first["probability"].sel(read_label=3)), (
        "of the label it began with"
    )
    assert (first["asked"] < 0.01).all()
    assert (first["probability"].sel(read_label=5) > 0.9).all()
    assert first["predicted"].values.tolist() == [5] * 4
    last = found.sel(intervention="switch@0->5", **old)
    assert last["predicted"].values.tolist() == [3] * 4, "the last step decides nothing"
    assert (found["status"].sel(intervention="switch@950->5", label=5) == 0).all()


def test_of_a_stored_image_nothing_is_sampled(store):
    pipeline = definition()
    running.run(without(pipeline), into=store)
    assert running.plan(pipeline, into=store).plan.forwards == 0
    outcome = running.run(pipeline, into=store)
    assert (outcome.forwards, outcome.padding) == (0, 0)
    assert (fp.open(store)["measures/fidelity"]["status"] == 2).all()
    assert running.run(pipeline, into=store).regions == 0


def test_of_a_trajectory_without_its_end_only_the_rest_is_sampled(store):
    pipeline = definition(keep=[500])
    running.run(without(pipeline), into=store)
    assert running.plan(pipeline, into=store).plan.forwards == 4 * 500 // (1000 // STEPS)


def test_faces_are_read_in_sixteen_labels_and_planned_without_torch(store, tmp_path):
    running.run(definition(model="faces32", labels=["0110"], seeds=[0]), into=store)
    found = fp.open(store)["measures/fidelity"].to_dataset().squeeze()
    assert found.sizes["read_label"] == 16
    assert float(found["asked"]) == float(found["probability"].sel(read_label=6))
    assert float(found["probability"].sum()) == pytest.approx(1, abs=1e-6)
    program = (
        "import sys; from flowprofile import running; running.plan({!r}); assert 'torch' not in sys.modules"
    )
    path = tmp_path / "faces.toml"
    text = 'model = "faces32"\n[cases]\nseeds = "0:2"\nlabels = [6]\n[stages.trajectory]\n[stages.fidelity]\n'
    path.write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-c", program.format(str(path))], check=True)


def test_a_reader_of_ones_own_changes_the_key_and_where_it_lies_does_not(tmp_path):
    one, other = own_reader(tmp_path / "a"), own_reader(tmp_path / "b", seed=2)
    moved = own_reader(tmp_path / "c", name="called otherwise")
    embedded = str(reading.path_of("digits"))
    halves = own_reader(tmp_path / "d", heads=(2, 5))
    assert key_of() == key_of(reader="digits") == key_of(reader=embedded)
    assert key_of(reader=one) == key_of(reader=moved)
    assert len({key_of(), key_of(reader=one), key_of(reader=other), key_of(reader=halves)}) == 4


def test_the_same_tensors_that_answer_other_questions_are_another_reader(tmp_path):
    tensors = readers.Reader(readers.ReaderCard("r", 1, 8, (2, 2, 2, 2))).state_dict()
    keys = set()
    for heads in ((2, 2, 2, 2), (4, 4)):
        path = tmp_path / f"{len(heads)}-reader.safetensors"
        card = readers.ReaderCard("r", 1, 8, heads)
        weights.write(path, tensors, {reading.KEY: json.dumps(asdict(card))})
        net = fp.denoiser(Still(), (1, 8, 8), classes=16)
        keys.add(key_of(model=net, reader=str(path)))
    assert len(keys) == 2


def test_two_readers_stand_side_by_side_and_a_renamed_one_is_the_same(store, tmp_path):
    running.run(definition(), into=store)
    path = own_reader(tmp_path)
    outcome = running.run(definition(reader=path), into=store)
    assert outcome.forwards == 0
    renamed = running.run(definition(reader=own_reader(tmp_path, name="called otherwise")), into=store)
    assert renamed.regions == 0
    tree = fp.open(store)
    names = [name for name in tree["measures"].children if name.startswith("fidelity[")]
    assert len(names) == 2
    mine = tree["measures/fidelity"]
    assert mine.attrs["params"]["reader"] == weights.digest(path)[:16]
    reader, (low, high) = readers.load_file(path), zoo.card("digits").pixel_range
    x = (tree["trajectory"]["x_t"].values.reshape(-1, 1, 8, 8) - low) / (high - low)
    seen = reader.probabilities(np.clip(x, 0, 1).astype(np.float32))
    np.testing.assert_allclose(mine["probability"].values.reshape(-1, 10), seen, rtol=1e-5)


class Still(torch.nn.Module):
    """A live network that nobody has a reader for."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, index, label):
        return x * self.gain


def refused(error=DefinitionError, *, allow_code=False, **options):
    """What is said before anything is sampled."""
    with pytest.raises(error) as found:
        running.plan(definition(**options), allow_code=allow_code)
    assert found.value.remedy
    assert "stages.fidelity" in found.value.fact
    return str(found.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"channels": 3}, "images of 3 x 8 x 8, and those of 'digits' are 1 x 8 x 8"),
        ({"size": 16}, "images of 1 x 16 x 16, and those of 'digits' are 1 x 8 x 8"),
        ({"heads": (2, 2, 2, 2)}, "tells 16 labels apart, and 'digits' has 10"),
    ],
)
def test_a_reader_of_other_pictures_is_refused_before_sampling(tmp_path, options, text):
    assert text in refused(reader=own_reader(tmp_path, **options))


def test_a_model_that_nobody_reads_is_refused_before_sampling(tmp_path):
    net = fp.denoiser(Still(), (1, 8, 8), classes=10)
    text = refused(model=net)
    assert "No reader comes with the model 'Still'" in text
    assert "'digits', 'faces32'" in text
    assert running.plan(definition(model=net, reader="digits")).plan.forwards == 4 * STEPS
    assert running.plan(definition(model=net, reader=own_reader(tmp_path))).plan.forwards == 4 * STEPS
    assert "did you mean 'digits'?" in refused(reader="digit")
    assert "has one label" in refused(model="gaussian8", labels=[0])


def test_a_file_without_a_reader_is_refused_before_sampling(tmp_path):
    assert "There is no weights file" in refused(ModelError, reader=str(tmp_path / "none.safetensors"))
    assert "holds no reader" in refused(ModelError, reader=str(zoo.weights_path("digits")))
    reader = readers.load("digits")
    path = tmp_path / "odd.safetensors"
    for card in (
        replace(reader.card, heads=()),
        replace(reader.card, heads=(5,)),
        replace(reader.card, size=10),
    ):
        weights.write(path, reader.state_dict(), {reading.KEY: json.dumps(asdict(card))})
        assert "holds no reader" in refused(ModelError, reader=str(path))
    weights.write(path, reader.state_dict(), {reading.KEY: '{"name": "digits"}'})
    assert "holds no reader" in refused(ModelError, reader=str(path))


SOURCE = """
import numpy as np

calls = []

def even(images):
    calls.append(images.shape)
    assert images.dtype == np.float32 and images.min() >= 0 and images.max() <= 1
    return np.full((len(images), 10), 0.1)

def logits(images):
    return np.zeros((len(images), 10)) - 1

def few(images):
    return np.full((len(images), 4), 0.25)

def lost(images):
    return np.full((len(images), 10), np.nan)

def broken(images):
    raise RuntimeError("out of ink")

number = 4
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of one's own that can be imported, and its file."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "own_reading.py"
    path.write_text(SOURCE, encoding="utf-8")
    yield path
    sys.modules.pop("own_reading", None)


def test_code_of_ones_own_reads_where_it_is_allowed(own, store):
    assert "code was not allowed" in refused(reader="own_reading:even")
    assert "own_reading" not in sys.modules, "nothing was imported"
    running.run(definition(reader="own_reading:even"), into=store, allow_code=True)
    found = fp.open(store)["measures/fidelity"]
    np.testing.assert_allclose(found["probability"], 0.1, rtol=1e-6)
    assert set(sys.modules["own_reading"].calls) == {(8, 1, 8, 8)}
    before = key_of(reader="own_reading:even", allow_code=True)
    assert key_of(allow_code=True) == key_of() != before
    sys.modules.pop("own_reading")
    own.write_text(
        SOURCE.replace("np.full((len(images), 10), 0.1)", "np.eye(10)[[3] * len(images)]"), encoding="utf-8"
    )
    assert key_of(reader="own_reading:even", allow_code=True) != before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("logits", "least -1"),
        ("few", "shape (8, 4) for 8 images and 10 labels"),
        ("lost", "gives no probabilities"),
        ("broken", "RuntimeError: out of ink"),
        ("number", "is a int, not a function"),
        ("nothing", "cannot be imported"),
    ],
)
def test_code_that_gives_no_probabilities_is_refused_before_sampling(own, name, text):
    assert text in refused(reader=f"own_reading:{name}", allow_code=True)


def test_the_schema_says_what_may_read():
    properties = schema()["$defs"]["stage:fidelity"]["properties"]
    assert set(properties) == {"reader"}
    assert "exact posterior" in properties["reader"]["description"]
