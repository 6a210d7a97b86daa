"""How far a pixel is pulled from, read off gradient volumes: radius of influence and radii of mass.

A fixed threshold says the opposite of what happens: for an exact Gaussian denoiser it grows towards the image while
the true reach shrinks. These numbers are of the off-diagonal part and do not depend on a row's scale.
"""

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, PIXEL, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Kind, Request
from flowprofile.measures import influence
from flowprofile.stages.promises import coords
from flowprofile.stages.splitting import Split, stages_of
from flowprofile.store.promise import promise as promised

SHARES = (0.5, 0.9)


class InfluenceParams(Table):
    """Parameters of the radius of influence."""

    weight: Literal["squared", "absolute"] = Field("squared", description="what a gradient counts for")
    threshold: bool = Field(
        False,
        description="also the thesis' count of pixels above their row's mean + 0.001, which measures no reach",
    )


def _influence(request: Request) -> list[Stage]:
    params, context = request.params, request.context
    assert isinstance(params, InfluenceParams)
    volume, first = context.splits.get(request.needs[0]), context.built.get(request.needs[0])
    if volume is None or first is None or first.kind != "gradient_volume":
        raise DefinitionError(
            f"{request.needs[0]!r} is no gradient volume ({request.place}).",
            consequence="A radius of influence is read off the rows of one.",
            remedy='add a stage of kind "gradient_volume" that stores [pixel y x], and name it in `needs`',
        )
    if first.params["reduce"] == "none":
        raise DefinitionError(
            f"The rows of {request.needs[0]!r} keep the input's colour channels apart ({request.place}).",
            consequence="A reach is read off one picture per pixel, [pixel y x].",
            remedy=f'let [stages.{request.needs[0]}] have reduce = "sum", "abs" or "l2"',
        )
    split = Split(
        f"measures/{request.name}",
        volume.of,
        volume.wanted,
        lambda suffix, rows: _radii(request, params, rows, name=f"{request.name}{suffix}", suffix=suffix),
    )
    context.splits[request.name] = split
    return stages_of(split, ())


def _radii(
    request: Request, params: InfluenceParams, rows: tuple[int, ...], *, name: str, suffix: str
) -> Stage:
    context = request.context
    width = context.card.shape[2]
    numbered = np.array(rows, dtype=np.int64)
    places = np.stack([numbered // width, numbered % width], axis=1)
    attrs = {"long_name": "radius of influence, off-diagonal", "units": "pixel", "weight": params.weight}
    axes: dict[str, Any] = {
        PIXEL: numbered,
        "pixel_y": (PIXEL, places[:, 0]),
        "pixel_x": (PIXEL, places[:, 1]),
    }

    def compute(block: xr.Dataset) -> xr.Dataset:
        values = block["gradient"].transpose(CASE, TIME, PIXEL, Y, X).values
        found = {"radius": influence.radius(values, places, weight=params.weight)}
        radii = influence.mass_radii(values, places, shares=SHARES, weight=params.weight)
        found |= {f"radius_{int(100 * share)}": radii[..., at] for at, share in enumerate(SHARES)}
        plain: dict[str, np.ndarray] = {key: value.astype(np.float32) for key, value in found.items()}
        if params.threshold:
            plain["above_mean"] = influence.thesis_count(values)
        return xr.Dataset(
            {key: ((CASE, TIME, PIXEL), value) for key, value in plain.items()},
            coords={TIME: block[TIME]},
        )

    first = request.context.built[request.needs[0]]
    names = ("radius", *(f"radius_{int(100 * share)}" for share in SHARES))

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        variables = dict.fromkeys(names, ((TIME, PIXEL), "float32"))
        told = dict.fromkeys(names, attrs)
        if params.threshold:
            variables["above_mean"] = ((TIME, PIXEL), "int64")
            told["above_mean"] = {"long_name": "pixels above their row's mean + 0.001", "units": "1"}
        return promised(variables, coords(times, context) | axes, variable_attrs=told)

    return Stage(
        name=name,
        kind="influence",
        group=f"measures/{request.name}",
        version=1,
        params={"weight": params.weight, **({"threshold": True} if params.threshold else {})},
        needs=(Need(f"{request.needs[0]}{suffix}"),),
        times=first.times,
        promise=promise,
        compute=compute,
        attrs={**attrs, "join": {"axis": PIXEL, "of": context.splits[request.name].of}},
    )


KINDS = (
    Kind(
        "influence",
        1,
        InfluenceParams,
        _influence,
        needs=("volume",),
        elsewhere=True,
        summary="radius of influence of the pixels of a gradient volume",
    ),
)
