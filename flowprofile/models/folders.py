"""A model as diffusers saves it: a folder of configurations and weights, read as a stranger's.

Nothing in the folder is run. Configurations are JSON of known classes, weights are safetensors; a pickle or a line of
Python anywhere in it is a refusal that names the file, whether or not it would have been read. Card and identity come
from texts and headers, so a definition is checked before torch is imported.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import ModelError, nearest
from flowprofile.models import layouts, weights
from flowprofile.models.card import ModelCard
from flowprofile.models.flows import FLOWS
from flowprofile.models.stored import Folder, contents, harmless, present, weight_files
from flowprofile.time.schedule import schedule

BESIDE: Final = (
    "vae",
    *(f"{part}{number}" for part in ("text_encoder", "tokenizer") for number in ("", "_2", "_3")),
)
"""Parts of a pipeline besides its denoiser and scheduler that are used."""
PREDICTIONS: Final = MappingProxyType({"epsilon": "eps", "v_prediction": "v", "sample": "x0"})
"""What diffusers calls a prediction, and what a card does."""


def read(path: str | Path) -> Folder:
    """What the folder holds.

    Raises
    ------
    ModelError
        For a pickle or code in it, a part that is missing or broken, and a class that there is no adapter for.
    """
    path = Path(path)
    harmless(path)
    index, parts = path / "model_index.json", {}
    if index.is_file():
        parts = contents(index)
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
    config = contents(present(denoiser / "config.json", "the denoiser's configuration"))
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
        scheduler=contents(_scheduler(path, denoiser)),
        parts={name: path / name for name in BESIDE if (path / name).is_dir()},
        index=parts,
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
    for part in weight_files(found.denoiser):
        total.update(weights.digest(part).encode())
    if found.kind in layouts.FACTS:
        total.update(_digest_of_texts(found).encode())
    return total.hexdigest()


def decoder_digest(path: str | Path) -> str:
    """Digest of what turns latents into images."""
    vae = decoder(path)
    return weights.digest(weight_files(vae)[0]) + json.dumps(contents(vae / "config.json"), sort_keys=True)


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


def image_shape(path: str | Path, latent: tuple[int, int, int]) -> tuple[int, int, int]:
    """Channel, y, x of the image of a latent."""
    config = contents(present(decoder(path) / "config.json", "the VAE's configuration"))
    factor = layouts.times_smaller(read(path))
    return int(config["out_channels"]), latent[1] * factor, latent[2] * factor


def _digest_of_texts(found: Folder) -> str:
    """Digest of everything between a prompt's letters and what the network is told."""
    total = hashlib.sha256()
    for name in (part for pair in layouts.told_by(found) for part in pair):
        folder = found.parts[name]
        for file in sorted(folder.iterdir()):
            total.update(f"{name}/{file.name}".encode())
            total.update(
                weights.digest(file).encode() if file.suffix == ".safetensors" else file.read_bytes()
            )
    if layouts.layout(found) == layouts.XL:
        # The network is told the size of the image, which the VAE's configuration decides.
        total.update(str(layouts.times_smaller(found)).encode())
    return total.hexdigest()


def size(path: str | Path) -> int:
    """Bytes of the denoiser's weights."""
    return sum(part.stat().st_size for part in weight_files(read(path).denoiser))


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
        "pixel_range": layouts.LATENTS if "vae" in found.parts else (-1.0, 1.0),
        "null_label": classes,
    }


CARDS: Final[Mapping[str, Callable[[Folder], dict[str, Any]]]] = MappingProxyType(
    {"UNet2DModel": _unet2d, "DiTTransformer2DModel": _dit, **layouts.FACTS}
)
"""Denoisers that there is an adapter for, and what of a card follows from their configuration."""


def _scheduler(path: Path, denoiser: Path) -> Path:
    places = [path / "scheduler", denoiser.parent / "scheduler", denoiser]
    found = (place / "scheduler_config.json" for place in places)
    known = next((file for file in found if file.is_file()), None)
    return known or present(places[0] / "scheduler_config.json", "the schedule the network was trained for")


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
    if found.kind in layouts.FLOWING:
        raise _unknown(found, "_class_name", str(values.get("_class_name")), FLOWS)
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
