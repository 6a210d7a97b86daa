"""A store in a bucket: s3, gs and az, through obstore.

An object is put whole, so it is there or it is not. What must not be overwritten is put on condition; an
acknowledgement that was lost is recognised by the write's own mark. Credentials come from the environment or from the
provider's own files, never from a url or an option, and are never kept: what is pickled is where, not who. Whoever
holds something here, and has lost it, writes nothing more.
"""

import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flowprofile.errors import DefinitionError, StoreError
from flowprofile.store.addresses import without_secrets
from flowprofile.store.credentials import provider
from flowprofile.store.leases import TTL, Lease, Version
from flowprofile.store.places import EMBRYO, Claim, checked

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import ObjectStore

RETRIES: Final = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
CLIENT: Final = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "http1_only", "http2_only", "pool_idle_timeout",
    "pool_max_idle_per_host", "proxy_excludes", "proxy_url", "timeout", "user_agent",
)  # fmt: skip
"""Options that are about the connection, not about the provider."""
PREFIXES: Final = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_"}
"""How the variables begin that say the same in the environment."""
AGAIN: Final = (0.1, 0.5, 2.0)
"""Seconds before a conditional put whose answer never came is tried again: the client itself must not repeat it."""
MARK: Final = "writeid"
"""The attribute of an object that says which call created it."""


class BucketPlace:
    """A prefix of a bucket."""

    near = False

    def __init__(self, url: str, options: Mapping[str, str] | None = None, ttl: float = TTL) -> None:
        self.url = url.rstrip("/")
        self.options = dict(options or {})
        self.ttl = ttl
        without_secrets(self.url, self.options)
        _a_folder(self.url)
        self._opened: ObjectStore | None = None
        self._conditions_kept = not self.url.startswith("s3://")
        self._claims: list[Lease] = []
        self._mine = threading.local()

    def __reduce__(self) -> tuple[object, ...]:
        return BucketPlace, (self.url, self.options, self.ttl)

    def __repr__(self) -> str:
        return f"BucketPlace({self.url!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BucketPlace) and (other.url, other.options) == (self.url, self.options)

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def client(self) -> "ObjectStore":
        """The connection, made on first use."""
        if self._opened is None:
            self._opened = _connected(self.url, self.options)
        return self._opened

    def exists(self) -> bool:
        with self._told("*") as obstore:
            for batch in obstore.list(self.client, chunk_size=50):
                for entry in batch:
                    first, _, rest = entry["path"].partition("/")
                    if first != "ledger" or rest.partition("/")[0] not in EMBRYO:
                        return True
        return False

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        asked: Any = None
        if start or stop is not None:
            asked = {"range": {"offset": start} if stop is None else (start, max(stop, start + 1))}
        with self._told(key) as obstore:
            try:
                data = bytes(obstore.get(self.client, checked(key), options=asked).bytes())
            except FileNotFoundError:
                return None
            except obstore.exceptions.BaseError:
                size = self.size(key) if asked else None
                if size is not None and size <= start:
                    return b""  # providers call a range that begins behind the end an error
                raise
        return data if stop is None else data[: max(0, stop - start)]

    def size(self, key: str) -> int | None:
        with self._told(key) as obstore:
            try:
                return int(obstore.head(self.client, checked(key))["size"])
            except FileNotFoundError:
                return None

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        self._fenced()
        with self._told(key) as obstore:
            obstore.put(self.client, checked(key), data, use_multipart=False)
        self._fenced()  # a put that hung may have arrived after somebody took over: nothing may follow from it

    def create(self, key: str, data: bytes) -> bool:
        mark = uuid.uuid4().hex
        self._fenced()
        return (
            self._put_if(key, data, "create", lambda found: found.attributes.get(MARK) == mark, mark)
            is not None
        )

    def sure(self) -> None:
        for lease in getattr(self._mine, "leases", None) or self._claims:
            if not lease.over:
                lease.held(sure=True)

    def delete(self, key: str) -> None:
        self._fenced()
        self.sure()
        with self._told(key) as obstore:
            try:
                obstore.delete(self.client, checked(key))
            except FileNotFoundError:
                return

    def list(self, prefix: str) -> Iterator[str]:
        with self._told(prefix) as obstore:
            for batch in obstore.list(self.client, checked(prefix), chunk_size=1000):
                for entry in batch:
                    yield entry["path"]

    def modified(self, folder: str) -> tuple[int, int] | None:
        return None

    def fsync(self, keys: Iterable[str]) -> None:
        for key in keys:
            checked(key)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        lease = Lease(self, checked(key), _me(), self.ttl)
        lease.acquire(wait=True)
        held = self._mine.__dict__.setdefault("leases", [])
        held.append(lease)
        try:
            yield
        finally:
            held.remove(lease)
            lease.release()

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        lease = Lease(self, checked(key), content, self.ttl)
        holder = lease.acquire(wait=False)
        if holder is not None:
            return holder
        try:
            self._keeps_conditions(key)
        except StoreError:
            lease.release()
            raise
        self._claims = [claim for claim in self._claims if not claim.over] + [lease]
        return lease

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from zarr.storage import ObjectStore

        return ObjectStore(_connected(f"{self.url}/{checked(prefix)}", self.options), read_only=True)

    def look(self, key: str) -> tuple[bytes, Version] | None:
        """An object and its version."""
        with self._told(key) as obstore:
            try:
                found = obstore.get(self.client, checked(key))
            except FileNotFoundError:
                return None
            return bytes(found.bytes()), _version(found.meta)

    def swap(self, key: str, data: bytes, before: Version | None) -> Version | None:
        """Put an object if nobody has touched it since; `data` has a mark of its own."""
        mode = "create" if before is None else dict(before)
        return self._put_if(key, data, mode, lambda found: bytes(found.bytes()) == data)

    def _put_if(
        self, key: str, data: bytes, mode: Any, ours: "Callable[[GetResult], bool]", mark: str = ""
    ) -> Version | None:
        """Put an object on condition; None where the condition did not hold, unless it was `ours` that broke it."""
        attributes: Any = {MARK: mark} if mark else None
        with self._told(key) as obstore:
            errors = obstore.exceptions
            for pause in (*AGAIN, None):
                try:
                    put = obstore.put(
                        self.client, checked(key), data, mode=mode, attributes=attributes, use_multipart=False
                    )
                    return _version(put)
                except (errors.AlreadyExistsError, errors.PreconditionError, FileNotFoundError):
                    break
                except errors.GenericError:
                    if pause is None:
                        raise
                    time.sleep(pause)
            try:
                found = obstore.get(self.client, checked(key))
            except FileNotFoundError:
                return None
            return _version(found.meta) if ours(found) else None

    def _fenced(self) -> None:
        """Stop, if something this place or this thread holds was lost."""
        for lease in (*self._claims, *getattr(self._mine, "leases", ())):
            if not lease.over:
                lease.held()

    def _keeps_conditions(self, key: str) -> None:
        """Refuse a server that takes a conditional put for a plain one; asked once, with a condition that is false."""
        found = None if self._conditions_kept else self.look(key)
        if found is None:
            return
        if self._put_if(key, found[0], {"e_tag": '"0"'}, lambda _: False) is not None:
            raise StoreError(
                f"The server of {self.url} does not keep the conditions of a conditional put (If-Match).",
                consequence="Two planners would both believe that the store is theirs; nothing was written.",
                remedy="use a server that does (AWS, MinIO, R2, ...) or a newer version of it",
            )
        self._conditions_kept = True

    @contextmanager
    def _told(self, key: str) -> Iterator[Any]:
        """The library, with the provider's errors as refusals that say what to do."""
        obstore = _library(self.url)
        errors = obstore.exceptions
        try:
            yield obstore
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise StoreError(
                f"{self.url} does not let us in.",
                consequence="Nothing of it is read or written.",
                remedy="give credentials in the environment or in the provider's own files, and look at the bucket's policy",
                evidence=f"{key}: {_brief(error)}",
            ) from error
        except (
            errors.BaseError,
            FileNotFoundError,
        ) as error:  # objects that are not there have been told before
            raise StoreError(
                f"{self.url} could not be read or written.",
                consequence="The command stopped there; every committed region is safe.",
                remedy="look at the bucket's name and region, the network, and whether there are credentials in the "
                "environment, and give the same command again",
                evidence=f"{key}: {_brief(error)}",
            ) from error


def _me() -> bytes:
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()


def _version(meta: Mapping[str, Any]) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def _brief(error: Exception) -> str:
    """An error in a line; a query may hold a signature."""
    text = re.sub(r"\?[^\s\"')]+", "?...", " ".join(str(error).split()))
    return f"{type(error).__name__}: {text[:300]}"


def _a_folder(url: str) -> None:
    parts = urlsplit(url)
    if not parts.netloc or not parts.path.strip("/"):
        raise DefinitionError(
            f"{url!r} names no folder of a bucket.",
            consequence="A store would be mixed with whatever else is in the bucket.",
            remedy=f"write {parts.scheme}://BUCKET/FOLDER",
        )


def _library(url: str) -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise StoreError(
            f"{url!r} is in a bucket, and obstore is not installed.",
            consequence="Buckets cannot be read or written.",
            remedy='pip install "flowprofile[cloud]"',
            evidence=str(error),
        ) from error
    return obstore


def _connected(url: str, options: Mapping[str, str]) -> "ObjectStore":
    obstore = _library(url)
    client: dict[str, Any] = {name: value for name, value in options.items() if name in CLIENT}
    if client:  # given any, the library no longer looks for the others in the environment
        prefix = PREFIXES[url.partition("://")[0]]
        known = {name: os.environ.get(prefix + name.upper()) for name in CLIENT}
        client = {name: value for name, value in known.items() if value is not None} | client
    config: Any = {name: value for name, value in options.items() if name not in CLIENT}
    try:
        store: ObjectStore = obstore.store.from_url(
            url,
            config=config,
            client_options=client or None,
            retry_config=RETRIES,
            credential_provider=provider(url, options),
        )
    except Exception as error:
        raise StoreError(
            f"{url!r} cannot be opened.",
            consequence="Nothing of it is read or written.",
            remedy=f"look at the options {sorted(options)!r} and at the provider's environment variables",
            evidence=_brief(error),
        ) from error
    return store
