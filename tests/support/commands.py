"""The commands of `flowprofile`, given in this process, and what a store holds afterwards."""

import signal
from contextlib import contextmanager
from hashlib import blake2b

import pytest

from flowprofile.cli.main import main


@contextmanager
def handlers():
    """The signals as they were before a command took them."""
    before = {asked: signal.getsignal(asked) for asked in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for asked, handler in before.items():
            signal.signal(asked, handler)


def flowprofile(*words):
    """Give a command; returns its exit code."""
    with handlers(), pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    return end.value.code


def contents(folder):
    """Digest of every object that a finished store is made of."""
    files = [*(folder / "profile.zarr").rglob("*"), *(folder / "ledger" / "receipts").rglob("*")]
    return {
        str(file.relative_to(folder)): blake2b(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }
