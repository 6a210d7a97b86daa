"""What a store keeps of its definitions: enough to be tidied without its model, and told where it is needed."""

import shutil
from pathlib import Path

import pytest
import torch
from photographs import photographs
from photographs import saved as picture_at
from torch import nn

import flowprofile as fp
from flowprofile.cli.main import main

SHIPPED = Path(fp.__file__).parent / "models" / "embedded" / "digits.safetensors"


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command in a folder; its exit code and what it printed."""

    def run(folder, *args):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        with pytest.raises(SystemExit) as stop:
            main([str(arg) for arg in args])
        printed = capsys.readouterr()
        return stop.value.code, printed.out + printed.err

    return run


@pytest.fixture
def store(command, tmp_path):
    """A store that was filled from one folder, by a model and of pictures that lie there."""
    there = tmp_path / "one"
    there.mkdir()
    shutil.copy(SHIPPED, there / "mine.safetensors")
    photographs(there / "photos")
    (there / "own.toml").write_text(
        'model = "mine.safetensors"\nsampler = { steps = 4 }\n[cases]\nlabels = [3]\n'
        '[source]\nimages = "photos"\n[stages.predicted_x0]\n'
    )
    assert command("one", "run", "own.toml", "--into", tmp_path / "store", "--quiet")[0] == 0
    return tmp_path / "store"


def test_a_store_that_lacks_nothing_is_tidied_wherever_its_model_is(store, command):
    code, said = command("two", "verify", "--repair", store)
    assert (code, "nothing that was asked for is missing" in said) == (0, True), said
    next(store.parent.glob("one/photos/*")).unlink()
    picture_at(torch.zeros(8, 8, 1).byte().numpy(), store.parent / "one" / "photos" / "other.png")
    assert command("one", "verify", "--repair", store)[0] == 0


def test_what_cannot_be_computed_again_is_not_retired_and_the_folder_is_named(store, command):
    chunk = next(path for path in store.rglob("c.*") if "x0_hat" in str(path))
    good = chunk.read_bytes()
    chunk.write_bytes(good[:40] + bytes([good[40] ^ 1]) + good[41:])
    receipts = sorted(store.rglob("ledger/receipts/**/*.json"))
    code, said = command("two", "verify", "--repair", store)
    assert (code, "give the command in that folder" in said) == (2, True), said
    assert "'mine.safetensors' was looked for from" in said
    assert sorted(store.rglob("ledger/receipts/**/*.json")) == receipts
    assert command("one", "verify", "--repair", store)[0] == 0
    assert chunk.read_bytes() == good


@pytest.mark.parametrize("args", [("rerun",), ("ensure", "--labels", "4")])
def test_a_path_of_a_kept_definition_that_leads_nowhere_is_named(store, command, args):
    (store.parent / "two").mkdir()
    shutil.copy(store.parent / "one" / "mine.safetensors", store.parent / "two" / "mine.safetensors")
    code, said = command("two", args[0], store, *args[1:])
    assert (code, "'photos' was looked for from" in said) == (2, True), said
    assert "begins where it began when the store was filled" in said
    assert command("one", args[0], store, *args[1:])[0] == 0


def test_a_wrong_override_is_refused_as_before(store, command):
    code, said = command("one", "rerun", store, "--set", "sampler.rule=ddmp")
    assert (code, "began when" in said) == (2, False), said


class Plain(nn.Module):
    """A network that is in the caller's hands alone."""

    def forward(self, x, index, label):
        return 0.1 * x


def test_a_store_of_a_live_network_is_tidied(command, tmp_path):
    network = fp.denoiser(Plain(), (1, 8, 8), classes=2)
    fp.profile(network, seeds="0:2", labels=[0], into=tmp_path / "live", sampler={"steps": 4})
    (tmp_path / "live" / "profile.zarr" / "stray").write_bytes(b"debris")
    code, said = command("two", "verify", "--repair", tmp_path / "live")
    assert (code, "1 findings, 0 left" in said) == (0, True), said
