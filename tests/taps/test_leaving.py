"""Nothing of ours stays on a network, whoever raises and where; and a forward can be ended early."""

from functools import partial

import pytest
import torch
from listening import caller, hooks, still
from torch import nn

from flowprofile.errors import DefinitionError
from flowprofile.models import zoo
from flowprofile.models.denoiser import Guided
from flowprofile.models.taps import Tap, _Ended, firings, order, shapes, tapping
from flowprofile.models.unet import UNet, UNetConfig


class OwnError(Exception):
    """Somebody else's."""


def failing(*_: object) -> torch.Tensor:
    raise OwnError


class Fragile(nn.Module):
    """Takes no hook, or fails in its forward."""

    def __init__(self, *, takes_hooks: bool) -> None:
        super().__init__()
        self.takes_hooks = takes_hooks

    def register_forward_hook(self, *given, **options):
        if not self.takes_hooks:
            raise OwnError
        return super().register_forward_hook(*given, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise OwnError


def body(network, call):
    with tapping(network, "*", edits={"0": torch.neg}):
        call()
        raise OwnError


def forward(network, call):
    with tapping(network, "*"):
        call()


def reducing(network, call):
    with tapping(network, ["*", Tap("0", reduce=failing)]):
        call()


def editing(network, call):
    with tapping(network, "*", edits={"1": failing}):
        call()


def stopping(network, call):
    with tapping(network, ["0", Tap("1", reduce=failing)], stop=True, probe={"0": 1, "1": 1}) as seen:
        seen.run(call)


def nested(network, call):
    with tapping(network, "0"), tapping(network, "1", edits={"1": torch.neg}):
        raise OwnError


def probing(network, call):
    order(network, "*", failing)


def measuring(network, call):
    shapes(network, failing)


@pytest.mark.parametrize("story", [body, forward, reducing, editing, stopping, nested, probing, measuring])
def test_whatever_is_raised_is_raised_and_nothing_stays(story):
    last = Fragile(takes_hooks=True) if story is forward else nn.Identity()
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), last)
    network[0].register_forward_hook(lambda module, given, out: None)
    network.register_forward_pre_hook(lambda module, given: None)
    before = hooks(network)
    assert before == 2
    with pytest.raises(OwnError):
        story(network, lambda: network(torch.ones(1, 2)))
    assert hooks(network) == before


@pytest.mark.parametrize(
    "use", [lambda n: tapping(n, "*").__enter__(), lambda n: order(n, "*", list), lambda n: shapes(n, list)]
)
def test_what_fails_while_entering_leaves_nothing(use):
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Fragile(takes_hooks=False))
    with pytest.raises(OwnError):
        use(network)
    assert hooks(network) == 0


def test_a_wrong_name_attaches_nothing():
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    for options in ({"taps": ["0", "7"]}, {"taps": "0", "edits": {"7": torch.neg}}):
        with pytest.raises(DefinitionError, match="There is no layer '7'"), tapping(network, **options):
            pytest.fail("entered")
        assert hooks(network) == 0


def test_entering_for_single_steps_leaves_the_steps_between_alone(thin):
    call = caller(thin)
    bare = call()
    for step in range(4):
        if step % 2:
            with tapping(thin, "mid_attn.fn", edits={"mid_attn.fn": torch.zeros_like}) as seen:
                assert not torch.equal(call(), bare)
            assert not seen["mid_attn.fn"].any()
        else:
            assert torch.equal(call(), bare)


def counted(network):
    """The names of the modules that ran, by hooks of the test's own."""
    ran: list[str] = []
    handles = [
        module.register_forward_hook(lambda module, given, out, name=name: ran.append(name))
        for name, module in network.named_modules()
    ]
    return ran, handles


def test_a_forward_ends_after_the_last_wanted_layer():
    torch.manual_seed(0)
    network = still(UNet(UNetConfig(dim=8, mults=(1, 2), heads=2, head_dim=4)))
    call = caller(network)
    ran, handles = counted(network)
    with tapping(network, ["mid_attn.fn", "downs.0.2.fn"], stop=True) as seen:
        assert torch.equal(seen.run(call), call())
        whole = dict(seen)
        ran.clear()
        assert seen.run(call) is None
        assert "mid_attn.fn" not in ran[:-1]
        assert "mid_block2.ds_conv" not in ran
        assert "downs.1.1.net" in ran
        assert all(torch.equal(seen[name], whole[name]) for name in whole)
        assert torch.is_tensor(call())  # outside `run` nothing is ended
        seen.only("downs.0.2.fn")
        ran.clear()
        assert seen.run(call) is None
        assert "downs.0.3" not in ran
        known = seen.firings
    ran.clear()
    with tapping(network, "downs.0.2.fn", stop=True, probe=known) as seen:
        assert seen.run(call) is None  # already the first run
    assert "downs.0.3" not in ran
    with tapping(network, "mid_attn.fn") as seen:
        assert seen.run(call) is not None
    for handle in handles:
        handle.remove()
    assert hooks(network) == 0


def test_guidance_ends_in_its_second_half():
    digits = zoo.load("digits")
    guided = Guided(digits, 2.0)
    call = partial(guided, torch.zeros(2, *digits.card.shape), torch.tensor([3, 4]), torch.tensor([1, 2]))
    with tapping(guided, "mid_attn.fn") as seen:
        call()
    wanted = seen["mid_attn.fn"]
    with tapping(guided, "mid_attn.fn", stop=True, probe=firings(guided, "mid_attn.fn", call)) as seen:
        assert seen.run(call) is None
    assert torch.equal(seen["mid_attn.fn"], wanted)
    with (
        pytest.raises(DefinitionError, match="'tuple' does not say how often"),
        tapping(guided, "mid_attn.fn", stop=True, probe=("mid_attn.fn",)),
    ):
        pytest.fail("entered")


def test_ending_never_hides_the_callers_own_error_nor_escapes(thin):
    call, known = caller(thin), {"init_conv": 1, "mid_attn.fn": 1}

    def cleaning_up():
        try:
            call()
        finally:
            raise OwnError

    with tapping(thin, "init_conv", stop=True, probe=known) as outer:
        with pytest.raises(OwnError):
            outer.run(cleaning_up)
        with pytest.raises(OwnError):
            outer.run(failing)
        assert torch.is_tensor(call())  # an aborted run ends nothing later
        with tapping(thin, "mid_attn.fn", stop=True, probe=known) as inner:
            assert outer.run(lambda: inner.run(call) or pytest.fail("the outer end was swallowed")) is None
        assert outer.run(call) is None
    assert torch.equal(call(), call())


def test_a_network_that_swallows_exceptions_does_not_swallow_the_end():
    class Careless(nn.Sequential):
        def forward(self, x):
            try:
                return super().forward(x)
            except Exception:  # noqa: BLE001 - the network under test is careless
                return x

    network = Careless(nn.ReLU(), nn.Tanh())
    with tapping(network, "0", stop=True, probe={"0": 1}) as seen:
        assert seen.run(lambda: network(torch.ones(1))) is None
    assert not issubclass(_Ended, Exception)


def test_stopping_needs_something_to_stop_after(thin):
    with pytest.raises(DefinitionError, match="stop=True without a tap"), tapping(thin, stop=True):
        pytest.fail("entered")
