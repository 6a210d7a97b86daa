"""A model as diffusers saves it: a folder of configurations and weights, read as a stranger's.

Nothing in the folder is run. Configurations are JSON of known classes, weights are safetensors; a pickle or a line of
Python anywhere in it is a refusal that names the file, whether or not it would have been read. Card and identity come
from texts and headers, so a definition is checked before torch is imported.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError, nearest
from flowprofile.models import weights
from flowprofile.models.card import ModelCard
from flowprofile.models.flows import FLOWS
from flowprofile.time.schedule import schedule

PICKLES: Final = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".msgpack", ".h5"}
)
CODE: Final = frozenset({".py", ".pyc", ".so", ".pyd", ".dll", ".sh", ".ipynb"})
TEXT_LIMIT: Final = 2**20
"""Longest configuration that is read, in bytes."""
INDEX: Final = "diffusion_pytorch_model.safetensors.index.json"
BESIDE: Final = ("vae", "text_encoder", "tokenizer")
"""Parts of a pipeline besides its denoiser and scheduler that are used."""
LATENTS: Final = (-4.0, 4.0)
"""Range of a latent's values: they are scaled to a variance of about one."""
PREDICTIONS: Final = MappingProxyType({"epsilon": "eps", "v_prediction": "v", "sample": "x0"})
"""What diffusers calls a prediction, and what a card does."""


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

    @property
    def weights(self) -> tuple[Path, ...]:
        """The denoiser's weights, whole or in numbered parts."""
        return _weights(self.denoiser)


def read(path: str | Path) -> Folder:
    """What the folder holds.

    Raises
    ------
    ModelError
        For a pickle or code in it, a part that is missing or broken, and a class that there is no adapter for.
    """
    path = Path(path)
    _harmless(path)
    index = path / "model_index.json"
    if index.is_file():
        parts = _json(index)
        name = next((one for one in ("unet", "transformer") if one in parts), None)
        if name is None:
            raise ModelError(
                f"{index} names neither a unet nor a transformer.",
                consequence="There is no denoiser to profile.",
                remedy="give the folder of a pipeline with a denoiser, or the denoiser's own folder",
                evidence=f"parts: {', '.join(sorted(one for one in parts if not one.startswith('_'))) or 'none'}",
            )
        denoiser = path / name
    else:
        denoiser = path
    config = _json(_present(denoiser / "config.json", "the denoiser's configuration"))
    kind = str(config.pop("_class_name", ""))
    if kind not in CARDS:
        raise ModelError(
            f"{denoiser / 'config.json'} is of a {kind or 'class without a name'!r}.",
            consequence="It is not known how such a network is called, or what it puts out.",
            remedy=f"{nearest(kind, CARDS)}; any other network can be wrapped in Python: flowprofile.denoiser(module, shape)",
        )
    found = Folder(
        path=path,
        denoiser=denoiser,
        kind=kind,
        config={name: value for name, value in config.items() if not name.startswith("_")},
        scheduler=_json(_scheduler(path, denoiser)),
        parts={name: path / name for name in BESIDE if (path / name).is_dir()},
    )
    _ = found.weights
    return found


def card(path: str | Path) -> ModelCard:
    """The card that the folder's configurations amount to."""
    found = read(path)
    try:
        facts = CARDS[found.kind](found)
        return ModelCard(
            name=found.path.resolve().name,
            architecture=found.kind,
            config=found.config,
            schedule=_schedule(found),
            steps=int(found.scheduler["num_train_timesteps"]),
            prediction=_prediction(found),
            **facts,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"The configuration in {found.denoiser} is not that of a {found.kind}.",
            consequence="Shape, labels and schedule of the network are unknown.",
            remedy="save the folder again with diffusers: pipeline.save_pretrained(folder)",
            evidence=f"{type(error).__name__}: {error}",
        ) from error


def digest(path: str | Path) -> str:
    """Digest of the denoiser's weights; the same for one file and for its parts under other names."""
    found = read(path)
    total = hashlib.sha256()
    for part in _weights(found.denoiser):
        total.update(weights.digest(part).encode())
    if found.kind in PROMPTED:
        total.update(_digest_of_texts(found).encode())
    return total.hexdigest()


def decoder_digest(path: str | Path) -> str:
    """Digest of what turns latents into images."""
    vae = decoder(path)
    return weights.digest(_weights(vae)[0]) + json.dumps(_json(vae / "config.json"), sort_keys=True)


def decoder(path: str | Path) -> Path:
    """Folder of the VAE; a model of images has none."""
    found = read(path)
    if "vae" not in found.parts:
        raise ModelError(
            f"{found.path} has no vae.",
            consequence="Its states are images already, or cannot be turned into them.",
            remedy="leave the stage out, or give the folder of the whole pipeline",
        )
    return found.parts["vae"]


def tokens(found: Folder) -> int:
    """How many tokens a prompt is told as."""
    return int(_json(found.parts["text_encoder"] / "config.json")["max_position_embeddings"])


def image_shape(path: str | Path, latent: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channel, y, x of the image of a latent."""
    config = _json(_present(decoder(path) / "config.json", "the VAE's configuration"))
    factor = 1 << (len(config["block_out_channels"]) - 1)
    return int(config["out_channels"]), latent[1] * factor, latent[2] * factor


def _digest_of_texts(found: Folder) -> str:
    """Digest of everything between a prompt's letters and what the network is told."""
    total = hashlib.sha256()
    for name in ("text_encoder", "tokenizer"):
        folder = found.parts[name]
        for file in sorted(folder.iterdir()):
            total.update(f"{name}/{file.name}".encode())
            total.update(
                weights.digest(file).encode() if file.suffix == ".safetensors" else file.read_bytes()
            )
    return total.hexdigest()


def size(path: str | Path) -> int:
    """Bytes of the denoiser's weights."""
    return sum(part.stat().st_size for part in _weights(read(path).denoiser))


def _unet2d(found: Folder) -> dict[str, Any]:
    config = found.config
    side = config["sample_size"]
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return {
        "shape": (int(config["in_channels"]), int(height), int(width)),
        "labels": LabelSpace(classes=int(config.get("num_class_embeds") or 1)),
        "pixel_range": (-1.0, 1.0),
    }


def _dit(found: Folder) -> dict[str, Any]:
    config = found.config
    classes = int(config["num_embeds_ada_norm"])
    return {
        "shape": (int(config["in_channels"]), int(config["sample_size"]), int(config["sample_size"])),
        "labels": LabelSpace(classes=classes),
        "pixel_range": LATENTS if "vae" in found.parts else (-1.0, 1.0),
        "null_label": classes,
    }


def _prompted(found: Folder) -> dict[str, Any]:
    config = found.config
    for name in ("text_encoder", "tokenizer"):
        if name not in found.parts:
            raise ModelError(
                f"There is no {found.path / name}: prompts cannot be told to the network.",
                consequence="A text-conditioned network computes nothing without a text.",
                remedy="give the folder of the whole pipeline, not that of its unet",
            )
    if config.get("addition_embed_type") is not None or config["in_channels"] != config["out_channels"]:
        which = "addition_embed_type" if config.get("addition_embed_type") is not None else "in_channels"
        raise ModelError(
            f"{found.denoiser / 'config.json'} says {which} = {config[which]!r}.",
            consequence="The network wants more than a state and one prompt (a second encoder's text, an image, a mask).",
            remedy="use a model of the Stable Diffusion 1 or 2 layout, or wrap the network yourself: flowprofile.denoiser",
        )
    side = config["sample_size"]
    height, width = side if isinstance(side, list | tuple) else (side, side)
    return {
        "shape": (int(config["in_channels"]), int(height), int(width)),
        "labels": LabelSpace(prompts=True),
        "pixel_range": LATENTS,
    }


PROMPTED: Final = frozenset({"UNet2DConditionModel"})
"""Denoisers that are told a text."""
CARDS: Final[Mapping[str, Callable[[Folder], dict[str, Any]]]] = MappingProxyType(
    {"UNet2DModel": _unet2d, "DiTTransformer2DModel": _dit, "UNet2DConditionModel": _prompted}
)
"""Denoisers that there is an adapter for, and what of a card follows from their configuration."""


def _harmless(path: Path) -> None:
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


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > TEXT_LIMIT:
        raise _unreadable(path, f"{path.stat().st_size:,} bytes, where {TEXT_LIMIT:,} are the most")
    try:
        values = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise _unreadable(path, f"it holds a {type(values).__name__}")
    return values


def _unreadable(path: Path, evidence: str) -> ModelError:
    return ModelError(
        f"{path} is no configuration.",
        consequence="What the network is remains unknown.",
        remedy="save the folder again with diffusers: pipeline.save_pretrained(folder)",
        evidence=evidence,
    )


def _present(path: Path, what: str) -> Path:
    if path.is_file():
        return path
    raise ModelError(
        f"There is no {path}: {what} is missing.",
        consequence="The model cannot be put together.",
        remedy="copy or download the folder again, or save it with diffusers: pipeline.save_pretrained(folder)",
    )


def _scheduler(path: Path, denoiser: Path) -> Path:
    places = [path / "scheduler", denoiser.parent / "scheduler", denoiser]
    found = (place / "scheduler_config.json" for place in places)
    known = next((file for file in found if file.is_file()), None)
    return known or _present(places[0] / "scheduler_config.json", "the schedule the network was trained for")


def _weights(folder: Path) -> tuple[Path, ...]:
    index = folder / INDEX
    if index.is_file():
        names = sorted({str(name) for name in _json(index).get("weight_map", {}).values()})
        if any(Path(name).name != name for name in names):
            raise _unreadable(index, "it names a file outside its folder")
        return tuple(_present(folder / name, f"a part that {INDEX} names") for name in names)
    whole = folder / "diffusion_pytorch_model.safetensors"
    others = sorted(folder.glob("*.safetensors"))
    if not whole.is_file() and len(others) == 1:
        return (others[0],)
    return (_present(whole, "the denoiser's weights"),)


def _prediction(found: Folder) -> str:
    if found.scheduler.get("_class_name") in FLOWS:
        return "flow"
    asked = str(found.scheduler.get("prediction_type", "epsilon"))
    if asked not in PREDICTIONS:
        raise _unknown(found, "prediction_type", asked, PREDICTIONS)
    return PREDICTIONS[asked]


def _schedule(found: Folder) -> str:
    """Name of the betas (`time.schedule`)."""
    values = found.scheduler
    if values.get("_class_name") in FLOWS:
        if values.get("invert_sigmas"):
            raise _unknown(found, "invert_sigmas", "true", ("false",))
        return "flow"
    kinds = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
    asked = str(values.get("beta_schedule"))
    if values.get("trained_betas") is not None or values.get("rescale_betas_zero_snr"):
        which = "trained_betas" if values.get("trained_betas") is not None else "rescale_betas_zero_snr"
        raise _unknown(found, which, str(values[which])[:40], ("null", "false"))
    if asked not in kinds:
        raise _unknown(found, "beta_schedule", asked, kinds)
    if asked == "squaredcos_cap_v2":
        return "cosine"
    first, last = float(values.get("beta_start", 1e-4)), float(values.get("beta_end", 0.02))
    return schedule(f"{kinds[asked]}({first!r}, {last!r})").name


def _unknown(found: Folder, what: str, asked: str, known: Any) -> ModelError:
    return ModelError(
        f"The scheduler of {found.path} says {what} = {asked!r}.",
        consequence="How much noise its states hold is not known here, so nothing can be sampled.",
        remedy=f"known are {', '.join(map(repr, known))}",
    )
