"""Text-to-image pipelines: which parts tell a network its prompt, and whether they fit it, from configurations alone.

A layout is a class of network and the encoders that it was trained with. What two encoders say is put side by side or
one after the other, so a part that is missing, of another class or of another width is found here, by the name of its
file, and not in the middle of a matrix product.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError
from flowprofile.models.stored import Folder, contents, present

LATENTS: Final = (-4.0, 4.0)
"""Range of a latent's values: they are scaled to a variance of about one."""
NOTHING: Final = -2
"""The label that means zeros in place of a text's numbers: how SDXL was trained to be told no prompt."""
SD, XL, SD3, FLUX = "stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux"
_CLIP, _POOLING, _T5 = "CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel"
ENCODERS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {SD: (_CLIP,), XL: (_CLIP, _POOLING), SD3: (_POOLING, _POOLING, _T5), FLUX: (_CLIP, _T5)}
)
"""Classes of a layout's text encoders, in order; the tokenizer of each has its number too."""
LONGEST: Final[Mapping[str, int]] = MappingProxyType({SD3: 256, FLUX: 512})
"""Tokens of T5's part of a prompt, as the pipelines have it by default."""

EMBEDDED: Final = 3.5
"""What FLUX.1 dev is told of the scale of guidance, unless a sampler says otherwise."""
FLOWING: Final = frozenset({"SD3Transformer2DModel", "FluxTransformer2DModel"})
"""Classes of networks that are trained by flow matching only."""


def layout(found: Folder) -> str:
    """The layout of a network that is told a text."""
    if found.kind == "UNet2DConditionModel":
        return XL if found.config.get("addition_embed_type") == "text_time" else SD
    return SD3 if found.kind == "SD3Transformer2DModel" else FLUX


def told_by(found: Folder) -> tuple[tuple[str, str], ...]:
    """Names of the parts (text encoder, tokenizer) that a prompt goes through; T5 may be left out of SD 3.

    Raises
    ------
    ModelError
        For a part that is missing or of another class.
    """
    pairs = []
    for number, kind in enumerate(ENCODERS[layout(found)], start=1):
        behind = "" if number == 1 else f"_{number}"
        pair = f"text_encoder{behind}", f"tokenizer{behind}"
        if layout(found) == SD3 and kind == _T5 and all(_left_out(found, name) for name in pair):
            continue
        for name in pair:
            _must_be_there(found, name)
        if layout(found) != SD:
            _is_a(kind, found, pair[0])
        pairs.append(pair)
    return tuple(pairs)


def tokens(found: Folder) -> int:
    """How many tokens a prompt is told as."""
    kind = layout(found)
    if kind == SD:
        return int(contents(found.parts["text_encoder"] / "config.json")["max_position_embeddings"])
    return LONGEST.get(kind, 0) + (length(found) if kind != FLUX else 0)


def length(found: Folder) -> int:
    """Tokens of CLIP's part of a prompt, as the first tokenizer says."""
    file = present(found.parts["tokenizer"] / "tokenizer_config.json", "how long a prompt may be")
    return int(contents(file)["model_max_length"])


def times_smaller(found: Folder) -> int:
    """How many times smaller a latent's sides are than its image's; 8 without a VAE, as in the pipelines."""
    if "vae" not in found.parts:
        return 8
    config = contents(present(found.parts["vae"] / "config.json", "the VAE's configuration"))
    return 1 << (len(config["block_out_channels"]) - 1)


def sd(found: Folder) -> dict[str, Any]:
    """What a card says of a U-Net that is told texts: Stable Diffusion 1, 2 or XL."""
    told_by(found)
    config, extra = found.config, found.config.get("addition_embed_type")
    asked = {
        "addition_embed_type": extra is not None and extra != "text_time",
        "time_cond_proj_dim": config.get("time_cond_proj_dim") is not None,
        "in_channels": config["in_channels"] != config["out_channels"],
    }
    _wants_no_more(found, asked)
    facts = _latents(config["in_channels"], config["sample_size"])
    if layout(found) == SD:
        return facts
    wide = _width(found, "text_encoder", "hidden_size") + _width(found, "text_encoder_2", "hidden_size")
    _fits(found, "text_encoder_2", wide, "cross_attention_dim", int(config["cross_attention_dim"]))
    sizes = 6 * int(config["addition_time_embed_dim"])
    pooled = int(config["projection_class_embeddings_input_dim"]) - sizes
    _fits(found, "text_encoder_2", _width(found, "text_encoder_2", "projection_dim"),
          "projection_class_embeddings_input_dim less that of the image's sizes", pooled)  # fmt: skip
    zeros = bool(found.index.get("force_zeros_for_empty_prompt", True))
    return {**facts, **({"null_label": NOTHING} if zeros else {})}


def sd3(found: Folder) -> dict[str, Any]:
    """What a card says of Stable Diffusion 3: texts of two CLIPs side by side, zeros behind them, and T5 after."""
    pairs, config = told_by(found), found.config
    _wants_no_more(found, {"in_channels": config.get("out_channels") not in (None, config["in_channels"])})
    clips = [name for name, _ in pairs[:2]]
    joint = int(config["joint_attention_dim"])
    wide = sum(_width(found, name, "hidden_size") for name in clips)
    if wide > joint:
        _fits(found, clips[1], wide, "joint_attention_dim", joint)
    pooled = sum(_width(found, name, "projection_dim") for name in clips)
    _fits(found, clips[1], pooled, "pooled_projection_dim", int(config["pooled_projection_dim"]))
    if len(pairs) == 3:
        _fits(found, pairs[2][0], _width(found, pairs[2][0], "d_model"), "joint_attention_dim", joint)
    return _latents(config["in_channels"], config["sample_size"])


def flux(found: Folder) -> dict[str, Any]:
    """What a card says of FLUX.1: T5's tokens, CLIP's sum of a text, and 2 x 2 latents in one token.

    Its configuration says no size: it is that of the images of the VAE, and 128 latents without one.
    """
    told_by(found)
    config = found.config
    _wants_no_more(found, {"in_channels": config.get("out_channels") not in (None, config["in_channels"])})
    _fits(found, "text_encoder_2", _width(found, "text_encoder_2", "d_model"),
          "joint_attention_dim", int(config["joint_attention_dim"]))  # fmt: skip
    _fits(found, "text_encoder", _width(found, "text_encoder", "hidden_size"),
          "pooled_projection_dim", int(config["pooled_projection_dim"]))  # fmt: skip
    side = 128
    if "vae" in found.parts:
        side = int(contents(found.parts["vae"] / "config.json")["sample_size"]) // times_smaller(found)
    return _latents(int(config["in_channels"]) // 4, side)


FACTS: Final[Mapping[str, Callable[[Folder], dict[str, Any]]]] = MappingProxyType(
    {"UNet2DConditionModel": sd, "SD3Transformer2DModel": sd3, "FluxTransformer2DModel": flux}
)
"""Classes of networks that are told a text, and what of a card follows from their configurations."""


def _latents(channels: Any, side: Any) -> dict[str, Any]:
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return {
        "shape": (int(channels), int(height), int(width)),
        "labels": LabelSpace(prompts=True),
        "pixel_range": LATENTS,
    }


def _left_out(found: Folder, name: str) -> bool:
    """Whether the pipeline itself says that it has no such part."""
    return name not in found.parts and found.index.get(name, [None, None]) == [None, None]


def _must_be_there(found: Folder, name: str) -> None:
    if name in found.parts:
        return
    raise ModelError(
        f"There is no {found.path / name}: prompts cannot be told to the network.",
        consequence="A text-conditioned network computes nothing without a text.",
        remedy="give the folder of the whole pipeline, not that of its denoiser; copy or download the part",
    )


def _is_a(kind: str, found: Folder, name: str) -> None:
    file = present(found.parts[name] / "config.json", "the text encoder's configuration")
    classes = contents(file).get("architectures") or ["class without a name"]
    if kind not in classes:
        raise ModelError(
            f"{file} is of a {classes[0]!r}, where a {found.kind} is told its prompts by a {kind}.",
            consequence="The network would be told other numbers than it was trained with.",
            remedy="copy or download the part again, or save the pipeline with diffusers: pipeline.save_pretrained(folder)",
        )


def _width(found: Folder, name: str, what: str) -> int:
    return int(contents(found.parts[name] / "config.json")[what])


def _fits(found: Folder, name: str, told: int, what: str, wanted: int) -> None:
    """Refuse encoders whose numbers the network has no place for."""
    if told == wanted:
        return
    raise ModelError(
        f"Up to {found.parts[name] / 'config.json'} a prompt is {told} numbers wide, and"
        f" {found.denoiser / 'config.json'} says {what} = {wanted}.",
        consequence="What the encoders say does not fit the network.",
        remedy="take all parts from the same folder, or save it again with diffusers",
    )


def _wants_no_more(found: Folder, asked: Mapping[str, bool]) -> None:
    """Refuse a network that is to be told more than a state, a time and a prompt."""
    which = next((name for name, more in asked.items() if more), None)
    if which is None:
        return
    raise ModelError(
        f"{found.denoiser / 'config.json'} says {which} = {found.config[which]!r}.",
        consequence="The network wants more than a state and a prompt (an image, a mask, a scale of guidance).",
        remedy="use a text-to-image model of Stable Diffusion 1, 2, XL or 3, or FLUX.1, or wrap the network yourself:"
        " flowprofile.denoiser",
    )
