"""A store written anew: in the schema of this version and in any layout, the old one untouched."""

from collections.abc import Callable
from dataclasses import dataclass

from flowprofile.errors import IntegrityError
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
    IntegrityError
        If the source is damaged, or the copy differs from it anywhere.
    """
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
