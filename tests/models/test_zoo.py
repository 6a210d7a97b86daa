"""Models by name: known without torch, honest about themselves, and able to do what their card says."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import flowprofile.models
from flowprofile.cases import Case
from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError
from flowprofile.models import fidelity, publish, reader, weights, zoo
from flowprofile.models.card import ModelCard, thesis_card
from flowprofile.models.denoiser import Guided, NetworkDenoiser
from flowprofile.models.unet import UNet, UNetConfig
from flowprofile.time.schedule import schedule

FOLDER = Path(flowprofile.models.__file__).parent / "embedded"
BARS = {"faces32": 0.94, "digits": 0.96}


def test_cards_and_identities_need_no_torch():
    code = (
        "import sys; from flowprofile.models import zoo\n"
        "for name in zoo.NAMES: assert len(zoo.identity(name)) == 64 and zoo.card(name).name == name\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=FOLDER.parents[2])


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_named_model_gives_eps_of_its_shape(name):
    denoiser = zoo.load(name)
    assert denoiser.card == zoo.card(name)
    x = torch.zeros(3, *denoiser.card.shape)
    eps = denoiser(x, torch.tensor([0, 500, 999]), torch.zeros(3, dtype=torch.int64))
    assert eps.shape == x.shape
    assert torch.isfinite(eps).all()


@pytest.mark.parametrize("name", zoo.EMBEDDED)
def test_an_embedded_model_states_a_fidelity_above_its_bar(name):
    path = FOLDER / f"{name}.safetensors"
    found = zoo.card(name).fidelity
    assert found["fidelity"] >= BARS[name]
    assert found["n"] >= 500
    assert found["reader"] == reader.digest(reader.load(name))
    assert path.stat().st_size <= 4_000_000
    assert path.with_name(f"{name}-reader.safetensors").stat().st_size <= 600_000
    assert path.with_suffix(".md").read_text(encoding="utf-8") == publish.describe(path)


@pytest.mark.parametrize("name", zoo.EMBEDDED)
def test_an_embedded_model_draws_what_it_is_asked_for(name):
    denoiser = zoo.load(name)
    count = denoiser.card.labels.count
    cases = [Case(seed, seed % count) for seed in range(16)]
    images = fidelity.draw(denoiser, cases, sampler="ddim", transitions=20, batch=16)
    read = reader.load(name).read(images)
    assert sum(int(label) == case.label for label, case in zip(read, cases, strict=True)) >= 13


def test_the_identity_is_of_content_and_not_of_place_or_story(tmp_path):
    path = tmp_path / "elsewhere.safetensors"
    card = zoo.card("digits")
    story = ModelCard(**{**vars(card), "name": "other", "fidelity": {}, "training": {}})
    weights.save(path, weights.load(FOLDER / "digits.safetensors"), story)
    assert zoo.identity(path) == zoo.identity("digits")
    weights.save(
        path, weights.load(FOLDER / "digits.safetensors"), ModelCard(**{**vars(card), "prediction": "eps"})
    )
    assert zoo.identity(path) != zoo.identity("digits")


def test_wrong_names_and_wrong_weights_are_refused(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'faces32'"):
        zoo.card("faces23")
    card = thesis_card("small", size=16)
    weights.save(tmp_path / "a.safetensors", {"init_conv.weight": torch.zeros(42, 4, 7, 7)}, card)
    with pytest.raises(ModelError, match="do not fit"):
        zoo.load(tmp_path / "a.safetensors")
    own = ModelCard("own", "module", {}, (1, 8, 8), LabelSpace(classes=1))
    weights.save(tmp_path / "b.safetensors", {"w": torch.zeros(1)}, own)
    with pytest.raises(ModelError, match="wrap it"):
        zoo.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("config", "shape", "told"),
    [
        ({"dim": 8, "mults": (1, 2)}, (1, 8, 8), "cannot draw"),
        ({"dim": 8, "mults": (1, 2, 4)}, (3, 8, 6), "multiples of 4"),
        ({"label_code": "classes", "label_width": 3}, (3, 8, 8), "does not hold 10 labels"),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(config, shape, told):
    with pytest.raises(ModelError, match=told):
        zoo.unet_config(ModelCard("m", "unet", config, shape, LabelSpace(classes=10)))


def test_half_precision_weights_are_computed_in_single(tmp_path):
    config = {"dim": 8, "mults": (1, 2), "heads": 1, "head_dim": 4}
    network = UNet(UNetConfig(**config))
    card = ModelCard("half", "unet", config, (3, 8, 8), LabelSpace(("a",)))
    weights.save(tmp_path / "h.safetensors", {k: v.half() for k, v in network.state_dict().items()}, card)
    loaded = zoo.load(tmp_path / "h.safetensors")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.float32}


class Oracle(nn.Module):
    """Knows the image and the noise, and says what its card promises."""

    def __init__(self, x0, eps, prediction):
        super().__init__()
        self.x0, self.eps, self.prediction = x0, eps, prediction

    def forward(self, x, time, label):
        bars = torch.tensor([schedule("linear").alpha_bar(int(i) + 1) for i in time])
        bar = bars.view(-1, 1, 1, 1).float()
        answers = {"eps": self.eps, "x0": self.x0, "v": bar.sqrt() * self.eps - (1 - bar).sqrt() * self.x0}
        return answers[self.prediction]


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
def test_whatever_is_predicted_eps_comes_out(prediction):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(4, 1, 8, 8, generator=generator), torch.randn(4, 1, 8, 8, generator=generator)
    index = torch.tensor([20, 300, 700, 999])
    bar = torch.tensor([schedule("linear").alpha_bar(int(i) + 1) for i in index]).view(-1, 1, 1, 1).float()
    card = ModelCard("oracle", "module", {}, (1, 8, 8), LabelSpace(classes=1), prediction=prediction)
    denoiser = NetworkDenoiser(Oracle(x0, eps, prediction), card)
    state = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
    torch.testing.assert_close(
        denoiser(state, index, torch.zeros(4, dtype=torch.int64)), eps, atol=2e-4, rtol=0
    )


def test_guidance_needs_a_null_label_and_scale_one_is_the_plain_model():
    digits = zoo.load("digits")
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(2, 1, 8, 8, generator=generator), torch.tensor([400, 400]), torch.tensor([3, 8])
    plain = digits(*given)
    torch.testing.assert_close(Guided(digits, 1.0)(*given), plain)
    empty = digits(*given[:2], torch.tensor([10, 10]))
    torch.testing.assert_close(Guided(digits, 3.0)(*given), empty + 3 * (plain - empty))
    with pytest.raises(ModelError, match="no null label"):
        Guided(zoo.load("faces32"), 2.0)
