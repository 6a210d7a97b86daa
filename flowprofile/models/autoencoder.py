"""Latents as images and back: the VAE in a model's own folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowprofile.errors import ModelError
from flowprofile.models import folders
from flowprofile.models.devices import CPU
from flowprofile.models.libraries import library
from flowprofile.models.numerics import settle

Coder: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A function of rows [row channel y x], one by one, so that none depends on the others."""


def decoder(path: str | Path, device: str = CPU) -> Coder:
    """A function of latents to images in -1 .. 1, of a pipeline's folder; computed on a device.

    Raises
    ------
    ModelError
        If diffusers is not installed, or the folder has no VAE that it can read.
    """
    vae = _opened(path, device, consequence="Latents cannot be turned into images.")

    def decode(latents: NDArray[np.float32]) -> NDArray[np.float32]:
        given = torch.from_numpy(latents).to(vae.where) * vae.spread / vae.scale + vae.middle
        return _each(given, lambda row: vae.network.decode(row, return_dict=False)[0])

    return decode


def encoder(path: str | Path, device: str = CPU) -> Coder:
    """A function of images in -1 .. 1 to latents as the denoiser knows them: of each distribution its mean.

    A VAE says a normal distribution of latents; its deviation is small beside its mean, and what is drawn from it would
    be noise that no key holds.

    Raises
    ------
    ModelError
        As for `decoder`.
    """
    vae = _opened(path, device, consequence="Pictures cannot be turned into latents.")

    def encode(images: NDArray[np.float32]) -> NDArray[np.float32]:
        found = _each(
            torch.from_numpy(images).to(vae.where),
            lambda row: (
                (vae.network.encode(row, return_dict=False)[0].mode() - vae.middle) * vae.scale / vae.spread
            ),
        )
        return found

    return encode


@dataclass(frozen=True)
class _Opened:
    """A VAE, and how its latents are told to the denoiser: by a shift, or by a mean and a deviation for each channel."""

    network: Any
    where: torch.device
    scale: float
    middle: Any
    spread: Any


def _opened(path: str | Path, device: str, *, consequence: str) -> _Opened:
    folder = folders.decoder(path)
    kind = library("diffusers", consequence=consequence).AutoencoderKL
    where = settle(device)
    try:
        network = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The VAE in {folder} cannot be read.",
            consequence=consequence,
            remedy="copy or download the folder again, or save it with diffusers: pipeline.save_pretrained(folder)",
            evidence=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error
    network.to(where).eval().requires_grad_(False)
    config = network.config
    middle: Any = config.shift_factor or 0.0
    spread: Any = 1.0
    if config.latents_mean is not None and config.latents_std is not None:
        middle, spread = (
            torch.tensor(one).to(where).view(-1, 1, 1) for one in (config.latents_mean, config.latents_std)
        )
    return _Opened(network, where, config.scaling_factor, middle, spread)


def _each(rows: Tensor, function: Callable[[Tensor], Tensor]) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.concatenate([function(row[None]).cpu().numpy() for row in rows])
