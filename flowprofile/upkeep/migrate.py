"""A store written anew: in the schema of this version and in any layout, the old one untouched."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from flowprofile.errors import DefinitionError, IntegrityError
from flowprofile.store.places import TEMPORARY
from flowprofile.store.store import Store
from flowprofile.upkeep import pins
from flowprofile.upkeep.merge import merge


@dataclass(frozen=True)
class Migrated:
    """What was done."""

    regions: int
    """Written now; fewer than there are where an earlier migration was cut off."""
    cells: int
    """Read again from both stores, and the same bits."""


def migrate(
    source: Store, into: Store, *, progress: Callable[[int], None] = lambda regions: None
) -> Migrated:
    """Copy everything a store holds into another one, then read both again and compare every cell.

    A migration that was cut off goes on where it was. Comparisons that were kept beside the profile are not copied:
    they are made again when asked for.

    Raises
    ------
    DefinitionError
        If the new store would be where the old one is: it would go with it.
    IntegrityError
        If the source is damaged, or the copy differs from it anywhere.
    """
    _apart(source, into)
    written = merge([source], into, progress=progress)
    if pinned := pins.pinned(source):
        pins.pin(into, *pinned)
    again = merge([source], into)
    if again.cells or again.there != written.cells + written.there:
        raise IntegrityError(
            f"{into.url} lacks {again.cells:,} cells of {source.url} that had just been written.",
            consequence="Something else changes one of the two; the old store must be kept.",
            remedy="stop what writes into them, and migrate again",
        )
    return Migrated(written.regions, again.there)


def _apart(source: Store, into: Store) -> None:
    """Refuse a target that would go with the source: reading one place twice would prove a copy that is none."""
    if f"{into.url}/".startswith(f"{source.url}/") or _one_place(source, into):
        raise DefinitionError(
            f"{into.url} is the place of {source.url} itself, or inside of it.",
            consequence="Whoever then removes the old store removes the only copy; nothing was written.",
            remedy="name another place with --into",
        )


def _one_place(source: Store, into: Store) -> bool:
    """Whether what is written into the one is there in the other.

    Addresses do not tell: a folder may be mounted twice, and a bucket has an address at every gateway.
    """
    mark, token = f"{TEMPORARY}/mark-{uuid4().hex}", uuid4().bytes
    into.place.write(mark, token)
    try:
        return source.place.read(mark) == token
    finally:
        into.place.delete(mark)
