"""Runs whose network is on a device: the host's bits, and nothing of the host's meets the device's by chance.

Not collected by itself: torch knows the device for as long as a process lives, so `test_devices.py` gives it one."""

import copy
import tomllib
from pathlib import Path

import away
import numpy as np
import pytest
import torch
import xarray as xr
from saved_folders import save_stable_diffusion

import flowprofile as fp
from flowprofile import assembly, numbering, running
from flowprofile.errors import DefinitionError, ModelError
from flowprofile.kernels import probing
from flowprofile.models import devices
from flowprofile.models.denoiser import placed
from flowprofile.store.layout import StoreLayout

QUICK = StoreLayout(durability="none")
EVERYTHING = Path(__file__).parents[1] / "app" / "everything.toml"
RESIZED = ("/attention", "/attention_sum", "/measures/label_distance")
"""What is resized on the way: torch has one formula for the CPU and another for everything else."""


@pytest.fixture(scope="module", autouse=True)
def _known():
    away.begin()


def everything(device):
    """One seed of the interface's definition, in a quarter of its steps."""
    table = tomllib.loads(EVERYTHING.read_text("utf-8"))
    table["sampler"]["steps"] = 5
    table["interventions"]["lipstick"]["at"] = 400
    table["stages"]["volume"]["keep"] = [800, 200]
    table["cases"]["seeds"] = [0]
    table["interventions"]["donor"]["from"] = {"label": "0111"}
    table["interventions"]["towards"]["vector"]["seeds"] = [0]
    table["interventions"]["towards"]["vector"]["time"] = 400
    return fp.Pipeline(**table, numerics={"device": device})


def both(definition, folder):
    """The same definition on the host and away."""
    for device in ("cpu", "away"):
        running.run(definition(device), into=folder / device, layout=QUICK)
    return [fp.open(folder / device) for device in ("cpu", "away")]


def alike(one, other, *, about=(), apart=1e-5):
    """Bit by bit, but for what is named: that to a share of its largest value."""
    paths = [node.path for node in one.subtree]
    assert paths == [node.path for node in other.subtree]
    for path in paths:
        here, there = (tree[path].to_dataset().drop_attrs() for tree in (one, other))
        if path in about:
            for name in here:
                scale = float(np.abs(here[name]).max())
                np.testing.assert_allclose(
                    there[name], here[name], rtol=0, atol=apart * scale, err_msg=f"{path}/{name}"
                )
        else:
            xr.testing.assert_identical(here, there)


def test_everything_has_the_hosts_bits_and_stands_in_a_run_of_its_own(tmp_path):
    here, there = both(everything, tmp_path)
    alike(here, there, about=RESIZED)
    runs = [
        {run.name for run in (tmp_path / one / "profile.zarr").glob("faces32@*")} for one in ("cpu", "away")
    ]
    assert not runs[0] & runs[1]


def test_prompts_guidance_and_decoded_images(tmp_path):
    save_stable_diffusion(tmp_path / "model")

    def definition(device):
        return fp.Pipeline(
            model=str(tmp_path / "model"),
            sampler={"rule": "scheduler", "steps": 3, "guidance_scale": 3.0},
            cases={"seeds": [0], "labels": ["a cat", "a dog"]},
            numerics={"device": device},
            stages={
                "trajectory": {},
                "decoded": {},
                "word_maps": {},
                "predicted_x0": {"guidance": ["uncond", "cond"]},
            },
        )

    # Attention of the CPU's own kernel has other bits than the one that torch puts together for other devices.
    here, there = both(definition, tmp_path)
    alike(here, there, about=[node.path for node in here.subtree], apart=1e-3)


def test_what_is_the_hosts_is_refused_among_what_is_the_devices():
    x = torch.ones(2, 3).to("away")
    for wrong in (
        lambda: x + torch.ones(2, 3),
        lambda: x.numpy(),
        lambda: torch.stack([x, torch.ones(2, 3)]),
    ):
        with pytest.raises((RuntimeError, TypeError)):
            wrong()


def test_a_network_is_copied_and_the_callers_stays_where_it_is():
    shared = torch.nn.Conv2d(3, 3, 3, padding=1)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = shared, shared
            self.register_buffer("scale", torch.ones(1))

        def forward(self, x, index, label):
            return self.two(self.one(x)) * self.scale

    mine = fp.denoiser(Net(), shape=(3, 8, 8))
    before = copy.deepcopy(mine.module.state_dict())
    there = placed(mine, torch.device("away"))
    assert {tensor.device.type for tensor in there.module.state_dict().values()} == {"away"}
    assert there.module.one is there.module.two, "weights that are shared stay shared"
    assert {tensor.device.type for tensor in mine.module.state_dict().values()} == {"cpu"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in mine.module.state_dict().items())
    x, index, label = (
        torch.randn(2, 3, 8, 8),
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.int64),
    )
    found = there(*(rows.to("away") for rows in (x, index, label)))
    assert torch.equal(found.detach().cpu(), mine(x, index, label).detach())


def test_a_denoiser_of_an_unknown_class_is_refused():
    class Other:
        card = fp.load("digits").card
        module = torch.nn.Identity()

    with pytest.raises(ModelError, match="only its maker knows"):
        placed(Other(), torch.device("away"))
    assert placed(formula := fp.load("mixture16"), torch.device("away")) is formula


def test_the_device_is_a_part_of_the_run_and_may_be_named_where_there_is_none(tmp_path):
    def run(word):
        return assembly.assemble(everything(word))

    assert run("cpu").numerics.device == "cpu"
    assert run("away").numerics.device == "away:Away 1" == run("away:Away 1").numerics.device
    assert run("away").run == run("away:Away 1").run
    assert len({run(word).run for word in ("cpu", "away", "cuda:NVIDIA H200", "cuda:NVIDIA A100")}) == 4
    with pytest.raises(DefinitionError, match=r"No device 'cuda' is here .*numerics\.device"):
        run("cuda")
    with pytest.raises(DefinitionError, match="no kind of device 'coda'") as refusal:
        run("coda")
    assert "cuda" in refusal.value.remedy
    with pytest.raises(ModelError, match="planned for a 'Away 2'"):
        running.run(everything("away:Away 2"), into=tmp_path / "store", layout=QUICK)


def test_processes_of_one_machine_share_its_devices(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    for told, taken in (("0", 0), ("1", 1), ("2", 0), ("5", 1), ("nonsense", 0)):
        monkeypatch.setenv(numbering.VARIABLE, told)
        assert devices.use("away:Away 1").type == "away"
        assert away.Module.taken == taken
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize("stages", [{"trajectory": {}}, {"pooled": {"layers": "mid*"}}])
def test_a_device_is_tried_once_and_as_the_run_will_call_it(tmp_path, monkeypatch, stages):
    tried = []
    monkeypatch.setattr(probing, "in_any_place", lambda *given: tried.append(given))
    table = {
        "model": "digits",
        "sampler": {"steps": 3},
        "cases": {"seeds": [0, 1], "labels": [1, 2]},
        "stages": stages,
    }
    running.run(fp.Pipeline(**table, numerics={"device": "away"}), into=tmp_path / "store", layout=QUICK)
    [(eps, turned, device)] = tried
    assert torch.equal(eps, turned)
    assert not torch.equal(eps, torch.roll(eps, 1, 0)), "rows that are all alike would show nothing"
    assert device.type == "away"
