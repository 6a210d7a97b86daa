"""A store in a bucket: s3, gs and az, through obstore.

An object is put whole, so it is there or it is not. What must not be overwritten is put on condition; an
acknowledgement that was lost is recognised by the write's own mark. Credentials come from the environment or from the
provider's own files, never from a url or an option, and are never kept: what is pickled is where, not who.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flowprofile.errors import StoreError
from flowprofile.store.leases import TTL, Lease, Version
from flowprofile.store.places import EMBRYO, Claim, checked

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SECRET: Final = ("secret", "token", "password", "access_key", "account_key", "credential", "sas", "private")
"""Parts of names of options that hold credentials."""
RETRIES: Final = {
    "max_retries": 8,
    "retry_timeout": timedelta(seconds=120),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}
CLIENT: Final = ("allow_http", "allow_invalid_certificates", "timeout", "connect_timeout", "proxy_url")
"""Options that are about the connection, not about the provider."""


class BucketPlace:
    """A prefix of a bucket."""

    near = False

    def __init__(self, url: str, options: Mapping[str, str] | None = None, *, ttl: float = TTL) -> None:
        self.url = url.rstrip("/")
        self.options = dict(options or {})
        self.ttl = ttl
        _without_secrets(self.url, self.options)
        self._opened: ObjectStore | None = None
        self._mine = threading.local()

    def __reduce__(self) -> tuple[object, ...]:
        return BucketPlace, (self.url, self.options)

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
            self._opened = _opened(self.url, self.options)
        return self._opened

    def exists(self) -> bool:
        import obstore

        with self._told("*"):
            for batch in obstore.list(self.client, chunk_size=50):
                for entry in batch:
                    first, _, rest = entry["path"].partition("/")
                    if first != "ledger" or rest.partition("/")[0] not in EMBRYO:
                        return True
        return False

    def read(self, key: str, start: int = 0, stop: int | None = None) -> bytes | None:
        import obstore

        asked: Any = None
        if start or stop is not None:
            asked = {"range": {"offset": start} if stop is None else (start, max(stop, start + 1))}
        with self._told(key):
            try:
                return bytes(obstore.get(self.client, checked(key), options=asked).bytes())
            except FileNotFoundError:
                return None
            except Exception as error:
                if asked is not None and ("416" in str(error) or "InvalidRange" in str(error)):
                    return b""
                raise

    def size(self, key: str) -> int | None:
        import obstore

        with self._told(key):
            try:
                return int(obstore.head(self.client, checked(key))["size"])
            except FileNotFoundError:
                return None

    def write(self, key: str, data: bytes, *, durable: bool = False) -> None:
        import obstore

        for lease in getattr(self._mine, "leases", ()):
            lease.held()
        with self._told(key):
            obstore.put(self.client, checked(key), data, use_multipart=False)

    def delete(self, key: str) -> None:
        import obstore

        with self._told(key):
            try:
                obstore.delete(self.client, checked(key))
            except FileNotFoundError:
                return

    def list(self, prefix: str) -> Iterator[str]:
        import obstore

        with self._told(prefix):
            for batch in obstore.list(self.client, checked(prefix), chunk_size=1000):
                for entry in batch:
                    yield entry["path"]

    def modified(self, folder: str) -> int | None:
        return None

    def fsync(self, keys: Iterable[str]) -> None:
        for key in keys:
            checked(key)

    @contextmanager
    def lock(self, key: str) -> Iterator[None]:
        lease = Lease(self, key, b"", self.ttl)
        lease.acquire(wait=True)
        held = self._mine.__dict__.setdefault("leases", [])
        held.append(lease)
        try:
            yield
        finally:
            held.remove(lease)
            lease.release()

    def claim(self, key: str, content: bytes) -> "Claim | bytes":
        lease = Lease(self, key, content, self.ttl)
        holder = lease.acquire(wait=False)
        return lease if holder is None else holder

    def zarr(self, prefix: str = "profile.zarr") -> object:
        from obstore.store import from_url
        from zarr.storage import ObjectStore

        return ObjectStore(
            _connected(from_url, f"{self.url}/{checked(prefix)}", self.options), read_only=True
        )

    def look(self, key: str) -> tuple[bytes, Version] | None:
        """An object and its version."""
        import obstore

        with self._told(key):
            try:
                found = obstore.get(self.client, checked(key))
            except FileNotFoundError:
                return None
            return bytes(found.bytes()), _version(found.meta)

    def swap(self, key: str, data: bytes, before: Version | None) -> Version | None:
        """Put an object if nobody has touched it since."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if before is None else dict(before)
        with self._told(key):
            try:
                return _version(obstore.put(self.client, checked(key), data, mode=mode, use_multipart=False))
            except (AlreadyExistsError, PreconditionError, FileNotFoundError):
                found = self.look(key)
                # The first attempt may have arrived although its answer did not.
                return found[1] if found is not None and found[0] == data else None

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        """The provider's errors as refusals that say what to do."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise StoreError(
                f"{self.url} does not let us in.",
                consequence="Nothing of it is read or written.",
                remedy="give credentials in the environment or in the provider's own files, and look at the bucket's policy",
                evidence=f"{key}: {_brief(error)}",
            ) from error
        except (BaseError, FileNotFoundError) as error:  # objects that are not there have been told before
            raise StoreError(
                f"{self.url} could not be read or written.",
                consequence="The command stopped there; every committed region is safe.",
                remedy="look at the bucket's name, its region and the network, and give the same command again",
                evidence=f"{key}: {_brief(error)}",
            ) from error


def _version(meta: Mapping[str, Any]) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name) is not None}


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _without_secrets(url: str, options: Mapping[str, str]) -> None:
    parts = urlsplit(url)
    named = next((name for name in options if any(part in name.lower() for part in SECRET)), "")
    if parts.username or parts.password or "@" in parts.netloc or parts.query or named:
        what = f"the option {named!r}" if named else "a user, a password or a query"
        raise StoreError(
            f"The address of a store may not hold credentials, and this one has {what}.",
            consequence="Addresses are printed, logged and sent to workers.",
            remedy="put credentials into the environment (AWS_ACCESS_KEY_ID ...) or the provider's own files",
        )
    if not parts.netloc or not parts.path.strip("/"):
        raise StoreError(
            f"{url!r} names no folder of a bucket.",
            consequence="A store would be mixed with whatever else is in the bucket.",
            remedy=f"write {parts.scheme}://BUCKET/FOLDER",
        )


def _opened(url: str, options: Mapping[str, str]) -> "ObjectStore":
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise StoreError(
            f"{url!r} is in a bucket, and obstore is not installed.",
            consequence="Buckets cannot be read or written.",
            remedy='pip install "flowprofile[cloud]"',
            evidence=str(error),
        ) from error
    return _connected(from_url, url, options)


def _connected(from_url: Any, url: str, options: Mapping[str, str]) -> "ObjectStore":
    client = {name: value for name, value in options.items() if name in CLIENT}
    config = {name: value for name, value in options.items() if name not in CLIENT}
    try:
        store: ObjectStore = from_url(url, config=config, client_options=client or None, retry_config=RETRIES)
    except Exception as error:
        raise StoreError(
            f"{url!r} cannot be opened.",
            consequence="Nothing of it is read or written.",
            remedy=f"look at the options {sorted(options)!r} and at the provider's environment variables",
            evidence=_brief(error),
        ) from error
    return store
