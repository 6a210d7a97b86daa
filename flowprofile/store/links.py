"""Folders and files that are somewhere else: what a store holds is followed under its own root, and nowhere else.

A store may come from a stranger, and a link in it may lead to anything its reader owns. Inside, links are as good as
files; a store's own folder may be a link to wherever there is room.
"""

import os
from pathlib import Path

from flowprofile.errors import StoreError

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""How an object is opened: not through a link, and without waiting for anybody at the other end of a pipe."""


def within(root: Path, path: str) -> str:
    """The path itself, if it leads nowhere but under the root.

    Raises
    ------
    StoreError
        If it is, or is behind, a link out of the store.
    """
    real = os.path.realpath(path)
    if real == str(root) or real.startswith(f"{root}/".replace("//", "/")):
        return path
    raise StoreError(
        f"{path!r} leads out of the store: it is {real!r}.",
        consequence="What a store's links lead to is neither read nor written.",
        remedy="put what is meant where the link is; to keep a store elsewhere, link the store's own folder",
    )


def opened(root: Path, path: str) -> int:
    """A descriptor to read an object with; of a link under the root, that of what it leads to.

    Raises
    ------
    StoreError
        For a link out of the store.
    """
    try:
        return os.open(path, READ)
    except OSError:
        if not os.path.islink(path):  # noqa: PTH114 - beside the calls it belongs to
            raise
    return os.open(os.path.realpath(within(root, path)), READ)
