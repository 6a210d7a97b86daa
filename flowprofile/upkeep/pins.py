"""What must not be dropped."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from flowprofile.errors import StoreError
from flowprofile.store.ledger import sealed_json, unsealed_json
from flowprofile.store.store import Store

PINS = "ledger/pins.json"


def pinned(store: Store) -> tuple[str, ...]:
    """Globs over names of stages.

    Raises
    ------
    StoreError
        If the list is there and cannot be read.
    """
    data = store.place.read(PINS)
    if data is None:
        return ()
    body = unsealed_json(data)
    if body is None:
        raise StoreError(
            f"The list of what is pinned in {store.url} is damaged.",
            consequence="Nothing is dropped, since it could be something that must stay.",
            remedy=f"look at {PINS}, remove it, and pin again",
        )
    return tuple(body["pins"])


def idle(store: Store, patterns: Sequence[str]) -> list[str]:
    """Patterns that match no stage the store has: nothing is protected by them yet."""
    names = {stage.group for run in store.runs().values() for stage in run.stages.values()}
    return [each for each in patterns if not any(fnmatchcase(name, each) for name in names)]


def pin(store: Store, *patterns: str) -> tuple[str, ...]:
    """Pin stages; returns all that are."""
    return _put(store, tuple(dict.fromkeys((*pinned(store), *patterns))))


def unpin(store: Store, *patterns: str) -> tuple[str, ...]:
    """Let stages go; returns those that are still pinned."""
    return _put(store, tuple(each for each in pinned(store) if each not in patterns))


def _put(store: Store, pins: tuple[str, ...]) -> tuple[str, ...]:
    store.lock()
    store.place.write(PINS, sealed_json({"pins": list(pins)}), durable=True)
    return pins
