"""Draw the figures of a store, and only those that are not up to date.

Every figure carries a stamp of what it was drawn from; while the store and the drawing code are the same, it is
left alone, and matplotlib is not even imported.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flowprofile import __version__
from flowprofile.description import describe
from flowprofile.flow.fingerprint import key

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

DRAWING: Final = 5
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
        for name, drawn in _drawings(tree):
            path = folder / f"{prefix}{_file_name(name)}.png"
            fresh = figures.stamp_of(path) != stamp
            if fresh:
                figure = drawn()
                path.parent.mkdir(parents=True, exist_ok=True)
                figures.save(figure, path, stamp=stamp)
            yield path, fresh


def held(store: str) -> list[str]:
    """What a store holds, drawn or not: the names of its objects."""
    return sorted(
        {stage["name"].partition("@")[0] for run in describe(store)["runs"] for stage in run["stages"]}
    )


def _content(run: dict[str, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("name", "labels", "seeds", "stages")}


def _drawings(tree: "xr.DataTree") -> Iterator[tuple[str, Callable[[], "Figure"]]]:
    """Every picture of a run: the states, what the network showed, and the measures; each with its name."""
    from flowprofile import figures, maps, word_figures

    for name in tree.children:
        if figures.pictured(tree.children[name].to_dataset()):
            yield name, partial(figures.strip, tree, node=name)
        if word_figures.worded(tree.children[name].to_dataset()):
            yield name, partial(_words, tree, name)
    for name, nodes in _grouped(tree, maps.mappable).items():
        yield name, partial(maps.maps, tree, nodes)
    for name in tree["measures"].children if "measures" in tree.children else ():
        node = f"measures/{name}"
        if maps.lined(tree[node].to_dataset()):
            yield name, partial(maps.lines, tree, node)
        else:
            yield name, partial(figures.trajectories, tree, name)


def _words(tree: "xr.DataTree", name: str) -> "Figure":
    """Maps by word; by number of token where the model that says what a token is cannot be read here."""
    from flowprofile.axes import PROMPT
    from flowprofile.errors import ModelError
    from flowprofile.models.texts import tokens
    from flowprofile.word_figures import words

    folder, prompt = str(tree.attrs["model"]["reference"]), str(tree.children[name].coords[PROMPT].values[0])
    try:
        return words(tree, name, tokens=tokens(folder, prompt))
    except ModelError as error:
        return words(tree, name, note=f"words are not known here: {error.fact}")


def _grouped(tree: "xr.DataTree", wanted: Callable[["xr.Dataset"], bool]) -> dict[str, list[str]]:
    """Nodes that are drawn as maps: the layers of one table share a picture, in the order of the forward pass."""
    found: dict[str, list[tuple[int, str]]] = {}
    for node in tree.subtree:
        path = node.path.strip("/")
        if node.data_vars and wanted(node.to_dataset()):
            layer = node.attrs.get("layer")
            name = path.removesuffix(f"/{layer}") if layer else path
            found.setdefault(name, []).append((int(node.attrs.get("layer_index", 0)), path))
    return {name: [path for _, path in sorted(members)] for name, members in found.items()}


def _file_name(node: str) -> str:
    """The node's name as a file: ``step_ssim-window=11``."""
    plain = node.removeprefix("measures/").replace("[", "-").replace("]", "").replace(", ", ",")
    return plain.replace("/", "-")
