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


def encoder(text_encoder: Path, tokenizer: Path) -> Callable[[str], Tensor]:
    """A function of a prompt to [token feature] float32, of the folders of encoder and tokenizer.

    Raises
    ------
    ModelError
        If transformers is not installed, or cannot read the folders.
    """
    try:
        library: Any = importlib.import_module("transformers")
        library.utils.logging.disable_progress_bar()
    except ImportError as error:
        raise ModelError(
            "transformers is not installed.",
            consequence="Prompts cannot be told to the network.",
            remedy='pip install "flowprofile[diffusers]"',
            evidence=str(error),
        ) from error
    try:
        words = library.AutoTokenizer.from_pretrained(
            tokenizer, local_files_only=True, trust_remote_code=False
        )
        network = library.CLIPTextModel.from_pretrained(
            text_encoder, local_files_only=True, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"The text encoder in {text_encoder.parent} cannot be read.",
            consequence="Prompts cannot be told to the network.",
            remedy="copy or download the folder again; text encoders of the CLIP family are known",
            evidence=f"{type(error).__name__}: {str(error)[:300]}",
        ) from error
    network.eval().requires_grad_(False)
    length = network.config.max_position_embeddings

    def encode(prompt: str) -> Tensor:
        given = words(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            out: Tensor = network(given.input_ids)[0][0]
        return out

    return encode
