"""An address says where, never who.

Addresses and the options beside them are printed, logged, pickled and sent to workers. So neither may hold what lets
somebody in: that comes from the environment of each process, or from the provider's own files.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flowprofile.errors import DefinitionError

SECRET: Final = (
    "secret", "token", "password", "passphrase", "passwd", "access_key", "account_key", "customer_key", "credential",
    "sas", "private", "pkey", "authorization", "header", "cookie",
)  # fmt: skip
"""Parts of names of options that hold credentials."""
ALSO: Final = ("key", "auth", "pass")
"""Whole names of options that do."""


def without_secrets(url: str, options: Mapping[str, Any]) -> None:
    """Refuse an address or an option that lets its reader in.

    Raises
    ------
    DefinitionError
        Naming the option, or the part of the address; never its value.
    """
    parts = urlsplit(url)
    what = next((f"the option {name!r}" for name, value in options.items() if _secret(name, value)), "")
    if parts.password is not None or (parts.username and parts.scheme not in ("sftp", "smb")):
        what = "a user or a password"
    elif parts.query or parts.fragment:
        what = "a query"
    if what:
        raise DefinitionError(
            f"The address of a store may not hold credentials, and this one has {what}.",
            consequence="Addresses are printed, logged and sent to workers.",
            remedy="put credentials into the environment (AWS_ACCESS_KEY_ID, ...) or the provider's own files",
        )


def _secret(name: str, value: object) -> bool:
    lower = name.lower()
    if lower in ALSO or any(part in lower for part in SECRET):
        return True
    if isinstance(value, Mapping):
        return any(_secret(str(inner), one) for inner, one in value.items())
    return isinstance(value, str) and "://" in value and "@" in urlsplit(value).netloc
