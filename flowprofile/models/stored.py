"""What lies in a folder that diffusers saved: files that are read as a stranger's, and what a profile takes of them.

Nothing in it is run. A pickle or a line of Python anywhere in it is a refusal that names the file, whether or not it
would have been read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flowprofile.errors import ModelError

PICKLES: Final = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".msgpack", ".h5"}
)
CODE: Final = frozenset({".py", ".pyc", ".so", ".pyd", ".dll", ".sh", ".ipynb"})
TEXT_LIMIT: Final = 2**20
"""Longest configuration that is read, in bytes."""
INDEX: Final = "diffusion_pytorch_model.safetensors.index.json"


@dataclass(frozen=True)
class Folder:
    """What a folder holds, as far as a profile needs it."""

    path: Path
    denoiser: Path
    """Folder of the denoiser's config and weights; of a flat folder, the folder itself."""
    kind: str
    """Class of the denoiser."""
    config: Mapping[str, Any]
    """Its constructor arguments."""
    scheduler: Mapping[str, Any]
    """The scheduler's whole configuration, its class among it."""
    parts: Mapping[str, Path]
    """Folders of what else belongs to it: vae, text_encoder, tokenizer."""
    index: Mapping[str, Any] = field(default_factory=dict)
    """What the pipeline says of itself, its parts among it; empty for a denoiser's own folder."""

    @property
    def weights(self) -> tuple[Path, ...]:
        """The denoiser's weights, whole or in numbered parts."""
        return weight_files(self.denoiser)


def harmless(path: Path) -> None:
    """Refuse a folder with anything in it that could run, wherever it lies."""
    for file in sorted(path.rglob("*")):
        suffix = file.suffix.lower()
        if suffix in PICKLES:
            raise ModelError(
                f"{file} is a pickle, or may hold one.",
                consequence="Such a file can run code when it is opened; a folder that holds one is not used.",
                remedy="keep the .safetensors and move this file away; where there is none, save the pipeline again with"
                " save_pretrained(folder, safe_serialization=True)",
            )
        if suffix in CODE:
            raise ModelError(
                f"{file} is code.",
                consequence="A model's folder decides numbers, never what is run; nothing of it was opened.",
                remedy="move it away; a network of one's own is wrapped in Python: flowprofile.denoiser(module, shape)",
            )


def contents(path: Path) -> dict[str, Any]:
    """The table in a JSON file; refused if it is long, or none."""
    if path.stat().st_size > TEXT_LIMIT:
        raise unreadable(path, f"{path.stat().st_size:,} bytes, where {TEXT_LIMIT:,} are the most")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise unreadable(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise unreadable(path, f"it holds a {type(values).__name__}")
    return values


def unreadable(path: Path, evidence: str) -> ModelError:
    """The refusal of a configuration."""
    return ModelError(
        f"{path} is no configuration.",
        consequence="What the network is remains unknown.",
        remedy="save the folder again with diffusers: pipeline.save_pretrained(folder)",
        evidence=evidence,
    )


def present(path: Path, what: str) -> Path:
    """The file, or a refusal that says what is missing."""
    if path.is_file():
        return path
    raise ModelError(
        f"There is no {path}: {what} is missing.",
        consequence="The model cannot be put together.",
        remedy="copy or download the folder again, or save it with diffusers: pipeline.save_pretrained(folder)",
    )


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The weights in a folder, whole or in the numbered parts that its index names."""
    index = folder / INDEX
    if index.is_file():
        names = sorted({str(name) for name in contents(index).get("weight_map", {}).values()})
        if any(Path(name).name != name for name in names):
            raise unreadable(index, "it names a file outside its folder")
        return tuple(present(folder / name, f"a part that {INDEX} names") for name in names)
    whole = folder / "diffusion_pytorch_model.safetensors"
    others = sorted(folder.glob("*.safetensors"))
    if not whole.is_file() and len(others) == 1:
        return (others[0],)
    return (present(whole, "the denoiser's weights"),)
