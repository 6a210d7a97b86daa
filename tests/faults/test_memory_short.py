"""Memory that runs out while a plan is carried out: fewer states in flight, the same batch, the same bits."""

import pytest
import torch
from acknowledged import Heard, Truth, contents
from catalogue import times

from flowprofile import running, working
from flowprofile.errors import BudgetError, FlowProfileError
from flowprofile.flow.events import Noticed, Quarantined
from flowprofile.flow.walk import Walk
from flowprofile.kernels import gradients
from flowprofile.store import writing
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

LAYOUT = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
PIXELS = {"use": "gradient_volume", "mask": {"rectangle": [0, 0, 2, 2]}, "keep": "::5"}


def python(*_):
    return MemoryError("Unable to allocate 3.00 GiB for an array")


def host(*_):
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to"
    )


def device(*_):
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


PLACES = {
    "out of memory in the time block": (Walk, "_advance", (python, host)),
    "out of memory while going backwards": (gradients, "_evaluated", (host, device)),
    "out of memory in the write buffer": (writing, "encode", (python,)),
}


def sweep(**changes):
    stages = {"trajectory": {}, "step_ssim": {"use": "ssim"}, "volume": PIXELS}
    return pipeline(**{"seeds": "0:9", "labels": (0,), "steps": 10, **stages, **changes})


def run(store, heard):
    running.run(sweep(), into=store, layout=LAYOUT, listen=heard)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The sweep with memory enough."""
    url = tmp_path_factory.mktemp("whole") / "store"
    run(url, Heard())
    return Truth(url)


def failing(monkeypatch, where, name, at, error):
    """The call of that number finds no memory; returns how many there were."""
    real, calls = getattr(where, name), []

    def call(*args, **options):
        calls.append(name)
        if len(calls) in at:
            raise error()
        return real(*args, **options)

    monkeypatch.setattr(where, name, call)
    return calls


def count(monkeypatch, where, name, store):
    with monkeypatch.context() as patch:
        calls = failing(patch, where, name, (), python)
        run(store, Heard())
        return len(calls)


@pytest.mark.parametrize("fault", PLACES)
def test_where_memory_runs_out_the_rest_is_done_with_fewer_states(
    catalogue, whole, tmp_path, monkeypatch, fault
):
    where, name, errors = PLACES[fault]
    total = count(monkeypatch, where, name, tmp_path / "count")
    with catalogue.row(fault, "I4") as row:
        for number, at in enumerate(range(1, total + 1, times(max(1, total // 2), 1))):
            store, told = tmp_path / f"s{number}", []
            heard = Heard(told.append)
            with monkeypatch.context() as patch:
                failing(patch, where, name, (at, at + 1), errors[number % len(errors)])
                run(store, heard)
            noticed = [event.text for event in told if isinstance(event, Noticed)]
            assert any("memory ran out" in text for text in noticed), noticed
            row.injected += len(noticed)
            whole.judge(row, store, heard)
            assert contents(store) == whole.contents


def test_a_block_that_has_room_for_three_states_is_found(catalogue, whole, tmp_path, monkeypatch):
    real, sizes = Walk._pass, []

    def cramped(self, places):
        if len(places) > 3:
            raise python()
        sizes.append(len(places))
        return real(self, places)

    monkeypatch.setattr(Walk, "_pass", cramped)
    heard = Heard()
    with catalogue.row("out of memory in the time block", "I4") as row:
        run(tmp_path / "s", heard)
        row.injected += 1
        whole.judge(row, tmp_path / "s", heard)
    assert 1 < max(sizes) <= 3
    assert contents(tmp_path / "s") == whole.contents


def test_cases_that_have_no_room_at_all_are_set_aside_and_named(catalogue, whole, tmp_path, monkeypatch):
    real, told = Walk._pass, []

    def never(self, places):
        if self.batch.cases[0].seed == 0:
            raise python()
        return real(self, places)

    heard = Heard(told.append)
    with monkeypatch.context() as patch, catalogue.row("out of memory whatever is tried", "I4") as row:
        patch.setattr(Walk, "_pass", never)
        with pytest.raises(BudgetError, match=r"single state(.|\n)*1 of 2 tasks(.|\n)*seed 0") as refused:
            run(tmp_path / "s", heard)
        assert refused.value.exit_code == 4
        assert sum(isinstance(event, Quarantined) for event in told) == 1
        row.injected += 1
        whole.judge(row, tmp_path / "s", heard)
    run(tmp_path / "s", Heard())
    assert contents(tmp_path / "s") == whole.contents


def test_a_run_that_does_not_shrink_would_leave_the_rest_undone(catalogue, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(working, "out_of_memory", lambda error: False)
    for number, (fault, (where, name, errors)) in enumerate(
        [*PLACES.items(), ("out of memory whatever is tried", PLACES["out of memory in the time block"])]
    ):
        store = tmp_path / f"s{number}"
        with monkeypatch.context() as patch, catalogue.twin(fault, "I4") as row:
            failing(patch, where, name, (1,), errors[0])
            try:
                run(store, Heard())
            except (FlowProfileError, MemoryError, RuntimeError) as error:
                print(error)
            row.unprotected += len(whole.contents.keys() - contents(store).keys())
