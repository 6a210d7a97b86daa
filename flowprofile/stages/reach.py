"""How far a pixel is pulled from, read off gradient volumes: radius of influence and radii of mass.

A fixed threshold says the opposite of what happens: for an exact Gaussian denoiser it grows towards the image while
the true reach shrinks. These numbers are of the off-diagonal part and do not depend on a row's scale. With `gaussian`
the same numbers of such a denoiser stand beside them: what images of that smoothness alone would give.
"""

from typing import Any, Literal

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, PIXEL, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.measures import influence, nulls
from flowprofile.stages.promises import coords
from flowprofile.stages.splitting import Split, stages_of
from flowprofile.store.promise import promise as promised

SHARES = (0.5, 0.9)


class Gaussian(Table):
    """Gaussian images, whose exact denoiser is the null of a reach."""

    sd: float = Field(
        gt=0,
        le=1e6,
        allow_inf_nan=False,
        description="standard deviation of a pixel over images, in units of pixels' values",
    )
    length_scale: float = Field(
        gt=0, allow_inf_nan=False, description="distance in pixels over which images vary"
    )
    correlation: nulls.Correlation = Field(
        "exponential", description="exponential for images with edges, rbf for smooth ones"
    )


class InfluenceParams(Table):
    """Parameters of the radius of influence."""

    weight: Literal["squared", "absolute"] = Field("squared", description="what a gradient counts for")
    threshold: bool = Field(
        False,
        description="also the thesis' count of pixels above their row's mean + 0.001, which measures no reach",
    )
    gaussian: Gaussian | None = Field(
        None, description="also the same of an exact Gaussian denoiser: { sd, length_scale, correlation }"
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

    first = request.context.built[request.needs[0]]

    def compute(block: xr.Dataset) -> xr.Dataset:
        values = block["gradient"].transpose(CASE, TIME, PIXEL, Y, X).values
        plain = _read(values, places, params)
        if params.gaussian is not None:
            rows = [
                _gaussian(context, first, params.gaussian, places, t) for t in block[TIME].values.tolist()
            ]
            alone = _read(np.stack(rows)[None], places, params)
            plain |= {
                f"{key}_gaussian": np.broadcast_to(value, (len(values), *value.shape[1:]))
                for key, value in alone.items()
            }
        return xr.Dataset(
            {key: ((CASE, TIME, PIXEL), value) for key, value in plain.items()},
            coords={TIME: block[TIME]},
        )

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        told = dict.fromkeys(("radius", *(f"radius_{int(100 * share)}" for share in SHARES)), attrs)
        if params.threshold:
            told["above_mean"] = {"long_name": "pixels above their row's mean + 0.001", "units": "1"}
        if params.gaussian is not None:
            told |= {
                f"{name}_gaussian": {**one, "long_name": f"{one['long_name']}, of an exact Gaussian denoiser"}
                for name, one in told.items()
            }
        variables = {
            name: ((TIME, PIXEL), "int64" if name.startswith("above") else "float32") for name in told
        }
        return promised(variables, coords(times, context) | axes, variable_attrs=told)

    return Stage(
        name=name,
        kind="influence",
        group=f"measures/{request.name}",
        version=1,
        params={
            "weight": params.weight,
            **({"threshold": True} if params.threshold else {}),
            **({} if params.gaussian is None else {"gaussian": params.gaussian.model_dump(mode="json")}),
        },
        needs=(Need(f"{request.needs[0]}{suffix}"),),
        times=first.times,
        promise=promise,
        compute=compute,
        attrs={**attrs, "join": {"axis": PIXEL, "of": context.splits[request.name].of}},
    )


def _read(rows: np.ndarray, places: np.ndarray, params: InfluenceParams) -> dict[str, np.ndarray]:
    """What is read off rows[case time pixel y x], each [case time pixel]."""
    found = {"radius": influence.radius(rows, places, weight=params.weight)}
    radii = influence.mass_radii(rows, places, shares=SHARES, weight=params.weight)
    found |= {f"radius_{int(100 * share)}": radii[..., at] for at, share in enumerate(SHARES)}
    plain = {key: value.astype(np.float32) for key, value in found.items()}
    return plain | ({"above_mean": influence.thesis_count(rows)} if params.threshold else {})


def _gaussian(context: Context, volume: Stage, gaussian: Gaussian, places: np.ndarray, t: int) -> np.ndarray:
    """The rows [pixel y x] that an exact Gaussian denoiser would give the volume in the step into t."""
    colours, height, width = context.card.shape
    before = context.before(t)
    c_x, c_eps = context.factors(before, t)
    rows = nulls.gaussian_rows(
        places,
        (height, width),
        length_scale=gaussian.length_scale,
        sd=gaussian.sd,
        alpha_bar=context.schedule.alpha_bar(before),
        factors=(c_x if volume.params["identity"] else 0.0, c_eps),
        correlation=gaussian.correlation,
    )
    # Colours are independent: a pixel's sum over them has this one row in each colour of the input.
    reduced: dict[str, np.ndarray] = {
        "sum": colours * rows,
        "abs": colours * np.abs(rows),
        "l2": np.sqrt(colours) * np.abs(rows),
    }
    return reduced[volume.params["reduce"]]


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
