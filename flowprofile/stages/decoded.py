"""Latents as images: what a latent model's states look like, as an object of their own."""

from functools import cache
from typing import Any

import numpy as np
import xarray as xr
from pydantic import Field

from flowprofile.axes import CASE, CHANNEL, TIME, X, Y
from flowprofile.definitions import Table
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need, Stage
from flowprofile.kinds import Context, Kind, Request
from flowprofile.models import folders
from flowprofile.stages.promises import Keep, array_promise
from flowprofile.time.steps import generated


class DecodedParams(Table):
    """Parameters of decoded images."""

    keep: Keep = Field(0, description="states to decode: the finished one by default")


@cache
def _decoder(path: str, device: str) -> Any:
    """Loaded once per process."""
    from flowprofile.models.autoencoder import decoder

    return decoder(path, device)


def _decoded(request: Request) -> list[Stage]:
    assert isinstance(request.params, DecodedParams)
    context, path = request.context, request.context.reference
    if path is None:
        raise DefinitionError(
            f"{context.card.name!r} is no folder with a VAE ({request.place}).",
            consequence="Its states are images already.",
            remedy="leave the stage out: the trajectory holds the images",
        )
    channel, y, x = folders.image_shape(path, context.card.shape)

    def compute(block: xr.Dataset) -> xr.Dataset:
        latents = block["x_t"].transpose(CASE, TIME, CHANNEL, Y, X).values.astype(np.float32)
        images = _decoder(path, context.device)(latents.reshape(-1, *latents.shape[2:]))
        images = images.reshape(*latents.shape[:2], channel, y, x)
        return xr.Dataset({"decoded": ((CASE, TIME, CHANNEL, Y, X), images)}, coords={TIME: block[TIME]})

    return [
        Stage(
            name=request.name,
            kind="decoded",
            group=request.name,
            version=2,
            params={"decoder": folders.decoder_digest(path)},
            needs=tuple(Need(need) for need in request.needs),
            times=generated(request.params.keep, context.grid),
            promise=_promise(context, (channel, y, x)),
            compute=compute,
        )
    ]


def _promise(context: Context, shape: tuple[int, int, int]) -> Any:
    channel, y, x = shape
    axes = {CHANNEL: np.arange(channel), Y: np.arange(y), X: np.arange(x)}
    attrs = {"long_name": "state as an image", "units": "pixel value", "pixel_range": [-1.0, 1.0]}
    return array_promise("decoded", (CHANNEL, Y, X), axes, context, attrs=attrs)


KINDS = (
    Kind("decoded", 2, DecodedParams, _decoded, summary="states of a latent model, decoded into images"),
)
