"""The interface within a notebook: a frame on a server of this process, one for each store.

The token stands behind the "#" of the frame's address, which no server and no other page sees; the page takes it from
there and sends it along with every question.
"""

import html
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import urlencode

import xarray as xr

from flowprofile.app.serving import bound, needs_server, server_of
from flowprofile.axes import INTERVENTION, LABEL, LAYER, SEED, TIME
from flowprofile.choices import choose
from flowprofile.errors import DefinitionError, FlowProfileError, StoreError, nearest
from flowprofile.selecting import labels_of

FRAMES: Final = "http://localhost:* http://127.0.0.1:* https://localhost:* https://127.0.0.1:* vscode-webview: vscode-file:"
"""Whose pages may show the frame: notebooks on this machine, and editors."""
HOST: Final = "127.0.0.1"
RUN: Final = "flowprofile_run"
CLOSED: Final = "A view of FlowProfile that is closed; tree.profile.view() opens another."
PATIENCE: Final = 10.0
"""Seconds a server may take to answer."""
_STARTED: "dict[tuple[Any, ...], Server]" = {}
_LOCK = threading.Lock()


class Server:
    """One server in a thread of this process; it ends with `close`, at the latest with the process."""

    def __init__(self, tree: xr.DataTree) -> None:
        from flowprofile.app.profiles import Profiles
        from flowprofile.app.server import application

        self.profiles, self.token = Profiles.of_tree(tree), secrets.token_urlsafe(24)
        guarded = application(self.profiles, token=self.token, frames=FRAMES)
        self._socket = bound(HOST, 0)
        self.port: int = self._socket.getsockname()[1]
        self._server = server_of(guarded)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="flowprofile", daemon=True
        )
        self._thread.start()
        self._wait()

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread.is_alive() and not self._server.should_exit

    def close(self) -> None:
        """End it; frames that show it then say that nobody answers."""
        self._server.should_exit = True
        self._thread.join(PATIENCE)
        self._socket.close()

    def _wait(self) -> None:
        until = monotonic() + PATIENCE
        while not self._server.started:
            if not self._thread.is_alive() or monotonic() > until:
                self.close()
                raise FlowProfileError(
                    "The server of the interface did not start.",
                    consequence="There is nothing to show in a frame.",
                    remedy="look at the store from a terminal: flowprofile app STORE",
                )
            sleep(0.005)


@dataclass(frozen=True)
class View:
    """A view of a profile, shown as a frame where the last value of a cell is shown."""

    server: Server
    path: str
    """Of the view, with its parameters."""
    height: int

    @property
    def address(self) -> str:
        """What opens the view in a browser on this machine, with what it must know."""
        return f"http://{HOST}:{self.server.port}{self.path}#token={self.server.token}"

    def close(self) -> None:
        """End the server that shows this store, also for other views of it."""
        with _LOCK:
            for key in [key for key, server in _STARTED.items() if server is self.server]:
                del _STARTED[key]
        self.server.close()

    def __repr__(self) -> str:
        return f"FlowProfile at {self.address}" if self.server.alive else CLOSED

    def _repr_html_(self) -> str:
        if not self.server.alive:
            return f"<p>{html.escape(CLOSED)}</p>"
        address = html.escape(self.address, quote=True)
        frame = 'width="100%" style="border: 1px solid #8b949e; border-radius: 6px"'
        return (
            f'<iframe src="{address}" title="FlowProfile" {frame} height="{self.height}"></iframe>'
            f'<div><a href="{address}" target="_blank" rel="noopener">Open in a tab</a></div>'
        )


def view(
    tree: xr.DataTree,
    *,
    view: str = "sample",
    label: Any = None,
    seed: int | None = None,
    intervention: str | None = None,
    time: int | None = None,
    layer: str | Sequence[str] | None = None,
    height: int = 720,
) -> View:
    """A view of an opened profile; what it is given is checked before a browser sees it.

    Parameters
    ----------
    tree
        A run, or a store with several, as it was opened; also a selection that keeps its axes.
    view
        ``"sample"``, ``"activations"``, ``"attention"``, ``"gradients"``, ``"measures"``, ``"compare"`` or ``"sweep"``.
    label, seed, intervention, time, layer
        What is shown at first; a label as `sel` takes one.
    height
        Of the frame, in pixels.
    """
    needs_server()
    from flowprofile.app.asked import case_of, query
    from flowprofile.app.server import PAGES

    run = _whole(tree)
    pages = [name for name in PAGES if name != "run"]
    if view not in pages:
        raise DefinitionError(f"The interface has no view {view!r}.", remedy=nearest(view, pages))
    number = None if label is None else choose(LABEL, label, lambda: labels_of(run)).values[0]
    single = {INTERVENTION: intervention, LABEL: number, SEED: seed, TIME: time}
    asked = [(name, str(value)) for name, value in single.items() if value is not None]
    layers = [layer] if isinstance(layer, str) else list(layer or ())
    _known(run, layers)
    asked += [(LAYER, name) for name in layers]
    case_of(run, query(asked))
    return View(_server(tree), f"/{view}" + (f"?{urlencode(asked)}" if asked else ""), height)


def _known(run: xr.DataTree, layers: Sequence[str]) -> None:
    """Refuse a layer that nothing in the run is of: as a coordinate, or as the layer of a node."""
    held = {node.path.removeprefix(run.path).strip("/") for node in run.subtree}
    for node in run.subtree:
        held |= {str(node.attrs[LAYER])} if LAYER in node.attrs else set()
        held |= {str(array.attrs[LAYER]) for array in node.data_vars.values() if LAYER in array.attrs}
        held |= set(map(str, node.coords[LAYER].values.tolist())) if LAYER in node.coords else set()
    for name in layers:
        if name not in held:
            raise DefinitionError(
                f"Nothing in this run is of the layer {name!r}.", remedy=nearest(name, held)
            )


def _whole(tree: xr.DataTree) -> xr.DataTree:
    """The first run of a tree; a part of a run cannot be shown as one."""
    runs = [tree] if RUN in tree.attrs else [node for node in tree.children.values() if RUN in node.attrs]
    if not runs:
        raise StoreError(
            f"{tree.path!r} is a part of a run.",
            consequence="The interface shows whole runs.",
            remedy="ask the tree that fp.open gave: tree.profile.view()",
        )
    lost = [axis for axis in (INTERVENTION, LABEL, SEED) if axis not in runs[0].dims]
    if lost:
        raise StoreError(
            f"One {lost[0]} was selected, and the axis is gone.",
            consequence="The interface chooses along it.",
            remedy=f"keep it: tree.profile.sel({lost[0]}=[...]), or give it to view: view({lost[0]}=...)",
        )
    return runs[0]


def _server(tree: xr.DataTree) -> Server:
    """The server of a store, started when it is first asked for; a store that was opened again is shown anew."""
    key = tuple(_held(tree))
    with _LOCK:
        known = _STARTED.get(key)
        if known is None or not known.alive:
            known = _STARTED[key] = Server(tree)
        else:
            known.profiles.show(tree)
        return known


def _held(tree: xr.DataTree) -> Iterator[Any]:
    """What tells a tree from another: where it is from, and what it holds. A tree that is from nowhere is itself."""
    yield tree.attrs.get("flowprofile_url") or id(tree)
    for node in tree.subtree:
        yield node.path, tuple(node.sizes.items()), tuple(node.data_vars)
        yield from (node.coords[axis].values.tobytes() for axis in (LABEL, SEED) if axis in node.coords)
