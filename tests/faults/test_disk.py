"""The disk is full, fails, or may not be written any more, from any call on: the command says so, nothing that was
acknowledged is lost, and the same command goes on from there to the same bytes."""

import errno
import os
import shutil
from pathlib import Path

import pytest
from catalogue import times
from commands import contents, flowprofile
from disks import Failing, opens, takes_space, watched, writes

from flowprofile.errors import FlowProfileError
from flowprofile.store.places import LocalPlace
from flowprofile.store.verify import verify

DEFINITION = """
model = "mixture16"
sampler = { steps = 12 }
numerics = { batch = 4 }
[cases]
seeds = "0:3"
labels = [0, 1]
[stages.trajectory]
keep = "::3"
[stages.step_ssim]
use = "ssim"
[stages.final]
use = "mse"
between = "final"
"""


def touches(call):
    """Whether a call moves bytes or forces them."""
    return writes(call) or call.name in ("fsync", "read")


FAULTS = {
    "disk full": (errno.ENOSPC, takes_space, True),
    "disk full for a moment": (errno.ENOSPC, takes_space, False),
    "input/output error": (errno.EIO, touches, False),
    "no more open files": (errno.EMFILE, opens, True),
    "folder has become read-only": (errno.EROFS, writes, True),
    "permission withdrawn": (errno.EACCES, writes, True),
}
"""The error, which calls it strikes, and whether it stays."""


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A definition, a store that holds part of it, and what it ends in: two seeds first, then a third."""
    folder = tmp_path_factory.mktemp("begun")
    definition = folder / "sweep.toml"
    definition.write_text(DEFINITION)
    flowprofile("run", definition, "--into", folder / "part", "--set", "cases.seeds=0:2", "--quiet")
    shutil.copytree(folder / "part", folder / "whole")
    flowprofile("run", definition, "--into", folder / "whole", "--quiet")
    return definition, folder / "part", contents(folder / "whole")


def struck(begun, url, failing):
    """Give the command with a failing disk; its exit code, and what had been acknowledged by then."""
    shutil.rmtree(url, ignore_errors=True)
    shutil.copytree(begun[1], url)
    with watched(url, failing):
        code = flowprofile("run", begun[0], "--into", url, "--quiet")
    return code, {key for key in contents(url) if key.startswith("ledger/receipts")}


def damage(begun, url, acknowledged):
    """Acknowledged regions that are gone or damaged, and whether the same command ends in the same bytes."""
    bad = {region for finding in verify(url).findings for region in finding.regions}
    code = flowprofile("run", begun[0], "--into", url, "--quiet")
    gone = acknowledged - contents(url).keys()
    return len(bad) + len(gone), code == 0 and contents(url) == begun[2]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failing_disk(fault, begun, catalogue, tmp_path, capsys):
    number, of, forever = FAULTS[fault]
    url = tmp_path / "store"
    with catalogue.row(fault, "I1") as row:
        for at in (*range(4), *range(4, 100_000, times(24, 1))):  # the first are those that take the lock
            failing = Failing(number, of, at, forever=forever)
            code, acknowledged = struck(begun, url, failing)
            if not failing.fired:
                break
            told, complete = capsys.readouterr().err, contents(url) == begun[2]
            lost, same = damage(begun, url, acknowledged)
            row.injected, row.acknowledged = row.injected + 1, row.acknowledged + len(acknowledged)
            row.lost += lost
            assert same, (at, failing.call)
            if (
                code == 0
            ):  # the rest of a short write was taken the next time, or only scratch could not be removed
                assert complete, (at, failing.call)
                continue
            assert code == 1, (at, failing.call)
            assert f"{os.strerror(number)}: {url}" in told, (at, failing.call, told)
            assert "every committed region is safe" in told
            assert "give the same command again" in told
            if number == errno.ENOSPC:
                assert not list((url / "ledger" / "tmp").glob("*")), failing.call
        else:
            pytest.fail("it never came to an end")


def test_a_disk_that_is_full_before_a_new_store_is_whole(begun, catalogue, tmp_path):
    """Nothing was acknowledged yet, so nothing is damaged; the same command goes on."""
    with catalogue.row("disk full", "I1") as row:
        for at in range(6, 1000, times(40, 5)):
            url, failing = tmp_path / f"store{at}", Failing(errno.ENOSPC, takes_space, at, forever=True)
            with watched(url, failing):
                flowprofile("run", begun[0], "--into", url, "--set", "cases.seeds=0:2", "--quiet")
            if not failing.fired:
                break
            row.injected += 1
            row.lost += (url / "ledger" / "format.json").exists() and not verify(url).sound
            assert flowprofile("run", begun[0], "--into", url, "--set", "cases.seeds=0:2", "--quiet") == 0
            assert contents(url) == contents(begun[1])
            assert verify(url).sound


def of_scratch(call):
    """Whether a call writes what waits for a second pass."""
    return call.name == "pwrite" and "/ledger/tmp/flowprofile-" in call.path


def test_scratch_that_is_taken_in_parts_is_written_whole(catalogue, tmp_path):
    """Nobody asked for the states, so they wait in scratch for the final image."""
    definition, whole = tmp_path / "final.toml", tmp_path / "whole"
    head, _, tail = DEFINITION.partition("[stages.trajectory]")
    definition.write_text(head + tail[tail.index("[stages.final]") :])
    assert flowprofile("run", definition, "--into", whole, "--quiet") == 0
    with catalogue.row("disk full for a moment", "I1") as row:
        for at in range(0, 1000, times(7, 1)):
            failing = Failing(errno.ENOSPC, of_scratch, at)
            with watched(tmp_path / f"store{at}", failing):
                assert flowprofile("run", definition, "--into", tmp_path / f"store{at}", "--quiet") == 0
            if not failing.fired:
                break
            row.injected += 1
            row.silent += contents(tmp_path / f"store{at}") != contents(whole)
    assert at


def in_place(self, key, data, *, durable=False):
    """A writer that is not atomic."""
    path = Path(f"{self.root}/{key}")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        os.write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)


def deaf(write):
    """A writer that goes on as if nothing had happened."""

    def written(self, key, data, *, durable=False):
        try:
            write(self, key, data, durable=durable)
        except OSError:
            assert True

    return written


def of_an_object(call):
    """Whether a call writes into what a reader sees."""
    return call.name == "write" and "/profile.zarr/" in call.path


def of_a_temporary(call):
    """Whether a call begins a file that is renamed into place."""
    return call.name == "open" and "/ledger/tmp/" in call.path and "flowprofile-" not in call.path


@pytest.mark.parametrize("fault", FAULTS)
def test_a_writer_without_the_protection_loses(fault, begun, catalogue, tmp_path, monkeypatch):
    """It writes in place where the disk takes part of the bytes, and is deaf to errors where it takes none."""
    number = FAULTS[fault][0]
    partial = number in (errno.ENOSPC, errno.EIO)
    monkeypatch.setattr(LocalPlace, "write", in_place if partial else deaf(LocalPlace.write))
    with catalogue.twin(fault, "I1") as row:
        for at in range(0, 30, 4):
            failing = Failing(number, of_an_object if partial else of_a_temporary, at)
            _, acknowledged = struck(begun, tmp_path / "store", failing)
            try:
                lost, same = damage(begun, tmp_path / "store", acknowledged)
                row.unprotected += bool(lost or not same)
            except FlowProfileError:
                row.unprotected += 1
            if row.unprotected and times(True, False):
                break
