"""A small store that strangers change."""

import pytest
from kept_stores import FAST, sweep

from flowprofile import running
from flowprofile.store.layout import StoreLayout


@pytest.fixture(scope="session")
def plain(tmp_path_factory):
    """Two seeds, two labels, three objects, not compressed."""
    url = tmp_path_factory.mktemp("hostile") / "plain"
    running.run(sweep(seeds="0:2", steps=8), into=url, layout=FAST)
    return url


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """The same, in zstd, and of objects without inner chunks."""
    url = tmp_path_factory.mktemp("hostile") / "packed"
    layout = StoreLayout(durability="none", codec="zstd", small="1 MiB")
    running.run(sweep(seeds="0:2", steps=40), into=url, layout=layout)
    return url
