"""Folders of small pictures, and pipelines that look at them."""

from pathlib import Path

import numpy as np
from PIL import Image

from flowprofile.definitions import Pipeline


def picture(number, *, side=(8, 8), channels=1):
    """A smooth picture [y x channel] of bytes."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[: side[0], : side[1]] / max(side)
    waves = [np.sin(6 * (a * x + b * y + c)) for a, b, c in generator.random((channels, 3))]
    return np.clip(127 + 120 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def saved(values, path):
    """The picture as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).save(path)
    return path


def photographs(folder, numbers=(0, 1, 2), **how):
    """A folder of pictures named by their numbers."""
    for number in numbers:
        saved(picture(number, **how), Path(folder) / f"{number}.png")
    return Path(folder)


def looking(folder, *, model="digits", steps=10, labels=(3,), batch=4, seeds=None, sampler=None, **rest):
    """A pipeline of given pictures; keys of `rest` that are source's go there, the others are stages."""
    source = {
        key: rest.pop(key) for key in ("how", "draws", "iterations", "attributes", "columns") if key in rest
    }
    interventions = rest.pop("interventions", {})
    rule = {"rule": "ddim"} if source.get("how") == "inverted" else {}
    cases = {"seeds": seeds, "labels": None if labels is None else list(labels)}
    return Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": steps, **rule, **(sampler or {})},
            "source": {"images": folder, **source},
            "cases": {key: value for key, value in cases.items() if value is not None},
            "numerics": {"batch": batch},
            "interventions": interventions,
            "stages": rest or {"trajectory": {}, "predicted_x0": {}},
        }
    )
