"""Whoever carries a plan out, the store is the same, byte for byte; what cannot be carried out is named."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

import pytest
from tallied_parts import UnreadOrder

from flowprofile import clusters, running
from flowprofile.errors import BusyError, ClusterError, DefinitionError, NonFiniteError, StoreError
from flowprofile.flow.events import Committed, Quarantined
from flowprofile.flow.executors.cluster import same_versions, versions
from flowprofile.flow.executors.drive import drive
from flowprofile.flow.executors.processes import Processes
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

FAST = StoreLayout(durability="none")
STAGES = {"trajectory": {"keep": "::10"}, "step_ssim": {"use": "ssim"}}


def sweep(**changes):
    return pipeline(**{"seeds": "0:21", "labels": (0, 1), "steps": 60, **STAGES, **changes})


def contents(url):
    """Digest of every object that a finished store is made of."""
    root = Path(url)
    files = [*(root / "profile.zarr").rglob("*"), *(root / "ledger" / "receipts").rglob("*")]
    return {
        str(file.relative_to(root)): blake2b(file.read_bytes()).hexdigest()
        for file in sorted(files)
        if file.is_file()
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The sweep, computed by one process."""
    url = tmp_path_factory.mktemp("alone") / "store"
    outcome = running.run(sweep(), into=url, layout=FAST)
    return outcome, contents(url)


@pytest.mark.parametrize("who", ["processes:2", "local:2"])
def test_workers_write_the_same_bytes(tmp_path, alone, who):
    outcome, expected = alone
    found = running.run(sweep(), into=tmp_path / "store", layout=FAST, cluster=who)
    assert contents(tmp_path / "store") == expected
    assert (found.forwards, found.padding, found.regions, found.bytes) == (
        outcome.forwards, outcome.padding, outcome.regions, outcome.bytes,
    )  # fmt: skip
    assert running.run(sweep(), into=tmp_path / "store", cluster=who).regions == 0


def test_a_killed_worker_is_replaced_and_its_task_finished(tmp_path, alone):
    """Killed at committed regions, never by the clock: a fast machine would be done before the first blow."""
    executor, committed, killed = Processes(2), [], []

    def assassin(event):
        if isinstance(event, Committed):
            committed.append(event)
            alive = [pid for pid in executor.pids() if pid not in killed]
            if alive and len(committed) >= (1, 6, 11, 99)[len(killed)]:
                os.kill(alive[0], signal.SIGKILL)
                killed.append(alive[0])

    outcome = running.run(sweep(), into=tmp_path / "store", layout=FAST, cluster=executor, listen=assassin)
    assert len(killed) >= 2
    # What a killed one had finished is kept, untold.
    assert outcome.regions == len(committed) <= alone[0].regions
    assert contents(tmp_path / "store") == alone[1]


def test_parts_in_any_order_one_killed_and_repeated_equal_one_run(tmp_path, alone):
    url = tmp_path / "store"
    running.prepare(sweep(), into=url, layout=FAST)

    class Killed(BaseException):
        pass

    committed = []

    def dies(event):
        if isinstance(event, Committed):
            committed.append(event)
            if len(committed) == 2:
                raise Killed

    with pytest.raises(Killed):
        running.run(sweep(), into=url, layout=FAST, part=(2, 4), listen=dies)
    done = [running.run(sweep(), into=url, layout=FAST, part=(i, 4)) for i in (3, 1, 2, 0)]
    assert contents(url) == alone[1]
    assert len(committed) + sum(one.regions for one in done) == alone[0].regions
    assert running.run(sweep(), into=url, layout=FAST).regions == 0


def test_parts_run_by_processes_at_once_equal_one_run(tmp_path, alone):
    definition = tmp_path / "sweep.toml"
    definition.write_text(
        'model = "mixture16"\nsampler = { steps = 60 }\n[cases]\nseeds = "0:21"\nlabels = [0, 1]\n'
        '[stages.trajectory]\nkeep = "::10"\n[stages.step_ssim]\nuse = "ssim"\n'
    )
    command = [sys.executable, "-m", "flowprofile"]
    into = ["--into", str(tmp_path / "store")]
    subprocess.run([*command, "declare", str(definition), *into], check=True, capture_output=True)
    parts = [
        subprocess.Popen(
            [*command, "run", str(definition), *into, "--part", f"{i}/4"], stderr=subprocess.PIPE
        )
        for i in (0, 3, 1, 2)
    ]
    parts[1].terminate()  # as a scheduler preempts: SIGTERM
    codes = [part.wait() for part in parts]
    for part in parts:
        part.stderr.close()
    assert codes[1] != 0
    assert [codes[0], *codes[2:]] == [0, 0, 0]
    subprocess.run(
        [*command, "run", str(definition), *into, "--part", "3/4"], check=True, capture_output=True
    )
    assert contents(tmp_path / "store") == alone[1]


def test_a_part_of_an_undeclared_store_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(StoreError, match="not declared"):
        running.run(sweep(), into=tmp_path / "store", part=(0, 2))
    assert not (tmp_path / "store").exists()
    running.prepare(sweep(), into=tmp_path / "store", layout=FAST)
    with pytest.raises(StoreError, match="seeds"):
        running.run(sweep(seeds="0:40"), into=tmp_path / "store", part=(0, 2))
    with pytest.raises(DefinitionError, match="no part 2/2"):
        running.run(sweep(), into=tmp_path / "store", part=(2, 2))


POISON = '''
import os
import flowprofile as fp

@fp.measure(on="trajectory", version=1)
def poison(x):
    """Ends the process that looks at seed 9, and is not a number at seed 17."""
    seeds = x["seed"].values.tolist()
    if 9 in seeds:
        os._exit(3)
    values = x.mean(["channel", "y", "x"])
    return values / 0.0 * 0.0 if 17 in seeds else values
'''


def test_a_poisoned_task_is_set_aside_and_named_and_the_others_are_stored(tmp_path, monkeypatch):
    (tmp_path / "venom.py").write_text(POISON)
    monkeypatch.syspath_prepend(tmp_path)
    wanted = sweep(steps=20, labels=(0,), poison={"use": "venom:poison"})
    events = []
    with pytest.raises(ClusterError, match="2 of 3 tasks") as refused:
        running.run(
            wanted,
            into=tmp_path / "store",
            layout=FAST,
            cluster="processes:2",
            allow_code=True,
            listen=events.append,
        )
    assert "ended with 3" in refused.value.evidence
    assert "non-finite" in refused.value.evidence
    assert sum(isinstance(event, Quarantined) for event in events) == 2
    left = running.plan(wanted, into=tmp_path / "store", allow_code=True).plan
    named = {case.seed for task in left.tasks for batch in task.batches for case in batch.cases}
    assert {9, 17} <= named <= set(range(8, 21))


def test_a_refusal_all_tasks_share_is_the_refusal_itself(tmp_path, monkeypatch):
    (tmp_path / "nothing.py").write_text(POISON.replace("os._exit(3)", "pass").replace("17 in seeds", "True"))
    monkeypatch.syspath_prepend(tmp_path)
    wanted = sweep(steps=20, seeds="0:2", labels=(0,), poison={"use": "nothing:poison"})
    with pytest.raises(NonFiniteError) as refused:
        running.run(wanted, into=tmp_path / "store", layout=FAST, cluster="processes:1", allow_code=True)
    assert refused.value.exit_code == 6  # as docs/clusters.md says


def test_workers_end_with_a_coordinator_that_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        "import sys\nfrom flowprofile import running\nfrom pipelines import pipeline\n"
        "if __name__ == '__main__':\n"
        "    p = pipeline(steps=1000, seeds='0:400', trajectory={})\n"
        f"    running.run(p, into={str(tmp_path / 'store')!r}, cluster='processes:2')\n"
    )
    path = os.pathsep.join(
        [str(Path(__file__).parent.parent / "support"), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    main = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": path})
    deadline = time.monotonic() + 90
    while not any((tmp_path / "store").rglob("ledger/receipts/**/*.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [int(p) for p in subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(main.pid)], capture_output=True, text=True, check=False,
    ).stdout.split()]  # fmt: skip
    main.kill()
    main.wait()
    assert workers
    while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(_alive(pid) for pid in workers)


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_second_coordinator_waits_or_is_told(tmp_path, alone):
    url = tmp_path / "store"
    inside, go = threading.Event(), threading.Event()

    def slow(event):
        inside.set()
        go.wait(30)

    first = threading.Thread(target=lambda: running.run(sweep(), into=url, layout=FAST, listen=slow))
    first.start()
    inside.wait(30)
    with pytest.raises(BusyError, match="Another planner"):
        running.run(sweep(), into=url, layout=FAST)
    threading.Timer(0.3, go.set).start()
    outcome = running.run(sweep(), into=url, layout=FAST, wait=60)
    first.join()
    assert outcome.regions == 0  # the first had done it all by then
    assert contents(url) == alone[1]


SECOND = """
import sys
from flowprofile import running
from pipelines import pipeline
p = pipeline(seeds='0:21', labels=(0, 1), steps=60, trajectory={'keep': '::10'}, step_ssim={'use': 'ssim'})
print(running.run(p, into=sys.argv[1], wait=60).regions)
"""


def test_two_coordinators_at_once_share_a_store_without_loss(tmp_path, alone):
    command = [sys.executable, "-c", SECOND, str(tmp_path / "store")]
    path = str(Path(__file__).parent.parent / "support")
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
        for _ in range(2)
    ]
    said = [int(one.communicate(timeout=120)[0]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert sum(said) == alone[0].regions  # each region was written by one of them
    assert contents(tmp_path / "store") == alone[1]


def test_a_worker_with_other_packages_is_refused_by_name():
    mine = versions()
    with pytest.raises(ClusterError, match=r"tcp://b has numpy 0\.1"):
        same_versions({"tcp://a": mine, "tcp://b": {**mine, "numpy": "0.1"}})
    same_versions({"tcp://a": dict(mine)})


def test_a_live_model_stays_in_its_process(tmp_path):
    from flowprofile.models import zoo

    with pytest.raises(DefinitionError, match="exists in this process only"):
        running.run(
            pipeline(model=zoo.load("digits"), seeds="0:1", labels=(0,), steps=4, trajectory={}),
            into=tmp_path / "store", layout=FAST, cluster="processes:1",
        )  # fmt: skip


@pytest.mark.parametrize("word", ["local:0", "processes:many", "nowhere", "http://x", ""])
def test_a_word_that_names_nobody_is_refused(word, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(DefinitionError):
        clusters.executor(word)


def test_clusters_are_read_from_a_file_and_only_known_packages_are_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write = (tmp_path / "clusters.toml").write_text
    write(
        '[clusters.slurm]\nclass = "dask_jobqueue.SLURMCluster"\nworkers = 32\noptions = { queue = "gpu" }\n'
    )
    assert clusters.executor("slurm").workers == 32
    with pytest.raises(DefinitionError, match="slurm"):
        clusters.executor("slurn")
    write('[clusters.evil]\nclass = "os.system"\nworkers = 1\n')
    with pytest.raises(DefinitionError, match=r"os\.system"):
        clusters.executor("evil").connect()
    for wrong in (
        "[clusters.a]\nworkers = 1\n",
        '[clusters.a]\nclass = "distributed.X"\nworkers = 0\n',
        "clusters = 3",
        "a =",
    ):
        write(wrong)
        with pytest.raises(DefinitionError, match=r"clusters\.toml"):
            clusters.executor("a")


def test_a_cluster_from_a_file_computes(tmp_path, monkeypatch, alone):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clusters.toml").write_text(
        '[clusters.mine]\nclass = "distributed.LocalCluster"\nworkers = 1\n'
        "options = { n_workers = 1, threads_per_worker = 1, dashboard_address = '', silence_logs = 50 }\n"
    )
    running.run(sweep(), into=tmp_path / "store", layout=FAST, cluster="mine")
    assert contents(tmp_path / "store") == alone[1]


def test_a_scheduler_that_does_not_answer_is_a_refusal(monkeypatch):
    monkeypatch.setattr(clusters, "ANSWER", "1s")
    with pytest.raises(ClusterError, match="No scheduler answers"):
        clusters.executor("tcp://127.0.0.1:1").connect()


def test_the_command_line_says_what_json_says(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "flowprofile", "run", "digits", "--into", str(tmp_path / "store"), "--json", "--quiet",
         "--set", "sampler.steps=4", "--set", "cases.seeds=0:8", "--set", "cases.labels=[1]", "--cluster", "processes:1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["forwards"] == 32


def test_code_of_ones_own_reaches_the_workers_of_a_command(tmp_path):
    (tmp_path / "lab.py").write_text(
        "import flowprofile as fp\n\n"
        '@fp.measure(on="trajectory", version=1)\n'
        "def brightness(x):\n"
        '    """Mean over pixels."""\n'
        '    return x.mean(["channel", "y", "x"])\n'
    )
    (tmp_path / "own.toml").write_text(
        'model = "gaussian8"\nsampler = { steps = 4 }\n[cases]\nseeds = "0:3"\nlabels = [0]\n'
        '[stages.trajectory]\n[stages.brightness]\nuse = "lab:brightness"\n'
    )
    command = [sys.executable, "-m", "flowprofile", "run", "own.toml", "--into", "store", "--allow-code",
               "--cluster", "processes:1", "--json"]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["regions"] > 0


def test_losing_every_worker_at_once_ends_no_run(tmp_path, alone):
    """The order lies with the workers; where all of them go, what they had in hand is handed out again."""
    executor, killed = clusters.executor("local:2"), []

    def kill():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            time.sleep(0.02)
            client = executor._client
            if client is not None and executor._futures:
                for pid in client.run(os.getpid).values():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = running.run(sweep(), into=tmp_path / "store", layout=FAST, cluster=executor)
    killer.join()
    assert len(killed) == 2
    assert outcome.regions == alone[0].regions
    assert contents(tmp_path / "store") == alone[1]


def test_an_answer_that_is_lost_on_its_way_is_a_task_set_aside():
    lost = drive(clusters.executor("local:1"), UnreadOrder(os.getpid()), range(3), lambda event: None)
    assert sorted(each.numbers for each in lost) == [(0,), (1,), (2,)]
    assert all("lost on its way" in each.told for each in lost)


def test_a_second_cluster_on_one_machine_claims_no_port_of_the_first():
    """Warnings are errors here; Dask's page of health has one port by default, and said so when it was taken."""
    with socket.socket() as taken:
        with suppress(OSError):
            taken.bind(("0.0.0.0", 8787))
            taken.listen()
        found = clusters.executor("local:1")
        found.join()
        found.close()
    assert found.workers == 1
