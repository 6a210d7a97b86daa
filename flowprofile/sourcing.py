"""Given pictures as the cases of a pipeline: their seeds, their labels, and the arrays they become.

A picture is a value of the seed axis that is made of its content (`time.noised`), so a sweep of pictures grows like
any other, a changed picture is another one, and nothing about a folder is in a key but how its pictures are prepared.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.datasets import attributes, pictures
from flowprofile.datasets.pictures import Picture
from flowprofile.definitions import MAX_SEEDS, Pipeline, SourceTable, Text
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models.card import ModelCard
from flowprofile.time.noised import PURPOSE, draw_of, image_of, seed_of

NOISED: Final = "noised"
INVERTED: Final = "inverted"
ROOM: Final = 64 << 20
"""Bytes of decoded pictures that a process may keep for those who ask again."""
SHOWN: Final = 4


@dataclass(frozen=True)
class Latents:
    """What makes a picture the latent of a model that knows no pixels."""

    shape: tuple[int, int, int]
    """Of the picture."""
    pixel_range: tuple[float, float]
    """Its black and white."""
    digest: str
    """What decides the latents."""
    open: Callable[[], Callable[[NDArray[np.float32]], NDArray[np.float32]]]
    """Loads the encoder: pictures [row channel y x] to latents."""

    @cached_property
    def encode(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """The encoder, loaded once per process."""
        return self.open()


@dataclass
class Decoded:
    """Pictures as a model's states at t = 0, by seed; those made last are kept as far as `ROOM` goes."""

    of: Mapping[int, Picture]
    """By number of the image."""
    shape: tuple[int, int, int]
    """Of the picture."""
    pixel_range: tuple[float, float]
    latents: Latents | None = None
    _kept: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def __call__(self, seeds: Sequence[int]) -> NDArray[np.float32]:
        """States [case channel y x]: images in the model's own range, or their latents."""
        return np.stack([self._image(image_of(seed)) for seed in seeds])

    def _image(self, number: int) -> NDArray[np.float32]:
        if number not in self._kept:
            low, high = (np.float32(end) for end in self.pixel_range)
            image = pictures.decoded(self.of[number], self.shape) * (high - low) + low
            if self.latents is not None:
                image = self.latents.encode(image[None])[0]
            while self._kept and (len(self._kept) + 1) * image.nbytes > ROOM:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = image
        return self._kept[number]


@dataclass(frozen=True)
class Real:
    """The pictures of a pipeline."""

    how: str
    """NOISED or INVERTED."""
    seeds: tuple[int, ...]
    coords: Mapping[str, Mapping[int, Any]]
    """What stands beside the seeds: file name, digest and draw."""
    images: Decoded
    labels: tuple[int, ...] | None = None
    """The labels of the table, ascending; None where the definition names them."""
    told: Mapping[int, int] | None = None
    """Each seed's label, where a table says so."""
    iterations: int = 1
    """Network evaluations for each step of an inversion."""

    @property
    def params(self) -> dict[str, Any]:
        """What decides its states, beside the pictures; part of every key."""
        own = {"purpose": PURPOSE} if self.how == NOISED else {"iterations": self.iterations}
        latents = self.images.latents
        encoded = {} if latents is None else {"encoder": latents.digest}
        return {"source": self.how, "prepared": pictures.PREPARATION, **own, **encoded}


def real(
    pipeline: Pipeline, card: ModelCard, text: Text, *, folder: Path, latents: Latents | None
) -> Real | None:
    """The pictures of a definition, looked at but not decoded; None where it has no source.

    Parameters
    ----------
    folder
        Where relative paths begin.
    latents
        What makes latents of pictures, of a model whose states are latents.

    Raises
    ------
    DefinitionError
        For whatever is wrong with the folder, a picture, a table of attributes, or how they are combined.
    """
    source = pipeline.source
    if source is None:
        return None
    shape, pixel_range = (
        (card.shape, card.pixel_range) if latents is None else (latents.shape, latents.pixel_range)
    )
    _images_fit(card, shape, text)
    _sampler_fits(pipeline, source, text)
    found = _pictures(source, shape[0], text, folder)
    seeds = _chosen(
        [(seed_of(one.digest, draw), one) for one in found for draw in range(source.draws)],
        pipeline.cases.seeds,
        text,
    )
    told = _told(source, card, dict(seeds), text, folder) if source.attributes is not None else None
    order = [seed for seed, _ in seeds]
    if told is not None:
        # Seeds of one label side by side fill batches; a tile is one label.
        order.sort(key=lambda seed: (told[seed], seed))
    by_seed = dict(seeds)
    return Real(
        how=source.how,
        seeds=tuple(order),
        coords={
            "image": {seed: one.name for seed, one in seeds},
            "digest": {seed: one.digest for seed, one in seeds},
            "draw": {seed: draw_of(seed) for seed, _ in seeds},
        },
        images=Decoded({image_of(seed): one for seed, one in by_seed.items()}, shape, pixel_range, latents),
        labels=None if told is None else tuple(sorted(set(told.values()))),
        told=told,
        iterations=source.iterations,
    )


def needs_chain(real: Real | None, what: str, place: str, *, remedy: str) -> None:
    """Refuse what compares states of a chain where each state is a picture with noise of its own."""
    if real is not None and real.how == NOISED:
        raise DefinitionError(
            f"{what} ({place}), and the states of a noised image are no chain.",
            consequence="Each is the image with noise of its own, so what two of them have in common says nothing of"
            " the network.",
            remedy=f'{remedy}; how = "inverted" makes a chain of states',
        )


def needs_labels(real: Real | None, place: str) -> None:
    """Refuse to compare labels where every picture has one of its own."""
    if real is not None and real.told is not None:
        raise DefinitionError(
            f"Labels are compared ({place}), and every image has one label, that of the table.",
            consequence="There is no second run of an image to compare with.",
            remedy="leave source.attributes out and name the labels in [cases]",
        )


def _images_fit(card: ModelCard, shape: tuple[int, int, int], text: Text) -> None:
    if shape[0] not in (1, 3):
        raise DefinitionError(
            f"{card.name!r} works on arrays of {' x '.join(map(str, shape))}, and a source gives pictures"
            f" ({text.place(['source'])}).",
            consequence="A picture would first have to be encoded, and what encodes it is not here.",
            remedy="use a model of gray or RGB images, or of latents the folder of the whole pipeline, with its vae",
        )


def _sampler_fits(pipeline: Pipeline, source: SourceTable, text: Text) -> None:
    sampler = pipeline.sampler
    if sampler.noise != "philox":
        raise DefinitionError(
            f"noise = {sampler.noise!r} is given beside a source of images ({text.place(['source'])}).",
            consequence="The noise of a given image belongs to the image; another generator has none for it.",
            remedy='leave compat out, and noise at "philox"',
        )
    if source.how == INVERTED and (sampler.rule != "ddim" or sampler.eta):
        raise DefinitionError(
            f"Images are inverted ({text.place(['source', 'how'])}), and the sampler is {sampler.rule!r}"
            f"{f' with eta = {sampler.eta!r}' if sampler.eta else ''}.",
            consequence="A sampler that adds noise on the way does not lead back to the image.",
            remedy='write sampler = { rule = "ddim", steps = 50 }',
        )
    if source.how == INVERTED and source.draws != 1:
        raise DefinitionError(
            f"draws = {source.draws} with inverted images ({text.place(['source', 'draws'])}).",
            consequence="An inversion has no noise to draw: all of them would be the same.",
            remedy='leave draws out, or use how = "noised"',
        )
    if source.how == NOISED and source.iterations != 1:
        raise DefinitionError(
            f"iterations = {source.iterations} with noised images ({text.place(['source', 'iterations'])}).",
            consequence="Noising asks no network: it would have no effect.",
            remedy='leave iterations out, or use how = "inverted"',
        )


def _pictures(source: SourceTable, channels: int, text: Text, folder: Path) -> list[Picture]:
    place = text.place(["source", "images"])
    if isinstance(source.images, str):
        paths: Iterable[Path] = pictures.listed(folder / source.images, place=place)
    else:
        paths = (folder / name for name in source.images)
    found = [pictures.looked_at(path, channels=channels, place=place) for path in paths]
    if len(found) * source.draws > MAX_SEEDS:
        raise DefinitionError(
            f"{len(found)} images with {source.draws} draws are {len(found) * source.draws} cases ({place}).",
            consequence=f"At most {MAX_SEEDS} are possible in one definition.",
            remedy="use a part of the folder: the store grows by the next",
        )
    first: dict[int, Picture] = {}
    for one in found:
        other = first.setdefault(image_of(seed_of(one.digest)), one)
        if other is not one:
            same = other.digest == one.digest
            raise DefinitionError(
                f"{other.name!r} and {one.name!r} {'are the same picture' if same else 'have one seed'} ({place}).",
                consequence="It would count twice in every mean.",
                remedy="remove one of them",
                evidence=f"digests {other.digest} and {one.digest}",
            )
    return found


def _chosen(
    every: list[tuple[int, Picture]], wanted: tuple[int, ...] | None, text: Text
) -> list[tuple[int, Picture]]:
    """The cases that the definition names; all of them by default."""
    if wanted is None:
        return every
    known = dict(every)
    absent = [seed for seed in wanted if seed not in known]
    if absent:
        raise DefinitionError(
            f"No image of the source has the seed {absent[0]} ({text.place(['cases', 'seeds'])}).",
            consequence="An image's seed is made of its content: the picture is gone, or has been changed.",
            remedy="leave seeds out for every image of the source, or put the pictures back",
            evidence=f"{len(absent)} of {len(wanted)} seeds",
        )
    return [(seed, known[seed]) for seed in wanted]


def _told(
    source: SourceTable, card: ModelCard, seeds: Mapping[int, Picture], text: Text, folder: Path
) -> dict[int, int]:
    """Each seed's label, from the table."""
    place = text.place(["source", "attributes"])
    own = card.labels.attributes
    if not own:
        raise DefinitionError(
            f"{card.name!r} is told no attributes ({place}).",
            consequence="A table of attributes says nothing about its labels.",
            remedy="name the labels in [cases]",
        )
    columns = source.columns or {}
    strange = next((name for name in columns if name not in own), None)
    if strange is not None:
        raise DefinitionError(
            f"{card.name!r} has no attribute {strange!r} ({text.place(['source', 'columns'])}).",
            consequence="The column would be read for nothing.",
            remedy=nearest(strange, own),
        )
    assert source.attributes is not None
    wanted = [columns.get(name, name) for name in own]
    table = attributes.read(folder / source.attributes, wanted, place=place)
    absent = [one.name for one in dict.fromkeys(seeds.values()) if one.name not in table.labels]
    if absent:
        raise DefinitionError(
            f"{source.attributes!r} says nothing of {', '.join(map(repr, absent[:SHOWN]))} ({place}).",
            consequence="It is not known what the network is to be told with it.",
            remedy="add a row for each picture, or name the labels in [cases] instead",
            evidence=f"{len(absent)} of {len(set(seeds.values()))} pictures have no row",
        )
    return {seed: table.labels[one.name] for seed, one in seeds.items()}
