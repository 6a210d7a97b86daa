"""What tests of faults share: the S3 server with a proxy in front, and a small sweep that nothing disturbed."""

import pytest
from acknowledged import Truth
from faulty_bucket import bucket, running_server, server
from kept_stores import FAST, sweep

from flowprofile import running

__all__ = ["bucket", "running_server", "server"]


@pytest.fixture(scope="session")
def truth(tmp_path_factory):
    """The sweep of `kept_stores`, undisturbed."""
    url = tmp_path_factory.mktemp("truth") / "store"
    running.run(sweep(), into=url, layout=FAST)
    return Truth(url)
