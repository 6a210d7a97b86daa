"""Every shipped layout keeps what it promises: the same values, and fewer bytes or requests where it says so."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.cli import main
from flowprofile.errors import BudgetError, DefinitionError
from flowprofile.opening import open as open_profile
from flowprofile.store.encoding import decode, encode
from flowprofile.store.layout import StoreLayout, find, form, layout, names, size
from flowprofile.store.store import Store
from flowprofile.trial import QUERIES, Load, fill, state, tried

SHIPPED = ("archive", "local", "memory", "s3", "scratch", "seed-major", "time-major")
LOAD = Load(seeds=8, labels=2, steps=400, side=32)
"""Two shards of `local`, and one region of the others."""


@pytest.fixture(scope="module")
def trials(tmp_path_factory):
    """Every shipped layout, filled and asked once."""
    folder = tmp_path_factory.mktemp("trials")
    found = {}
    for name in SHIPPED:
        found[name] = tried(str(folder / name), layout(name), LOAD, repeats=1)
    return folder, found


def test_these_are_the_shipped_layouts() -> None:
    assert tuple(names()) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_what_was_filled_is_read_back(trials, name) -> None:
    folder, _ = trials
    tree = open_profile(folder / name, missing="raise")
    for seed, label in ((0, 0), (7, 1)):
        expected = state(seed, label, LOAD)
        x = tree.profile.sel(seed=seed, label=label, objects="trajectory")["x_t"].isel(intervention=0)
        npt.assert_array_equal(x, expected)
        assert x.time.values.tolist() == list(range(LOAD.steps - 1, -1, -1))
        value = tree["measures/mean"]["value"].sel(seed=seed, label=label).isel(intervention=0)
        npt.assert_allclose(value, expected.mean((1, 2, 3)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("query", QUERIES)
def test_no_layout_changes_an_answer(trials, query) -> None:
    _, found = trials
    assert len({trial.answers[query].digest for trial in found.values()}) == 1


def test_every_layout_is_better_at_what_it_is_named_after(trials) -> None:
    """Counted, not timed: bytes read, requests made, objects and bytes kept."""
    _, found = trials
    asked = {name: trial.answers for name, trial in found.items()}
    local = asked["local"]
    assert asked["seed-major"]["profile"].requests < local["profile"].requests
    assert asked["seed-major"]["profile"].read <= local["profile"].read
    for query in ("step", "rows"):
        assert asked["time-major"][query].read < local[query].read / 3
    assert asked["s3"]["profile"].requests < local["profile"].requests
    assert asked["s3"]["pixel"].requests < local["pixel"].requests
    assert found["archive"].stored < 0.9 * found["local"].stored
    for few in ("archive", "s3", "scratch", "seed-major"):
        assert found[few].objects < found["local"].objects
    for name, trial in found.items():
        assert trial.stored < 1.01 * found["local"].stored, name


@pytest.mark.parametrize("name", SHIPPED)
def test_only_durable_layouts_wait_for_the_disk(tmp_path, monkeypatch, name) -> None:
    calls = []
    really = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append(handle), really(handle)))
    fill(str(tmp_path / "store"), layout(name), Load(2, 1, 4, 8))
    assert bool(calls) == (name in ("local", "archive", "seed-major", "time-major"))


@pytest.mark.parametrize("name", SHIPPED)
def test_growth_rewrites_no_case_of_a_large_array(tmp_path, name) -> None:
    folder = tmp_path / "store"
    fill(str(folder), layout(name), Load(2, 1, 50, 64))
    before = {path: path.read_bytes() for path in folder.rglob("x_t/c.*")}
    assert len(before) == 2
    fill(str(folder), layout(name), Load(5, 2, 50, 64))
    after = {path: path.read_bytes() for path in folder.rglob("x_t/c.*")}
    assert len(after) == 10
    assert {path: after[path] for path in before} == before


@given(
    name=st.sampled_from(SHIPPED),
    capacity=st.integers(1, 1200),
    step=st.sampled_from([4, 260, 3072, 12288, 2**18]),
)
def test_hardly_anything_is_stored_empty(name, capacity, step) -> None:
    """100 states in inner chunks of 85 once took the room of 170."""
    made = form(layout(name), dtype="float32", tail=(step // 4,), capacity=capacity, tile=8)
    if made.inner is None:
        assert made.chunk[3] == capacity
        return
    inners = -(-capacity // made.inner_times)
    assert inners * made.inner_times - capacity < inners
    assert made.inner_times <= (layout(name).times or capacity)
    assert made.inner_times * step <= max(size(layout(name).chunk), step)
    assert made.chunk[:3] == (1, 1, 1)


@given(
    dtype=st.sampled_from(["float32", "float16", "int8", "bool", "int64"]), seed=st.integers(0, 99),
    tail=st.sampled_from([(), (3,), (5, 7)]), small=st.sampled_from(["16 B", "1 MiB"]),
)  # fmt: skip
def test_blosc_gives_the_same_values_and_on_any_thread_the_same_bytes(dtype, seed, tail, small) -> None:
    lay = StoreLayout(chunk="512 B", shard="4 KiB", small=small, codec="blosc")
    made = form(lay, dtype=dtype, tail=tail, capacity=40, tile=2)
    content = (np.random.default_rng(seed).standard_normal(made.chunk) * 3).astype(dtype)
    data, seal = encode(made, content)
    npt.assert_array_equal(decode(made, data, seal), content)
    with ThreadPoolExecutor(2) as pool:
        assert {one for one, _ in pool.map(lambda _: encode(made, content), range(4))} == {data}


def test_blosc_writes_one_block_whatever_the_size() -> None:
    """With several, its threads would write them in the order in which they finish."""
    made = form(
        StoreLayout(chunk="4 MiB", codec="blosc"), dtype="float32", tail=(1024,), capacity=1024, tile=1
    )
    content = np.random.default_rng(0).standard_normal(made.chunk, dtype=np.float32)
    data, seal = encode(made, content)
    offset = seal.inner[0][0]
    nbytes, block = np.frombuffer(data[offset + 4 : offset + 12], "<u4")
    assert nbytes == block == content.nbytes


@pytest.mark.parametrize("times", [0, -1, True, "2", 1.5])
def test_a_number_of_times_that_is_none_is_refused(times) -> None:
    with pytest.raises(DefinitionError, match="which is not a number of states"):
        StoreLayout(times=times)


def test_refusals_name_what_exists(tmp_path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('time = 2\ncodec = "none"\n')
    with pytest.raises(DefinitionError, match=r"unknown key 'time'(.|\n)*did you mean 'times'"):
        layout(own)
    own.write_text('codec = "lz4"\n')
    with pytest.raises(DefinitionError, match="'none', 'zstd', 'blosc'"):
        layout(own)
    with pytest.raises(DefinitionError, match="did you mean 'time-major'"):
        layout("timemajor")


def test_a_stage_keeps_the_form_it_was_declared_with(tmp_path) -> None:
    """A layout is for new arrays: another one later neither recodes nor mixes."""
    fill(str(tmp_path), layout("archive"), Load(2, 1, 50, 16))
    fill(str(tmp_path), layout("time-major"), Load(3, 1, 50, 16))
    with Store.open(tmp_path) as store:
        (run,) = store.runs().values()
        assert {v.form.codec for s in run.stages.values() for v in s.variables.values()} == {"blosc"}
    x = open_profile(tmp_path)["trajectory"]["x_t"].sel(seed=2, label=0).isel(intervention=0)
    npt.assert_array_equal(x, state(2, 0, Load(3, 1, 50, 16)))


TINY = ("stores", "bench", "--seeds", 3, "--labels", 2, "--steps", 9, "--side", 8, "--repeats", 1)


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command here; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def test_bench_measures_every_layout(command, tmp_path) -> None:
    code, out, _ = command(*TINY, "--json")
    assert code == 0
    found = json.loads(out)
    assert tuple(found["layouts"]) == SHIPPED
    for trial in found["layouts"].values():
        assert set(trial["answers"]) == set(QUERIES)
        assert trial["stored"] > Load(3, 2, 9, 8).bytes / 2
        assert all(answer["read"] > 0 and answer["requests"] > 0 for answer in trial["answers"].values())
    assert list(tmp_path.iterdir()) == []


def test_bench_prints_a_table_and_keeps_what_is_asked_for(command, tmp_path) -> None:
    code, out, _ = command(*TINY, "local", "s3", "memory", "--into", "kept")
    assert code == 0
    assert all(name in out for name in ("local", "s3", "memory", "random rows"))
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"local", "s3"}
    assert open_profile(tmp_path / "kept" / "s3")["trajectory"]["x_t"].shape == (1, 2, 3, 9, 3, 8, 8)
    code, _, err = command(*TINY, "local", "--into", "kept")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "kept" / "local").is_dir()


def test_bench_refuses_what_does_not_fit(command) -> None:
    code, _, err = command(*TINY, "local", "--steps", 10**9)
    assert code == BudgetError.exit_code
    assert "free" in err
    code, _, err = command(*TINY, "local", "--seeds", 0)
    assert (code, "trial's seeds is 0" in err) == (2, True)


def test_layouts_are_listed_and_shown(command, tmp_path) -> None:
    code, out, _ = command("stores", "list", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(SHIPPED)
    assert all(row["description"] for row in json.loads(out))
    assert command("stores", "show", "s3")[1] == find("s3").read_text("utf-8")
    assert command("stores", "show", "s4")[0] == 2
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "mine.toml").write_text("times = 3\n")
    assert "mine" in command("stores", "list")[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_no_layout_changes_a_type(name) -> None:
    """A layout is in no key: float16 on disk would be another result under the same one."""
    for dtype in ("float32", "float64", "int64"):
        assert form(layout(name), dtype=dtype, tail=(3, 8, 8), capacity=100, tile=8).dtype == dtype
