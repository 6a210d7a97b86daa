"""Where a store may be, and the few verbs it needs of such a place.

Everything above this module speaks to a `Place`: whole objects in, ranges out, atomic or not at all. A new kind
of place (an object store) is one more class with these verbs and one more line in `place`.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

from flowprofile.errors import DefinitionError, nearest
from flowprofile.store.buckets import BucketPlace
from flowprofile.store.foreign import FOREIGN, ForeignPlace
from flowprofile.store.places import LocalPlace, MemoryPlace, Place

__all__ = ["SCHEMES", "Place", "Where", "place"]


Where: TypeAlias = str | os.PathLike[str] | Place
"""A path, a url, or a place."""


def place(url: Where, storage_options: Mapping[str, str] | None = None) -> Place:
    """The place a url names.

    Parameters
    ----------
    url
        A local path, ``file:///path``, ``memory://NAME``, a folder of a bucket (``s3://``, ``gs://``, ``az://``),
        what fsspec reaches (``sftp://``, ``hdfs://``, ``webhdfs://``, ``smb://``), or a store that a web server shows
        (``https://``, only to read). A place is itself.
    storage_options
        Where and how to connect to anything but this machine (``endpoint``, ``region``, ``allow_http``, ...), never
        credentials: those come from the environment or the provider's own files.

    Raises
    ------
    DefinitionError
        For any other scheme, an address or an option that holds credentials, a path that is a file, and a path
        inside a checkpoint folder.

    Examples
    --------
    >>> place("memory://doc-urls").url
    'memory://doc-urls'
    """
    if not isinstance(url, str | os.PathLike):
        return url
    text = os.fspath(url)
    if "\0" in text or not text:
        raise DefinitionError(f"{text!r} is not a path.", remedy="give a folder, for instance 'out/profile'")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return _local(Path(text))
    options = storage_options or {}
    if scheme in BUCKETS:
        return BucketPlace(text, options)
    if scheme in FOREIGN:
        return ForeignPlace(text, options)
    known = sorted((*SCHEMES, *BUCKETS, *FOREIGN))
    if scheme not in SCHEMES:
        raise DefinitionError(
            f"A store cannot be at {text!r}: the scheme {scheme!r} is not allowed.",
            consequence="Only places whose atomicity is known are written to.",
            remedy=f"use a local path, or {', '.join(f'{name}://' for name in known)} ({nearest(scheme, known)})",
        )
    return SCHEMES[scheme](text)


def _file(url: str) -> Place:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise DefinitionError(
            f"{url!r} names a host, not a local folder.",
            remedy="write three slashes: file:///absolute/path",
        )
    return _local(Path(unquote(parts.path)))


def _memory(url: str) -> Place:
    name = url.removeprefix("memory://").strip("/")
    if not name:
        raise DefinitionError(f"{url!r} has no name.", remedy="write memory://NAME")
    return MemoryPlace(name)


def _local(path: Path) -> Place:
    try:
        root = path.expanduser().resolve()
        there = root.exists()
    except (OSError, RuntimeError) as error:
        raise DefinitionError(
            f"{str(path)[:200]!r} is no path here.",
            consequence="Nothing can be kept there.",
            remedy="give a folder that can be made, for instance 'out/profile'",
            evidence=f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}",
        ) from error
    if there and not root.is_dir():
        raise DefinitionError(
            f"{str(root)!r} is a file.",
            consequence="A store is a folder.",
            remedy="name a folder that does not exist yet, or an existing store",
        )
    for folder in (root, *root.parents):
        if _is_checkpoint(folder):
            raise DefinitionError(
                f"{str(root)!r} is inside the checkpoint folder {str(folder)!r}.",
                consequence="A profile written there would change what the checkpoint's digest and tools see.",
                remedy="choose a folder outside the checkpoint",
            )
    return LocalPlace(root)


def _is_checkpoint(folder: Path) -> bool:
    if (folder / "model_index.json").is_file():
        return True
    if not (folder / "config.json").is_file():
        return False
    return any(next(folder.glob(pattern), None) is not None for pattern in ("*.safetensors", "*.bin"))


SCHEMES: Final[dict[str, Callable[[str], Place]]] = {"file": _file, "memory": _memory}
"""The schemes that are this machine's, and what opens each."""
BUCKETS: Final = ("s3", "gs", "az")
"""The schemes that are object stores."""
