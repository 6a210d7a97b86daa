"""Networks of one's own that do what shipped ones do not: layers that rest, equal weights with other code."""

import numpy as np
import pytest
import torch
from torch import nn

import flowprofile as fp
from flowprofile import running
from flowprofile.definitions import Pipeline
from flowprofile.errors import DefinitionError
from flowprofile.models.live import identity


class Resting(nn.Module):
    """Its second layer runs only where a row is near the image, its first one twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.early = nn.Conv2d(1, 4, 3, padding=1)
        self.late = nn.Conv2d(4, 4, 3, padding=1)
        self.out = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        h = self.early(x) + self.early(-x)
        near = (index < 500).view(-1, 1, 1, 1)
        if near.any():
            h = torch.where(near, self.late(h), h)
        return self.out(h)


def sweep(model: object, **stages: object) -> Pipeline:
    return Pipeline.model_validate(
        {"model": model, "sampler": {"steps": 10}, "cases": {"seeds": "0:1", "labels": [0]}, "stages": stages}
    )


def live(module: nn.Module) -> object:
    return fp.denoiser(module, (1, 8, 8), classes=2)


@pytest.mark.parametrize("use", ["activations", "pooled", "max_channel", "attention", "layer_distance"])
def test_a_layer_that_rests_is_named_and_nothing_is_made_up(use):
    layers = ["early", "late"] if use != "pooled" else ["late"]
    with pytest.raises(DefinitionError, match=r"'late' did not run on the way into t = \d+"):
        running.run(
            sweep(live(Resting()), looked={"use": use, "layers": layers}), into=f"memory://resting-{use}"
        )


def test_where_it_runs_it_is_looked_at():
    near = {"use": "activations", "layers": ["late"], "keep": [300, 100, 0]}
    running.run(sweep(live(Resting()), looked=near), into="memory://resting-near")
    values = fp.open("memory://resting-near")["looked/late"]["activation"].values
    assert np.isfinite(values).all()
    assert (abs(values) > 1e-6).any()


class Chain(nn.Sequential):
    """Its modules one after the other, whatever index and label are."""

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return super().forward(x)


def test_equal_weights_in_other_code_are_another_model():
    def of(*middle: nn.Module, **attributes: object) -> str:
        torch.manual_seed(0)
        net = Chain(nn.Conv2d(1, 4, 3, padding=1), *middle, nn.Conv2d(4, 1, 3, padding=1))
        for name, value in attributes.items():
            setattr(net, name, value)
        return identity(live(net))

    same = {of(nn.ReLU()), of(nn.ReLU())}
    assert len(same) == 1
    assert len({*same, of(nn.GELU()), of(nn.LeakyReLU(0.1)), of(nn.LeakyReLU(0.2)), of(nn.ReLU(), k=3)}) == 5


def test_a_boolean_array_is_a_mask_like_any_other(tmp_path):
    mask = np.zeros((8, 8), bool)
    mask[2:4, 2:5] = True
    stages = {
        "trajectory": {"keep": "::5"},
        "strongest": {"use": "max_channel", "layers": "*.fn", "mask": mask},
    }
    running.run(sweep("digits", **stages), into=tmp_path / "array")
    stages["strongest"] = {**stages["strongest"], "mask": {"rectangle": [2, 2, 4, 5]}}
    running.run(sweep("digits", **stages), into=tmp_path / "rectangle")
    one, other = (fp.open(tmp_path / name)["strongest"]["channel"].values for name in ("array", "rectangle"))
    assert (one == other).all()
    (again,) = running.recorded(tmp_path / "array")
    assert running.run(again, into=tmp_path / "array").forwards == 0
