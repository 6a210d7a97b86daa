"""Places and houses for a small store of every kind of array; see `specimens`."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import specimens
from specimens import House, T

from flowprofile.cases import Sweep
from flowprofile.store.places import MemoryPlace


@pytest.fixture(params=["local", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new place of each kind."""
    if request.param == "local":
        yield str(tmp_path / "store")
        return
    name = hashlib.sha256(str(tmp_path).encode()).hexdigest()
    yield f"memory://{name}"
    place = MemoryPlace(name)
    for key in [*place.list("profile.zarr"), *place.list("ledger")]:
        place.delete(key)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house in a new folder."""
    return House(str(tmp_path / "house"))


@pytest.fixture
def filled(house: House) -> House:
    """Two labels, six seeds, every second state, then grown by seeds, a label and states."""
    house.request(Sweep((0, 1, 2), (0, 1)), range(T, -1, -2))
    house.request(Sweep((0, 1, 2, 3, 7, 5), (1, 2)), range(T, -1, -1))
    return house


@pytest.fixture(scope="session")
def specimen() -> object:
    """The module of it, for its functions."""
    return specimens
