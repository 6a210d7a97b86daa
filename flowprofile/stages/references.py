"""What interventions refer to: each sample's own strongest channel, as a stage of the clean runs.

A reference is resolved before the run that needs it begins, from results that are stored like all others, so what it
turned out to be can be looked up beside what it did.
"""

from dataclasses import replace

from flowprofile.conditioning.interventions import Ablation, OwnChannel
from flowprofile.definitions import Text
from flowprofile.flow.stage import Stage
from flowprofile.kinds import Context, Request
from flowprofile.stages.inside import MaxChannelParams, strongest
from flowprofile.stages.kinship import reference


def references(context: Context, text: Text) -> list[Stage]:
    """One stage per statistic and mask, with every layer and state that some intervention refers to."""
    wanted: dict[str, tuple[OwnChannel, set[str], set[int]]] = {}
    for intervention in context.interventions.values():
        for part in intervention.reads:
            if isinstance(part, Ablation) and isinstance(part.channels, OwnChannel):
                own = part.channels
                _, layers, times = wanted.setdefault(reference(own), (own, set(), set()))
                layers.add(part.layer)
                times.add(own.time)
    place = text.place(["interventions"])
    stages = []
    for name, (own, layers, times) in wanted.items():
        params = MaxChannelParams(layers=list(layers), statistic=own.statistic, mask=own.mask)
        request = Request(name, (), params, context, place)
        ordered = tuple(site for site in context.sites if site in layers)
        made = strongest(
            request, ordered, params, name=name, times=tuple(t for t in context.grid if t in times)
        )
        stages.append(replace(made, scope="clean"))
    return stages
