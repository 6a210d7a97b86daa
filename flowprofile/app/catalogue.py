"""What there is to choose from: runs, cases, objects and states of a store, without a cell being read."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from flowprofile import __version__
from flowprofile.app.profiles import Profiles
from flowprofile.axes import INTERVENTION, LABEL, PROMPT, SEED, TIME
from flowprofile.captions import caption
from flowprofile.errors import FlowProfileError
from flowprofile.models import regions


def catalogue(profiles: Profiles, *, runs_allowed: bool, others: Mapping[str, Profiles]) -> dict[str, Any]:
    """Everything the page needs before it asks for a view; also of stores beside it, by name."""
    return {
        "version": __version__,
        "store": profiles.url,
        "runs_allowed": runs_allowed,
        "others": [
            {
                "name": name,
                "store": other.url,
                "runs": [_run(run, tree) for run, tree in other.runs().items()],
            }
            for name, other in others.items()
        ],
        "runs": [_run(name, tree) for name, tree in profiles.runs().items()],
    }


def _run(name: str, tree: xr.DataTree) -> dict[str, Any]:
    model = dict(tree.attrs.get("model", {}))
    order = tree.attrs.get("label_attributes", ())
    coords = tree.to_dataset(inherit=False)
    labels = coords[LABEL].values.tolist()
    return {
        "name": name,
        "model": {key: model.get(key) for key in ("name", "shape", "pixel_range", "attributes", "steps")},
        "sampler": _sampler(tree),
        "labels": [
            {"label": v, "told": _label_told(coords, v, order), "on": _on(coords, v, order)} for v in labels
        ],
        "attributes": list(order),
        "seeds": stretches(coords[SEED].values),
        "interventions": _interventions(coords),
        "objects": _objects(tree),
        "regions": _regions(str(model.get("reference", ""))),
    }


def _sampler(tree: xr.DataTree) -> dict[str, Any]:
    found = next((dict(n.attrs["sampler"]) for n in tree.subtree if "sampler" in n.attrs), {})
    return {key: found.get(key) for key in ("rule", "steps", "guidance_scale")}


def _label_told(coords: xr.Dataset, label: int, order: Any) -> str:
    if PROMPT in coords.coords:
        return str(coords.coords[PROMPT].sel({LABEL: label}).values)
    return caption(coords, label, order=order)


def _on(coords: xr.Dataset, label: int, order: Any) -> list[str]:
    return [n for n in order if n in coords.coords and bool(coords.coords[n].sel({LABEL: label}))]


def stretches(seeds: np.ndarray[Any, Any]) -> list[list[int]]:
    """Seeds as half-open stretches: ten thousand are one pair of numbers.

    >>> stretches(np.array([0, 1, 2, 7]))
    [[0, 3], [7, 8]]
    """
    if not len(seeds):
        return []
    breaks = np.flatnonzero(np.diff(seeds) != 1)
    first, last = np.r_[0, breaks + 1], np.r_[breaks, len(seeds) - 1]
    return [[int(seeds[a]), int(seeds[b]) + 1] for a, b in zip(first, last, strict=True)]


def _interventions(coords: xr.Dataset) -> list[dict[str, Any]]:
    titles = titles_of(coords)
    kinds = coords.coords["kind"].values.tolist() if "kind" in coords.coords else ["none"] * len(titles)
    return [
        {"name": name, "title": title, "kind": kind}
        for (name, title), kind in zip(titles.items(), kinds, strict=True)
    ]


def titles_of(coords: xr.Dataset) -> dict[str, str]:
    """What every intervention is called by whoever defined it; its name, where a title is shared or there is none."""
    names = coords[INTERVENTION].values.tolist()
    titles = coords.coords["title"].values.tolist() if "title" in coords.coords else names
    shared = Counter(titles)
    return {
        name: title if title and shared[title] == 1 else name
        for name, title in zip(names, titles, strict=True)
    }


def _objects(tree: xr.DataTree) -> list[dict[str, Any]]:
    found = []
    for node in tree.subtree:
        data = node.to_dataset(inherit=False)
        if not data.data_vars or node is tree:
            continue
        times = data[TIME].values if TIME in data.coords else np.zeros(0, np.int64)
        found.append({
            "node": node.path.removeprefix(tree.path).strip("/"),
            "kind": str(node.attrs.get("kind", "")),
            "states": len(times),
            "first": int(times[0]) if len(times) else None,
            "last": int(times[-1]) if len(times) else None,
        })  # fmt: skip
    return found


def _regions(model: str) -> list[str]:
    try:
        return list(regions.regions(model))
    except (FlowProfileError, OSError):
        return []
