"""What interventions refer to: each sample's own strongest channel, as a stage of the clean runs.

A reference is resolved before the run that needs it begins, from results that are stored like all others, so what it
turned out to be can be looked up beside what it did.
"""

from dataclasses import replace

from flowprofile.conditioning.interventions import Ablation, OwnChannel
from flowprofile.definitions import Text
from flowprofile.flow.stage import Stage
from flowprofile.kinds import Context, Request
from flowprofile.objects.masks import Mask
from flowprofile.stages.gradients import GradientChannelParams, gradient_channel
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
        ordered = tuple(site for site in context.sites if site in layers)
        states = tuple(t for t in context.grid if t in times)
        *before, made = (_pulling if own.of == "gradient" else _active)(
            own, name, ordered, states, context, place
        )
        # What it is worked out from may be asked of other runs as well.
        stages += [*before, replace(made, scope="clean")]
    return stages


def _active(
    own: OwnChannel, name: str, layers: tuple[str, ...], times: tuple[int, ...], context: Context, place: str
) -> list[Stage]:
    """The strongest channels of activations."""
    params = MaxChannelParams(layers=list(layers), statistic=own.statistic, mask=_mask(own, context))
    return [strongest(Request(name, (), params, context, place), layers, params, name=name, times=times)]


def _pulling(
    own: OwnChannel, name: str, layers: tuple[str, ...], times: tuple[int, ...], context: Context, place: str
) -> list[Stage]:
    """The strongest channels of gradients."""
    params = GradientChannelParams(
        layers=list(layers), statistic=own.statistic, mask=_mask(own, context), keep=list(times)
    )
    return gradient_channel(Request(name, (), params, context, place))


def _mask(own: OwnChannel, context: Context) -> Mask | str | None:
    """The mask that the definition gave; the region of that name for a value that was made in Python."""
    return None if own.mask is None else context.masks.get(own.mask, own.mask)
