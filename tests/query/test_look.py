"""A look at one case: the bits a store holds, in memory, and no store left."""

import numpy as np
import pytest
import saved_folders
import torch
from torch import nn

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.store import places

STEPS = {"steps": 5}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.out = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.inner(x) + label.view(-1, 1, 1, 1)))


def test_a_look_is_what_a_store_holds_bit_for_bit(tmp_path):
    stages = {"activations": {"layers": ["inner"]}}
    model = fp.denoiser(Small(), (1, 8, 8), classes=3)
    whole = fp.profile(
        model, seeds="0:6", labels="all", into=tmp_path / "store", stages=stages, sampler=STEPS
    )
    before = set(places._OBJECTS)
    seen = fp.look(model, layers="inner", seed=4, label=2, time=[400, 0], sampler=STEPS)
    assert set(places._OBJECTS) == before
    for node, name in (("activations/inner", "activation"), ("trajectory", "x_t")):
        mine = seen[node][name]
        there = whole[node][name].sel(seed=[4], label=[2], time=[400, 0])
        assert mine.dims == there.dims
        assert mine.values.tobytes() == there.values.tobytes()
        assert mine.coords.identical(there.coords.to_dataset().load().coords)
    one = fp.look(model, layers="inner", time=400, sampler=STEPS)
    assert one["activations/inner"]["activation"].time.values.tolist() == [400]


def test_a_prompt_is_a_label_and_a_wrong_layer_is_refused_before_anything_runs():
    folder = str(saved_folders.folder("UNet2DConditionModel"))
    sampler = {"rule": "scheduler", "steps": 3}
    seen = fp.look(folder, layers="mid_block", label="a cat", sampler=sampler)
    assert np.isfinite(seen["activations/mid_block"]["activation"].values).all()
    assert seen["trajectory"]["prompt"].values.tolist() == ["a cat"]
    with pytest.raises(DefinitionError, match="mid_blok"):
        fp.look(folder, layers="mid_blok", label="a cat", sampler=sampler)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"layers": None}, "names none"),
        ({"layers": []}, "names none"),
        ({"layers": 3}, "names none"),
        ({"sampler": "ddim"}, "not a table"),
        ({"label": [1, 2]}, "a look is at one"),
    ],
)
def test_what_a_look_cannot_mean_is_refused_in_words(asked, told):
    with pytest.raises(DefinitionError, match=told) as refusal:
        fp.look("digits", **{"layers": "mid_block1.net", "sampler": STEPS, **asked})
    assert refusal.value.remedy
