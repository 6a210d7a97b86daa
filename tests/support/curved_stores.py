"""A store with every kind of curve, made once in a process: six seeds of three labels, clean and with the label switched."""

from functools import cache
from pathlib import Path

from compared_stores import sampled

BOX = {"rectangle": [2, 2, 4, 4]}
STAGES = {
    "trajectory": {},
    "step_ssim": {"use": "ssim"},
    "label_ssim": {"use": "ssim", "between": "labels"},
    "clean_ssim": {"use": "ssim", "between": "clean"},
    "fidelity": {},
    "max_channel": {"layers": "*.fn"},
    "layer_distance": {"layers": "*.fn"},
    "change": {"mask": BOX},
    "volume": {"use": "gradient_volume", "mask": BOX, "keep": [100, 0]},
    "influence": {"needs": ["volume"]},
}


@cache
def curved(base: Path) -> str:
    """Its address; a few seconds."""
    return sampled(base / "curved", stages=STAGES)


def asked(**parameters):
    """The query of an address; a list is a parameter that is repeated."""
    from flowprofile.app.asked import Query

    pairs = ((k, v if isinstance(v, list) else [v]) for k, v in parameters.items())
    return Query(tuple((name, str(value)) for name, values in pairs for value in values))
