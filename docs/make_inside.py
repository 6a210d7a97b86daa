"""Draw what six attention layers show of one sample, and what pulls at its eyes: ``python docs/make_inside.py out/inside``.

The store is that of ``flowprofile run inside --into out/inside``; `flowprofile figures` draws the same in several pictures.
"""

import sys
from pathlib import Path

import flowprofile as fp
from flowprofile.maps import maps

FIGURE = Path(__file__).parent / "figures" / "inside.png"
LABEL, SEED = 6, 1


def main(store: str) -> None:
    """Write the picture."""
    tree = fp.open(store)
    layers = [f"activations/{layer}" for layer in tree["activations"].children]
    figure = maps(tree, [*layers, "gradients/volume"], label=LABEL, seed=SEED)
    figure.savefig(FIGURE, dpi=150, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    main(sys.argv[1])
