"""A network as a picture: its layers in the order of the forward pass, in the blocks their names say.

A U-Net is drawn as it runs: down on the left, up on the right, each block at the height of its resolution.
"""

from collections.abc import Sequence
from typing import Any

import xarray as xr

from flowprofile.app.panels import pictures
from flowprofile.errors import FlowProfileError
from flowprofile.models import layers, zoo


def schematic(tree: xr.DataTree, stored: Sequence[str]) -> dict[str, Any]:
    """Layers with channels, side and whether they are stored, block by block.

    Layers come from the model's own table where it can be read here, else from what the store holds of it.
    """
    rows = _of_model(tree) or _of_store(tree)
    have = set(stored)
    blocks: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        blocks.setdefault(_block_of(row["layer"]), []).append({**row, "stored": row["layer"] in have})
    return {"blocks": [{"name": name, "layers": each} for name, each in blocks.items()]}


def _of_model(tree: xr.DataTree) -> list[dict[str, Any]]:
    model = dict(tree.attrs.get("model", {}))
    try:
        card = zoo.card(str(model.get("reference", "")))
        config = zoo.unet_config(card)
    except (FlowProfileError, OSError, ValueError):
        return []
    side = card.shape[1]
    return [
        {"layer": layer.id, "channels": layer.channels, "side": side >> layer.halvings}
        for layer in layers.layers(config)
    ]


def _of_store(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Layers whose outputs are stored: of another network nothing else is known here."""
    return [
        {
            "layer": str(p.array.attrs["layer"]),
            "channels": p.shape[0] if len(p.shape) > 2 else 1,
            "side": p.shape[-1],
        }
        for p in pictures(tree).get("activations", [])
        if "layer" in p.array.attrs
    ]


def _block_of(layer: str) -> str:
    """The block a layer belongs to, by its name.

    >>> _block_of("downs.1.2.fn"), _block_of("mid_block1.net"), _block_of("init_conv")
    ('downs.1', 'mid', 'init_conv')
    """
    parts = layer.split(".")
    if parts[0].startswith("mid"):
        return "mid"
    return ".".join(parts[:2]) if len(parts) > 1 and parts[1].isdecimal() else parts[0]
