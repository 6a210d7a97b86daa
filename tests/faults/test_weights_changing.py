"""A model's file that changes under its path: before a run it is refused, during a run nothing is mixed."""

import os

import pytest
from acknowledged import Heard, Truth, contents
from catalogue import times
from safetensors.torch import load_file
from workers import Fresh

from flowprofile import bringing, running
from flowprofile.errors import ClusterError, FlowProfileError, ModelError, StoreError
from flowprofile.flow.events import Planned
from flowprofile.models import weights, zoo
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

LAYOUT = StoreLayout(durability="none")
BEFORE, REPLACED, OVERWRITTEN = (
    "weights changed before a run", "weights replaced during a run", "weights overwritten in place during a run",
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    """A model of one's own."""
    found = tmp_path / "mine.safetensors"
    found.write_bytes(zoo.weights_path("digits").read_bytes())
    return found


def sweep(path):
    return pipeline(
        model=str(path), steps=6, seeds="0:9", labels=(0,), trajectory={}, step_ssim={"use": "ssim"}
    )


def run(path, store, heard=None, **options):
    listen = Heard() if heard is None else heard
    return running.run(sweep(path), into=store, layout=LAYOUT, listen=listen, **options)


@pytest.fixture
def old(path, tmp_path):
    """What the model gave before it changed."""
    run(path, tmp_path / "old")
    return Truth(tmp_path / "old")


def other(path, number=0):
    """The bytes of another model of the same size."""
    tensors = load_file(path)
    name = sorted(tensors)[number % len(tensors)]
    tensors[name] = tensors[name].clone() + 0.01
    beside = path.with_suffix(".other")
    weights.save(beside, tensors, zoo.card("digits"))
    return beside.read_bytes()


def replaced(path, data):
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)


def overwritten(path, data):
    with path.open("r+b") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def striking(path, data, how, moment):
    """A listener that changes the file at the event of that number, and one that never does in a second run."""
    left = iter(range(moment))

    def listen(event):
        if next(left, None) is None and not done:
            done.append(event)
            how(path, data)

    done = []
    return listen


def test_changed_before_a_run_they_are_refused(catalogue, path, old):
    good = path.read_bytes()
    with catalogue.row(BEFORE, "I5") as row:
        for number in range(times(5, 60)):
            replaced(path, other(path, number))
            with pytest.raises(StoreError, match="have changed"):
                run(path, old.url)
            replaced(path, good)
            row.injected += 1
        old.judge(row, old.url, Heard())
        assert contents(old.url) == old.contents


def test_a_model_that_is_known_by_its_path_would_give_another_ones_results(
    catalogue, path, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo, "identity", str)
    run(path, tmp_path / "s")
    replaced(path, other(path))
    with catalogue.twin(BEFORE, "I5") as row:
        row.unprotected += run(path, tmp_path / "s").forwards == 0


@pytest.mark.parametrize(("name", "how"), [(REPLACED, replaced), (OVERWRITTEN, overwritten)])
def test_changed_during_a_run_they_are_named_or_the_run_ends_with_the_old_ones(
    catalogue, path, old, tmp_path, name, how
):
    good, bad, refused = path.read_bytes(), other(path), []
    with catalogue.row(name, "I5") as row:
        for number, moment in enumerate(range(0, 90, times(18, 1))):
            store, heard = tmp_path / f"s{number}", Heard(striking(path, bad, how, moment))
            try:
                run(path, store, heard)
            except ModelError as error:
                refused.append((error, len(heard)))
            row.injected += 1
            replaced(path, good)
            run(path, store, heard)
            old.judge(row, store, heard)
            assert contents(store) == old.contents
    # Those that met the change before the model was loaded; they named it, and stored nothing.
    assert refused
    assert all(str(path) in error.fact and not stored for error, stored in refused)


def test_a_worker_that_begins_after_the_change_is_refused(catalogue, path, old, tmp_path):
    good, bad = path.read_bytes(), other(path)
    with catalogue.row(REPLACED, "I5") as row:
        workers, heard = Fresh(before=lambda number: number and replaced(path, bad)), Heard()
        with pytest.raises(ClusterError, match="1 of 2 tasks"):
            run(path, tmp_path / "s", heard, cluster=workers)
        with pytest.raises(StoreError, match="have changed"):
            run(path, tmp_path / "s", heard)
        row.injected += 1
        replaced(path, good)
        run(path, tmp_path / "s", heard)
        old.judge(row, tmp_path / "s", heard)
        assert contents(tmp_path / "s") == old.contents


def test_a_file_that_is_mapped_would_change_under_the_network(catalogue, path, old, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "load", lambda path: load_file(str(path)))
    with catalogue.twin(OVERWRITTEN, "I5") as row:
        for moment in range(60, 90, 5):
            good = path.read_bytes()
            heard = Heard(striking(path, other(path), overwritten, moment))
            run(path, tmp_path / f"s{moment}", heard)
            row.unprotected += old.lost(tmp_path / f"s{moment}", heard)
            replaced(path, good)
            if row.unprotected:
                break


def test_a_file_that_is_loaded_unseen_would_give_another_models_results(
    catalogue, path, old, tmp_path, monkeypatch
):
    monkeypatch.setattr(bringing, "_unchanged", lambda name, card, known: zoo.load(name, card))
    bad = other(path)
    heard = Heard(lambda event: isinstance(event, Planned) and replaced(path, bad))
    with catalogue.twin(REPLACED, "I5") as row:
        try:
            run(path, tmp_path / "s", heard)
        except FlowProfileError as error:
            print(error)
        row.unprotected += old.lost(tmp_path / "s", heard)
