"""Small models with weights of chance, saved as diffusers saves real ones."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, DiTTransformer2DModel, UNet2DModel


def unet(**changes: Any) -> UNet2DModel:
    """A U-Net of two levels with attention in the second, for 16 x 16 pixels and four classes."""
    torch.manual_seed(0)
    return UNet2DModel(**{
        "sample_size": 16, "in_channels": 3, "out_channels": 3, "layers_per_block": 1, "norm_num_groups": 8,
        "block_out_channels": (16, 32), "attention_head_dim": 8, "num_class_embeds": 4,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        **changes,
    }).eval()  # fmt: skip


def dit(**changes: Any) -> DiTTransformer2DModel:
    """A transformer of two blocks, for 4 x 8 x 8 latents and ten classes, which also predicts a variance."""
    torch.manual_seed(1)
    network = DiTTransformer2DModel(**{
        "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 2,
        "sample_size": 8, "patch_size": 2, "num_embeds_ada_norm": 10, **changes,
    }).eval()  # fmt: skip
    # Blocks begin as the identity; a trained one does something.
    for name, weight in network.named_parameters():
        if "norm1.linear" in name or "proj_out" in name:
            torch.nn.init.normal_(weight, std=0.2)
    return network


def save_unet(folder: Path, scheduler: Any = None, **changes: Any) -> Path:
    """The folder of a whole pipeline."""
    DDPMPipeline(unet(**changes), scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def save_dit(folder: Path, scheduler: Any = None, **changes: Any) -> Path:
    """A denoiser's own folder, with its scheduler beside it."""
    dit(**changes).save_pretrained(folder)
    (scheduler or DDIMScheduler()).save_pretrained(folder)
    return folder


@cache
def folder(family: str) -> Path:
    """A folder that tests read and none changes."""
    save = {"UNet2DModel": save_unet, "DiTTransformer2DModel": save_dit}[family]
    return save(Path(mkdtemp(prefix="saved-")) / family)
