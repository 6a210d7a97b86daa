"""A script can tell a wrong argument (2) from what is no store, or a damaged one (3)."""

from contextlib import chdir

import pytest
import torch
from kept_stores import sweep
from safetensors.torch import save_file

from flowprofile import running
from flowprofile.cli.main import main
from flowprofile.errors import DefinitionError, StoreError

WRONG = {
    "no place": ("run", "digits", "--into", ""),
    "a scheme": ("run", "digits", "--into", "ftp://somewhere/x"),
    "credentials": ("show", "s3://key:secret@bucket/folder"),
    "no bucket's folder": ("show", "s3://bucket"),
    "a file": ("run", "digits", "--into", "there.nc"),
    "an ending": ("export", "store", "--into", "x.csv"),
    "a file that is there": ("export", "store", "--into", "there.nc", "--objects", "trajectory"),
    "an object": ("export", "store", "--into", "x.nc", "--objects", "trajektory"),
    "a measure": ("export", "store", "--into", "x.nc", "--measures", "step_sim"),
    "states the wrong way": ("export", "store", "--into", "x.nc", "--time", "600:800"),
    "a label": ("export", "store", "--into", "x.nc", "--label", "77"),
    "a seed": ("export", "store", "--into", "x.nc", "--seed", "77"),
    "a label of a part": ("export", "store", "--into", "part", "--label", "77"),
    "a stage": ("drop", "store", "nope", "--yes"),
    "a pinned stage": ("drop", "store", "measures/*", "--yes"),
    "other axes": ("adopt", "cache.safetensors", "--into", "new", "--dims", "a b c d"),
    "too few prompts": ("adopt", "cache.safetensors", "--into", "new", "--prompts", "prompts.txt"),
    "too few seeds": ("adopt", "cache.safetensors", "--into", "new", "--seeds", "0:1"),
    "no cache": ("adopt", "nowhere", "--into", "new"),
}
STORES = {
    "nothing": ("show", "nothing"),
    "no store": ("drop", "pictures", "*", "--yes"),
    "a newer one": ("show", "newer"),
    "a damaged one": ("verify", "damaged"),
    "a damaged list of pins": ("drop", "unpinned", "trajectory", "--yes"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store, what is not quite one, and a cache of activations."""
    here = tmp_path_factory.mktemp("codes")
    for name in ("store", "newer", "damaged", "unpinned"):
        running.run(sweep(seeds="0:2"), into=here / name)
    (here / "newer/ledger/format.json").write_text('{"schema": 99}')
    victim = next((here / "damaged").glob("profile.zarr/*/trajectory*/x_t/c.*"))
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    for name, text in (("store", None), ("unpinned", "torn")):
        code(here, ("pin", name, "measures/*"))
        if text is not None:
            (here / name / "ledger/pins.json").write_text(text)
    (here / "pictures").mkdir()
    (here / "pictures/cat.jpg").write_bytes(b"cat")
    (here / "there.nc").write_bytes(b"there")
    (here / "prompts.txt").write_text("a cat\n")
    cached = {"mid": torch.zeros(3, 2, 4, 2, 2), "timestep": torch.tensor([9, 1])}
    save_file(cached, here / "cache.safetensors")
    return here


def code(folder, args):
    """The exit code of a command that is given in a folder."""
    with chdir(folder), pytest.raises(SystemExit) as stop:
        main(list(args))
    return stop.value.code


@pytest.mark.parametrize("args", WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_2_and_leaves_nothing(folder, args, capsys):
    before = sorted(folder.rglob("*"))
    assert code(folder, args) == DefinitionError.exit_code == 2, capsys.readouterr().err
    assert [each for each in sorted(folder.rglob("*")) if each not in before] == []


@pytest.mark.parametrize("args", STORES.values(), ids=STORES)
def test_what_is_no_store_or_a_damaged_one_is_3(folder, args, capsys):
    assert code(folder, args) == StoreError.exit_code == 3, capsys.readouterr().err
