"""What is not there, and the command that computes it: a store holds the definition that it can grow from."""

import shlex
from collections.abc import Mapping
from typing import Any

from flowprofile.app.asked import Where
from flowprofile.definitions.written import inline


def ensured(url: str, where: Where) -> str:
    """The command for a case that was asked for and is not there yet."""
    seeds = f"{where.seed}:{where.seed + 1}"
    return shlex.join(["flowprofile", "ensure", url, "--seeds", seeds, "--labels", str(where.label)])


def grown(url: str, changes: Mapping[str, Any]) -> str:
    """The command that has the store's own definition computed with some values changed."""
    words = ["flowprofile", "rerun", url]
    for key, value in changes.items():
        words += ["--set", f"{key}={inline(value)}"]
    return shlex.join(words)
