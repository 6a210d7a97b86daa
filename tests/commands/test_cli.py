"""The command line as a newcomer meets it: what it prints, what it returns, and that it harms nothing."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flowprofile.cli import main
from flowprofile.errors import BusyError

SMALL = (
    "digits", "--set", "sampler.steps=20", "--set", "cases.labels=[3, 7]", "--set", "cases.seeds=0:2",
    "--set", "model=mixture16", "--set", "cases.labels=[0, 1]", "--layout", "memory",
)  # fmt: skip


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command here; its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        printed = capsys.readouterr()
        return stop.value.code, printed.out, printed.err

    return run


def small(*args):
    """`args` for the small pipeline."""
    return [*SMALL[:-2], *args]


def test_plan_run_show_status_verify(command):
    code, out, _ = command("plan", *small("--into", "s", "--json"))
    plan = json.loads(out)
    assert (code, plan["forwards"], plan["stages"]["step_ssim"]["state"]) == (0, 2 * 2 * 20, "missing")
    assert not Path("s").exists()
    code, out, _ = command("run", *SMALL, "--into", "s", "--json")
    assert (code, json.loads(out)["forwards"]) == (0, 80)
    code, out, _ = command("run", *SMALL, "--into", "s")
    assert (code, "0 forwards, nothing written" in out) == (0, True)
    code, out, _ = command("show", "s")
    assert (code, "measures/step_ssim@" in out, "complete" in out) == (0, True, True)
    code, out, _ = command("status", "s")
    assert (code, "Nothing is missing." in out) == (0, True)
    code, out, _ = command("verify", "s")
    assert (code, " 0 findings" in out) == (0, True)


def test_verify_names_damage_and_repairs_it(command):
    command("run", *SMALL, "--into", "s")
    chunk = next(path for path in sorted(Path("s/profile.zarr").rglob("*")) if path.is_file() and "step_ssim@" in str(path) and "/value/c" in str(path))  # fmt: skip
    good = chunk.read_bytes()
    chunk.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    code, out, err = command("verify", "s")
    assert code == 3
    assert "step_ssim" in out
    assert "--repair" in err
    code, out, _ = command("verify", "--repair", "s")
    assert (code, "0 left" in out) == (0, True)
    assert chunk.read_bytes() == good


@pytest.mark.parametrize("harm", ["delete", "flip", "empty"])
@pytest.mark.parametrize("target", ["ledger/layouts/*.json", "profile.zarr/zarr.json", "ledger/receipts/**/*.json",
                                    "profile.zarr/*/seed/**/c*", "ledger/format.json", "profile.zarr/**/x_t/c*"])  # fmt: skip
def test_one_damaged_file_of_any_kind_is_repaired_to_the_same_bytes(target, harm, command):
    command("run", *SMALL, "--set", "stages.trajectory.keep=::5", "--into", "s")
    before = {path: path.read_bytes() for path in Path("s").rglob("*") if path.is_file()}
    victim = next(path for path in sorted(Path("s").glob(target)) if path.is_file())
    data = victim.read_bytes()
    victim.write_bytes(
        {"flip": data[:9] + bytes([data[9] ^ 4]) + data[10:], "empty": b"", "delete": data}[harm]
    )
    if harm == "delete":
        victim.unlink()
    code, out, err = command("verify", "--repair", "s")
    assert code == 0, out + err
    after = {path: path.read_bytes() for path in Path("s").rglob("*") if path.is_file()}
    same = {path for path in before if "planner.lock" not in path.name}
    assert {path: before[path] for path in same} == {path: after.get(path) for path in same}


def test_graph_and_diff(command):
    code, out, _ = command("graph", *small("--into", "s"))
    assert (code, "○ step_ssim  missing" in out) == (0, True)
    command("run", *SMALL, "--into", "s")
    code, out, _ = command("graph", *small("--into", "s", "--svg", "g.svg"))
    assert Path("g.svg").read_text().count("cached") >= 6
    Path("a.toml").write_text(
        'model = "mixture16"\n[cases]\nseeds = "0:2"\nlabels = [0]\n[stages.s]\nuse = "ssim"\n'
    )
    Path("b.toml").write_text(
        'extends = "a"\n[cases]\nseeds = "0:3"\n[stages.s]\nwindow = 9\n[stages.m]\nuse = "mse"\n'
    )
    code, out, _ = command("diff", "a.toml", "b.toml")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert code == 0
    assert "window 7 -> 9" in rows["s"]
    assert "a stage the first has not" in rows["m"]


def test_pipelines_can_be_listed_copied_and_changed(command):
    code, out, _ = command("pipelines", "list")
    assert (code, "first-profile" in out) == (0, True)
    code, out, _ = command("pipelines", "copy", "digits")
    assert (code, Path("pipelines/digits.toml").is_file()) == (0, True)
    code, _, err = command("pipelines", "copy", "digits")
    assert (code, "exists already" in err) == (2, True)
    code, out, _ = command("pipelines", "schema")
    assert "stage:ssim" in json.loads(out)["$defs"]


def test_rerun_fills_what_was_asked_for(command):
    command("run", *SMALL, "--into", "s")
    code, out, _ = command("rerun", "s", "--into", "t", "--quiet")
    assert (code, "80 forwards" in out) == (0, True)
    files = {str(path.relative_to("s/profile.zarr")): path.read_bytes() for path in Path("s/profile.zarr").rglob("*") if path.is_file()}  # fmt: skip
    again = {str(path.relative_to("t/profile.zarr")): path.read_bytes() for path in Path("t/profile.zarr").rglob("*") if path.is_file()}  # fmt: skip
    data = {name for name in files if "/c." in name}
    assert data
    assert {name: files[name] for name in data} == {name: again[name] for name in data}


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("run", "nosuch"), 2, "no pipeline 'nosuch'"),
        (("rnu",), 2, "did you mean 'run'"),
        (("run", "digits", "--set", "seeds"), 2, "key=value"),
        (("run", "digits", "--set", "cases.seeds.x=1"), 2, "is a value and not a table"),
        (("run", "digits", "--memory", "1kB"), 4, "memory"),
        (("run", "digits", "--disk", "lots"), 2, "not a size"),
        (("run", "digits", "--layout", "lokal"), 2, "did you mean 'local'"),
        (("run", "nosuch", "--wait", "nan"), 2, "'nan' is no finite number"),
        (("run", "nosuch", "--wait", "inf"), 2, "'inf' is no finite number"),
        (("stats", "nothing", "ssim", "--margin", "nan"), 2, "'nan' is no finite number"),
        (("stats", "nothing", "ssim", "--level", "nan"), 2, "'nan' is no finite number"),
        (("report", "nothing", "--budget", "nan"), 2, "'nan' is no finite number"),
        (("layers", ""), 2, "There is no model ''"),
        (("run", "digits", "--set", "model="), 2, "There is no model ''"),
        (("show", "nothing"), 3, "no profile"),
        (("verify", "nothing"), 3, "nothing"),
        (("rerun", "nothing"), 3, "nothing"),
        (("models", "digitz"), 2, "did you mean 'digits'"),
        (("train", "digitz"), 2, "did you mean 'digits'"),
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_left(args, code, words, command):
    found, out, err = command(*args)
    assert (found, words in out + err) == (code, True), out + err
    assert list(Path().iterdir()) == []


def test_figures_of_several_windows_and_runs_do_not_overwrite_each_other(command):
    command("run", *SMALL, "--into", "s")
    command("run", *SMALL, "--set", "stages.step_ssim.window=9", "--into", "s")
    code, out, _ = command("figures", "s", "--into", "f")
    assert code == 0
    assert {"f/step_ssim.png", "f/step_ssim-window=5.png", "f/step_ssim-window=9.png"} <= set(out.split())
    command("run", *SMALL, "--set", "numerics.batch=4", "--into", "s")
    code, out, _ = command("figures", "s", "--into", "f")
    drawn = [line.split()[0] for line in out.splitlines()]
    assert len(drawn) == len(set(drawn)) > 5


def test_a_place_that_cannot_be_written_is_a_refusal(command):
    code, _, err = command("graph", *small("--svg", "/proc/nothing/x.svg"))
    assert (code, "Traceback" in err, "every committed region is safe" in err) == (1, False, True)


def test_verify_leaves_a_folder_that_is_no_store_alone(command):
    Path("photos").mkdir()
    Path("photos/cat.jpg").write_bytes(b"cat")
    for args in (("verify", "photos"), ("verify", "--repair", "photos"), ("verify", "--repair", "nowhere")):
        code, _, err = command(*args)
        assert (code, "not a FlowProfile store" in err or "no store" in err) == (3, True), err
    assert [path.name for path in Path().rglob("*")] == ["photos", "cat.jpg"]


def test_completion_scripts_are_printed(command):
    for shell in ("bash", "zsh", "fish"):
        code, out, _ = command("completion", shell)
        assert (code, "_FLOWPROFILE_COMPLETE" in out) == (0, True)


def test_an_interrupt_stops_cleanly_and_says_how_to_go_on(tmp_path):
    command = [
        sys.executable, "-m", "flowprofile", "run", "digits", "--into", "s", "--set", "model=mixture16",
        "--set", "cases.labels=[0, 1]", "--set", "cases.seeds=0:200", "--quiet",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env={**os.environ})
    receipts = tmp_path / "s" / "ledger" / "receipts"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (receipts.is_dir() and any(receipts.rglob("*.json"))):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "flowprofile run digits --into s" in err
    assert any(receipts.rglob("*.json"))


def test_a_swallowed_interrupt_is_heeded_at_the_next_event():
    from flowprofile.interruption import forget, heeding, interrupt

    heard = []
    listen = heeding(heard.append)
    listen("before")
    with contextlib.suppress(KeyboardInterrupt):
        interrupt(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        listen("after")
    forget()
    listen("another command")
    assert heard == ["before", "another command"]


@pytest.mark.timeout(60)
def test_a_second_planner_is_told_who_holds_the_store(command):
    from flowprofile.store.store import Store

    command("run", *SMALL, "--into", "s")
    with Store.open("s") as store:
        store.lock()
        code, _, err = command("run", *SMALL, "--set", "cases.seeds=0:4", "--into", "s")
        with Store.open("s") as other, pytest.raises(BusyError):
            other.lock(wait=float("nan"))
    assert code == 5
    assert str(os.getpid()) in err


def test_a_finished_store_is_recognised_without_torch(tmp_path):
    run = [sys.executable, "-m", "flowprofile", "run", *SMALL, "--into", "s"]
    subprocess.run(run, cwd=tmp_path, check=True, capture_output=True)
    traced = [sys.executable, "-X", "importtime", "-m", "flowprofile", "run", *SMALL, "--into", "s"]
    done = subprocess.run(traced, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "nothing written" in done.stdout
    assert re.search(r"\|\s+xarray$", done.stderr, re.MULTILINE), "the trace lists what was imported"
    assert not re.search(r"\|\s+torch(\.|$)", done.stderr, re.MULTILINE)
