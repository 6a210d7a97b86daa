"""Whether a store is as it was: one short text that changes with its axes, its stages and what is acknowledged.

Nothing of an array is read, and no receipt: a folder says when a receipt last came or went. A bucket has no folders;
there the receipts' names are listed, a thousand a request.
"""

from collections.abc import Iterator

import numpy as np

from flowprofile.store.encoding import digest
from flowprofile.store.ledger import RECEIPTS, folder
from flowprofile.store.places import Place
from flowprofile.store.snapshot import snapshot


def revision(place: Place) -> str:
    """A store's revision: equal texts mean that there is nothing new to read.

    Raises
    ------
    IntegrityError
        If the root document or its record is damaged.
    """
    seen = snapshot(place)
    runs = [(name, stage, run.shape[:2]) for name, run in seen.record.runs.items() for stage in run.stages]
    grown = _folders(place, runs) if place.near else place.list(RECEIPTS)
    return digest("\n".join((seen.root, *grown)).encode())


def _folders(place: Place, runs: list[tuple[str, str, tuple[int, int]]]) -> Iterator[str]:
    for run, stage, (interventions, labels) in runs:
        where = folder(RECEIPTS, run, stage)
        for intervention, label in np.ndindex(interventions, labels):
            yield str(place.modified(f"{where}/i{intervention}.l{label}"))
