"""Sampled stores to compare in, and the S3 server of the tests of buckets."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from compared_stores import sampled

_path = Path(__file__).parents[1] / "buckets" / "conftest.py"
_spec = importlib.util.spec_from_file_location("s3_server", _path)
_module = importlib.util.module_from_spec(_spec)
sys.modules["s3_server"] = _module
_spec.loader.exec_module(_module)

bucket = _module.bucket
running_server = _module.running_server
server = _module.server


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A sampled store, to read only."""
    return sampled(tmp_path_factory.mktemp("compared") / "store")


@pytest.fixture
def held(whole, tmp_path):
    """A copy of it, without anything kept."""
    shutil.copytree(whole, tmp_path / "held", ignore=shutil.ignore_patterns("comparisons"))
    return str(tmp_path / "held")
