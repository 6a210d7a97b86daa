"""Prompts as a network is told them: tokens, padded to one length, through a frozen text encoder.

Both come from the model's own folder, from files that hold no code: a tokenizer in JSON, weights in safetensors.
"""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowprofile.errors import ModelError
from flowprofile.models import folders


def tokens(model: str | Path, prompt: str) -> list[str]:
    """What the tokenizer in a pipeline's folder makes of a prompt: one text for each number on the axis `token`.

    Raises
    ------
    ModelError
        If the folder has no tokenizer, or transformers is not installed.
    """
    parts = folders.read(model).parts
    if "tokenizer" not in parts:
        raise ModelError(
            f"{str(model)!r} has no tokenizer.",
            consequence="It is told no prompts.",
            remedy="give the folder of a text-to-image pipeline",
        )
    words, length = _tokenizer(parts["tokenizer"]), folders.tokens(folders.read(model))
    numbers = words(prompt, padding="max_length", max_length=length, truncation=True).input_ids
    return [str(word) for word in words.convert_ids_to_tokens(numbers)]


def encoder(text_encoder: Path, tokenizer: Path) -> Callable[[str], Tensor]:
    """A function of a prompt to [token feature] float32, of the folders of encoder and tokenizer.

    Raises
    ------
    ModelError
        If transformers is not installed, or cannot read the folders.
    """
    words = _tokenizer(tokenizer)
    try:
        network = _library().CLIPTextModel.from_pretrained(
            text_encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unreadable("text encoder", text_encoder, error) from error
    network.eval().requires_grad_(False)
    length = network.config.max_position_embeddings

    def encode(prompt: str) -> Tensor:
        given = words(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            out: Tensor = network(given.input_ids)[0][0]
        return out

    return encode


def _tokenizer(folder: Path) -> Any:
    try:
        return _library().AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unreadable("tokenizer", folder, error) from error


def _library() -> Any:
    try:
        library: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            "transformers is not installed.",
            consequence="Prompts cannot be told to the network.",
            remedy='pip install "flowprofile[diffusers]"',
            evidence=str(error),
        ) from error
    library.utils.logging.disable_progress_bar()
    return library


def _unreadable(what: str, folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"The {what} in {folder} cannot be read.",
        consequence="Prompts cannot be told to the network.",
        remedy="copy or download the folder again; text encoders of the CLIP family are known",
        evidence=f"{type(error).__name__}: {str(error)[:300]}",
    )
