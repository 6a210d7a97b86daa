"""What was compared once is kept beside the profile: ``<store>/comparisons/<key>.zarr``, plain Zarr v3.

The key is of everything that decides the result, so a result is never stale, only no longer asked for. It is a copy
of what the profile says, and no part of it: `verify`, `merge`, `gc` and receipts know nothing of it, and removing
the folder loses nothing but time. The root document is written last, so that a crash leaves nothing a reader sees.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import xarray as xr

from flowprofile.comparing.admitted import admitted
from flowprofile.errors import IntegrityError
from flowprofile.flow.fingerprint import canonical, key
from flowprofile.store.encoding import digest
from flowprofile.store.places import Place

FOLDER: Final = "comparisons"
ROOT: Final = "zarr.json"
SEAL: Final = "sealed"
"""The attribute that says what was written."""


def kept(place: Place, recipe: str) -> xr.Dataset | None:
    """The result of this key, if it is there.

    Raises
    ------
    IntegrityError
        If its bytes are not those that were written.
    """
    prefix = _prefix(recipe)
    if place.read(f"{prefix}/{ROOT}") is None:
        return None
    objects = {name.removeprefix(f"{prefix}/"): place.read(name) for name in place.list(prefix)}
    whole = {name: data for name, data in objects.items() if data is not None}
    if not _intact(whole):
        raise _damaged(
            place, prefix, f"{len(whole)} objects, not those that the root document is sealed with"
        )
    try:
        admitted(whole)
    except ValueError as error:
        raise _damaged(place, prefix, str(error)) from error
    found = _opened(whole)
    if found.attrs.get("recipe") != recipe:
        raise _damaged(place, prefix, f"the recipe {found.attrs.get('recipe')!r}")
    return found


def keep(place: Place, recipe: str, data: xr.Dataset) -> None:
    """Put a result beside the profile."""
    prefix = _prefix(recipe)
    objects = _rendered(data)
    for name in sorted(objects, key=lambda name: name == ROOT):
        place.write(f"{prefix}/{name}", objects[name])


def _prefix(recipe: str) -> str:
    return f"{FOLDER}/{recipe}.zarr"


def _rendered(data: xr.Dataset) -> dict[str, bytes]:
    """A dataset as the objects of a Zarr v3 group: one chunk an array, with its checksum, and consolidated metadata."""
    from zarr.codecs import Crc32cCodec, ZstdCodec
    from zarr.storage import MemoryStore

    codecs = [ZstdCodec(level=3), Crc32cCodec()]
    encoding = {str(name): {"chunks": v.shape, "compressors": codecs} for name, v in data.variables.items()}
    store = MemoryStore()
    with _whole():
        data.to_zarr(store, zarr_format=3, consolidated=True, encoding=encoding)
    objects = {name: buffer.to_bytes() for name, buffer in store._store_dict.items()}
    document = json.loads(objects[ROOT])
    document["attributes"][SEAL] = _seal(document, objects)
    objects[ROOT] = canonical(document).encode("ascii")
    return objects


def _seal(document: Mapping[str, Any], objects: Mapping[str, bytes]) -> str:
    """A digest of the root document (but for the seal itself) and of every other object."""
    attributes = {name: value for name, value in document["attributes"].items() if name != SEAL}
    digests = {name: digest(data) for name, data in objects.items() if name != ROOT}
    return key({"root": {**document, "attributes": attributes}, "objects": digests})


def _intact(objects: Mapping[str, bytes]) -> bool:
    """Whether all is there, and nothing else, as it was written."""
    try:
        document = json.loads(objects[ROOT])
        return bool(document["attributes"][SEAL] == _seal(document, objects))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def _opened(objects: dict[str, bytes]) -> xr.Dataset:
    from zarr.core.buffer import default_buffer_prototype
    from zarr.storage import MemoryStore

    wrap = default_buffer_prototype().buffer.from_bytes
    with _whole():
        store = MemoryStore({name: wrap(data) for name, data in objects.items()}, read_only=True)
        found: xr.Dataset = xr.open_zarr(store, zarr_format=3, consolidated=True, chunks=None).load()
    for variable in found.variables.values():
        variable.encoding = {}
    found.encoding = {}
    del found.attrs[SEAL]
    return found


@contextmanager
def _whole() -> Iterator[None]:
    """Every chunk is written, also one of nothing but fill values: a missing one would be read as those.

    Zarr warns that consolidated metadata is not in its specification yet; readers that do not know it ignore it.
    """
    import zarr

    with zarr.config.set({"array.write_empty_chunks": True}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        yield


def _damaged(place: Place, prefix: str, seen: str) -> IntegrityError:
    return IntegrityError(
        f"{place.url}/{prefix} is not what was written.",
        consequence="Its numbers cannot be trusted.",
        remedy="remove that folder: it is computed again from the profile",
        evidence=seen,
    )
