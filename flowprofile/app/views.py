"""The JSON of the views that show pictures: samples, activations, attention and gradients.

The page is drawn from it, and whoever puts ``/api`` before a view's path reads the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from flowprofile.app.asked import Query, case_of
from flowprofile.app.blocks import Picture
from flowprofile.app.network import schematic
from flowprofile.app.notes import of_pictures
from flowprofile.app.panels import marks, panel, pictures, words
from flowprofile.app.remedies import ensured, grown
from flowprofile.errors import FlowProfileError, StoreError, nearest
from flowprofile.models import regions

SIX: Final = 6
"""Most panels side by side."""
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "sample": ("trajectory", "predicted_x0", "decoded"),
    "activations": ("activations", "channel_sums"),
    "attention": ("attention", "attention_maps", "word_maps"),
    "gradients": ("gradient_volume", "gradient_sum", "gradient_energy", "layer_gradients"),
}
"""Kinds of nodes that a view shows, in its order."""
REFERENCES: Final = ("predicted_x0", "trajectory")
"""What stands beside maps, so that one sees of what they are: the first of these that is stored."""
COMPUTED_BY: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "sample": ("trajectory", {"keep": "::50"}),
    "activations": ("activations", {"layers": "*.fn", "keep": "::50"}),
    "attention": ("attention", {"layers": "*.fn", "keep": "::50"}),
    "gradients": ("layer_gradients", {"layers": "*.fn", "mask": "face", "keep": "::50"}),
}
"""A stage that fills a view that is empty."""


def picture_view(name: str, url: str, run: str, tree: xr.DataTree, asked: Query) -> dict[str, Any]:
    """A view of pictures: what may be chosen, the panels that are, and what is missing."""
    where = case_of(tree, asked)
    known = pictures(tree)
    offered = _distinct([p for kind in KINDS[name] for p in known.get(kind, [])])
    sorts = _sorts(offered, asked.get("object")) if name == "gradients" else []
    if sorts and not asked.all("layer"):
        offered = [p for p in offered if _sort(p) == sorts[0]]
    chosen = _chosen(name, offered, asked)
    found: dict[str, Any] = {
        "view": name,
        "run": run,
        "case": {"intervention": where.intervention, "label": where.label, "seed": where.seed},
        "offered": [_offer(p) for p in offered],
        "panels": [panel(run, tree, p, where) for p in chosen],
        "ensure": ensured(url, where),
        "open": f"import flowprofile as fp\ntree = fp.open({url!r}, run={run!r})",
        "keep": grown(url, {"stages.STAGE.keep": ["T"]}).replace('"T"', "T"),
    }
    beside = [p for kind in REFERENCES for p in known.get(kind, [])][:1] if name != "sample" else []
    found["reference"] = panel(run, tree, beside[0], where) if beside else None
    if not offered:
        stage, table = COMPUTED_BY[name]
        found["missing"] = grown(url, {f"stages.{stage}": {"use": stage, **table}})
    if name == "activations":
        found["marks"] = marks(tree, "max_channel", where)
        found["network"] = schematic(tree, [str(p.array.attrs.get("layer", "")) for p in offered])
        found["grow"] = grown(url, {"stages.activations.layers": ["LAYER"]})
    if name == "attention":
        found["words"] = words(tree, chosen, where)
    if name == "gradients":
        found["marks"] = marks(tree, "gradient_channel", where)
        found["objects"] = sorts
    if name in ("sample", "activations", "gradients"):
        found["regions"] = region_pixels(tree)
    found["notes"] = of_pictures(
        name, asked, found, tuple(dict(tree.attrs.get("model", {})).get("shape", ()))
    )
    return found


def _distinct(offered: Sequence[Picture]) -> list[Picture]:
    """A layer's own activation stands for it; its sum over channels only where that is all there is."""
    whole = {p.array.attrs.get("layer") for p in offered if p.node.startswith("activations")}
    return [
        p for p in offered if not (p.node.startswith("channel_sums") and p.array.attrs.get("layer") in whole)
    ]


def _sort(picture: Picture) -> str:
    """Gradients on pixels, or at layers: their maps are of different things, and so are their channels."""
    return "layers" if "layer" in picture.array.attrs else "pixels"


def _sorts(offered: Sequence[Picture], wanted: str) -> list[str]:
    """The sorts that are stored, the one that is shown first."""
    held = {_sort(p) for p in offered}
    return sorted(held, key=lambda sort: (sort != wanted, sort != "pixels"))


def _offer(picture: Picture) -> dict[str, Any]:
    attrs = picture.array.attrs
    return {
        "node": picture.node,
        "variable": picture.variable,
        "title": str(attrs.get("layer", picture.node)),
        "told": str(attrs.get("long_name", picture.variable)),
        "shape": list(picture.shape),
    }


def _chosen(name: str, offered: Sequence[Picture], asked: Query) -> list[Picture]:
    """The panels an address names, by layer or by node; else the first few."""
    wanted = asked.all("layer")
    if not wanted:
        return list(offered[: SIX if name != "sample" else len(offered)])
    if len(wanted) > SIX:
        raise StoreError(f"{len(wanted)} panels are asked for.", remedy=f"name at most {SIX}")
    by_name = {str(p.array.attrs.get("layer", p.node)): p for p in reversed(offered)}
    by_name |= {p.node: p for p in offered}
    strange = [layer for layer in wanted if layer not in by_name]
    if strange:
        raise StoreError(
            f"No {name} of {strange[0]!r} is stored.",
            consequence="There is nothing to show of it.",
            remedy=nearest(strange[0], by_name),
        )
    return [by_name[layer] for layer in dict.fromkeys(wanted)]


def region_pixels(tree: xr.DataTree) -> dict[str, list[int]]:
    """The named regions of the model's pictures, as pixels y * width + x."""
    model = str(dict(tree.attrs.get("model", {})).get("reference", ""))
    try:
        names = regions.regions(model)
    except (FlowProfileError, OSError):
        return {}
    often = {name: regions.frequency(model, name) >= 0.5 for name in names}
    return {name: np.flatnonzero(mask).tolist() for name, mask in often.items() if mask.any()}
