"""Prompts as a network is told them: tokens, padded to one length, through frozen text encoders.

All come from the model's own folder, from files that hold no code: tokenizers in JSON, weights in safetensors. How what
several encoders say is put together is the layout's; the pipelines of diffusers do the same.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from flowprofile.errors import ModelError
from flowprofile.models import folders, layouts
from flowprofile.models.libraries import library
from flowprofile.models.stored import Folder


class Told(NamedTuple):
    """What a network is told of a prompt."""

    tokens: Tensor
    """[token feature] float32."""
    pooled: Tensor | None = None
    """[feature] float32: the text as a whole, where the network wants that too."""


def tokens(model: str | Path, prompt: str) -> list[str]:
    """What the tokenizers in a pipeline's folder make of a prompt: one text for each number on the axis `token`.

    Of two CLIPs, whose numbers stand side by side, it is what the first makes of it. T5's stand behind them, and are
    empty texts where the folder has no T5.

    Raises
    ------
    ModelError
        If the folder has no tokenizer, or transformers is not installed.
    """
    found = folders.read(model)
    if "tokenizer" not in found.parts:
        raise ModelError(
            f"{str(model)!r} has no tokenizer.",
            consequence="It is told no prompts.",
            remedy="give the folder of a text-to-image pipeline",
        )
    kind, whole = layouts.layout(found), layouts.tokens(found)
    behind = layouts.LONGEST.get(kind, 0)
    words = _words(found, "tokenizer", prompt, whole - behind) if whole > behind else []
    if not behind:
        return words
    last = layouts.told_by(found)[-1][1]
    # SD 3 without T5 is told zeros in its place.
    known = kind == layouts.FLUX or last == "tokenizer_3"
    return words + (_words(found, last, prompt, behind) if known else [""] * behind)


def encoder(found: Folder) -> Callable[[str], Told]:
    """A function of a prompt to what the network in a folder is told of it.

    Raises
    ------
    ModelError
        If transformers is not installed, or cannot read the folders.
    """
    pairs, kind = layouts.told_by(found), layouts.layout(found)
    encoders = [
        _Encoder(found.parts[text_encoder], found.parts[tokenizer], each)
        for (text_encoder, tokenizer), each in zip(pairs, layouts.ENCODERS[kind], strict=False)
    ]
    together = TOGETHER[kind]

    def encode(prompt: str) -> Told:
        with torch.no_grad():
            return together(found, encoders, prompt)

    return encode


class _Encoder:
    """A tokenizer and the network behind it."""

    def __init__(self, text_encoder: Path, tokenizer: Path, kind: str) -> None:
        self.words = _tokenizer(tokenizer)
        try:
            network = getattr(_library(), kind).from_pretrained(
                text_encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise _unreadable("text encoder", text_encoder, error) from error
        self.network = network.eval().requires_grad_(False)

    def __call__(self, prompt: str, *, length: int, **how: bool) -> Any:
        """What the network says of a prompt of so many tokens."""
        given = self.words(
            prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.network(given.input_ids, **how)


def _one(found: Folder, encoders: list[_Encoder], prompt: str) -> Told:
    """Stable Diffusion 1 and 2: the last layer of one CLIP."""
    return Told(encoders[0](prompt, length=layouts.tokens(found))[0][0])


def _penultimate(encoder: _Encoder, prompt: str, length: int) -> tuple[Tensor, Tensor]:
    """The last layer but one of a CLIP, [token feature], and what it puts out first: its pooled text, if it pools."""
    out = encoder(prompt, length=length, output_hidden_states=True)
    return out.hidden_states[-2][0], out[0][0]


def _side_by_side(found: Folder, encoders: list[_Encoder], prompt: str) -> Told:
    """Stable Diffusion XL: two CLIPs side by side, and the second one's pooled text."""
    (first, _), (second, pooled) = (
        _penultimate(one, prompt, int(one.words.model_max_length)) for one in encoders
    )
    return Told(torch.cat([first, second], dim=-1), pooled)


def _one_after_the_other(found: Folder, encoders: list[_Encoder], prompt: str) -> Told:
    """Stable Diffusion 3: two CLIPs side by side, widened with zeros, and T5, or zeros, after them."""
    clips = [_penultimate(one, prompt, layouts.length(found)) for one in encoders[:2]]
    wide, longest = int(found.config["joint_attention_dim"]), layouts.LONGEST[layouts.SD3]
    first = torch.cat([said for said, _ in clips], dim=-1)
    after = encoders[2](prompt, length=longest)[0][0] if len(encoders) == 3 else torch.zeros(longest, wide)
    both = torch.cat([functional.pad(first, (0, wide - first.shape[-1])), after])
    return Told(both, torch.cat([pooled for _, pooled in clips]))


def _apart(found: Folder, encoders: list[_Encoder], prompt: str) -> Told:
    """FLUX.1: T5's tokens, and CLIP's pooled text."""
    said = encoders[1](prompt, length=layouts.LONGEST[layouts.FLUX])[0][0]
    return Told(said, encoders[0](prompt, length=layouts.length(found)).pooler_output[0])


TOGETHER: Final[Mapping[str, Callable[[Folder, list[_Encoder], str], Told]]] = MappingProxyType({
    layouts.SD: _one, layouts.XL: _side_by_side, layouts.SD3: _one_after_the_other, layouts.FLUX: _apart,
})  # fmt: skip
"""How what the encoders of a layout say is put together."""


def _words(found: Folder, tokenizer: str, prompt: str, length: int) -> list[str]:
    words = _tokenizer(found.parts[tokenizer])
    numbers = words(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return [str(word) for word in words.convert_ids_to_tokens(numbers)]


def _tokenizer(folder: Path) -> Any:
    try:
        return _library().AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unreadable("tokenizer", folder, error) from error


def _library() -> Any:
    found = library("transformers", consequence="Prompts cannot be told to the network.")
    found.utils.logging.disable_progress_bar()
    return found


def _unreadable(what: str, folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The {what} in {folder} cannot be read.",
        consequence="Prompts cannot be told to the network.",
        remedy="copy or download the folder again; text encoders of the CLIP family and T5 are known",
        evidence=f"{type(error).__name__}: {str(error)[:300]}",
    )
