"""Pictures with a label each, in CelebA's layout, as an endless stream of batches.

    FOLDER/img_align_celeba/000001.jpg ...
    FOLDER/list_attr_celeba.txt

Two hundred thousand pictures fit no memory, so none is kept: what is held is their names and labels, and a batch is
decoded when it is asked for. Which pictures a step sees is a function of (seed, step), so that a training may be
stopped anywhere and go on.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.axes import AXES
from flowprofile.datasets import attributes, pictures
from flowprofile.errors import DefinitionError

PICTURES: Final = ("img_align_celeba", "img_align_celeba/img_align_celeba")
"""Where CelebA's pictures are below its folder; another folder's may lie in it directly."""
TABLES: Final = (attributes.TABLE, f"Anno/{attributes.TABLE}", "list_attr_celeba.csv")
"""Where the table may be, below the folder or beside the pictures."""
MAX_ATTRIBUTES: Final = 12
"""Each combination of attributes is a label: 4096 of them."""
SHOWN: Final = 4
_ORDER: Final = 1 << 41
"""Keeps the order of an epoch apart from other numbers of the same seed."""


@dataclass(frozen=True)
class Labelled:
    """Pictures of a folder with their labels."""

    folder: Path
    """Where the files are."""
    names: tuple[str, ...]
    """In the order of the table."""
    labels: NDArray[np.int64] = field(repr=False)
    """[picture]"""
    attributes: tuple[str, ...] = ()
    """What the label's bits mean, most significant first, as the table calls them."""
    digest: str = ""
    """Of the table, the chosen attributes, how pictures are prepared, and the files' names and sizes."""

    def __len__(self) -> int:
        return len(self.names)

    def order(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The pictures in the order of an epoch: each of them once."""
        return _order(seed, epoch, len(self))

    def places(self, seed: int, step: int, batch: int) -> NDArray[np.int64]:
        """Which pictures a step sees; an epoch may end within a batch."""
        at = np.arange(step * batch, (step + 1) * batch)
        epochs, within = at // len(self), at % len(self)
        found = [self.order(seed, int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(found)

    def batch(
        self, places: NDArray[np.int64], shape: tuple[int, int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Pictures [case channel y x] from 0 to 1, decoded now, and their labels [case]."""
        images = [pictures.opened(self.folder / self.names[place], shape) for place in places.tolist()]
        return np.stack(images), self.labels[places]


@lru_cache(2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    generator = np.random.Generator(np.random.Philox(key=[seed, _ORDER + epoch]))
    return generator.permutation(count)


def labelled(folder: Path, names: Sequence[str]) -> Labelled:
    """The pictures in a folder of CelebA's layout, with labels of the named attributes.

    Only the table and the folder's listing are read.

    Raises
    ------
    DefinitionError
        If there is no table, an attribute is not in it, or a picture that it lists is not there.
    """
    if not folder.is_dir():
        raise DefinitionError(
            f"There is no folder {str(folder)!r}.",
            consequence="There are no pictures to learn from.",
            remedy="give the folder that holds img_align_celeba and list_attr_celeba.txt",
        )
    _attributes_fit(names)
    where = next((folder / name for name in reversed(PICTURES) if (folder / name).is_dir()), folder)
    table = attributes.read(_table(folder, where), names)
    _names_fit(table.columns)
    sizes = {entry.name: entry.stat().st_size for entry in _files(where)}
    absent = [name for name in table.labels if name not in sizes]
    if absent or not table.labels:
        raise DefinitionError(
            f"{len(absent)} of the {len(table.labels)} pictures that the table lists are not in {str(where)!r}.",
            consequence="A training would see other pictures than it says.",
            remedy="unpack the pictures beside the table, or leave out their rows",
            evidence=", ".join(map(repr, absent[:SHOWN])) or "the table has no row",
        )
    return Labelled(
        where,
        tuple(table.labels),
        np.array(list(table.labels.values()), dtype=np.int64),
        table.columns,
        _digest(table, sizes),
    )


def _files(where: Path) -> Iterator["os.DirEntry[str]"]:
    with os.scandir(where) as entries:
        yield from (entry for entry in entries if entry.is_file())


def _table(folder: Path, where: Path) -> Path:
    """The table of attributes, wherever copies of CelebA keep it."""
    places = [base / name for base in dict.fromkeys((folder, where, folder.parent)) for name in TABLES]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise DefinitionError(
            f"There is no {attributes.TABLE} in {str(folder)!r}.",
            consequence="It is not known what is to be seen in each picture.",
            remedy="put the table into that folder: CelebA's own, or a CSV of file names and 0 or 1 called"
            " list_attr_celeba.csv",
            evidence=f"looked at {', '.join(str(path) for path in places)}",
        )
    return found


def _attributes_fit(names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MAX_ATTRIBUTES:
        raise DefinitionError(
            f"A label of {len(names)} attributes is asked for.",
            consequence="Each combination of them is a label of its own, and each must be learned.",
            remedy=f"name 1 to {MAX_ATTRIBUTES}, for instance Bangs,Male,Smiling,Wearing_Lipstick",
        )


def _names_fit(columns: Sequence[str]) -> None:
    taken = next((name for name in columns if name in AXES), None)
    if taken is not None:
        raise DefinitionError(
            f"An attribute is called {taken!r}, which is the name of an axis of profiles.",
            consequence="A profile could hold only one of them.",
            remedy="give the column of the table another name",
        )


def _digest(table: attributes.Table, sizes: dict[str, int]) -> str:
    total = hashlib.sha256(f"{pictures.PREPARATION}\n{table.digest}\n{table.columns!r}\n".encode())
    for name in table.labels:
        total.update(f"{name}\0{sizes[name]}\n".encode())
    return total.hexdigest()[:32]
