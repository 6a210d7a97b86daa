"""What a case with an intervention has to do with other cases, worked out from what the intervention reads.

Sources are numbered as `Intervention.reads` orders them; `kernels.acting` is handed what they gave by that number.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Final

from flowprofile.cases import Case
from flowprofile.conditioning.interventions import Ablation, OwnChannel, Part, Patch
from flowprofile.errors import DefinitionError
from flowprofile.flow.kin import Kin, Source
from flowprofile.kinds import Context
from flowprofile.sourcing import INVERTED
from flowprofile.stages.promises import STATES

_FOLDER: Final = re.compile(r"[A-Za-z0-9_.+-]+")


def kinship(context: Context) -> Callable[[Case], Kin | None]:
    """The relations of every case of a pipeline."""

    @cache
    def shared(name: str) -> int:
        first = context.interventions[name].first
        above = sum(t > first for t in context.grid)
        # No step leads into the first state; where an inversion does, nothing is done to the network on the way.
        return max(above, 1) if context.real is not None and context.real.how == INVERTED else above

    @cache
    def pairs(name: str, number: int) -> tuple[tuple[int, int], ...]:
        part = context.interventions[name].reads[number]
        steps = [t for t in context.grid[1:] if t in part.span]
        if isinstance(part, Patch):
            return tuple((t, context.before(t)) for t in steps)
        return tuple((t, own_of(part).time) for t in steps)

    def kin(case: Case) -> Kin | None:
        if case.clean:
            return None
        sources = []
        for number, part in enumerate(context.interventions[case.intervention].reads):
            patched = isinstance(part, Patch)
            other = part.donor(case) if isinstance(part, Patch) else case.twin
            stage = STATES if patched else reference(own_of(part))
            sources.append(Source(other, stage, pairs(case.intervention, number)))
        return Kin(case.twin, shared(case.intervention), tuple(sources))

    return kin


def own_of(part: Part) -> OwnChannel:
    """The channel that a part leaves to each sample."""
    assert isinstance(part, Ablation)
    assert isinstance(part.channels, OwnChannel)
    return part.channels


def reference(own: OwnChannel) -> str:
    """Name of the stage that knows every sample's own channel.

    >>> reference(OwnChannel(200))
    'reference.sum'
    """
    of = "" if own.of == "activation" else f"{own.of}."
    # The name becomes a folder's; a rectangle's own name, [2:6, 2:6], cannot.
    mask = own.mask if own.mask and _FOLDER.fullmatch(own.mask) else "mask"
    return f"reference.{of}{own.statistic}{f'.{mask}.{own.digest[:8]}' if own.mask else ''}"


def interventions_to_compare(context: Context, *, place: str) -> None:
    """Refuse to compare changed runs with clean ones where nothing is changed."""
    if not context.interventions:
        raise DefinitionError(
            f"Runs with an intervention are compared with clean ones, and the pipeline has none ({place}).",
            consequence="There is no cell it could be computed for.",
            remedy="add an [interventions.TITLE] table, or leave this stage out",
        )


def crosses(context: Context) -> bool:
    """Whether some intervention takes its donor from another seed."""
    done = context.interventions.values()
    return any(isinstance(part, Patch) and part.seed is not None for one in done for part in one.parts)
