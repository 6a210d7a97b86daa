"""Models of one's own in a definition: code where it is allowed, and nothing where it is not."""

import pytest
import torch

import flowprofile as fp
from flowprofile.errors import DefinitionError

LAB = """
import torch
import flowprofile as fp

class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(4)
        self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, index, label):
        return self.conv(x) + 0.01 * label.view(-1, 1, 1, 1)

def denoiser():
    return fp.denoiser(Small(), (1, 4, 4), classes=2)

def nothing():
    return 3

def failing():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab_of_models.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def asked(model):
    return fp.Pipeline.model_validate({
        "model": model, "sampler": {"steps": 4}, "cases": {"seeds": "0:2", "labels": [0, 1]},
        "stages": {"trajectory": {}, "activations": {"layers": "conv"}},
    })  # fmt: skip


def test_code_gives_the_model_that_it_returns_where_it_is_allowed(lab):
    import lab_of_models

    by_name = fp.run(asked("lab_of_models:denoiser"), into=lab / "a", allow_code=True)
    in_hand = fp.run(asked(lab_of_models.denoiser()), into=lab / "b")
    assert by_name.forwards == in_hand.forwards == 16
    one, other = (fp.open(lab / name)["trajectory"]["x_t"].values for name in "ab")
    assert one.tobytes() == other.tobytes()
    # Two workers import it themselves.
    fp.run(asked("lab_of_models:denoiser"), into=lab / "c", allow_code=True, cluster="processes:2")
    assert fp.open(lab / "c")["trajectory"]["x_t"].values.tobytes() == one.tobytes()


def test_code_is_refused_where_it_is_not_allowed_and_is_not_even_imported(lab):
    (lab / "another_lab.py").write_text("raise SystemExit('it ran')")
    with pytest.raises(DefinitionError, match="code was not allowed") as caught:
        fp.run(asked("another_lab:denoiser"), into=lab / "s")
    assert "--allow-code" in str(caught.value)
    assert not (lab / "s").exists()


@pytest.mark.parametrize(("name", "told"), [
    ("nothing", "not a int"), ("failing", "no weights"), ("absent", "cannot be imported"),
])  # fmt: skip
def test_code_that_gives_no_model_is_refused(lab, name, told):
    with pytest.raises(DefinitionError) as caught:
        fp.run(asked(f"lab_of_models:{name}"), into=lab / "s", allow_code=True)
    assert told in str(caught.value)


class Net(torch.nn.Module):
    """One convolution."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)

    def forward(self, x, index, label):
        return self.conv(x)


def test_a_registered_name_is_a_model(monkeypatch, tmp_path):
    class Point:
        name = "lab-model"

        def load(self):
            return lambda: fp.denoiser(Net(), (1, 4, 4), classes=2)

    def registered(group):
        return [Point()] if group == "flowprofile.models" else []

    monkeypatch.setattr("flowprofile.bringing.entry_points", registered)
    assert fp.run(asked("lab-model"), into=tmp_path / "s").forwards == 16
