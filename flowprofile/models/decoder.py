"""Latents as images: the second half of a VAE, from a model's own folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowprofile.errors import ModelError
from flowprofile.models import folders
from flowprofile.models.devices import CPU
from flowprofile.models.libraries import library
from flowprofile.models.numerics import settle


def decoder(path: str | Path, device: str = CPU) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function of latents [row channel y x] to images in -1 .. 1, of a pipeline's folder; computed on a device.

    Rows are decoded one by one, so that an image does not depend on the others.

    Raises
    ------
    ModelError
        If diffusers is not installed, or the folder has no VAE that it can read.
    """
    folder = folders.decoder(path)
    kind = library("diffusers", consequence="Latents cannot be turned into images.").AutoencoderKL
    where = settle(device)
    try:
        vae = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The VAE in {folder} cannot be read.",
            consequence="Latents cannot be turned into images.",
            remedy="copy or download the folder again, or save it with diffusers: pipeline.save_pretrained(folder)",
            evidence=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error
    vae.to(where).eval().requires_grad_(False)
    # Latents are told from noise by one shift, or, in some of XL's, by a mean and a deviation for each channel.
    middle: Any = vae.config.shift_factor or 0.0
    spread: Any = 1.0
    if vae.config.latents_mean is not None and vae.config.latents_std is not None:
        middle, spread = (
            torch.tensor(one).to(where).view(-1, 1, 1)
            for one in (vae.config.latents_mean, vae.config.latents_std)
        )

    def decode(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(latents).to(where) * spread / vae.config.scaling_factor + middle
        with torch.no_grad():
            return np.concatenate(
                [vae.decode(row[None], return_dict=False)[0].cpu().numpy() for row in given]
            )

    return decode
