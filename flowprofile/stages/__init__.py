"""The stages that come with the library, wired: what may stand behind `use` in a definition.

Read this after `opening`. Every stage is a value (see `flow.stage`); what they share is that a state is an image x_t
with dims (case, time, channel, y, x), that time runs from T down to 0, that what the network shows in the step
t + 1 -> t is labelled t, and that every curve a single case can draw is accompanied by the same curve of a chain
that was driven by the finished image alone.
"""

from collections.abc import Mapping
from typing import Any, Final

from flowprofile.definitions import Pipeline
from flowprofile.kinds import Kind
from flowprofile.stages import (
    attending,
    changes,
    decoded,
    distances,
    fidelity,
    gradients,
    images,
    inside,
    reach,
    sampler,
)

KINDS: Final[Mapping[str, Kind]] = {
    kind.name: kind
    for room in (sampler, images, inside, gradients, distances, reach, changes, fidelity, decoded, attending)
    for kind in room.KINDS
}
"""Every kind that a definition may ``use`` without further ado."""


def schema() -> dict[str, Any]:
    """The JSON schema of a definition, with the parameters of each kind under ``$defs``."""
    full = Pipeline.model_json_schema()
    kinds = {
        name: kind.params.model_json_schema() | {"description": kind.summary} for name, kind in KINDS.items()
    }
    # A reference counts from the root of the document, so what a kind's tables hold within has its place there too.
    within = {name: table for kind in kinds.values() for name, table in kind.pop("$defs", {}).items()}
    stages = {f"stage:{name}": table for name, table in kinds.items()}
    return full | {"$defs": full.get("$defs", {}) | within | stages}
