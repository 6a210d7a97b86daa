"""Keys from the file in which the tools of AWS keep them.

The client itself looks into the environment, and asks the machine it runs on; the file is what people have at home.
It is read where and when a connection is made, and what it says goes nowhere else.
"""

import configparser
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

ASKED: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
"""Variables with which the environment itself says who we are, or that it does not matter."""


def provider(url: str, options: Mapping[str, Any]) -> Callable[[], Any] | None:
    """What gives the keys of ``AWS_PROFILE`` (or of ``default``) to a client; None where the client finds its own."""
    anonymous = any("skip_signature" in name.lower() for name in options)
    if not url.startswith("s3://") or anonymous or any(os.environ.get(name) for name in ASKED):
        return None
    return _keys if _keys() is not None else None


def _keys() -> dict[str, Any] | None:
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    said = configparser.ConfigParser(interpolation=None)
    try:
        said.read(Path(path).expanduser())
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None
    name = os.environ.get("AWS_PROFILE") or "default"
    profile = said[name] if said.has_section(name) else {}
    key, secret = profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")
    if not key or not secret:
        return None
    return {
        "access_key_id": key,
        "secret_access_key": secret,
        "token": profile.get("aws_session_token"),
        "expires_at": None,
    }
