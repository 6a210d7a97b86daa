"""Taking turns: whoever writes objects that several regions share does so alone."""

import hashlib
from contextlib import ExitStack

from flowprofile.store.places import Place
from flowprofile.store.record import RunRecord
from flowprofile.store.regions import Region

_STRIPES = 64


def locked(place: Place, run: RunRecord, region: Region) -> ExitStack:
    """Locks on every tile of seeds a region has cells in, taken in order."""
    tile = run.tile[1]
    tiles = range(region.seeds[0] // tile, -(-region.seeds[1] // tile))
    names = {_stripe(f"{region.run}/{region.group}/{region.tile}/{number}") for number in tiles}
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(place.lock(f"ledger/locks/{name}"))
        return stack.pop_all()


def _stripe(text: str) -> str:
    return f"{int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) % _STRIPES:02d}"
