"""What a case with an intervention has to do with other cases, worked out from what the intervention reads.

Sources are numbered as `Intervention.reads` orders them; `kernels.acting` is handed what they gave by that number.
"""

from collections.abc import Callable
from functools import cache

from flowprofile.cases import Case
from flowprofile.conditioning.interventions import Ablation, OwnChannel, Part, Patch
from flowprofile.flow.kin import Kin, Source
from flowprofile.kinds import Context
from flowprofile.stages.promises import STATES


def kinship(context: Context) -> Callable[[Case], Kin | None]:
    """The relations of every case of a pipeline."""

    @cache
    def shared(name: str) -> int:
        first = context.interventions[name].first
        return sum(t > first for t in context.grid)

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
    return f"reference.{own.statistic}{f'.{own.mask}.{own.digest[:8]}' if own.mask else ''}"


def crosses(context: Context) -> bool:
    """Whether some intervention takes its donor from another seed."""
    done = context.interventions.values()
    return any(isinstance(part, Patch) and part.seed is not None for one in done for part in one.parts)
