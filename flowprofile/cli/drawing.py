"""Draw the figures of a store, and only those that are not up to date.

Every figure carries a stamp of what it was drawn from; while the store and the drawing code are the same, it is
left alone, and matplotlib is not even imported.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowprofile import __version__
from flowprofile.description import describe
from flowprofile.flow.fingerprint import key

if TYPE_CHECKING:
    import xarray as xr

DRAWING: Final = 1
"""Version of the drawings; raised when they change."""


def draw(store: str, folder: Path) -> Iterator[tuple[Path, bool]]:
    """Each figure's path, and whether it was drawn afresh."""
    from flowprofile import figures, opening

    found = describe(store)
    stamp = key(
        {"version": __version__, "drawing": DRAWING, "runs": [_content(run) for run in found["runs"]]}
    )
    for run in found["runs"]:
        tree = opening.open(store, run=run["name"])
        prefix = f"{run['name']}-" if len(found["runs"]) > 1 else ""
        for node in _drawable(tree):
            path = folder / f"{prefix}{_file_name(node)}.png"
            fresh = figures.stamp_of(path) != stamp
            if fresh:
                measure = node.removeprefix("measures/")
                figure = (
                    figures.strip(tree, node=node) if measure == node else figures.trajectories(tree, measure)
                )
                path.parent.mkdir(parents=True, exist_ok=True)
                figures.save(figure, path, stamp=stamp)
            yield path, fresh


def _content(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("name", "labels", "seeds", "stages")}


def _drawable(tree: "xr.DataTree") -> Iterator[str]:
    """Trajectories and measures, each under the name by which the profile knows it."""
    for name in tree.children:
        if name.partition("[")[0] == "trajectory":
            yield name
    if "measures" in tree.children:
        yield from (f"measures/{name}" for name in tree["measures"].children)


def _file_name(node: str) -> str:
    """The node's name as a file: ``step_ssim-window=11``."""
    return node.removeprefix("measures/").replace("[", "-").replace("]", "").replace(", ", ",")
