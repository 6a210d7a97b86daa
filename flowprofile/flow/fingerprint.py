"""Identity, computed: the key of a result is a digest of everything that decides it, and of nothing else.

A key is the *recipe*: stage, declared version, parameters with their defaults filled in, the keys upstream, the
content of the weights, sampler, schedule and noise scheme. Seeds, labels, times and interventions are axes of
the data and never part of it, so a sweep grows without its identity changing; where the result is kept, who
computes it and how it is cut decide nothing and are not in it either.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from flowprofile.errors import DefinitionError


def canonical(value: Any) -> str:
    """JSON that is the same text for equal values: sorted keys, no spaces, no NaN, tuples as lists.

    >>> canonical({"b": (1, 2.0), "a": None})
    '{"a":null,"b":[1,2.0]}'
    """
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise DefinitionError(
        f"{value!r} of type {type(value).__name__} cannot be part of an identity.",
        consequence="Two runs could not tell whether they mean the same thing.",
        remedy="use numbers, strings, booleans, lists and tables as parameters",
    )


def key(value: Any) -> str:
    """The 128-bit blake2b of the canonical JSON, as 32 hexadecimal digits."""
    return hashlib.blake2b(canonical(value).encode("ascii"), digest_size=16).hexdigest()
