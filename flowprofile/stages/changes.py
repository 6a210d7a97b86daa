"""What an intervention changed inside and outside of a region of the picture (the caveat of the thesis' Fig 5.12)."""

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Kind, Request
from flowprofile.measures.masked import change
from flowprofile.sourcing import needs_chain
from flowprofile.stages.kinship import interventions_to_compare
from flowprofile.stages.masks import MaskValue, fixed_mask
from flowprofile.stages.promises import NULL, STATES, Keep, coords
from flowprofile.store.promise import promise as promised
from flowprofile.time.steps import generated


class ChangeParams(Table):
    """Parameters of the change inside and outside of a mask."""

    mask: MaskValue = Field(description="the region")
    keep: Keep | None = Field(None, description="states to compare; by default the stored ones")


def _change(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, ChangeParams)
    needs_chain(
        context.real,
        "The change of states by an intervention is asked for",
        request.place,
        remedy="compare what the network shows with and without it: predicted_x0, activations",
    )
    interventions_to_compare(context, place=request.place)
    why = "Inside and outside are the same two sets of pixels for every sample."
    mask = fixed_mask(params.mask, context, place=request.place, why=why)
    chosen = mask.array
    assert chosen is not None
    if chosen.all():
        raise DefinitionError(
            f"The mask {mask.name!r} is the whole image ({request.place}).",
            consequence="There is no outside that the change could be compared with.",
            remedy='leave some pixels out, or use "l1" with between = "clean" for the change of the whole image',
        )
    stored = context.built[STATES].times
    times = stored if params.keep is None else generated(params.keep, context.grid)
    attrs = {
        "long_name": "mean absolute change by the intervention",
        "units": "pixel value",
        "mask_name": mask.name,
    }

    def compute(block: xr.Dataset, twin: xr.Dataset) -> xr.Dataset:
        one, other = (each["x_t"].transpose(CASE, TIME, CHANNEL, Y, X).values for each in (block, twin))
        found = change(one, other, chosen)
        values = {"inside": found.inside, "outside": found.outside}
        return xr.Dataset(
            {key: ((CASE, TIME), value.astype(np.float32)) for key, value in values.items()},
            coords={TIME: block[TIME]},
        )

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        both = dict.fromkeys(("inside", "outside"), ((TIME,), "float32"))
        return promised(both, coords(times, context), variable_attrs=dict.fromkeys(both, attrs))

    def stage(name: str, chain: str) -> Stage:
        return Stage(
            name=name,
            kind="change",
            group=f"measures/{name}",
            version=1,
            params={"mask": mask.digest},
            needs=(Need(chain), Need(chain, "twin")),
            times=times,
            promise=promise,
            compute=compute,
            scope="changed",
            attrs=attrs,
        )

    return [stage(request.name, STATES), stage(f"{request.name}.null", NULL)]


KINDS = (
    Kind(
        "change",
        1,
        ChangeParams,
        _change,
        summary="what an intervention changed inside and outside of a mask",
    ),
)
