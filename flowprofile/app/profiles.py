"""The store that is shown: opened lazily, and opened again when a page is loaded, so that it may grow meanwhile."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import xarray as xr

from flowprofile import opening
from flowprofile.errors import StoreError, nearest
from flowprofile.store.revision import revision
from flowprofile.store.urls import Where, place

RUN = "flowprofile_run"


@dataclass
class Profiles:
    """One store, and what was opened of it last."""

    url: str
    storage_options: Mapping[str, str] | None = None
    _tree: xr.DataTree | None = None
    kept: bool = False
    """Whether the tree is shown as it was given, and never opened again."""
    _given: int = 0
    """How many trees were given so far."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of_tree(cls, tree: xr.DataTree) -> "Profiles":
        """A profile that is open already, perhaps a selection."""
        return cls(str(tree.attrs.get("flowprofile_url", "")), None, tree, kept=True)

    def show(self, tree: xr.DataTree) -> None:
        """Show another tree from now on."""
        with self._lock:
            self._tree, self._given = tree, self._given + 1

    @property
    def revision(self) -> str:
        """What changes when there is something new to show."""
        if self.kept:
            return f"given {self._given}"
        return revision(place(self.url, self.storage_options))

    def refresh(self) -> None:
        """Open the store again, with what it holds by now."""
        if self.kept:
            return
        with self._lock:
            self._tree = opening.open(self.url, storage_options=self.storage_options)

    def runs(self) -> dict[str, xr.DataTree]:
        """Every run by its name."""
        tree = self._tree
        if tree is None:
            self.refresh()
            return self.runs()
        children = {name: node for name, node in tree.children.items() if RUN in node.attrs}
        return children or {str(tree.attrs[RUN]): tree}

    def run(self, name: str = "") -> tuple[str, xr.DataTree]:
        """A run by its name; the first where none is named."""
        runs = self.runs()
        chosen = name or next(iter(runs))
        if chosen not in runs:
            raise StoreError(f"This store has no run {chosen!r}.", remedy=nearest(chosen, runs))
        return chosen, runs[chosen]


def opened(url: Where, storage_options: Mapping[str, str] | None = None) -> Profiles:
    """A store, refused at once where there is none."""
    found = Profiles(str(url), storage_options)
    found.refresh()
    return found
