"""What a network of one's own must keep before it is profiled, and that it is the caller's again afterwards."""

import numpy as np
import pytest
import torch
from torch import nn

import flowprofile as fp
from flowprofile.errors import DefinitionError
from flowprofile.models import contract
from flowprofile.models.live import still

SHAPE = (1, 8, 8)


class Plain(nn.Module):
    """Two convolutions that know their label and index row by row."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.first(x) + (label + index / 1000).view(-1, 1, 1, 1)))


class Training(Plain):
    """In train mode it is random, and its own statistics run along."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(4))

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(x)))


def flags(net: nn.Module) -> list[bool]:
    weights = [weight.requires_grad for weight in net.parameters()]
    return [part.training for part in net.modules()] + weights


def content(net: nn.Module) -> bytes:
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


def profiled(net: nn.Module, store: str, **stages: object) -> object:
    return fp.profile(
        fp.denoiser(net, SHAPE, classes=2),
        seeds="0:2",
        labels=[0, 1],
        into=store,
        sampler={"steps": 4},
        stages=stages,
    )


def test_a_network_is_its_callers_again(store):
    """Part by part: what was frozen or resting stays so, what was trained goes on being trained."""
    net = Training()
    net.middle[1].eval()
    net.first.weight.requires_grad_(requires_grad=False)
    before, weights = flags(net), content(net)
    assert any(before)
    assert not all(before)
    gradients = {"use": "layer_gradients", "layers": "first", "mask": {"rectangle": [2, 2, 4, 4]}}
    trained = profiled(net, store, gradients=gradients)
    assert flags(net) == before
    assert content(net) == weights, "statistics did not run along"
    resting = profiled(Training().eval(), f"{store}-eval", gradients=gradients)
    for node, name in (("trajectory", "x_t"), ("gradients/gradients/first", "gradient")):
        assert np.array_equal(trained[node][name].values, resting[node][name].values), "no dropout"
    net(torch.zeros(2, *SHAPE), *torch.zeros(2, 2, dtype=torch.int64)).sum().backward()
    assert net.last.weight.grad is not None
    assert net.first.weight.grad is None


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is:DeprecationWarning")
def test_a_scripted_network_rests_too():
    net = torch.jit.script(nn.Sequential(nn.Dropout(0.5)))
    x = torch.ones(100)
    with still(net):
        assert torch.equal(net(x), x)
    assert net.training
    assert not torch.equal(net(x), x)


def test_weights_ask_for_nothing_while_the_model_is_called_and_the_input_still_does():
    net = Plain()
    x = torch.zeros(2, *SHAPE, requires_grad=True)
    index = torch.zeros(2, dtype=torch.int64)
    eps = fp.denoiser(net, SHAPE, classes=2)(x, index, index)
    asked = torch.autograd.grad(eps.sum(), [x, *net.parameters()], allow_unused=True)
    assert asked[0] is not None
    assert set(asked[1:]) == {None}


def test_an_error_in_between_leaves_nothing_changed():
    net = Training()

    def failing() -> None:
        with still(net):
            assert not any(flags(net))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert all(flags(net))


class Puts(Plain):
    """Puts out what a function makes of x, its own output, index and label."""

    def __init__(self, made) -> None:
        super().__init__()
        self.made = made

    def forward(self, x: torch.Tensor, index: torch.Tensor, label: torch.Tensor) -> object:
        return self.made(x, super().forward(x, index, label), index, label)


MADE = {
    "rows mixed": (lambda x, out, i, y: out - x.mean(0), "among other rows"),
    "rows normed together": (lambda x, out, i, y: out / out.std(), "among other rows"),
    "one index for all": (lambda x, out, i, y: out * (1 + i[0]), "among other rows"),
    "one label for all": (lambda x, out, i, y: out * (1 + y[0]), "among other rows"),
    "chance": (lambda x, out, i, y: out + 0.1 * torch.randn_like(x), "or a second time"),
    "its input": (lambda x, out, i, y: x.mul_(0.5) + out, "writes into the x"),
    "variance too": (lambda x, out, i, y: torch.cat((out, out), 1), "its first half"),
    "another size": (lambda x, out, i, y: out[..., ::2], r"\[8, 1, 8, 4\] for x of \[8, 1, 8, 8\]"),
    "a tuple": (lambda x, out, i, y: (out,), "a tuple"),
    "half numbers": (
        lambda x, out, i, y: out.half(),
        r"torch.float16 for x of torch.float32.*\n.*\n.*out.to",
    ),
    "double numbers": (lambda x, out, i, y: out.double(), "torch.float64 for x"),
    "too few classes": (lambda x, out, i, y: out * torch.ones(1)[y].view(-1, 1, 1, 1), "IndexError"),
}


@pytest.mark.parametrize("what", MADE)
def test_a_network_that_a_run_cannot_use_is_refused_at_once(what):
    made, words = MADE[what]
    with pytest.raises(DefinitionError, match=words):
        fp.denoiser(Puts(made), SHAPE, classes=2)


def test_what_depends_on_the_row_alone_is_taken():
    fp.denoiser(Puts(lambda x, out, i, y: out * (1 + i + y).view(-1, 1, 1, 1)), SHAPE, classes=2)
    fp.denoiser(Puts(lambda x, out, i, y: out - x.mean((1, 2, 3), keepdim=True)), SHAPE, classes=2)


def test_last_bits_that_depend_on_the_place_are_reported_and_taken():
    def places(x, out, i, y):
        return out * (1 + 1e-7 * torch.arange(len(x)).view(-1, 1, 1, 1))

    with pytest.warns(RuntimeWarning, match="last bits of a row depend on its place"):
        fp.denoiser(Puts(places), SHAPE, classes=2)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_other_numbers_is_refused_with_the_way_out(kind):
    with pytest.raises(DefinitionError, match=rf"{str(kind)[6:]}, and states are float32: net.float\(\)"):
        fp.denoiser(Plain().to(kind), SHAPE)

    class Cast(Plain):
        def forward(self, x, index, label):
            return self.last(torch.tanh(self.first(x.to(kind)))).to(x.dtype)

    fp.denoiser(Cast().to(kind), SHAPE)


WRONG = {
    "a function": (lambda x, i, y: x, {}, "torch.nn.Module, not a function"),
    "a name": ("faces32", {}, "flowprofile.load"),
    "three channels": (Plain(), {"shape": (3, 8, 8)}, "expected input.*to have 1 channels"),
    "no channel axis": (Plain(), {"shape": (8, 8)}, r"not \(channel, y, x\)"),
    "one size": (Plain(), {"shape": 8}, r"not \(channel, y, x\)"),
    "white to black": (Plain(), {"pixel_range": (1, -1)}, "from black up to white"),
    "one value": (Plain(), {"pixel_range": (1, 1)}, "from black up to white"),
    "no number": (Plain(), {"pixel_range": (0, float("nan"))}, "from black up to white"),
    "letters": (Plain(), {"attributes": "male"}, r"attributes=\('male',\)"),
    "two meanings": (Plain(), {"attributes": ("a", "b"), "classes": 4}, "one of the two"),
    "no text": (Plain(), {"config": {"f": object()}}, "cannot be written as JSON"),
}


@pytest.mark.parametrize("what", WRONG)
def test_arguments_that_make_no_sense_are_refused(what):
    net, given, words = WRONG[what]
    with pytest.raises(DefinitionError, match=words):
        fp.denoiser(net, **{"shape": SHAPE, **given})


def test_a_network_that_changes_afterwards_is_refused_in_the_run(store):
    net = Plain()
    model = fp.denoiser(net, SHAPE)
    net.last = nn.Conv2d(4, 2, 3, padding=1)
    with pytest.raises(DefinitionError, match=r"puts out the shape \[\d, 2, 8, 8\]"):
        fp.profile(model, seeds="0:1", labels=[0], into=store, sampler={"steps": 4}, stages={})


def test_without_the_trial_two_orders_give_two_results(monkeypatch, store):
    """The twin: what the trial refuses would have stored other numbers for the same case."""
    monkeypatch.setattr(contract, "tried", lambda *_: None)
    model = fp.denoiser(Puts(MADE["rows mixed"][0]), SHAPE, classes=2)
    last = [
        fp.profile(model, seeds=seeds, labels=[0], into=f"{store}-{seeds}", sampler={"steps": 4}, stages={})
        for seeds in ("0:1", "0:4")
    ]
    one, other = (tree["trajectory"]["x_t"].sel(seed=0, time=0).values for tree in last)
    assert not np.allclose(one, other, atol=1e-3)
