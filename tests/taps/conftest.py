"""Networks to listen to, and a watch over what hangs on them afterwards."""

import pytest
import torch
from listening import hooks, still

from flowprofile.models.layers import UNetConfig
from flowprofile.models.unet import UNet


@pytest.fixture(scope="session")
def thin():
    """The thesis' layout and its 65 layers, an eighth as wide."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return still(UNet(UNetConfig(dim=8, heads=2, head_dim=4)))


@pytest.fixture(scope="session")
def thesis():
    """The thesis' network at full width, with random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return still(UNet())


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request):
    """Whatever a test does to a shared network, no hook of any kind outlives it."""
    networks = [request.getfixturevalue(name) for name in ("thin", "thesis") if name in request.fixturenames]
    yield
    assert [hooks(network) for network in networks] == [0] * len(networks)
