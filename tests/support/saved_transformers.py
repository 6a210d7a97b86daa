"""Small pipelines of the newer text-to-image layouts, with weights of chance, saved as diffusers saves real ones."""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import saved_folders
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)


def clip(words: Any, *, seed: int, hidden: int, projection: int | None = None) -> Any:
    """A text encoder for 16 tokens; with a projection of what it pools, if one is given."""
    torch.manual_seed(seed)
    end = words.convert_tokens_to_ids("<|endoftext|>")
    config = CLIPTextConfig(
        vocab_size=len(words), hidden_size=hidden, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=16, eos_token_id=end, pad_token_id=end, initializer_range=0.5,
        bos_token_id=words.convert_tokens_to_ids("<|startoftext|>"), projection_dim=projection or 64,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def t5(*, wide: int) -> tuple[T5EncoderModel, T5Tokenizer]:
    """An encoder of one layer, and a tokenizer that knows letters and two words."""
    torch.manual_seed(9)
    known = ["▁", "▁cat", "▁dog", *"abcdefghijklmnopqrstuvwxyz,."]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    words = T5Tokenizer(vocab=[*special, *((word, -1.0) for word in known)], extra_ids=0)
    network = T5EncoderModel(
        T5Config(vocab_size=len(words), d_model=wide, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return network.eval(), words


def vae(channels: int, **changes: Any) -> AutoencoderKL:
    """Of images twice as high and wide as their latents."""
    torch.manual_seed(8)
    return AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=channels,
        norm_num_groups=8, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16, **changes,
    ).eval()  # fmt: skip


def stirred(network: Any) -> Any:
    """Every weight so large that blocks which begin as the identity do something."""
    torch.manual_seed(7)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.15)
    return network.eval()


def sd3(vocabulary: Path, *, third: bool = True, **changes: Any) -> StableDiffusion3Pipeline:
    """Two joint blocks for 4 x 8 x 8 latents, 16 picture tokens and 16 + 256 of a text; T5 may be left out."""
    words = saved_folders._words(vocabulary)
    encoder, tokenizer = t5(wide=80) if third else (None, None)
    network = SD3Transformer2DModel(**{
        "sample_size": 8, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 2, "attention_head_dim": 8,
        "num_attention_heads": 2, "joint_attention_dim": 80, "caption_projection_dim": 16, "pooled_projection_dim": 40,
        "pos_embed_max_size": 8, **changes,
    })  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=stirred(network), scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(4, shift_factor=0.0609, scaling_factor=1.5305), tokenizer=words, tokenizer_2=words,
        text_encoder=clip(words, seed=3, hidden=32, projection=24),
        text_encoder_2=clip(words, seed=4, hidden=32, projection=16), text_encoder_3=encoder, tokenizer_3=tokenizer,
    )  # fmt: skip


def xl(vocabulary: Path, **changes: Any) -> StableDiffusionXLPipeline:
    """A U-Net for 4 x 8 x 8 latents that is told the texts of two encoders and the sizes of its image."""
    words = saved_folders._words(vocabulary)
    torch.manual_seed(5)
    unet = UNet2DConditionModel(**{
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "cross_attention_dim": 48,
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 8, "norm_num_groups": 8,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True,
        "projection_class_embeddings_input_dim": 6 * 8 + 24, **changes,
    })  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=vae(4), text_encoder=clip(words, seed=3, hidden=32), tokenizer=words, tokenizer_2=words, unet=unet.eval(),
        text_encoder_2=clip(words, seed=4, hidden=16, projection=24), add_watermarker=False,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
    )  # fmt: skip


def flux(vocabulary: Path, *, guidance: bool = True, **changes: Any) -> FluxPipeline:
    """One joint block and one of a single stream, for 4 x 8 x 8 latents: 16 picture tokens and 512 of a text."""
    words = saved_folders._words(vocabulary)
    encoder, tokenizer = t5(wide=40)
    network = FluxTransformer2DModel(**{
        "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
        "joint_attention_dim": 40, "pooled_projection_dim": 32, "guidance_embeds": guidance, "axes_dims_rope": (2, 2, 4),
        **changes,
    })  # fmt: skip
    return FluxPipeline(
        transformer=stirred(network),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if guidance else 1.0, use_dynamic_shifting=guidance),
        vae=vae(4, shift_factor=0.1159, scaling_factor=0.3611), tokenizer=words, tokenizer_2=tokenizer,
        text_encoder=clip(words, seed=3, hidden=32), text_encoder_2=encoder,
    )  # fmt: skip


MAKE = {"sd3": sd3, "xl": xl, "flux": flux}


@cache
def folder(family: str, **changes: Any) -> Path:
    """A folder that tests read and none changes."""
    into = Path(mkdtemp(prefix="saved-"))
    MAKE[family](into / "vocabulary", **changes).save_pretrained(into / family)
    return into / family
