"""Small models with weights of chance, saved as diffusers saves real ones."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTTransformer2DModel,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer


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


def stable_diffusion(vocabulary: Path, *, scheduler: Any = None, **changes: Any) -> StableDiffusionPipeline:
    """A whole text-to-image pipeline of the Stable Diffusion 1 layout, for 4 x 8 x 8 latents and 16 tokens."""
    words = _words(vocabulary)
    torch.manual_seed(2)
    end = words.convert_tokens_to_ids("<|endoftext|>")
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, eos_token_id=end, pad_token_id=end, initializer_range=0.5,
        bos_token_id=words.convert_tokens_to_ids("<|startoftext|>"),
    ))  # fmt: skip
    unet = UNet2DConditionModel(**{
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 32,
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 8, "norm_num_groups": 8, **changes,
    })  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4, norm_num_groups=8,
        up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae.eval(), text_encoder=text_encoder.eval(), tokenizer=words, unet=unet.eval(), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
        scheduler=scheduler or PNDMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True, steps_offset=1
        ),
    )  # fmt: skip


def _words(folder: Path) -> CLIPTokenizer:
    """A tokenizer that knows letters and two words."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "abcdefghijklmnopqrstuvwxyz,."
    known = [*letters, *(f"{letter}</w>" for letter in letters)]
    known += ["ca", "cat</w>", "do", "dog</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({text: number for number, text in enumerate(known)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\nd o\ndo g</w>\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16)


def save_stable_diffusion(folder: Path, **changes: Any) -> Path:
    """The folder of a whole pipeline."""
    stable_diffusion(folder.parent / "vocabulary", **changes).save_pretrained(folder)
    return folder


@cache
def folder(family: str) -> Path:
    """A folder that tests read and none changes."""
    save = {
        "UNet2DModel": save_unet,
        "DiTTransformer2DModel": save_dit,
        "UNet2DConditionModel": save_stable_diffusion,
    }[family]
    return save(Path(mkdtemp(prefix="saved-")) / family)
