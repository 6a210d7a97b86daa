"""A measure from outside the package is cached, stored and drawn like ours, and its changes are noticed."""

import json
import subprocess
import sys

import pytest
import xarray as xr
from pydantic import BaseModel

import flowprofile as fp
from flowprofile import running
from flowprofile.errors import DefinitionError
from flowprofile.extension import source_digest
from flowprofile.store.promise import promise
from flowprofile.testing import MeasureLaws
from pipelines import pipeline

MODULE = '''
import flowprofile as fp

EDGE = 0.5

def inside(x, threshold):
    return abs(x) < threshold * EDGE

@fp.measure(on="trajectory", version={version})
def sparsity(x, *, threshold: float = 0.5):
    """Share of pixels near zero."""
    return inside(x, threshold).mean(["channel", "y", "x"]){change}
'''

DEFINITION = """
model = "mixture16"
sampler = { steps = 30 }
[cases]
seeds = "0:2"
labels = [0, 1]
[stages.trajectory]
[stages.step_ssim]
use = "ssim"
"""

OWN = """
[stages.sparsity]
use = "mylab:sparsity"
threshold = 0.25
"""


@pytest.fixture
def lab(tmp_path):
    """A folder with a module and a definition, and a way to run the command line there."""

    def write(*, version=1, change="", own=True):
        (tmp_path / "mylab.py").write_text(MODULE.format(version=version, change=change))
        (tmp_path / "mine.toml").write_text(DEFINITION + (OWN if own else ""))

    def command(*args):
        return subprocess.run(
            [sys.executable, "-m", "flowprofile", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return write, command, tmp_path


def test_a_measure_added_to_a_finished_store_costs_no_forward_and_a_changed_source_is_reported(lab):
    write, command, folder = lab
    write(own=False)
    assert command("run", "mine.toml", "--into", "store").returncode == 0
    write()
    refused = command("run", "mine.toml", "--into", "store")
    assert refused.returncode == 2
    assert "--allow-code" in refused.stderr
    added = json.loads(command("run", "mine.toml", "--into", "store", "--allow-code", "--json").stdout)
    assert added["forwards"] == 0
    assert added["regions"] > 0
    tree = fp.open(folder / "store")
    assert {"step_ssim", "sparsity"} <= set(tree["measures"].children)
    x = tree["trajectory"]["x_t"].load()
    expected = (abs(x) < 0.25 * 0.5).mean(["channel", "y", "x"])
    xr.testing.assert_allclose(tree["measures/sparsity"]["value"].load(), expected, atol=1e-6)
    assert tree["measures/sparsity"]["value"].attrs["long_name"] == "Share of pixels near zero."

    write(change=" * 2")
    again = command("run", "mine.toml", "--into", "store", "--allow-code")
    assert again.returncode == 0
    assert "source of stage 'sparsity'" in again.stderr
    assert "version is still 1" in again.stderr
    mixed = command("run", "mine.toml", "--into", "store", "--allow-code", "--set", 'cases.seeds="0:3"')
    assert mixed.returncode == 2
    assert "raise its version" in mixed.stderr

    apart = command("run", "mine.toml", "--into", "store", "--allow-code", "--set", 'cases.seeds="5:6"')
    assert apart.returncode == 2, "seeds of their own would still stand in the same array"

    write(change=" * 2", version=2)
    raised = json.loads(command("run", "mine.toml", "--into", "store", "--allow-code", "--json").stdout)
    assert (raised["forwards"], raised["warnings"]) == (0, {})
    assert raised["regions"] > 0
    latest = fp.open(folder / "store")["measures/sparsity"]["value"].load()
    xr.testing.assert_allclose(latest, 2 * expected, atol=1e-6)


def test_a_helper_and_a_constant_count_as_source_and_comments_do_not(tmp_path, monkeypatch):
    def digest(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return source_digest(__import__(name).sparsity.function)

    monkeypatch.syspath_prepend(tmp_path)
    text = MODULE.format(version=1, change="")
    same = digest("lab_a", text)
    assert digest("lab_b", text.replace("    return inside", "    # why\n    return inside")) == same
    assert digest("lab_c", text.replace("threshold * EDGE", "threshold + EDGE")) != same
    assert digest("lab_d", text.replace("EDGE = 0.5", "EDGE = 0.6")) != same


@fp.measure(on="trajectory", version=1)
def brightness(x, *, scale: float = 1.0):
    """Mean over pixels."""
    return scale * x.mean(["channel", "y", "x"])


class TestBrightness(MeasureLaws):
    """The shipped laws hold for an honest measure."""

    measure = brightness


@fp.measure(on="trajectory")
def forgetful(x):
    """Depends on its neighbours in the batch."""
    return x.mean(["channel", "y", "x"]) - x.mean()


def test_the_laws_catch_a_measure_that_depends_on_its_batch():
    class Laws(MeasureLaws):
        measure = forgetful

    with pytest.raises(AssertionError):
        Laws().test_a_case_does_not_depend_on_the_others()
    with pytest.raises(AssertionError):
        Laws().test_a_state_does_not_depend_on_the_block()


class CropParams(BaseModel):
    """Parameters of the crop."""

    side: int = 4


def crop(block, *, side):
    """The middle of each state."""
    return block.isel(y=slice(0, side), x=slice(0, side)).rename(x_t="corner")


def crop_promise(states):
    """What a crop looks like."""
    coords = {name: states[name] for name in ("time", "channel")} | {"y": range(4), "x": range(4)}
    return promise({"corner": (("time", "channel", "y", "x"), "float32")}, coords)


CROP = fp.Stage("crop", needs=("trajectory",), compute=crop, promise=crop_promise, params=CropParams)


def test_a_stage_of_images_is_stored_with_its_axes(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "croplab", sys.modules[__name__])
    source = pipeline(trajectory={"keep": "::10"}, crop={"use": "croplab:CROP"}, steps=20)
    running.run(source, into=store, allow_code=True)
    tree = fp.open(store)
    left = tree["crop"]["corner"].load()
    right = tree["trajectory"]["x_t"].isel(y=slice(0, 4), x=slice(0, 4)).load()
    assert left.dims == ("intervention", "label", "seed", "time", "channel", "y", "x")
    xr.testing.assert_equal(left.drop_vars(["y", "x"]), right.drop_vars(["y", "x"]).rename("corner"))


def test_a_measure_of_the_wrong_shape_is_refused(store, monkeypatch):
    @fp.measure(on="trajectory")
    def wrong(x):
        return x.mean("channel")

    module = type(sys)("wronglab")
    module.wrong = wrong
    monkeypatch.setitem(sys.modules, "wronglab", module)
    with pytest.raises(DefinitionError, match=r"dims \(case, time\)"):
        running.run(pipeline(trajectory={}, w={"use": "wronglab:wrong"}), into=store, allow_code=True)


def test_a_live_network_is_profiled_and_recognised_by_its_weights(store):
    import torch

    class Tiny(torch.nn.Module):
        def __init__(self, seed):
            super().__init__()
            torch.manual_seed(seed)
            self.mix = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x, index, label):
            return self.mix(x) + 0.01 * label.view(-1, 1, 1, 1)

    def profiled(seed):
        model = fp.denoiser(Tiny(seed), (1, 8, 8), classes=3)
        source = pipeline(model=model, steps=10, labels=[0, 2], trajectory={}, step_ssim={"use": "ssim"})
        return running.run(source, into=store)

    assert profiled(0).forwards == 3 * 2 * 10
    assert profiled(0).forwards == 0
    assert profiled(1).forwards == 3 * 2 * 10
