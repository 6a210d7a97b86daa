"""Tasks that kill whoever takes them, workers that all go, work that is done twice, and numbers that are none."""

import sys

import numpy as np
import pytest
from acknowledged import Heard, Truth, contents
from catalogue import times
from workers import Fresh, Lost

import flowprofile as fp
from flowprofile import running, working
from flowprofile.errors import ClusterError, FlowProfileError, NonFiniteError
from flowprofile.flow import walk
from flowprofile.flow.events import Committed, Computed
from flowprofile.flow.executors import drive
from flowprofile.flow.executors.drive import CHANCES
from flowprofile.store import writing
from flowprofile.store.layout import StoreLayout
from flowprofile.store.phases import Phase
from flowprofile.store.store import Store
from flowprofile.time import sample
from pipelines import pipeline

LAYOUT = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
POISON, GONE, TWICE = "a task that kills its workers", "all workers lost at once", "a task carried out twice"
NETWORK, MEASURE = "NaN or infinity in a network's output", "NaN or infinity in a measure of one's own"
BAD = (float("nan"), float("inf"), -float("inf"))


def sweep(seeds="0:21", **changes):
    stages = {"trajectory": {"keep": "::2"}, "step_ssim": {"use": "ssim"}}
    return pipeline(**{"seeds": seeds, "labels": (0,), "steps": 6, **stages, **changes})


def run(source, store, heard=None, **options):
    listen = Heard() if heard is None else heard
    return running.run(source, into=store, layout=LAYOUT, listen=listen, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep, undisturbed, in three tasks."""
    url = tmp_path_factory.mktemp("whole") / "store"
    run(sweep(), url)
    return Truth(url)


def undone(truth, store):
    """How many objects of a finished store are not there."""
    return len(truth.contents.keys() - contents(store).keys())


def poisoned(number):
    """Workers that are lost with every group that holds this task."""
    workers = Fresh()

    def before(_):
        if number in workers.took[-1]:
            raise Lost

    workers.before = before
    return workers


def test_a_poisoned_task_is_set_aside_and_all_others_are_stored(catalogue, whole, tmp_path):
    with catalogue.row(POISON, "I4") as row:
        for number in range(3):
            store, heard, workers = tmp_path / f"s{number}", Heard(), poisoned(number)
            with pytest.raises(ClusterError, match=f"1 of 3 tasks(.|\n)*task {number} "):
                run(sweep(), store, heard, cluster=workers)
            row.injected += sum(number in numbers for numbers in workers.took)
            assert sum(number in numbers for numbers in workers.took) == CHANCES
            whole.judge(row, store, heard)
            run(sweep(), store)
            assert contents(store) == whole.contents


def lost_now_and_then(each, chances):
    """Workers all of which go at one of their first events, as often as a task has chances to lose one."""
    workers, losses = Fresh(), []

    def during(number, event):
        again = sum(numbers == workers.took[-1] for numbers in workers.took)
        if isinstance(event, each) and again < chances:
            losses.append(event)
            raise Lost

    workers.during = during
    return workers, losses


def test_where_all_workers_go_others_begin_where_they_were(catalogue, whole, tmp_path):
    with catalogue.row(GONE, "I4") as row:
        for number, each in enumerate((Phase, Committed, Computed)):
            store, heard = tmp_path / f"s{number}", Heard()
            workers, losses = lost_now_and_then(each, CHANCES)
            run(sweep(), store, heard, cluster=workers)
            row.injected += len(losses)
            whole.judge(row, store, heard)
            assert contents(store) == whole.contents


def test_without_second_chances_a_lost_worker_would_take_its_tasks_with_it(
    catalogue, whole, tmp_path, monkeypatch
):
    """And one poisoned task everybody else's: nothing is set aside, the run ends."""

    def ends(window, failed):
        window.waiting.clear()
        return [failed]

    monkeypatch.setattr(drive, "_second_chances", ends)
    for name, workers in ((POISON, poisoned(0)), (GONE, lost_now_and_then(Committed, CHANCES)[0])):
        with catalogue.twin(name, "I4") as row:
            with pytest.raises(ClusterError):
                run(sweep(), tmp_path / name, cluster=workers)
            row.unprotected += undone(whole, tmp_path / name)


def opened(source, store):
    """A worker of a declared store, as another process would be."""
    ready = running.assembled(source)
    with Store.open(store, layout=LAYOUT) as held:
        working.declare(ready, held, lambda event: None)
    return working.order_of(ready, held, allow_code=False).open()


def test_work_that_is_done_twice_changes_nothing(catalogue, whole, tmp_path):
    """Another worker does all of a task at every moment at which the first holds no lock."""
    with catalogue.row(TWICE, "I4") as row:
        for number in range(0, 40, times(9, 1)):
            store, left, heard = tmp_path / f"s{number}", iter(range(number)), Heard()
            first, second = opened(sweep(), store), opened(sweep(), store)

            done = []

            def then(event, left=left, second=second, done=done):
                free = isinstance(event, Committed | Computed) or getattr(event, "name", "") == "sampling"
                if free and next(left, None) is None and not done:
                    done.append(event)
                    second((0, 1, 2), Heard(), again=False)

            heard.then = then
            first((0, 1, 2), heard, again=False)
            row.injected += len(done)
            whole.judge(row, store, heard)
            assert contents(store) == whole.contents


def late(store):
    """A worker that was taken for dead does what it had planned, after others have done it and the store has grown."""
    first = opened(sweep("0:3"), store)
    planned, heard = first.planned(), Heard()
    run(sweep("0:3"), store, heard)
    run(sweep(), store, heard)
    for task in planned.tasks:
        first.do(task, lambda event: None)
    return heard


def test_a_late_duplicate_of_a_dead_worker_changes_nothing(catalogue, tmp_path):
    run(sweep("0:3"), tmp_path / "whole")
    run(sweep(), tmp_path / "whole")
    truth = Truth(tmp_path / "whole")
    with catalogue.row(TWICE, "I4") as row:
        heard = late(tmp_path / "s")
        row.injected += 1
        truth.judge(row, tmp_path / "s", heard)
        assert contents(tmp_path / "s") == truth.contents


def test_a_writer_that_knows_no_neighbours_would_write_over_them(catalogue, tmp_path, monkeypatch):
    run(sweep("0:3"), tmp_path / "whole")
    run(sweep(), tmp_path / "whole")
    truth = Truth(tmp_path / "whole")
    others = writing._others
    monkeypatch.setattr(
        writing, "_others", lambda commit, extent: iter(()) if commit.own else others(commit, extent)
    )
    monkeypatch.setattr(writing, "_same_as_before", lambda commit, key, seal: None)
    with catalogue.twin(TWICE, "I4") as row:
        heard = late(tmp_path / "s")
        row.unprotected += truth.lost(tmp_path / "s", heard)


class Spoiled:
    """A model that gives one number that is none, at one network index, for the sample with a certain state."""

    def __init__(self, at=None, state=0.0, bad=0.0):
        self.inner = fp.load("mixture16")
        self.card, self.module, self.at, self.state, self.bad = self.inner.card, None, at, state, bad

    def __call__(self, x, index, label):
        eps = self.inner(x, index, label)
        if self.at is not None:
            eps[(index == self.at) & (x[:, 0, 0, 0] == self.state), 0, 3, 3] = self.bad
        return eps


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    """The same model, unspoiled."""
    url = tmp_path_factory.mktemp("healthy") / "store"
    run(sweep(model=Spoiled()), url)
    return Truth(url)


def spoiling(truth, count):
    """Models that spoil one seed at one of the stored states, and which."""
    states = fp.open(truth.url)["trajectory"]["x_t"].sel(intervention="none", label=0).load()
    steps = states["time"].values.tolist()[:-1]
    for number in range(count):
        seed, t, bad = number * 8 % 21, steps[number % len(steps)], BAD[number % 3]
        value = float(states.sel(seed=seed, time=t).values.flat[0])
        yield seed, Spoiled(t - 1, value, bad)


def test_what_a_network_gives_that_is_no_number_is_named_and_never_stored(catalogue, healthy, tmp_path):
    with catalogue.row(NETWORK, "I3") as row:
        for number, (seed, model) in enumerate(spoiling(healthy, times(6, 60))):
            store, heard = tmp_path / f"s{number}", Heard()
            with pytest.raises(NonFiniteError, match=f"seed {seed}, (.|\n)*1 of 3 tasks") as refused:
                run(sweep(model=model), store, heard)
            assert refused.value.exit_code == 6
            row.injected += 1
            healthy.judge(row, store, heard)
            run(sweep(model=Spoiled()), store, heard)
            assert contents(store) == healthy.contents


def test_without_looking_they_would_be_stored(catalogue, healthy, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "must_be_finite", lambda *asked: None)
    monkeypatch.setattr(walk, "finite", lambda *asked: None)
    (_, model), *_ = spoiling(healthy, 1)
    with np.errstate(all="ignore"), catalogue.twin(NETWORK, "I3") as row:
        heard = Heard()
        run(sweep(model=model), tmp_path / "s", heard)
        row.unprotected += healthy.lost(tmp_path / "s", heard)


OWN = '''
"""A measure that is no number for some seeds."""
import sys

import flowprofile as fp

@fp.measure(on="trajectory", version=1)
def brightness(x):
    """Mean over pixels."""
    values = x.mean(["channel", "y", "x"])
    for row, seed in enumerate(x["seed"].values.tolist()):
        if seed in sys.spoiled:
            values[{"case": row, "time": -1}] = sys.spoiled[seed]
    return values
'''


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The module of a measure of one's own, and a sweep with it."""
    (tmp_path / "spoiling.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "spoiling", raising=False)
    monkeypatch.setattr(
        sys, "spoiled", {}, raising=False
    )  # the values of its own globals would be its source
    source = sweep(brightness={"use": "spoiling:brightness"})
    run(source, tmp_path / "whole", allow_code=True)
    return sys.spoiled, source, Truth(tmp_path / "whole")


def test_what_a_measure_of_ones_own_gives_that_is_no_number_is_named_and_never_stored(
    catalogue, own, tmp_path
):
    spoiled, source, truth = own
    with catalogue.row(MEASURE, "I3") as row:
        for number in range(times(6, 60)):
            store, heard, seed = tmp_path / f"s{number}", Heard(), number * 5 % 21
            spoiled[seed] = BAD[number % 3]
            with pytest.raises(NonFiniteError, match=f"'brightness'.*seed {seed}, ") as refused:
                run(source, store, heard, allow_code=True)
            assert refused.value.exit_code == 6
            spoiled.clear()
            row.injected += 1
            truth.judge(row, store, heard)
            run(source, store, heard, allow_code=True)
            assert contents(store) == truth.contents


def test_without_looking_a_measures_would_be_stored(catalogue, own, tmp_path, monkeypatch):
    spoiled, source, truth = own
    spoiled[4] = BAD[1]
    monkeypatch.setattr(walk, "finite", lambda *asked: None)
    with catalogue.twin(MEASURE, "I3") as row:
        heard = Heard()
        try:
            run(source, tmp_path / "s", heard, allow_code=True)
        except FlowProfileError as error:
            print(error)
        row.unprotected += truth.lost(tmp_path / "s", heard)
