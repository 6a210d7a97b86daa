"""What any sweep obeys, wherever it runs."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation import Setting, bottleneck, simulate

SETTINGS = st.builds(
    Setting,
    cases=st.integers(1, 3000),
    workers=st.integers(1, 40),
    batch=st.integers(1, 64),
    forwards_per_second=st.floats(100, 1e5),
    handing_out=st.floats(0, 1, allow_subnormal=False),
    bandwidth=st.floats(1e7, 1e10),
    preempted_every=st.floats(1e4, 1e9),
)


@settings(max_examples=60, deadline=None)
@given(SETTINGS)
def test_every_task_is_done_once_and_no_limit_is_exceeded(setting):
    found = simulate(setting)
    tasks = -(-setting.cases // setting.batch)
    assert found.tasks == tasks
    assert found.bytes / found.seconds <= setting.bandwidth * (1 + 1e-9)
    assert found.requests / found.seconds <= setting.request_rate * (1 + 1e-9)
    assert found.coordinator <= found.seconds * (1 + 1e-9)
    assert sum(found.shares(setting).values()) <= 1 + 1e-9
    assert simulate(setting).seconds == found.seconds


def test_one_undisturbed_worker_takes_the_sum_of_its_times():
    setting = Setting(cases=640, workers=1, preempted_every=1e15)
    found = simulate(setting)
    each = setting.batch * setting.steps / setting.forwards_per_second + setting.handing_out
    put = max(
        setting.batch * setting.bytes_per_case / setting.bandwidth,
        setting.batch * setting.requests_per_case / setting.request_rate,
    )
    assert abs(found.seconds - 10 * (each + put)) < 1e-6 * found.seconds


def test_preemption_and_scarcity_only_lengthen_it():
    setting = Setting(cases=20_000)
    calm = simulate(replace(setting, preempted_every=1e15)).seconds
    assert simulate(replace(setting, preempted_every=3600.0)).seconds >= calm
    assert simulate(replace(setting, bandwidth=1e8)).seconds >= simulate(setting).seconds
    assert bottleneck(replace(setting, bandwidth=1e7)).startswith("the store's bandwidth")
    assert bottleneck(replace(setting, handing_out=30.0)).startswith("the coordinator")
